"""One connector watched: its tally, its health and where its statistics come from. Opens nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kmsconn.model.events import Event
from kmsconn.observe.event_taker import EventTakers
from kmsconn.observe.health import Health, HealthReport
from kmsconn.observe.metrics import ConnectorCollector, exposition
from kmsconn.observe.recent import RecentActivity
from kmsconn.observe.tally import EventTally
from kmsconn.observe.timelines import Timelines

if TYPE_CHECKING:
    from kmsconn.requests.snapshot import Statistics


class Monitor:
    """Feeds on ``on_event``; answers with health and metrics, before, while and after the connector runs.

    ``recent`` and ``timelines`` are what the status page shows of the last minutes.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.wall = wall
        self._tally = EventTally()
        self._health = Health()
        self.recent = RecentActivity(wall)
        self.timelines = Timelines(wall)
        self._takers = EventTakers(self._tally, self._health, self.recent, self.timelines)
        self._statistics: Callable[[], Statistics | None] = lambda: None
        self.collector = ConnectorCollector(self._tally, self._health, self.statistics)

    def on_event(self, event: Event) -> None:
        """Take an event."""
        self._takers.on_event(event)

    def watch(self, statistics: Callable[[], Statistics]) -> None:
        """Look at a connector from now on."""
        self._statistics = statistics

    def statistics(self) -> Statistics | None:
        """Return the snapshot of this moment, None before the connector runs."""
        return self._statistics()

    def health(self) -> HealthReport:
        """Return the health of this moment."""
        statistics = self.statistics()
        if statistics is None:
            return self._health.report(ready=False, draining=False)
        return self._health.report(ready=statistics.ready, draining=statistics.draining)

    def stalled(self) -> list[str]:
        """Return what stands still in this process although its dependency answers; while it ends, nothing does."""
        statistics = self.statistics()
        return [] if statistics is None else self._health.stalled(statistics)

    def metrics(self) -> bytes:
        """Return the metrics of this moment as Prometheus text."""
        return exposition(self.collector)
