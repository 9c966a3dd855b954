"""Proves that no request was missed: the contract numbers its requests, so every number must be in the journal (annex E.1).

Each round asks the counter. The journal must know every id up to the counter of the round before, in blocks that the reader has passed
since. A critical alert names the missing ids, and their blocks are read again each round until the ids are found; such a read adds requests
and judges no absence. A counter that makes no sense, as another layout of the contract would give, proves nothing and is left alone.

Ids are reused after a reorganisation, so a number alone says nothing of what was asked. The block's hash does: it stands for all logs of
the block. So the blocks where requests stand are compared first, each once, when the reorg window has passed them. Where the hash differs
the block is read again, and a request that does not stand there is off chain. Then its number is missing, and its other content is found
by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Never

import attrs
import trio

from kmsconn.chain.asking import ask_all
from kmsconn.chain.fork import Checkpoints
from kmsconn.chain.logs import read_hashes
from kmsconn.chain.port import RpcError
from kmsconn.errors import Retryable
from kmsconn.ethereum.ids import counter_of, make_id, tag_of
from kmsconn.journal import queries
from kmsconn.model.requests import Kind
from kmsconn.requests.cursor import Gap, Span, merged
from kmsconn.requests.known_ids import KnownIds
from kmsconn.requests.range_reader import RangeReader
from kmsconn.requests.reader import SUSPECT_SECONDS
from kmsconn.requests.retaining import final_block

BLOCKS = 16  # block hashes in one batch: there are nodes that take no more than 20 calls


@attrs.define
class BlockComparison:
    """The comparison for one contract; ``compared`` is the block up to which the hashes are the chain's."""

    ranges: RangeReader
    ids: KnownIds
    compared: int | None = None

    async def compare(self, settled: int) -> None:
        """Compare up to a block that the reorg window has passed. Raises Retryable. Repeating: goes on where it ended."""
        contract, of = self.ranges.contract, self.ranges.contract.subscription
        if self.compared is None:
            self.compared = max(0, settled - contract.head.blocks_in(SUSPECT_SECONDS))
        while self.compared < settled:
            standing = await contract.journal.run(
                queries.standing, of.chain_id, of.contract, (self.compared + 1, settled), BLOCKS
            )
            if standing and not await self._are_on_chain(standing):
                return
            self.compared = standing[-1].number if len(standing) == BLOCKS else settled

    async def _are_on_chain(self, standing: Checkpoints) -> bool:
        """Say whether all of these blocks are the chain's; the others are read again, and compared again in the next round."""
        try:
            hashes = await read_hashes(self.ranges.contract.endpoint, [block.number for block in standing])
        except RpcError:
            return False
        replaced = [
            block for block, hash_ in zip(standing, hashes, strict=True) if hash_ not in {None, block.hash}
        ]
        for block in replaced:
            self.ids.begin_again()
            await self.ranges.read_again(block.number, block.number, judging=True)
        return not replaced and None not in hashes


NAME = "completeness"
PROOF_INTERVAL = 30.0  # seconds between rounds, or the reorg window where that is longer: till then what a lagging node hid comes by itself
READER_CHECK_INTERVAL = 0.5  # seconds until it is looked again whether the reader has begun
SHOWN = 3  # gaps that are named
_SENSE = 1 << 62  # no contract has numbered so many requests


@attrs.define
class Completeness:
    """The proof for one contract; ``missing`` is how many requests the last round did not find."""

    ranges: RangeReader
    ids: KnownIds
    blocks: BlockComparison
    missing: int = 0
    _issued: Mapping[Kind, int] = attrs.field(factory=dict)
    """The newest id of each kind, a round ago."""
    _head: int = 0
    _rewinds: int = 0
    """How often the reader had gone back to a fork when that was found."""

    @classmethod
    def of(cls, ranges: RangeReader) -> Completeness:
        """Make the proof over what a reader reads."""
        ids = KnownIds(ranges)
        return cls(ranges, ids, BlockComparison(ranges, ids))

    async def run(self) -> Never:
        """Look for ever. Cancellation: at any time. Repeating: the low water is found in the journal again."""
        interval = max(PROOF_INTERVAL, self.ranges.contract.components.settings.reading.reorg_window)
        while True:
            reading = self.ranges.next_block is not None
            if reading:
                with suppress(
                    Retryable
                ):  # an alert of its own names the dependency; without an answer nothing is proved
                    await self._round()
            await trio.sleep(interval if reading else READER_CHECK_INTERVAL)

    async def _round(self) -> None:
        if self._is_rewound:
            self._rewinds, self.blocks.compared = self.ranges.rewinds, None
            self.ids.begin_again()
        await self.blocks.compare(self._settled - 1)
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
            await self.ids.raise_marks(min(final_block(head) or 0, self.blocks.compared or 0))
        self._issued, self._head = issued, head.number or 0

    @property
    def _is_rewound(self) -> bool:
        """Whether the reader has gone back to a fork since the round began: what the round has seen is of a chain that is gone."""
        return self._rewinds != self.ranges.rewinds

    @property
    def _settled(self) -> int:
        """The first block that the reorg window has not passed."""
        contract = self.ranges.contract
        return (self.ranges.next_block or 0) - contract.head.blocks_in(
            contract.components.settings.reading.reorg_window
        )

    async def _counters(self) -> dict[Kind, int]:
        """Ask for the newest ids; 0 or the bare tag are none, anything else without the tag is no counter."""
        contract = self.ranges.contract
        numberings = contract.components.profile.numberings(contract.subscription)
        self.ids.numberings = {numbering.kind: numbering for numbering in numberings}
        found = await ask_all(contract.endpoint, [numbering.newest for numbering in numberings])
        newest = {one: number or make_id(one.tag, 0) for one, number in zip(numberings, found, strict=True)}
        issued = {one.kind: n for one, n in newest.items() if tag_of(n) == one.tag and counter_of(n) < _SENSE}
        self.ids.note_issued(issued, max(0, self._settled))
        return issued

    async def _look(self, sure: Mapping[Kind, int]) -> list[Span]:
        """Compare with the journal and tell; return the blocks where the missing ones must stand."""
        found = await self.ids.missing(sure)
        if self._is_rewound:  # rows above the fork are off chain until they are read again, and miss nothing
            return []
        self.missing = sum(len(gap) for gap, _ in found)
        self._tell([gap for gap, _ in found])
        return [span for _, span in found]

    def _tell(self, missing: list[Gap]) -> None:
        names = ", ".join(f"0x{make_id(gap.tag, gap.first):064x}" for gap in missing[:SHOWN])
        more = " …" if self.missing > len(missing[:SHOWN]) else ""
        reason = f"{self.missing} requests are not in the journal: {names}{more}" if missing else ""
        name = f"{NAME} {self.ranges.contract.name}"
        self.ranges.contract.components.board.set("missing-requests", name, reason)
