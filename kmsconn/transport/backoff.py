"""How long to wait after a failure: one law for all who try again. Pure; times are whatever clock the caller reads."""

from __future__ import annotations

from collections.abc import Callable

import attrs

_LARGEST_EXPONENT = 32  # 2**32 is beyond every cap; keeps the power small


@attrs.frozen
class Backoff:
    """Exponential delays in seconds with jitter: each lies between the share ``least`` and the whole of ``min(cap, first · 2ⁿ)``."""

    first: float
    cap: float
    least: float = 0.5

    def seconds(self, failures: int, random: float = 1.0) -> float:
        """Return the delay after ``failures`` earlier ones; ``random`` in [0, 1) draws the jitter, 1 none."""
        full = min(self.cap, self.first * 2.0 ** min(failures, _LARGEST_EXPONENT))
        return full * (self.least + random * (1 - self.least))


@attrs.define
class Hold:
    """Holds something back after failures, longer with each one in a row."""

    backoff: Backoff
    random: Callable[[], float]
    failures: int = 0
    until: float = float("-inf")

    def failed(self, now: float) -> None:
        """Hold back from ``now`` on."""
        self.until = now + self.backoff.seconds(self.failures, self.random())
        self.failures += 1

    def worked(self) -> None:
        """Let go."""
        self.failures, self.until = 0, float("-inf")

    def holds(self, now: float) -> bool:
        """Say whether it is too early."""
        return now < self.until
