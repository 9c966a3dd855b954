"""The ids of one contract that the journal knows: up to which it is complete, and which are missing above.

Where nothing is missing up to a block that is final, the journal keeps that id as a low-water mark: no later start asks for it again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import partial
from operator import attrgetter

import attrs

from kmsconn.ethereum.ids import make_id
from kmsconn.journal import inspecting, queries, retention
from kmsconn.journal.journal import until_kept
from kmsconn.journal.queries import JournalPlace
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Numbering
from kmsconn.protocols.profile import Subscription
from kmsconn.requests.cursor import Gap, Span, gaps
from kmsconn.requests.range_reader import RangeReader

CHUNK = 2000  # ids in one question to the journal, which others use meanwhile


@attrs.define
class KnownIds:
    """The ids of a contract, by kind: tags do not tell the counters of the first generation apart."""

    ranges: RangeReader
    numberings: Mapping[Kind, Numbering] = attrs.field(factory=dict)
    _began: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """The newest id when this process began, and a block below all later ones."""
    _complete: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """The id up to which everything is known."""
    _marks: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    """An earlier one of these, which becomes the journal's low-water mark once its block is final."""
    _lost: tuple[int, int, int] = (0, 0, 0)
    """How many rows were set aside, how many left the chain, and its generation."""

    def note_issued(self, issued: Mapping[Kind, int], block: int) -> None:
        """Note the newest ids; the first ones are where this process began, above ``block``."""
        for kind, number in issued.items():
            self._began.setdefault(kind, JournalPlace(number, block))

    def heed_losses(self) -> None:
        """Begin at the low-water mark again where a row was set aside, or left the chain: its id is to be found missing."""
        lost = len(self.ranges.contract.journal.damaged), self.ranges.gone, self.ranges.generation
        if lost != self._lost:
            self._lost = lost
            self._complete.clear()
            self._marks.clear()

    async def missing(self, sure: Mapping[Kind, int]) -> list[tuple[Gap, Span]]:
        """Return what is missing up to these ids, each with the blocks where it must stand. Repeating: reads only."""
        aside = await self._set_aside()
        return [one for kind, newest in sure.items() for one in await self._gaps(kind, newest, aside)]

    async def raise_marks(self, final: int) -> None:
        """Remember in the journal what is complete up to a block that is final."""
        of, journal, generation = self._of, self.ranges.contract.journal, self.ranges.generation
        for kind, complete in tuple(self._complete.items()):
            mark = self._marks.setdefault(kind, complete)
            if mark.block <= final and generation == self.ranges.generation:
                await until_kept(
                    partial(journal.run, retention.raise_low_water, of.chain_id, of.contract, kind, mark)
                )
                self._marks[kind] = complete

    @property
    def _of(self) -> Subscription:
        return self.ranges.contract.subscription

    async def _gaps(self, kind: Kind, newest: int, aside: Iterable[JournalPlace]) -> list[tuple[Gap, Span]]:
        found: list[tuple[Gap, Span]] = []
        tag = self.numberings[kind].tag
        place = self._complete.get(kind) or await self._low_water(kind, newest)
        end = (self.ranges.next_block or 1) - 1
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
        of, numbering, began = self._of, self.numberings[kind], self._began[kind]
        if mark := await self.ranges.contract.journal.run(
            retention.low_water, of.chain_id, of.contract, kind
        ):
            return mark
        if self.ranges.contract.chain_context.from_block == 0:
            return JournalPlace(make_id(numbering.tag, numbering.before_first), 0)
        lowest = await self._places(kind, (make_id(numbering.tag, 0), newest), 1)
        return min(*lowest, began, key=_id) if lowest else began

    async def _places(self, kind: Kind, ids: tuple[int, int], limit: int) -> tuple[JournalPlace, ...]:
        of = self._of
        return await self.ranges.contract.journal.run(
            queries.places, of.chain_id, of.contract, kind, ids, limit=limit
        )

    async def _set_aside(self) -> list[JournalPlace]:
        """Return the ids of logs that could not be read: they were heard."""
        of, id_of = self._of, self.ranges.contract.components.profile.id_of
        logs = await self.ranges.contract.journal.run(inspecting.quarantined, of.chain_id, of.contract)
        read = (one.log for one in logs)
        return [
            JournalPlace(found, log.block_number) for log in read if log and (found := id_of(log)) is not None
        ]


_id = attrgetter("id")
