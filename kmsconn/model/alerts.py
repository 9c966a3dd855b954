"""The board of alerts: raises each once, again when what it says has changed, and clears it once it is over; and what nodes say, debounced.

An alert is known by its dependency and cause; severity, remedy and patience stand with its cause in ``model/causes.py``. Whoever finds
out sets it; an owner that decides all its alerts anew shows them. A count or a text that changes is said again at most once a minute,
a severity at once. Every owner has its own keys: nobody clears what somebody else has raised.

What a node says counts only when a later look says the same, at a later head or some seconds later. Behind one URL may stand many nodes,
and one of them may lag, be on a fork or answer nonsense. A chain without traffic makes no blocks, hence the seconds. What is remembered is
a cache: a process that begins anew looks twice again. Asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator

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

    def get(self, cause: str, about: str) -> AlertRaised | None:
        """Return a present alert, None where there is none."""
        return self._present.get((about, cause))

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


CONFIRMING = 5.0
"""Seconds between two looks that confirm each other: one node's wild answer is not heard twice so far apart."""


@attrs.frozen
class Suspicion:
    """Something that a later look has to confirm: the head and the time of the first look that said it, and of the last."""

    first_head: int
    first_at: float
    head: int
    at: float

    @classmethod
    def noted(cls, before: Suspicion | None, head: int, at: float) -> Suspicion:
        """Return the suspicion after one more look."""
        return (
            cls(head, at, head, at) if before is None else cls(before.first_head, before.first_at, head, at)
        )

    def is_confirmed(self, seconds: float, least: float = 0.0) -> bool:
        """Say whether a later head confirms it, ``least`` seconds after the first look, or any head ``seconds`` after it."""
        waited = self.at - self.first_at
        return waited >= seconds or (waited >= least and self.head > self.first_head)


@attrs.define
class Debounce:
    """Suspicions by what they are about. The numbers are those of ``Suspicion.is_confirmed``; at most ``most`` are remembered.

    ``anew_below``: a head below that of the first look begins anew; else it counts as one more look.
    """

    seconds: float
    least: float = 0.0
    most: int | None = None
    anew_below: bool = False
    _noted: dict[Hashable, tuple[str, Suspicion]] = attrs.field(factory=dict)

    def confirms(self, subject: Hashable, now: float, head: int = 0, says: str = "") -> bool:
        """Note what a look at ``head`` says of a subject; say whether an earlier look confirms it.

        Something else that is said begins anew.
        """
        said, before = self._noted.get(subject, (says, None))
        if before is None or said != says or (self.anew_below and head < before.first_head):
            self._make_room(subject)
            before = None
        suspicion = Suspicion.noted(before, head, now)
        self._noted[subject] = says, suspicion
        return suspicion.is_confirmed(self.seconds, self.least)

    def _make_room(self, subject: Hashable) -> None:
        self._noted.pop(subject, None)
        if self.most is not None and len(self._noted) >= self.most:
            del self._noted[next(iter(self._noted))]

    def clear(self, subject: Hashable) -> None:
        """Forget a suspicion: another look says otherwise."""
        self._noted.pop(subject, None)

    def keep(self, subjects: Collection[Hashable]) -> None:
        """Forget all other suspicions: they were cleared, and begin anew if they come back."""
        if self._noted:
            self._noted = {subject: one for subject, one in self._noted.items() if subject in subjects}
