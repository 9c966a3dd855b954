"""The head of a chain as its reads saw it: number, time, pace. Never asks a node.

A node that lags, or a reorganisation, says a lower number than one seen before. Nothing goes back at once for that; but when
no node has confirmed the higher one for ``LONGEST_NODE_LAG`` seconds, the lower one is believed, so that one node's wild answer does not
stay for ever. What cannot be taken back, such as giving up a request for its age, is decided by ``settled_timestamp``.
"""

from __future__ import annotations

import math
from collections import deque

import attrs
import trio

from kmsconn.model.debounce import CONFIRMING

LONGEST_NODE_LAG = 60.0  # seconds; longer than the worst lag of a node that is worth using
DEFAULT_BLOCK_TIME = (
    0.25  # seconds; Arbitrum's, the fastest known here: too many blocks read again do no harm
)
FASTEST = 1e-4  # seconds between blocks; a pace beyond it comes of a wild number, and numbers made of it fit no column
_TRUSTED_SPAN = (
    10  # seconds of chain time below which block timestamps, whole seconds, say nothing about the pace
)
_SAMPLES = 600  # one per second of chain time at most: ten minutes


@attrs.define(eq=False)
class HeadTracker:
    """What is known of a chain's head; None before the first note."""

    number: int | None = attrs.field(default=None, init=False)
    timestamp: int | None = attrs.field(default=None, init=False)
    """The head's timestamp in Unix seconds, which is the chain's time."""
    settled_timestamp: int | None = attrs.field(default=None, init=False)
    """The highest timestamp that two notes agree to have been reached, ``CONFIRMING`` seconds of Trio time apart.

    It is behind the chain's time by as much, and twice that at most while heads are noted often.
    """
    block_time: float = attrs.field(default=DEFAULT_BLOCK_TIME, init=False)
    """Seconds between blocks, over the last minutes; a fast chain's until enough was seen."""
    _claim: tuple[int, float] | None = attrs.field(default=None, init=False)
    _confirmed: float = attrs.field(default=-math.inf, init=False)
    _samples: deque[tuple[int, int]] = attrs.field(factory=lambda: deque(maxlen=_SAMPLES), init=False)

    def note(self, number: int, timestamp: int) -> None:
        """Take a head that a node told."""
        now = trio.current_time()
        self._settle(timestamp, now)
        if self.number is not None and number < self.number:
            if now - self._confirmed <= LONGEST_NODE_LAG:
                return
            self._samples.clear()
        self.number, self.timestamp, self._confirmed = number, timestamp, now
        self._sample(number, timestamp)

    def follow_down(self, number: int, timestamp: int) -> None:
        """Take a lower head at once: that the chain went back to it is proved."""
        if self.number is not None and number < self.number:
            self._samples.clear()
            self.number, self.timestamp, self._confirmed = number, timestamp, trio.current_time()
            self._sample(number, timestamp)

    def _settle(self, timestamp: int, now: float) -> None:
        claimed, since = self._claim or (timestamp, now)
        if now - since >= CONFIRMING:
            before, agreed = self.settled_timestamp, min(claimed, timestamp)
            # the later time; but one that no lag explains is wild, and must not stay
            wild = before is not None and before - agreed > LONGEST_NODE_LAG
            self.settled_timestamp = agreed if before is None or wild else max(before, agreed)
        if self._claim is None or now - since >= CONFIRMING:
            self._claim = (timestamp, now)

    def _sample(self, number: int, timestamp: int) -> None:
        while self._samples and timestamp < self._samples[-1][1]:
            self._samples.pop()  # a wild time, or that of a block which is gone
        if self._samples and timestamp == self._samples[-1][1]:
            self._samples[-1] = (
                max(number, self._samples[-1][0]),
                timestamp,
            )  # a burst: many blocks of one second
        elif not self._samples or timestamp > self._samples[-1][1]:
            self._samples.append((number, timestamp))
        (old, then), (new, now) = self._samples[0], self._samples[-1]
        watched = now - then >= _TRUSTED_SPAN and new > old
        self.block_time = max(FASTEST, (now - then) / (new - old)) if watched else DEFAULT_BLOCK_TIME

    def blocks_in(self, seconds: float) -> int:
        """Return how many blocks ``seconds`` may hold: at the usual pace, or as many as just came, if that was a burst."""
        return max(1, math.ceil(seconds / self.block_time), self._came_in(seconds))

    def has_watched(self, seconds: float) -> bool:
        """Say whether the chain was seen for that long in its own time: before that nobody here knows how fast it was."""
        return bool(self._samples) and self._samples[-1][1] - self._samples[0][1] >= seconds

    def _came_in(self, seconds: float) -> int:
        if self.number is None or self.timestamp is None:
            return 0
        since = self.timestamp - seconds
        oldest = self._samples[0][0] if self._samples else self.number
        before = (number for number, timestamp in reversed(self._samples) if timestamp <= since)
        return self.number - next(before, oldest)
