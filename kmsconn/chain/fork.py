"""Block hashes that are kept to notice a reorganisation, and the search for where it began. Pure; never asks a node.

A checkpoint says: everything that was read of a contract so far was read of a chain that holds this block. Every read asks for the
newest one's hash together with the head and the logs, so a read of another branch shows at once. Kept are all of the last ``DENSE``
blocks at which a read ended, and below them sixteen for each doubling of the distance: some 450 for a thousand million blocks.

A kept block that the node shows with another hash proves that its chain forked below. A head below the newest kept block proves
nothing: the node may lag. The search gallops down from the newest kept block that the node can have, and bisects once one stands.
Blocks between two checkpoints are not told apart: the fork counts as the highest kept block that stands, which reads a little more.

What is found is acted upon at once only where that costs little: within the reorg window. Deeper, a later look must say so too, since
one node's wild answer would have years read again; and a head that only is low must stay low for longer than any useful node lags.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter

import attrs

from kmsconn.model.debounce import CONFIRMING

DENSE = 64  # blocks below the newest one that are all kept
_PER_DOUBLING = 16


@attrs.frozen(order=True)
class Checkpoint:
    """A block by number and hash."""

    number: int
    hash: bytes


Checkpoints = tuple[Checkpoint, ...]
"""In the order of their numbers, which differ."""


@attrs.frozen
class Extension:
    """Block hashes to be kept: all of them, those that are new to the journal, and the numbers of those that it may forget."""

    kept: Checkpoints = ()
    keep: Checkpoints = ()
    forget: tuple[int, ...] = ()


NO_EXTENSION = Extension()


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


def up_to(checkpoints: Checkpoints, number: int) -> Checkpoints:
    """Return those that are not above a block."""
    return tuple(one for one in checkpoints if one.number <= number)


LAGGING = 60.0  # seconds; longer than the worst lag of a node that is worth using


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


@attrs.frozen
class Doubts:
    """Since when a chain seems to have forked, and since when its head seems to be low, in wall time; None: it does not.

    The journal keeps them: a process that does not live until the second look leaves it to the next one.
    """

    forked_since: float | None = None
    low_since: float | None = None


NO_DOUBTS = Doubts()


@attrs.define
class ForkDebounce:
    """Believes a fork within the reorg window at once, a deeper one and a head that is too low only when a later look says so too."""

    doubts: Doubts = NO_DOUBTS
    """None once the chain stands, or the reader goes back."""

    def confirms(self, search: Search, now: float, window: int) -> bool:
        """Say whether to go back to the fork that a search found at ``now`` (wall time); ``window`` is the reorg window in blocks."""
        if search.proved:
            since = _first(self.doubts.forked_since, now)
            self.doubts = attrs.evolve(self.doubts, forked_since=since)
            return search.depth <= window or now - since >= CONFIRMING
        since = _first(self.doubts.low_since, now)
        self.doubts = attrs.evolve(self.doubts, low_since=since)
        return now - since >= LAGGING


def _first(since: float | None, now: float) -> float:
    """Return when something was first said; after a clock was set back that is now."""
    return now if since is None else min(since, now)
