"""How long to wait after a failure. Pure; times are whatever clock the caller reads."""

from __future__ import annotations

from collections.abc import Callable

import attrs

_LARGEST_EXPONENT = 32  # 2**32 is beyond every cap; keeps the power small


def delay(failures: int, random: float, *, first: float, cap: float) -> float:
    """Return seconds: ``min(cap, first · 2^failures)``, of which the last half is drawn by ``random`` in [0, 1)."""
    return min(cap, first * 2.0 ** min(failures, _LARGEST_EXPONENT)) * (0.5 + random / 2)


@attrs.define
class ReplyBackoff:
    """Holds something back after failures, longer with each one in a row."""

    random: Callable[[], float]
    first: float
    cap: float
    failures: int = 0
    until: float = float("-inf")

    def failed(self, now: float) -> None:
        """Hold back from ``now`` on."""
        self.until = now + delay(self.failures, self.random(), first=self.first, cap=self.cap)
        self.failures += 1

    def worked(self) -> None:
        """Let go."""
        self.failures, self.until = 0, float("-inf")

    def holds(self, now: float) -> bool:
        """Say whether it is too early."""
        return now < self.until
