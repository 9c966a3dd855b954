"""Finds the fork between the chain that a node shows and the one that was read: which block to ask for next, and when to believe it. Pure.

A kept block that the node shows with another hash proves that its chain forked below. A head below the newest kept block proves
nothing: the node may lag. The search gallops down from the newest kept block that the node can have, and bisects once one stands.
Blocks between two checkpoints are not told apart: the fork counts as the highest kept block that stands, which reads a little more.

What is found is acted upon at once only where that costs little: within the reorg window. Deeper, a later look must say so too, since
one node's wild answer would have years read again; and a head that only is low must stay low for longer than any useful node lags.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter

import attrs

from kmsconn.model.debounce import CONFIRMING
from kmsconn.rpc.checkpoints import Checkpoint, Checkpoints

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

    def confirms(self, search: Search, now: float, window: int) -> bool:
        """Say whether to go back to the fork that a search found at ``now`` (wall time); ``window`` is the reorg window in blocks."""
        if search.proved:
            since = _first(self.doubts.forked_since, now)
            self.doubts = attrs.evolve(self.doubts, forked_since=since)
            return search.depth <= window or now - since >= CONFIRMING
        since = _first(self.doubts.low_since, now)
        self.doubts = attrs.evolve(self.doubts, low_since=since)
        return now - since >= LAGGING

    def clear(self) -> None:
        """Forget what earlier looks said: the chain stands, or the reader goes back."""
        self.doubts = NO_DOUBTS


def _first(since: float | None, now: float) -> float:
    """Return when something was first said; after a clock was set back that is now."""
    return now if since is None else min(since, now)
