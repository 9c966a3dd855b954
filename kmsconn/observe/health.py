"""Is it healthy, and why not: decided from events and the connector's statistics. Pure; probes nobody.

Readiness is latched: once every dependency has answered, only a critical alert or the drain makes it unready. A warning is named
in the details and changes nothing else: the connector waits it out by itself, and a restart would not help. So is a critical alert
about other processes over the journal: every process that is left tells it, and each does its own work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from kmsconn.model.causes import cause_of
from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.observe.tally import Takes

if TYPE_CHECKING:
    from kmsconn.requests.snapshot import Statistics

CONNECTION = frozenset({"unreachable", "calls-fail", "too-slow", "no-answer-yet", "unwritable", "misplaced"})
"""Causes for which a dependency cannot be used, as far as the flags of 0.14 go."""


@attrs.frozen
class HealthReport:
    """The health object (fhevm-0.14.md, 10.2) with the state it was decided from."""

    healthy: bool
    database_connected: bool
    gateway_connected: bool
    ethereum_connected: bool
    kms_core_connected: bool
    details: str
    ready: bool
    draining: bool
    alerts: tuple[AlertRaised, ...]


class Health:
    """Remembers the present alerts."""

    def __init__(self) -> None:
        self.takes: Takes = {AlertRaised: self._raise, AlertCleared: self._clear}
        self._alerts: dict[tuple[str, str], AlertRaised] = {}
        self._ready = False

    @property
    def alerts(self) -> tuple[AlertRaised, ...]:
        """The present alerts, critical ones first."""
        return tuple(
            sorted(
                self._alerts.values(), key=lambda alert: (not alert.critical, alert.dependency, alert.cause)
            )
        )

    def _raise(self, event: AlertRaised) -> None:
        self._alerts[event.dependency, event.cause] = event

    def _clear(self, event: AlertCleared) -> None:
        self._alerts.pop((event.dependency, event.cause), None)

    def report(self, *, ready: bool, draining: bool) -> HealthReport:
        """Say how it is; ``ready`` that every dependency has answered once, now or ever before."""
        self._ready = self._ready or ready
        critical = any(alert.critical and not cause_of(alert.cause).about_others for alert in self.alerts)
        return HealthReport(
            healthy=self._ready and not draining and not critical,
            database_connected=self._is_well("journal"),
            gateway_connected=self._is_well("gateway"),
            ethereum_connected=self._is_well("ethereum"),
            kms_core_connected=self._is_well("core"),
            details="; ".join(self._details(draining)),
            ready=self._ready,
            draining=draining,
            alerts=self.alerts,
        )

    def stalled(self, statistics: Statistics) -> list[str]:
        """Return what stands still in the process although its dependency answers; while it ends, nothing does."""
        if statistics.draining:
            return []
        excused = {alert.dependency for alert in self._alerts.values() if alert.critical}
        return [
            f"the {one.part} has made no progress for {one.seconds:.0f} s"
            for one in statistics.stalled
            if one.dependency not in excused
        ]

    def _is_well(self, dependency: str) -> bool:
        """Say whether a dependency can be used; of several Cores each has requests of its own."""
        names = {
            alert.dependency
            for alert in self._alerts.values()
            if alert.critical and alert.cause in CONNECTION
        }
        return not any(name == dependency or name.startswith(f"{dependency}[") for name in names)

    def _details(self, draining: bool) -> list[str]:
        state = (
            ["draining"]
            if draining
            else []
            if self._ready
            else ["not ready: not every dependency has answered yet"]
        )
        return state + [f"{alert.dependency}: {alert.text}" for alert in self.alerts]
