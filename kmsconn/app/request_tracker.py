"""Remembers open requests between their passes: what holds them up, ids that a Core reports as taken, results that are late.

*Taken ids.* A Core may say ``ALREADY_EXISTS`` to a start that this connector did not make, and then have no result. Seen on a real Core:
a start that fails inside it leaves the id taken, and there is no result until that Core is restarted. A request of before, whose start
this connector forgot, looks the same at first; so an alert waits for several polls and some minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio

from kmsconn.app.failure_tracker import FailureTracker
from kmsconn.model.alerts import Alerts, Key
from kmsconn.model.events import OnEvent, Severity

CAUSE = "taken-ids"
REMEDY = "restart this Core: a start that failed inside it leaves the id taken until then"
MARK = "ALREADY_EXISTS, and no result yet: "
"""The beginning of the reason of such a row."""

POLLS = 3  # without a result
TAKEN_ID_AFTER = 300.0  # seconds since the Core said so, for a decryption, which takes seconds
TAKEN_KEY_ID_AFTER = 3600.0  # for a key or an epoch, which may take that long

RESULT_LATE_AFTER = 300.0
"""Seconds since the first poll without a result: a decryption takes seconds."""


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

    @property
    def held(self) -> set[int]:
        """The requests that wait."""
        return {rid for rids in self._rids.values() for rid in rids}

    def free(self, rid: int) -> None:
        """Note that a request went on, or ended."""
        for key in [key for key, rids in self._rids.items() if rid in rids]:
            self._rids[key].discard(rid)
            if not self._rids[key]:
                del self._rids[key], self._told[key]
                self._alerts.clear(*key)


@attrs.define
class _Taken:
    since: float
    polls: int = 0


@attrs.define
class TakenIds:
    """The open requests whose ids were taken, each until it has a result, is started anew, or ends."""

    alerts: GroupedAlerts
    _taken: dict[int, _Taken] = attrs.field(factory=dict)

    def __contains__(self, rid: int) -> bool:
        return rid in self._taken

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._taken))

    def started(self, rid: int, *, existed: bool) -> None:
        """Note the outcome of a start call; one that the Core took makes the id ours."""
        if existed:
            self._taken.setdefault(rid, _Taken(trio.current_time()))
        else:
            self._taken.pop(rid, None)

    def polled(self, rid: int, core: str, *, long: bool) -> None:
        """Note a poll of a taken id without a result, and raise the alert of its ``core`` when there were enough of them."""
        taken = self._taken.get(rid)
        if taken is None:
            return
        taken.polls += 1
        alert_after = TAKEN_KEY_ID_AFTER if long else TAKEN_ID_AFTER
        if taken.polls >= POLLS and trio.current_time() - taken.since >= alert_after:
            text = "returns ALREADY_EXISTS to start calls that this connector has not made, and returns no result"
            self.alerts.hold((core, CAUSE), rid, text, Severity.WARNING, REMEDY)

    def ended(self, rid: int) -> None:
        """Note that a request ended, or is to be started anew."""
        self._taken.pop(rid, None)


@attrs.define
class RequestTracker:
    """The memory about open requests that stages and row outcomes share. A request that is over is forgotten by ``forget``."""

    alerts: GroupedAlerts
    failures: FailureTracker = attrs.field(factory=FailureTracker)
    taken: TakenIds = attrs.field(
        default=attrs.Factory(lambda self: TakenIds(self.alerts), takes_self=True), init=False
    )
    _polled_since: dict[int, float] = attrs.field(factory=dict)

    def is_late(self, rid: int, now: float) -> bool:
        """Note a poll without a result; say whether the result is late."""
        return now - self._polled_since.setdefault(rid, now) >= RESULT_LATE_AFTER

    @property
    def remembered(self) -> set[int]:
        """The requests of which something is remembered until they are over."""
        return {*self.alerts.held, *self.taken, *self._polled_since}

    def forget(self, rid: int) -> None:
        """Forget what was noted of a request that is answered or over."""
        self.failures.ended(rid)
        self.alerts.free(rid)
        self.taken.ended(rid)
        self._polled_since.pop(rid, None)
