"""Records the last progress of each part of the process. Pure but for the clock it is given; for ``/liveness``, which asks for a restart.

A task that finishes a round is alive, whatever it found: alerts tell about dependencies, and no restart would help there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

STALLED_AFTER = 300.0
"""Seconds without a finished round after which a task is stalled: every wait inside a round has a far shorter deadline."""


@attrs.frozen
class StalledTask:
    """A task that has finished no round for ``seconds``; a critical alert of its ``dependency`` explains it."""

    part: str
    dependency: str
    seconds: float


@attrs.define
class Heartbeats:
    """The time of each task's last round."""

    now: Callable[[], float]
    _last: dict[tuple[str, str], float] = attrs.field(factory=dict)

    def part(self, name: str, dependency: str) -> Callable[[], None]:
        """Return the function that a task calls in each round; the task counts from now on."""
        self._beat((name, dependency))
        return partial(self._beat, (name, dependency))

    def _beat(self, key: tuple[str, str]) -> None:
        self._last[key] = self.now()

    def stalled(self) -> tuple[StalledTask, ...]:
        """Return the tasks that make no progress."""
        now = self.now()
        return tuple(
            StalledTask(name, dependency, now - last)
            for (name, dependency), last in self._last.items()
            if now - last > STALLED_AFTER
        )
