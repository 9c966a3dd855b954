"""Finds ids that the chain has assigned and the journal has not seen. Pure.

Ids of one tag count up without gaps (fhevm-0.14.md, 0.2 and E.1), so every id in (low water, newest] must be known. What is
missing is not necessarily lost: it may lie in blocks that are still to be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import attrs

from kmsconn.ethereum.ids import counter_of, make_id


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
    edges = [low, *counters, high + 1]
    return tuple(
        Gap(tag, before + 1, after - 1) for before, after in itertools.pairwise(edges) if after - before > 1
    )


Span = tuple[int, int]
"""Blocks, both ends included."""


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same blocks in order, each once."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
