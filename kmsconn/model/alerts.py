"""The board of alerts: raises each once, again when what it says has changed, and clears it once it is over.

An alert is known by its dependency and cause; severity, remedy and patience stand with its cause in ``model/causes.py``. Whoever finds
out sets it; an owner that decides all its alerts anew shows them. A count or a text that changes is said again at most once a minute,
a severity at once. Every owner has its own keys: nobody clears what somebody else has raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, OnEvent, Severity

Key = tuple[str, str]

UPDATE = 60.0  # seconds between two tellings of an alert of which only text or count has changed


@attrs.define
class Board:
    """The present alerts, by dependency and cause. ``now`` returns Trio's time."""

    on_event: OnEvent
    now: Callable[[], float]
    _present: dict[Key, AlertRaised] = attrs.field(factory=dict)
    _since: dict[Key, float] = attrs.field(factory=dict)
    """Since when something is wrong that is not told at once."""
    _told: dict[Key, float] = attrs.field(factory=dict)
    """When each of the present ones was said last."""
    _shown: dict[str, set[Key]] = attrs.field(factory=dict)
    """What each owner shows."""

    def __contains__(self, key: Key) -> bool:
        return key in self._present

    def __iter__(self) -> Iterator[AlertRaised]:
        return iter(tuple(self._present.values()))

    def set(
        self,
        cause: str,
        about: str,
        text: str | None,
        *,
        critical: bool | None = None,
        remedy: str = "",
        count: int = 1,
    ) -> None:
        """Raise an alert that says ``text``, or clear it where there is nothing to say. Repeating: no effect while nothing has changed.

        ``critical`` and ``remedy``: where they are not those of the cause. Raises KeyError for a cause that is not in the table.
        """
        key, usual = (about, cause), CAUSES[cause]
        if not text:
            self._since.pop(key, None)
            if self._present.pop(key, None) is not None:
                self.on_event(AlertCleared(*key))
        elif usual.after <= 0 or self.now() - self._since.setdefault(key, self.now()) >= usual.after:
            stops = usual.critical if critical is None else critical
            severity = Severity.CRITICAL if stops else Severity.WARNING
            self._raise(AlertRaised(about, cause, text, severity, remedy or usual.remedy, count))

    def show(self, owner: str, alerts: Iterable[AlertRaised]) -> None:
        """Raise these alerts, and clear what the owner has shown before and is gone."""
        present = {(alert.dependency, alert.cause): alert for alert in alerts}
        for about, cause in self._shown.get(owner, set()) - present.keys():
            self.set(cause, about, None)
        self._shown[owner] = set(present)
        for alert in present.values():
            self._raise(alert)

    def _raise(self, alert: AlertRaised) -> None:
        key, now = (alert.dependency, alert.cause), self.now()
        known = self._present.get(key)
        if known == alert:
            return
        if known is None or known.severity is not alert.severity or now - self._told[key] >= UPDATE:
            self._present[key], self._told[key] = alert, now
            self.on_event(alert)
