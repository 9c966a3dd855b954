"""Records the last progress of each part of the process. Pure but for the clock it is given; for ``/liveness``, which asks for a restart.

A part that comes around is alive, whatever it found: what a dependency does is told by alerts, and no restart would help.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

STALLED_AFTER = 300.0
"""Seconds without coming around after which a part stands still: every wait of theirs has a far shorter deadline."""


@attrs.frozen
class StalledTask:
    """A part that has not come around for ``seconds``; where its ``dependency`` has a critical alert, that is why."""

    part: str
    dependency: str
    seconds: float


@attrs.define
class Heartbeats:
    """The last time of each part that has ever come around."""

    now: Callable[[], float]
    _last: dict[tuple[str, str], float] = attrs.field(factory=dict)

    def part(self, name: str, dependency: str) -> Callable[[], None]:
        """Return what a part calls each time it comes around; it counts from now on."""
        self._beat((name, dependency))
        return partial(self._beat, (name, dependency))

    def _beat(self, key: tuple[str, str]) -> None:
        self._last[key] = self.now()

    def stalled(self) -> tuple[StalledTask, ...]:
        """Return the parts that stand still."""
        now = self.now()
        return tuple(
            StalledTask(name, dependency, now - last)
            for (name, dependency), last in self._last.items()
            if now - last > STALLED_AFTER
        )
