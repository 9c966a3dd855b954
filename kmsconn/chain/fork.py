"""Block hashes that are kept of a chain to notice a reorganisation, and the search for where it began. Pure; never asks a node.

A checkpoint says: what was read of the chain so far was read of one that holds this block. Kept are all of the last ``DENSE`` heads that
were seen, and below them sixteen for each doubling of the distance: some 450 for a thousand million blocks.

A kept block that the node shows with another hash proves that its chain forked below. A head below the newest kept block proves
nothing: the node may lag. The search gallops down from the newest kept block that the node can have, and bisects once one stands.
Blocks between two checkpoints are not told apart: the fork counts as the highest kept block that stands, which reads a little more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter

import attrs

from kmsconn.model.events import ReplyReturned

DENSE = 64  # blocks below the newest one that are all kept
_PER_DOUBLING = 16
LAGGING = 60.0  # seconds; longer than the worst lag of a node that is worth using


@attrs.frozen(order=True)
class Checkpoint:
    """A block by number and hash."""

    number: int
    hash: bytes


Checkpoints = tuple[Checkpoint, ...]
"""In the order of their numbers, which differ."""


@attrs.frozen
class Followed:
    """What is durable of a chain. ``generation``: how often it was found to have forked. ``doubted_since``: wall time; None: it is not."""

    generation: int = 0
    kept: Checkpoints = ()
    doubted_since: float | None = None


@attrs.frozen
class Rewound:
    """What a rewind changed: the replies that went back, and how many requests left the chain with their blocks.

    ``followed`` is what is durable of the chain now.
    """

    returned: tuple[ReplyReturned, ...] = ()
    gone: int = 0
    followed: Followed = Followed()


def spacing(distance: int) -> int:
    """Return how many blocks share one checkpoint, so far below the newest one: a power of two."""
    return 1 if distance < DENSE else 1 << (distance // _PER_DOUBLING).bit_length() - 1


def thinned(checkpoints: Iterable[Checkpoint]) -> Checkpoints:
    """Return those to keep: of each run of blocks that share one the lowest, so that the oldest and the newest always stay.

    Repeating: what was kept before is enough to know what is kept later.
    """
    ordered = sorted(checkpoints)
    kept: dict[tuple[int, int], Checkpoint] = {}
    for one in ordered:
        share = spacing(ordered[-1].number - one.number)
        kept.setdefault((share, one.number // share), one)
    return tuple(kept.values())


@attrs.frozen
class Search:
    """A search under way; ``question`` is the kept block to ask for next, None at the end.

    ``low`` is the index of the highest one known to stand, ``high`` that of the lowest one known not to.
    """

    checkpoints: Checkpoints
    high: int
    low: int = -1
    step: int = 1
    proved: bool = False
    """A kept block stands in the node's chain with another hash."""

    @classmethod
    def below(cls, checkpoints: Checkpoints, head: int) -> Search:
        """Begin below a node's head."""
        return cls(checkpoints, bisect_right(checkpoints, head, key=attrgetter("number")))

    @property
    def question(self) -> Checkpoint | None:
        """The kept block whose hash to ask for next."""
        if self.high - self.low <= 1:
            return None
        below = self.high - self.step if self.low < 0 else (self.low + self.high) // 2
        return self.checkpoints[max(0, below)]

    def answered(self, hash_: bytes | None) -> Search:
        """Return the search after the answer to ``question``: the block's hash, None where the node has no such block."""
        asked = self.question
        assert asked is not None, "the search has ended"
        at = self.checkpoints.index(asked)
        if hash_ == asked.hash:
            return attrs.evolve(self, low=at)
        return attrs.evolve(self, high=at, step=2 * self.step, proved=self.proved or hash_ is not None)

    @property
    def fork(self) -> int:
        """The highest block known to be common to both chains; the one below the oldest kept block where none stands."""
        return self.checkpoints[self.low].number if self.low >= 0 else self.checkpoints[0].number - 1

    @property
    def depth(self) -> int:
        """How many blocks above the fork had been read."""
        return self.checkpoints[-1].number - self.fork
