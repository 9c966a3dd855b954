"""What has become of the newest requests, step by step, as the events of this process told it. Pure; memory is bounded by numbers here.

A request of before the start appears with its first event. The journal has what is older.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import nlargest, nsmallest
from typing import Any, Final

import attrs

from kmsconn.ethereum.hexes import to_hex
from kmsconn.model import events
from kmsconn.model.life import CLOSED
from kmsconn.model.requests import Kind
from kmsconn.observe.tally import EventTaker

REQUESTS_KEPT: Final = 1024
"""Requests that are remembered; beyond it the one without news for the longest goes."""
STEPS_KEPT: Final = 48
"""Steps of one request, without the first: beyond it the second one goes. Equal waits in a row are one step."""
DETAIL_CHARACTERS: Final = 240
"""Of a reason."""

ENDED: Final = frozenset({"included", *CLOSED})
"""The stages of a request that waits for nothing of this node."""

_AFTER: Final = {"check": "gather", "gather": "submit", "submit": "answer", "answer": "answer"}
"""The stage that follows one that has finished."""


@attrs.define
class TimelineStep:
    """One step at a wall time; ``seconds`` that it took, ``times`` how often it came in a row."""

    at: float
    name: str
    detail: str = ""
    seconds: float | None = None
    times: int = 1


@attrs.define
class Timeline:
    """A request: where it is, since when, and its steps. ``id`` is None where no event has told it."""

    rid: int
    kind: Kind
    begun: float
    id: int | None = None
    stage: str = "check"
    changed: float = 0.0
    steps: list[TimelineStep] = attrs.field(factory=list)

    def add(self, step: TimelineStep, stage: str) -> None:
        """Take a step, after which the request is in ``stage``."""
        self.stage, self.changed = stage, step.at
        last = self.steps[-1] if self.steps else None
        if last is not None and (last.name, last.detail) == (step.name, step.detail):
            last.at, last.times = step.at, last.times + 1
            return
        self.steps.append(step)
        if len(self.steps) > STEPS_KEPT:
            del self.steps[1]


_Told = tuple[TimelineStep, str]
"""What an event says about its request: the step, and the stage behind it."""


class Timelines(EventTaker):
    """Takes the events about one request, and remembers the newest requests. ``wall`` gives the time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        super().__init__({kind: partial(self._take, tell) for kind, tell in _TELLING.items()})
        self._wall = wall
        self._by_row: dict[int, Timeline] = {}

    def __len__(self) -> int:
        return len(self._by_row)

    def _take(self, tell: Callable[[float, Any], _Told], event: Any) -> None:
        step, stage = tell(self._wall(), event)
        self._of(event, step.at).add(step, stage)

    def newest(self, count: int) -> list[Timeline]:
        """Return the requests that came last, the newest first."""
        return nlargest(count, self._by_row.values(), key=lambda one: one.rid)

    def oldest_unreplied(self, count: int) -> list[Timeline]:
        """Return the requests without a reply on the chain that have been here the longest, the oldest first."""
        return nsmallest(
            count,
            (one for one in self._by_row.values() if one.stage not in ENDED),
            key=lambda one: (one.begun, one.rid),
        )

    def find(self, name: str) -> Timeline | None:
        """Return a request by its row number, or its id with 0x."""
        if name.startswith("0x"):
            return next((one for one in self._by_row.values() if id_text(one) == name), None)
        return self._by_row.get(int(name))

    def _of(self, event: Any, now: float) -> Timeline:
        timeline = self._by_row.pop(event.rid, None) or Timeline(event.rid, event.kind, now)
        timeline.id = timeline.id if event.id is None else event.id
        self._by_row[event.rid] = timeline
        if len(self._by_row) > REQUESTS_KEPT:
            del self._by_row[next(iter(self._by_row))]
        return timeline


def id_text(timeline: Timeline) -> str | None:
    """Return the on-chain id of a request as operators write it, None where it is not known."""
    return None if timeline.id is None else f"0x{timeline.id:064x}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= DETAIL_CHARACTERS else f"{words[: DETAIL_CHARACTERS - 1]}…"


def _told(now: float, name: str, stage: str, detail: str = "", seconds: float | None = None) -> _Told:
    return TimelineStep(now, name, _short(detail) if detail else "", seconds), stage


def _recorded(now: float, event: events.RequestRecorded) -> _Told:
    where = f"block {event.block} of chain {event.chain_id}, transaction {to_hex(event.transaction_hash)}"
    if event.over_http:
        where = "over HTTP"
    return _told(now, "recorded", "check", where)


def _finished(now: float, event: events.StageFinished) -> _Told:
    return _told(now, event.stage, _AFTER.get(event.stage, event.stage), "", event.seconds)


def _failed(now: float, event: events.StageFailed) -> _Told:
    return _told(now, f"{event.stage} failed", event.stage, event.cause, event.seconds)


def _deferred(now: float, event: events.RequestDeferred) -> _Told:
    return _told(now, "deferred", "deferred", f"{event.stage}: {event.reason}", event.seconds)


def _closed(now: float, event: events.RequestClosed) -> _Told:
    return _told(now, event.state.value, event.state.value, event.reason)


def _answered(now: float, _event: events.AnswerKept) -> _Told:
    return _told(now, "answered", "answered", "the Core's answer is verified and durable")


def _signed(now: float, event: events.ReplySigned) -> _Told:
    detail = f"nonce {event.nonce}, transaction {to_hex(event.transaction_hash)}"
    return _told(now, "signed", "signed", detail)


def _sent(now: float, event: events.ReplySent) -> _Told:
    return _told(now, "sent", "sent", f"nonce {event.nonce}, to {event.chain}")


def _included(now: float, event: events.ReplyIncluded) -> _Told:
    found = ", found on the chain" if event.found else ""
    return _told(now, "included", "included", f"block {event.block}{found}")


def _finalized(now: float, _event: events.ReplyFinalized) -> _Told:
    return _told(now, "finalized", "finalized")


def _returned(now: float, event: events.ReplyReturned) -> _Told:
    return _told(now, "returned", event.state.value, event.reason)


def _compared(now: float, event: events.ReplyCompared) -> _Told:
    where = "" if event.at is None else f" from byte {event.at} on, in {event.field}"
    when = f"{abs(event.seconds):.3g} s {'before' if event.seconds >= 0 else 'after'} its inclusion"
    detail = f"the other connector's reply is {event.likeness}{where}; this answer was there {when}"
    return _told(now, "compared", "included", detail)


_TELLING: Final[dict[type, Callable[[float, Any], _Told]]] = {
    events.RequestRecorded: _recorded,
    events.StageFinished: _finished,
    events.StageFailed: _failed,
    events.RequestDeferred: _deferred,
    events.RequestClosed: _closed,
    events.AnswerKept: _answered,
    events.ReplySigned: _signed,
    events.ReplySent: _sent,
    events.ReplyIncluded: _included,
    events.ReplyFinalized: _finalized,
    events.ReplyReturned: _returned,
    events.ReplyCompared: _compared,
}
