"""Proves that no request was missed: the contract numbers its requests, so every number must be in the journal (annex E.1).

The counter is asked in rounds. What it had reached a round ago, in blocks that the reader has passed since, must be known now. What is
missing is named, in red, and its blocks are read again each round until it is found; such a read adds and judges nothing absent.
A counter of no sense, such as another layout of the contract would give, proves nothing and is left alone.

Ids are reused after a reorganisation, so a number alone says nothing of what was asked. The block's hash does: it stands for
all logs of the block. Once, when the reorg window has passed it, each block where requests stand is asked for its hash. Where it differs,
the block is read again, and what does not stand there is off chain: then its number is missing, and its other content is found by that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Never

import attrs
import trio

from kmsconn.app.components import Components
from kmsconn.app.reader import SUSPECT_SECONDS, LogReader
from kmsconn.app.retaining import final_block
from kmsconn.app.retrying import until_kept
from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.ids import counter_of, make_id, tag_of
from kmsconn.journal import queries, retention
from kmsconn.journal.values import JournalPlace
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import Severity
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Numbering
from kmsconn.rpc.asking import ask_all
from kmsconn.rpc.checkpoints import Checkpoints
from kmsconn.rpc.gaps import Gap, Span, gaps, merged
from kmsconn.rpc.logs import read_hashes
from kmsconn.rpc.port import RpcError

NAME = "completeness"
PROOF_INTERVAL = 30.0  # seconds between rounds, or the reorg window where that is longer: till then what a lagging node hid comes by itself
READER_CHECK_INTERVAL = 0.5  # seconds until it is looked again whether the reader has begun
CHUNK = 2000  # ids in one question to the journal, which others use meanwhile
BLOCKS = 16  # block hashes in one batch: there are nodes that take no more than 20 calls
SHOWN = 3  # gaps that are named
_SENSE = 1 << 62  # no contract has numbered so many requests


@attrs.define
class Completeness:
    """The proof for one contract; ``missing`` is how many requests the last round did not find."""

    components: Components
    reader: LogReader
    missing: int = 0
    _numberings: dict[Kind, Numbering] = attrs.field(factory=dict)
    """By kind, and so is all that follows: tags do not tell the counters of the first generation apart."""
    _issued: dict[Kind, int] = attrs.field(factory=dict)
    """The newest id, a round ago."""
    _head: int = 0
    _began: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """The newest id when this process began, and a block below all later ones."""
    _complete: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """The id up to which everything is known."""
    _marks: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """An earlier one of these, which becomes the journal's low-water mark once its block is final."""
    _damaged: int = 0
    _compared: int | None = None
    """The block up to which the hashes of blocks where requests stand are the chain's."""
    _rewinds: int = 0
    """How often the reader had gone back to a fork when that was found."""
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.components.on_event), takes_self=True), init=False
    )

    async def run(self) -> Never:
        """Look for ever. Cancellation: at any time. Repeating: the low water is found in the journal again."""
        while True:
            reading = self.reader.cursor is not None
            if reading:
                with suppress(
                    Retryable
                ):  # who needs the dependency names it; without an answer nothing is proved
                    await self._round()
            await trio.sleep(
                max(PROOF_INTERVAL, self.components.settings.reorg_window)
                if reading
                else READER_CHECK_INTERVAL
            )

    async def _round(self) -> None:
        await self._compare()
        issued = await self._counters()
        if self._is_rewound:
            return
        if self._issued and (self.reader.cursor or 0) > self._head:
            sure = {kind: min(before, issued.get(kind, 0)) for kind, before in self._issued.items()}
            spans = await self._look(sure)
            for first, last in merged(spans):
                await self.reader.read_again(first, last)
            if spans:
                await self._look(sure)
        await self._raise_marks()
        self._issued, self._head = issued, self.reader.head.number or 0

    @property
    def _is_rewound(self) -> bool:
        """Whether the reader has gone back to a fork since the round began: what the round has seen is of a chain that is gone."""
        return self._rewinds != self.reader.rewinds

    async def _raise_marks(self) -> None:
        """Remember in the journal what is complete and final, so that no later start asks for it again."""
        of, journal = self.reader.subscription, self.components.journal
        final = min(final_block(self.reader.head) or 0, self._compared or 0)
        for kind, complete in tuple(self._complete.items()):
            mark = self._marks.setdefault(kind, complete)
            if mark.block <= final and not self._is_rewound:
                await until_kept(
                    partial(journal.run, retention.raise_low_water, of.chain_id, of.contract, kind, mark)
                )
                self._marks[kind] = complete

    def _heed_damage(self) -> None:
        """Begin at the low-water mark again when a row was set aside: its id is to be found missing."""
        damaged = len(self.components.journal.damaged)
        if damaged != self._damaged:
            self._damaged = damaged
            self._begin_again()

    def _begin_again(self) -> None:
        """Let the proof begin at the low-water mark again: what was complete may not be."""
        self._complete.clear()
        self._marks.clear()

    async def _compare(self) -> None:
        """Compare the blocks where requests stand, as far as the reorg window has passed them, with the chain's, each once."""
        settled = (self.reader.cursor or 0) - 1 - self._blocks_in(self.components.settings.reorg_window)
        if self._is_rewound:
            self._rewinds, self._compared = self.reader.rewinds, None
            self._begin_again()
        if self._compared is None:
            self._compared = max(0, settled - self._blocks_in(SUSPECT_SECONDS))
        while self._compared < settled:
            of, blocks = self.reader.subscription, (self._compared + 1, settled)
            standing = await self.components.journal.run(
                queries.standing, of.chain_id, of.contract, blocks, BLOCKS
            )
            if standing and not await self._stand(standing):
                return
            self._compared = standing[-1].number if len(standing) == BLOCKS else settled

    async def _stand(self, standing: Checkpoints) -> bool:
        """Say whether all of these blocks are the chain's; those that are not are read again, and compared again in the next round."""
        try:
            hashes = await read_hashes(self.reader.endpoint, [block.number for block in standing])
        except RpcError:
            return False
        replaced = [
            block for block, hash_ in zip(standing, hashes, strict=True) if hash_ not in {None, block.hash}
        ]
        for block in replaced:
            self._begin_again()
            await self.reader.read_again(block.number, block.number, judging=True)
        return not replaced and None not in hashes

    def _blocks_in(self, seconds: float) -> int:
        return self.reader.head.blocks_in(seconds)

    async def _counters(self) -> dict[Kind, int]:
        """Ask for the newest ids; 0 or the bare tag are none, anything else without the tag is no counter."""
        numberings = self.components.profile.numberings(self.reader.subscription)
        self._numberings = {numbering.kind: numbering for numbering in numberings}
        found = await ask_all(self.reader.endpoint, [numbering.newest for numbering in numberings])
        newest = {one: number or make_id(one.tag, 0) for one, number in zip(numberings, found, strict=True)}
        issued = {one.kind: n for one, n in newest.items() if tag_of(n) == one.tag and counter_of(n) < _SENSE}
        block = max(0, (self.reader.cursor or 0) - self._blocks_in(self.components.settings.reorg_window))
        for kind, number in issued.items():
            self._began.setdefault(kind, JournalPlace(number, block))
        return issued

    async def _look(self, sure: Mapping[Kind, int]) -> list[Span]:
        """Compare with the journal and tell; return the blocks where the missing ones must stand."""
        self._heed_damage()
        aside = await self._set_aside()
        found = [one for kind, newest in sure.items() for one in await self._gaps(kind, newest, aside)]
        if self._is_rewound:  # rows above the fork are off chain until they are read again, and miss nothing
            return []
        self.missing = sum(len(gap) for gap, _ in found)
        self._tell([gap for gap, _ in found])
        return [span for _, span in found]

    async def _gaps(self, kind: Kind, newest: int, aside: Iterable[JournalPlace]) -> list[tuple[Gap, Span]]:
        found: list[tuple[Gap, Span]] = []
        tag = self._numberings[kind].tag
        place = self._complete.get(kind) or await self._low_water(kind, newest)
        end = (self.reader.cursor or 1) - 1
        while place.id < newest:
            known = await self._places(kind, (place.id + 1, newest), CHUNK)
            high = known[-1].id if len(known) == CHUNK else newest
            line = sorted({place, *known, *(one for one in aside if place.id < one.id <= high)}, key=_id)
            for gap in gaps(tag, map(_id, line), high, place.id):
                at = bisect_left(line, make_id(tag, gap.first), key=_id)
                below, above = line[at - 1], line[at].block if at < len(line) else end
                self._complete[kind] = self._complete[kind] if found else below
                found.append((gap, (below.block, max(below.block, above))))
            if not found:
                self._complete[kind] = line[-1]
            place = JournalPlace(high, line[-1].block)
        return found

    async def _low_water(self, kind: Kind, newest: int) -> JournalPlace:
        """Return where the journal begins to be complete: nothing older was ever its business."""
        of, numbering, began = self.reader.subscription, self._numberings[kind], self._began[kind]
        if mark := await self.components.journal.run(retention.low_water, of.chain_id, of.contract, kind):
            return mark
        if self.reader.chain_context.from_block == 0:
            return JournalPlace(make_id(numbering.tag, numbering.before_first), 0)
        lowest = await self._places(kind, (make_id(numbering.tag, 0), newest), 1)
        return min(*lowest, began, key=_id) if lowest else began

    async def _places(self, kind: Kind, ids: tuple[int, int], limit: int) -> tuple[JournalPlace, ...]:
        of = self.reader.subscription
        return await self.components.journal.run(
            queries.places, of.chain_id, of.contract, kind, ids, limit=limit
        )

    async def _set_aside(self) -> list[JournalPlace]:
        """Return the ids of logs that could not be read: they were heard."""
        of, id_of = self.reader.subscription, self.components.profile.id_of
        logs = await self.components.journal.run(queries.quarantined, of.chain_id, of.contract)
        return [JournalPlace(found, log.block_number) for log in logs if (found := id_of(log)) is not None]

    def _tell(self, missing: list[Gap]) -> None:
        names = ", ".join(f"0x{make_id(gap.tag, gap.first):064x}" for gap in missing[:SHOWN])
        more = " …" if self.missing > len(missing[:SHOWN]) else ""
        reason = f"{self.missing} requests are not in the journal: {names}{more}" if missing else ""
        name = f"{NAME} {checksum(self.reader.subscription.contract)}"
        self._alerts.put(name, "missing-requests", reason, Severity.CRITICAL)


_id = attrgetter("id")
