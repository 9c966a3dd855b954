"""Which blocks of a contract to read next, and how far everything is read. Pure; never reads a log or a clock.

The rules:

1. ``next_block`` is the first block not read. It moves only over blocks that were read, one after the other; it goes back only to a
   fork that was found.
2. Every round reads the *tail* first: up to the head as the asked node sees it, so that a live request waits for nothing.
3. When the cursor lies more than one range below the head, the tail alone is read, and the blocks between are *back-filled*
   beside it, one range a round. What was read above the cursor is one *island*, in memory; the back-fill joins it.
4. What is not settled yet is read again when the caller says so: a node may have hidden what it did not have yet.
5. A range that was too wide halves the size; a whole range that went well doubles it, after a while if one was too wide before.
   So does one that held very many logs: what is in memory at once must not grow with the backlog.

A range whose answer is not trusted is simply not ``took``: nothing moves, and it is planned again.

When blocks are settled is a matter of two numbers and a time (``journal.queries.ReadUpTo``).

What is missing though everything is read is found by number: ids of one tag count up without gaps (fhevm-0.14.md, 0.2 and E.1), so every
id in (low water, newest] must be known. What is missing is not necessarily lost: it may lie in blocks that are still to be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import attrs

from kmsconn.ethereum.ids import counter_of, make_id

MANY_LOGS = 2000  # in one answer; about 20 MiB while they are decoded
MAX_SIZE = 5000  # blocks; what the usual nodes take at most
CALM_AFTER_FAILURE = 8  # whole ranges that must go well before a size that failed is tried again
# Below this size the node is so narrow that the blocks between the head we know and its own could be too many.
_OPEN_ENDED_FROM = 16


@attrs.frozen
class Range:
    """Blocks from ``first`` to ``last``, both included; ``last`` None: up to the head of the node that answers."""

    first: int
    last: int | None


@attrs.frozen
class ReadPlan:
    """What to read in a round, most urgent first. ``backfill`` may run beside the others."""

    tail: Range
    again: tuple[Range, ...] = ()
    backfill: Range | None = None


@attrs.frozen
class Island:
    """Blocks above the cursor that were read already, both ends included."""

    first: int
    last: int


@attrs.frozen
class Cursor:
    """How far a contract is read. ``origin`` is the lowest block that is ever read, ``size`` the blocks of one range."""

    next_block: int
    size: int = attrs.field(default=100, validator=attrs.validators.ge(1))
    origin: int = 0
    island: Island | None = None
    calm: int = 0


def plan(cursor: Cursor, head: int, again: int | None = None) -> ReadPlan:
    """Return what to read in this round.

    ``head`` is the highest block known, ``again`` the lowest block that is to be read once more; None: none is.
    """
    far = head - cursor.next_block + 1 > cursor.size
    first = _live_first(cursor, head) if far else min(cursor.next_block, max(head, cursor.origin))
    below: tuple[Range, ...] = ()
    if again is not None:  # one question for it and the tail, as far as a range goes
        lowest = max(cursor.origin, again)
        first = max(min(first, lowest), head - cursor.size + 1)
        below = _pieces(cursor, lowest, first)
    tail = Range(first, None if cursor.size >= _OPEN_ENDED_FROM else max(first, head))
    return ReadPlan(tail, below, _backfill(cursor, head) if far else None)


def _live_first(cursor: Cursor, head: int) -> int:
    """Where the tail begins when a back-fill is due: above the island, or one range below the head."""
    lowest = head - cursor.size + 1
    if cursor.island is None:
        return lowest
    return max(lowest, min(cursor.island.last + 1, head))


def _pieces(cursor: Cursor, lowest: int, above: int) -> tuple[Range, ...]:
    """Cut the blocks from ``lowest`` to below ``above`` into ranges, the highest first."""
    edges = [*range(above, lowest, -cursor.size), lowest]
    return tuple(Range(first, end - 1) for end, first in itertools.pairwise(edges))


def _backfill(cursor: Cursor, head: int) -> Range | None:
    ceiling = cursor.island.first - 1 if cursor.island else head
    return Range(cursor.next_block, min(cursor.next_block + cursor.size - 1, ceiling))


def took(cursor: Cursor, first: int, last: int, *, logs: int = 0) -> Cursor:
    """Return the cursor after a trusted read of these blocks (``last`` is the node's head where the plan left it open).

    ``logs`` is how many it held.

    Repeating: the same read again changes nothing but the size.
    """
    if last < first:
        return cursor
    grown, may_grow = cursor, last - first + 1 >= cursor.size and cursor.size < MAX_SIZE
    if logs > MANY_LOGS:
        grown = shrunk(cursor)
    elif may_grow and cursor.calm:
        grown = attrs.evolve(cursor, calm=cursor.calm - 1)
    elif may_grow:
        grown = attrs.evolve(cursor, size=min(MAX_SIZE, 2 * cursor.size))
    if first > grown.next_block:
        return attrs.evolve(grown, island=_island_with(grown.island, Island(first, last)))
    next_block, island = max(grown.next_block, last + 1), grown.island
    if island is not None and island.first <= next_block:
        next_block, island = max(next_block, island.last + 1), None
    return attrs.evolve(grown, next_block=next_block, island=island)


def _island_with(island: Island | None, read: Island) -> Island:
    """Grow the island by what was read; if they do not touch, keep the one nearer to the head, the other is read again."""
    if island is None:
        return read
    if read.first <= island.last + 1 and island.first <= read.last + 1:
        return Island(min(island.first, read.first), max(island.last, read.last))
    return max(island, read, key=lambda one: one.last)


def shrunk(cursor: Cursor) -> Cursor:
    """Return the cursor after a range was too wide for the node, or took too long."""
    return attrs.evolve(cursor, size=max(1, cursor.size // 2), calm=CALM_AFTER_FAILURE)


def rewound(cursor: Cursor, fork: int) -> Cursor:
    """Return the cursor after a reorganisation: what was read above the fork was read of another chain."""
    return attrs.evolve(cursor, next_block=min(cursor.next_block, fork + 1), island=None)


@attrs.frozen
class Gap:
    """A run of ids of one tag that are not known: their counters, both ends included."""

    tag: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, identifier: int) -> bool:
        return make_id(self.tag, self.first) <= identifier <= make_id(self.tag, self.last)


def gaps(tag: int, known: Iterable[int], newest: int, low_water: int = 0) -> tuple[Gap, ...]:
    """Return what is missing in (``low_water``, ``newest``] of a tag, lowest first.

    All arguments are full ids as the contract holds them; 0 and the bare tag mean none. Known ids outside the range, and
    those above ``newest``, which a lagging node gives, do not matter.
    """
    low, high = counter_of(low_water), counter_of(newest)
    counters = sorted({counter_of(one) for one in known if low < counter_of(one) <= high})
    edges = itertools.pairwise([low, *counters, high + 1])
    return tuple(Gap(tag, before + 1, after - 1) for before, after in edges if after - before > 1)


Span = tuple[int, int]
"""Blocks, both ends included."""


def pieces(span: Span, blocks: int) -> Iterator[Span]:
    """Cut blocks into ranges of so many at most, in their order."""
    first, last = span
    for start in range(first, last + 1, blocks):
        yield start, min(last, start + blocks - 1)


def questions(missing: Iterable[tuple[int, Span]], ids: int, blocks: int) -> Iterator[tuple[list[int], Span]]:
    """Put missing ids, each with the blocks where it must stand, together for one question each.

    A question is for so many ``ids`` at most, over so many ``blocks`` at most; what may stand in more blocks has one of its own.
    """
    together: list[int] = []
    over: Span = (0, 0)
    for identifier, (first, last) in missing:
        wider = (min(over[0], first), max(over[1], last)) if together else (first, last)
        fits = wider == over or wider[1] - wider[0] < blocks
        if together and (len(together) >= ids or not fits):
            yield together, over
            together, wider = [], (first, last)
        together.append(identifier)
        over = wider
    if together:
        yield together, over


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same blocks in order, each once."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
