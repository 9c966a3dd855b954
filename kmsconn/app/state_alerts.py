"""The alerts that follow from the state of the connector: decided anew each second, raised and cleared as they come and go.

Pure but for the hook. A count or a text that changes is said again at most once a minute, a severity at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kmsconn.app.failure_tracker import OTHER_CONTENT, FailureVerdict
from kmsconn.model.alerts import Alerts, Key
from kmsconn.model.causes import remedy_of
from kmsconn.model.events import AlertRaised, OnEvent, Severity

UPDATE = 60.0  # seconds between two tellings of an alert of which only text or count has changed
CONNECTION = frozenset({"calls-fail", "too-slow"})
"""Causes that say nothing more than the health of the Core does."""


def alert_of(verdict: FailureVerdict) -> AlertRaised:
    """Say what a verdict means: which dependency, what, how many wait, what to do."""
    waiting = "1 request waits" if verdict.count == 1 else f"{verdict.count} requests wait"
    text = f"{waiting}: {verdict.text}"
    if verdict.blocked:
        text = f"no {' and no '.join(verdict.blocked)} passes; {text}"
    stands = verdict.blocked or verdict.cause == OTHER_CONTENT  # which only an operator can end
    severity = Severity.CRITICAL if stands else Severity.WARNING
    remedy = verdict.remedy or remedy_of(verdict.cause)
    return AlertRaised(verdict.dependency, verdict.cause, text, severity, remedy, verdict.count)


@attrs.define
class StateAlerts:
    """The state alerts that are raised now. The owner of every key that was ever shown."""

    on_event: OnEvent
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )
    _shown: dict[Key, tuple[float, Severity]] = attrs.field(factory=dict)

    def show(self, alerts: Iterable[AlertRaised], now: float) -> None:
        """Raise what is new or has changed enough, and clear what is gone."""
        present = {(alert.dependency, alert.cause): alert for alert in alerts}
        for key in self._shown.keys() - present.keys():
            del self._shown[key]
            self._alerts.clear(*key)
        for key, alert in present.items():
            if self._is_due(key, alert, now):
                self._shown[key] = now, alert.severity
                self._alerts.raise_(
                    alert.dependency,
                    alert.cause,
                    alert.text,
                    alert.severity,
                    remedy=alert.remedy,
                    count=alert.count,
                )

    def _is_due(self, key: Key, alert: AlertRaised, now: float) -> bool:
        if key not in self._shown:
            return True
        said, severity = self._shown[key]
        return severity is not alert.severity or now - said >= UPDATE
