"""The board of alerts: raises each once, again when what it says has changed, clears it once it is over; and whether work passes at all.

An alert is known by its dependency and cause; severity, remedy and patience stand with its cause in ``model/causes.py``. Whoever finds
out sets it; an owner that decides all its alerts anew shows them. A count or a text that changes is said again at most once a minute,
a severity at once. Every owner has its own keys: nobody clears what somebody else has raised.

``Progress`` tells whether work passes, and what holds it up where it does not. A *lane* is work that passes together or not at all: the
requests of a kind at one shard of the Core, the replies of a chain. One rule:

- Where at least ``several`` pieces of work of a lane are held up, each since after the lane's last pass, and for ``patience`` seconds,
  nothing passes there: what holds up most of them is to blame.
- ``STANDSTILL`` seconds are enough for work whose step nothing of the lane has passed since: what that step needs answers nothing, or
  refuses all. Longer patience is for a dependency that works, and holds up some.
- Work that is ``not_there``, since its chain does not show it any more, is evidence of neither.

It counts from the first failure, so nothing has to be known of how long work takes; and it asks nobody for a reason, so that an unknown
cause is told as well as a known one. What is held up beside others that pass is counted, and is no more than that.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator

import attrs

from kmsconn.frozen import frozen
from kmsconn.model.causes import CAUSES, cause_of
from kmsconn.model.events import AlertCleared, AlertRaised, OnEvent, Severity

Key = tuple[str, str]

UPDATE = 60.0  # seconds between two tellings of an alert of which only text or count has changed


@attrs.define
class Board:
    """The present alerts, by dependency and cause. ``now`` returns Trio's time."""

    on_event: OnEvent
    now: Callable[[], float]
    present: dict[Key, AlertRaised] = attrs.field(factory=dict)
    _since: dict[Key, float] = attrs.field(factory=dict)
    """Since when something is wrong that is not told at once."""
    _told: dict[Key, float] = attrs.field(factory=dict)
    """When each of the present ones was said last."""
    _shown: dict[str, set[Key]] = attrs.field(factory=dict)
    """What each owner shows."""

    def __contains__(self, key: Key) -> bool:
        return key in self.present

    def __iter__(self) -> Iterator[AlertRaised]:
        return iter(tuple(self.present.values()))

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
            if self.present.pop(key, None) is not None:
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
        known = self.present.get(key)
        if known == alert:
            return
        if known is None or known.severity is not alert.severity or now - self._told[key] >= UPDATE:
            self.present[key], self._told[key] = alert, now
            self.on_event(alert)


SEVERAL = 3
"""Pieces of work that are held up before their lane is said not to pass: one may be wrong, two by chance."""

PATIENCE = 60.0
"""Seconds for which each of them is held up by then: a node that lags, or a Core that restarts, holds up none for as long."""

STANDSTILL = 8.0
"""Likewise, where nothing of the lane has passed that step: a connection that breaks, or a node that is replaced, comes back sooner."""

WINDOW = 600.0
"""Seconds after its last failure for which work counts: it is tried again every five minutes at least, and a try may take minutes."""

REMEMBERED = 4096
"""Pieces of work that are remembered for each lane. More wait all the same, and are not counted."""


@frozen
class Lane:
    """Work that passes together or not at all: ``what`` it is in words, and ``where`` it passes."""

    what: str
    where: Hashable = ""
    several: int = SEVERAL
    patience: float = PATIENCE


@attrs.frozen
class Reason:
    """What holds work up: the alert's dependency and cause, what was said, what to do; told once it has held for ``after`` seconds.

    ``critical``: even where other work passes; then ``after`` counts from the first time that it was. ``answers``: the dependency does its
    part, and says that something is not there yet.
    """

    dependency: str
    cause: str
    text: str
    remedy: str = ""
    after: float = 0.0
    critical: bool = False
    answers: bool = False


@attrs.frozen
class Holdup:
    """What holds up work: how many pieces, and the lanes where nothing passes because of it, in words."""

    reason: Reason
    count: int
    stopped: tuple[str, ...]


@attrs.define
class _Held:
    """A piece of work that is held up: at which step of its way, at which event and time first, when last, and until when that counts."""

    step: int
    order: int
    since: float
    at: float
    until: float
    reason: Reason

    def told(self, now: float, patience: float = 0.0) -> bool:
        return now - self.since >= max(patience, self.reason.after)


@attrs.define
class _LaneState:
    passed: int = 0
    worked: dict[int, float] = attrs.field(factory=dict)
    """When any work passed a step last."""
    held: dict[int, _Held] = attrs.field(factory=dict)


@attrs.define
class Progress:
    """What is held up, and what passed. The order of failures and passes is counted, so that none is at the same moment."""

    _order: int = 0
    _lanes: dict[Lane, _LaneState] = attrs.field(factory=lambda: defaultdict(_LaneState))
    _lane_of: dict[int, Lane] = attrs.field(factory=dict)
    not_there: set[int] = attrs.field(factory=set)
    """The work that was made up, as far as is known: its chain does not show it."""

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._lane_of))

    def hold(
        self,
        lane: Lane,
        rid: int,
        reason: Reason,
        *,
        now: float,
        step: int = 0,
        keep: float = WINDOW,
        order: int | None = None,
        since: float | None = None,
    ) -> None:
        """Note that work failed at a step of its way; if it does not fail again it is forgotten after ``keep`` seconds.

        ``since``: when it got to that step, where it has waited there for long before it failed.

        ``order`` is compared with that of passes, where both have one that is not the order in which they are noted.

        Repeating: it is held up since the first time, at the furthest step, for the last reason.
        """
        if self._lane_of.get(rid, lane) != lane:
            self.free(rid)
        held = self._lanes[lane].held
        if (known := held.get(rid)) is not None:
            if reason.critical and not known.reason.critical:
                known.since = now
            known.step, known.at, known.until, known.reason = max(known.step, step), now, now + keep, reason
        elif len(held) < REMEMBERED:
            self._order += 1
            began = now if since is None else since
            held[rid] = _Held(step, self._order if order is None else order, began, now, now + keep, reason)
            self._lane_of[rid] = lane

    def went_on(self, rid: int, step: int) -> None:
        """Note that a step was passed, or that what it needs has answered: who was held up there, or before, is not any more."""
        if (lane := self._lane_of.get(rid)) is not None and self._lanes[lane].held[rid].step <= step:
            self.free(rid)

    def worked(self, lane: Lane, step: int, now: float) -> None:
        """Note that any work of a lane has passed a step: what that step needs does not refuse all."""
        self._lanes[lane].worked[step] = now

    def stands_still(self, lane: Lane, step: int, since: float) -> bool:
        """Say whether nothing of a lane has passed a step since."""
        return self._lanes[lane].worked.get(step, -math.inf) <= since

    def passed(self, lane: Lane, rid: int, order: int | None = None) -> None:
        """Note that work has got to the end of its lane; ``order`` as in ``hold``."""
        self._order += 1
        self._lanes[lane].passed = self._order if order is None else max(order, self._lanes[lane].passed)
        self.free(rid)

    def free(self, rid: int, causes: Collection[str] | None = None) -> None:
        """Note that nothing holds work up any more, or none of these causes: it ended, or waits for something else."""
        lane = self._lane_of.get(rid)
        if lane is not None and (causes is None or self._lanes[lane].held[rid].reason.cause in causes):
            del self._lane_of[rid], self._lanes[lane].held[rid]

    def forgive(self, dependency: str, causes: Collection[str]) -> None:
        """Forget what a dependency held up for these causes: it works again, and the work is tried again."""
        for rid, lane in [*self._lane_of.items()]:
            if self._lanes[lane].held[rid].reason.dependency == dependency:
                self.free(rid, causes)

    def holdups(self, now: float) -> tuple[Holdup, ...]:
        """Return what holds up work, one for each dependency and cause."""
        if not self._lane_of:
            return ()
        self._forget(now)
        counts: Counter[tuple[str, str]] = Counter()
        latest: dict[tuple[str, str], _Held] = {}
        stopped: dict[tuple[str, str], set[str]] = defaultdict(set)
        for lane, state in self._lanes.items():
            for one in state.held.values():
                if one.told(now):
                    key = one.reason.dependency, one.reason.cause
                    counts[key] += 1
                    latest[key] = max(
                        one, latest.get(key, one), key=lambda held: (held.reason.critical, held.at)
                    )
            waits = _waiting(lane, state, now)
            there = [one for rid, one in waits.items() if rid not in self.not_there]
            if len(there) >= lane.several:
                stopped[_most_blamed(there)].add(lane.what)
        return tuple(
            Holdup(latest[key].reason, count, tuple(sorted(stopped[key])))
            for key, count in sorted(counts.items())
        )

    def stopped(self, now: float) -> Iterator[tuple[Lane, tuple[int, ...]]]:
        """Yield the lanes where nothing passes at ``now``, with the work that shows it; also that which is not there."""
        for lane, state in [*self._lanes.items()]:
            waits = _waiting(lane, state, now)
            if len(waits) >= lane.several:
                yield lane, tuple(waits)

    def _forget(self, now: float) -> None:
        for rid in [
            rid for one in self._lanes.values() for rid, held in one.held.items() if held.until < now
        ]:
            self.free(rid)


def _waiting(lane: Lane, state: _LaneState, now: float) -> dict[int, _Held]:
    """Return what has waited in a lane for so long that it shows, with others, that nothing passes."""
    return {
        rid: one
        for rid, one in state.held.items()
        if one.order > state.passed and one.told(now, _patience(lane, state, one))
    }


def _most_blamed(held: Iterable[_Held]) -> tuple[str, str]:
    """Return the dependency and cause that hold up most; of several the one that was there first."""
    [(key, _)] = Counter((one.reason.dependency, one.reason.cause) for one in held).most_common(1)
    return key


def _patience(lane: Lane, state: _LaneState, held: _Held) -> float:
    still = not held.reason.answers and state.worked.get(held.step, -math.inf) <= held.since
    return min(STANDSTILL, lane.patience) if still else lane.patience


def alert_of(found: Holdup, one: str, several: str) -> AlertRaised:
    """Return the alert: which dependency, what, how many pieces of work, in words, wait, and what to do."""
    reason = found.reason
    text = f"{f'1 {one} waits' if found.count == 1 else f'{found.count} {several} wait'}: {reason.text}"
    if found.stopped:
        text = f"no {' and no '.join(found.stopped)} passes; {text}"
    severity = Severity.CRITICAL if found.stopped or reason.critical else Severity.WARNING
    remedy = reason.remedy or cause_of(reason.cause).remedy
    return AlertRaised(reason.dependency, reason.cause, text, severity, remedy, found.count)
