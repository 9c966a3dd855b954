"""Groups the requests that one cause holds up into one alert with a count, raised with the first. Decides nothing else."""

from __future__ import annotations

import attrs

from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity

Key = tuple[str, str]
"""The dependency and the cause of an alert."""


@attrs.define
class GroupedAlerts:
    """The waiting requests by cause. An alert is raised again when their number has doubled, not for each request."""

    on_event: OnEvent
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )
    _rids: dict[Key, set[int]] = attrs.field(factory=dict)
    _told: dict[Key, tuple[int, Severity]] = attrs.field(factory=dict)

    def hold(self, key: Key, rid: int, text: str, severity: Severity, remedy: str) -> None:
        """Note that a request waits; ``text`` says what is wrong, ``remedy`` what to do about it."""
        rids = self._rids.setdefault(key, set())
        rids.add(rid)
        told, before = self._told.get(key, (0, severity))
        if len(rids) >= 2 * told or severity is not before:
            self._told[key] = (len(rids), severity)
            self._alerts.raise_(*key, text, severity, remedy=remedy, count=len(rids))

    def free(self, rid: int) -> None:
        """Note that a request went on, or ended."""
        for key in [key for key, rids in self._rids.items() if rid in rids]:
            self._rids[key].discard(rid)
            if not self._rids[key]:
                del self._rids[key], self._told[key]
                self._alerts.clear(*key)
