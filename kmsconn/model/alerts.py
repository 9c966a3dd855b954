"""Raises each alert once, again only when what it says has changed, and clears it once it is over. Pure: the owner decides when.

An owner that decides all its alerts anew shows them: a count or a text that changes is then said again at most once a minute.

An alert is known by its dependency and cause. Every owner has its own keys: nobody clears what somebody else has raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from kmsconn.model.causes import remedy_of
from kmsconn.model.events import AlertCleared, AlertRaised, OnEvent, Severity

Key = tuple[str, str]

UPDATE = 60.0  # seconds between two tellings of a shown alert of which only text or count has changed


@attrs.define
class Alerts:
    """The present alerts of one owner, by dependency and cause."""

    on_event: OnEvent
    _present: dict[Key, AlertRaised] = attrs.field(factory=dict)
    _shown: dict[Key, float] = attrs.field(factory=dict)
    """When each of the shown ones was said last."""

    def __contains__(self, key: Key) -> bool:
        return key in self._present

    def __iter__(self) -> Iterator[AlertRaised]:
        return iter(tuple(self._present.values()))

    def severity(self, dependency: str, cause: str) -> Severity | None:
        """Return how severe a present alert is, None where there is none."""
        alert = self._present.get((dependency, cause))
        return None if alert is None else alert.severity

    def raise_(
        self,
        dependency: str,
        cause: str,
        text: str,
        severity: Severity = Severity.WARNING,
        *,
        remedy: str = "",
        count: int = 1,
    ) -> None:
        """Raise an alert. Repeating: no effect while nothing of it has changed."""
        alert = AlertRaised(dependency, cause, text, severity, remedy or remedy_of(cause), count)
        if self._present.get((dependency, cause)) != alert:
            self._present[dependency, cause] = alert
            self.on_event(alert)

    def clear(self, dependency: str, cause: str) -> None:
        """Clear an alert. Repeating: no effect when it is not raised."""
        if self._present.pop((dependency, cause), None) is not None:
            self.on_event(AlertCleared(dependency, cause))

    def put(
        self,
        dependency: str,
        cause: str,
        text: str,
        severity: Severity = Severity.WARNING,
        *,
        remedy: str = "",
        count: int = 1,
    ) -> None:
        """Raise an alert that says ``text``, or clear it where there is nothing to say."""
        if text:
            self.raise_(dependency, cause, text, severity, remedy=remedy, count=count)
        else:
            self.clear(dependency, cause)

    def show(self, alerts: Iterable[AlertRaised], now: float) -> None:
        """Raise these alerts, and clear what was shown before and is gone."""
        present = {(alert.dependency, alert.cause): alert for alert in alerts}
        for key in self._shown.keys() - present.keys():
            del self._shown[key]
            self.clear(*key)
        for key, alert in present.items():
            known = self._present.get(key)
            if (
                known is None
                or known.severity is not alert.severity
                or now - self._shown.get(key, now) >= UPDATE
            ):
                self._shown[key] = now
                self._present[key] = alert
                if alert != known:
                    self.on_event(alert)
