"""Proves that no request was missed: the contract numbers its requests, so every number must be in the journal (annex E.1).

Each round asks the counter. The journal must know every id up to the counter of the round before, in blocks that the reader has passed
since. A critical alert names the missing ids, and their blocks are read again each round until the ids are found; such a read adds requests
and judges no absence. A counter that makes no sense, as another layout of the contract would give, proves nothing and is left alone.

Ids are reused after a reorganisation, so a number alone says nothing of what was asked. The block's hash does: what is settled stands in
blocks that the chain has (``requests.range_reader``), and whenever a request leaves the chain the proof begins at its low-water mark again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Never

import attrs
import trio

from kmsconn.chain.asking import ask_all
from kmsconn.errors import Retryable
from kmsconn.ethereum.ids import counter_of, make_id, tag_of
from kmsconn.model.requests import Kind
from kmsconn.requests.cursor import Gap, Span, merged
from kmsconn.requests.known_ids import KnownIds
from kmsconn.requests.range_reader import RangeReader
from kmsconn.requests.retaining import final_block

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
    missing: int = 0
    _issued: Mapping[Kind, int] = attrs.field(factory=dict)
    """The newest id of each kind, a round ago."""
    _head: int = 0
    _generation: int = 0
    """That of the chain when the round began."""

    @classmethod
    def of(cls, ranges: RangeReader) -> Completeness:
        """Make the proof over what a reader reads."""
        return cls(ranges, KnownIds(ranges))

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
        self._generation = self.ranges.generation
        self.ids.heed_losses()
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
            await self.ids.raise_marks(min(final_block(head) or 0, self.ranges.settled))
        self._issued, self._head = issued, head.number or 0

    @property
    def _is_rewound(self) -> bool:
        """Whether the reader has gone back to a fork since the round began: what the round has seen is of a chain that is gone."""
        return self._generation != self.ranges.generation

    async def _counters(self) -> dict[Kind, int]:
        """Ask for the newest ids; 0 or the bare tag are none, anything else without the tag is no counter."""
        contract = self.ranges.contract
        numberings = contract.components.profile.numberings(contract.subscription)
        self.ids.numberings = {numbering.kind: numbering for numbering in numberings}
        found = await ask_all(contract.chain_context.follower, [numbering.newest for numbering in numberings])
        newest = {one: number or make_id(one.tag, 0) for one, number in zip(numberings, found, strict=True)}
        issued = {one.kind: n for one, n in newest.items() if tag_of(n) == one.tag and counter_of(n) < _SENSE}
        self.ids.note_issued(issued, max(0, self.ranges.settled))
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
