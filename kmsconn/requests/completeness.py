"""Proves that no request was missed: the contract numbers its requests, so every number must be in the journal (annex E.1).

Each round asks the counter. The journal must know every id up to the counter of the round before, in blocks that the reader has passed
since. A critical alert names the missing ids, and their blocks are read again each round until the ids are found; such a read adds requests
and judges no absence. A request in a form that this version does not know is not missing (``requests.unknown_requests``). A counter that
makes no sense, as another layout of the contract would give, proves nothing and is left alone.

Ids are reused after a reorganisation, so a number alone says nothing of what was asked. The block's hash does: what is settled stands in
blocks that the chain has (``requests.range_reader``), and whenever a request leaves the chain the proof begins at its low-water mark again.

Where nothing is missing up to a block that is final, the journal keeps that id as a low-water mark: no later start asks for it again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Never

import attrs
import trio

from kmsconn.chain.asking import ask_all
from kmsconn.errors import Retryable
from kmsconn.ethereum.ids import counter_of, make_id, tag_of
from kmsconn.journal import inspecting, queries, retention
from kmsconn.journal.queries import JournalPlace
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Numbering
from kmsconn.requests.cursor import Gap, Span, gaps, merged
from kmsconn.requests.range_reader import RangeReader
from kmsconn.requests.retaining import final_block
from kmsconn.requests.unknown_requests import UnknownRequests

Missing = tuple[Gap, Span]
"""Ids that are not known, and the blocks between which they must stand."""

CHUNK = 2000  # ids in one question to the journal, which others use meanwhile


_id = attrgetter("id")


NAME = "completeness"
PROOF_INTERVAL = 30.0  # seconds between rounds, or the reorg window where that is longer: till then what a lagging node hid comes by itself
READER_CHECK_INTERVAL = 0.5  # seconds until it is looked again whether the reader has begun
SHOWN = 3  # gaps that are named
_SENSE = 1 << 62  # no contract has numbered so many requests


@attrs.define
class Completeness:
    """The proof for one contract; ``missing`` is how many requests the last round did not find.

    The ids that the journal knows are held by kind: tags do not tell the counters of the first generation apart.
    """

    ranges: RangeReader
    missing: int = 0
    unknown: UnknownRequests = attrs.field(init=False)
    _numberings: Mapping[Kind, Numbering] = attrs.field(factory=dict)
    _began: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """The newest id when this process began, and a block below all later ones."""
    _complete: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """The id up to which everything is known."""
    _marks: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """An earlier one of these, which becomes the journal's low-water mark once its block is final."""
    _lost: tuple[int, int, int] = (0, 0, 0)
    """How many rows were set aside, how many left the chain, and its generation."""
    _issued: Mapping[Kind, int] = attrs.field(factory=dict)
    """The newest id of each kind, a round ago."""
    _head: int = 0
    _unanswered: set[Kind] = attrs.field(factory=set)
    """The kinds whose missing ids could not be asked for the last time."""
    _generation: int = 0
    """That of the chain when the round began."""

    def __attrs_post_init__(self) -> None:
        self.unknown = UnknownRequests(self.ranges)

    async def run(self) -> Never:
        """Look for ever. Cancellation: at any time. Repeating: the low water is found in the journal again."""
        interval = max(PROOF_INTERVAL, self.ranges.contract.components.settings.reading.reorg_window)
        while True:
            reading = self.ranges.next_block is not None
            if reading:
                # an alert of its own names the dependency; without an answer nothing is proved
                with suppress(Retryable):
                    await self._round()
            await trio.sleep(interval if reading else READER_CHECK_INTERVAL)

    async def _round(self) -> None:
        self._generation = self.ranges.generation
        self._heed_losses()
        issued = await self._counters()
        if self._is_rewound:
            return
        if self._issued and (self.ranges.next_block or 0) > self._head:
            sure = {kind: min(before, issued.get(kind, 0)) for kind, before in self._issued.items()}
            spans = await self._look(sure)
            for first, last in merged(spans):
                await self.ranges.read_again(first, last)
            if spans:
                await self._look(sure)
        head = self.ranges.contract.head
        if not self._is_rewound:
            await self._raise_marks(min(final_block(head) or 0, self.ranges.settled))
        self._issued, self._head = issued, head.number or 0

    @property
    def _is_rewound(self) -> bool:
        """Whether the reader has gone back to a fork since the round began: what the round has seen is of a chain that is gone."""
        return self._generation != self.ranges.generation

    async def _counters(self) -> dict[Kind, int]:
        """Ask for the newest ids; 0 or the bare tag are none, anything else without the tag is no counter."""
        contract = self.ranges.contract
        numberings = contract.components.profile.numberings(contract.subscription)
        self._numberings = {numbering.kind: numbering for numbering in numberings}
        found = await ask_all(contract.chain_context.follower, [numbering.newest for numbering in numberings])
        newest = {one: number or make_id(one.tag, 0) for one, number in zip(numberings, found, strict=True)}
        issued = {one.kind: n for one, n in newest.items() if tag_of(n) == one.tag and counter_of(n) < _SENSE}
        for kind, number in issued.items():
            self._began.setdefault(kind, JournalPlace(number, max(0, self.ranges.settled)))
        return issued

    async def _look(self, sure: Mapping[Kind, int]) -> list[Span]:
        """Compare with the journal and tell; return the blocks where the missing ones must stand."""
        aside = await self._set_aside()
        found = [one for kind, newest in sure.items() for one in await self._gaps(kind, newest, aside)]
        if self._is_rewound:  # rows above the fork are off chain until they are read again, and miss nothing
            return []
        self.missing = sum(len(gap) for gap, _ in found)
        self._tell([gap for gap, _ in found])
        self.unknown.tell(self._name)
        return [span for _, span in found]

    def _tell(self, missing: list[Gap]) -> None:
        names = ", ".join(f"0x{make_id(gap.tag, gap.first):064x}" for gap in missing[:SHOWN])
        more = " …" if self.missing > len(missing[:SHOWN]) else ""
        reason = f"{self.missing} requests are not in the journal: {names}{more}" if missing else ""
        self.ranges.contract.components.board.set("missing-requests", self._name, reason)

    @property
    def _name(self) -> str:
        return f"{NAME} {self.ranges.contract.name}"

    def _heed_losses(self) -> None:
        """Begin at the low-water mark again where a row was set aside, or left the chain: its id is to be found missing."""
        lost = len(self.ranges.contract.components.journal.damaged), self.ranges.gone, self.ranges.generation
        if lost != self._lost:
            self._lost = lost
            self._complete.clear()
            self._marks.clear()
            self.unknown.forget()

    async def _raise_marks(self, final: int) -> None:
        """Remember in the journal what is complete up to a block that is final."""
        generation = self.ranges.generation
        for kind, complete in tuple(self._complete.items()):
            mark = self._marks.setdefault(kind, complete)
            if mark.block <= self._highest_mark(kind, final) and generation == self.ranges.generation:
                await self.ranges.contract.run(retention.raise_low_water, kind, mark)
                self.unknown.pass_mark(kind, mark.id)
                self._marks[kind] = complete

    def _highest_mark(self, kind: Kind, final: int) -> int:
        """Return the block up to which the mark may rise: below a request in an unknown form for as long as one would be worked on.

        A version that knows the form finds it missing above the mark, and answers it.
        """
        components, head = self.ranges.contract.components, self.ranges.contract.head
        newest = self.unknown.newest(kind)
        if newest is None:
            return final
        if not components.profile.operations[kind].expires:
            return -1
        expired = (head.number or 0) - head.blocks_in(components.checker.expiry.seconds())
        return final if newest.block <= expired else min(final, expired)

    async def _gaps(self, kind: Kind, newest: int, aside: Iterable[JournalPlace]) -> list[Missing]:
        found: list[Missing] = []
        tag, unknown = self._numberings[kind].tag, self.unknown
        place = self._complete.get(kind) or await self._low_water(kind, newest)
        end = (self.ranges.next_block or 1) - 1
        is_proved = True
        while place.id < newest:
            known = await self.ranges.contract.run(queries.places, kind, (place.id + 1, newest), limit=CHUNK)
            high = known[-1].id if len(known) == CHUNK else newest
            line = _line(place, high, (*known, *aside, *unknown.places(kind, place.id, sure=True)))
            missing = list(_gaps_in(line, tag, high, end))
            if missing:
                await self._ask(kind, missing)
                line = _line(place, high, (*line, *unknown.places(kind, place.id, sure=True)))
                missing = list(_gaps_in(line, tag, high, end))
            if is_proved:
                self._complete[kind] = _last_before(line, missing)
            is_proved = is_proved and not missing
            line = _line(place, high, (*line, *unknown.places(kind, place.id, sure=False)))
            found += _gaps_in(line, tag, high, end)
            place = JournalPlace(high, line[-1].block)
        return found

    async def _ask(self, kind: Kind, missing: Sequence[Missing]) -> None:
        """Ask for ids that are missing in whatever form they came.

        Raises Retryable if no node answers: once, as nothing is proved without an answer; the next time they are missing.
        """
        try:
            await self.unknown.hear(kind, missing)
        except Retryable:
            if kind not in self._unanswered:
                self._unanswered.add(kind)
                raise
        else:
            self._unanswered.discard(kind)

    async def _low_water(self, kind: Kind, newest: int) -> JournalPlace:
        """Return where the journal begins to be complete: nothing older was ever its business."""
        contract, numbering, began = self.ranges.contract, self._numberings[kind], self._began[kind]
        if mark := await contract.run(retention.low_water, kind):
            return mark
        if contract.chain_context.from_block == 0:
            return JournalPlace(make_id(numbering.tag, numbering.before_first), 0)
        lowest = await contract.run(queries.places, kind, (make_id(numbering.tag, 0), newest), limit=1)
        return min(*lowest, began, key=_id) if lowest else began

    async def _set_aside(self) -> list[JournalPlace]:
        """Return the ids of logs that could not be read: they were heard."""
        id_of = self.ranges.contract.components.profile.id_of
        logs = await self.ranges.contract.run(inspecting.undecodable_logs)
        read = ((id_of(one.log), one.log.block_number) for one in logs if one.log)
        return [JournalPlace(found, block) for found, block in read if found is not None]


def _line(place: JournalPlace, high: int, known: Iterable[JournalPlace]) -> list[JournalPlace]:
    """Return the ids that are known from a place up to ``high``, each once, in order."""
    return sorted({place, *(one for one in known if place.id < one.id <= high)}, key=_id)


def _gaps_in(line: Sequence[JournalPlace], tag: int, high: int, end: int) -> Iterator[Missing]:
    """Yield what is missing between the ids of a line and up to ``high``; above its last id it stands up to the block ``end``."""
    for gap in gaps(tag, map(_id, line), high, line[0].id):
        at = bisect_left(line, make_id(tag, gap.first), key=_id)
        below, above = line[at - 1], line[at].block if at < len(line) else end
        yield gap, (below.block, max(below.block, above))


def _last_before(line: Sequence[JournalPlace], missing: Sequence[Missing]) -> JournalPlace:
    """Return the last id of a line up to which nothing is missing."""
    if not missing:
        return line[-1]
    gap, _ = missing[0]
    return line[bisect_left(line, make_id(gap.tag, gap.first), key=_id) - 1]
