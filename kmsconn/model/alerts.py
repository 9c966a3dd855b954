"""Raises each alert once, again only when what it says has changed, and clears it once it is over. Pure: the owner decides when.

An alert is known by its dependency and cause. Every owner has its own keys: nobody clears what somebody else has raised.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from kmsconn.model.causes import remedy_of
from kmsconn.model.events import AlertCleared, AlertRaised, OnEvent, Severity

Key = tuple[str, str]


@attrs.define
class Alerts:
    """The present alerts of one owner, by dependency and cause."""

    on_event: OnEvent
    _present: dict[Key, AlertRaised] = attrs.field(factory=dict)

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
