"""Where the newest requests are, as the events of this process told it, and how long it took. Pure; numbers here bound memory.

One record for each request holds its newest events with their times; the steps of its whole way are in the journal. A request of
before the start appears with its first event, unless that is its finality: of a request that was forgotten, nothing is left to tell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from heapq import nlargest, nsmallest
from itertools import chain
from typing import Any, Final

import attrs

from kmsconn.model import events
from kmsconn.model.requests import Kind
from kmsconn.observe.tally import Takes

REQUESTS_KEPT: Final = 1024
"""Requests that have ended and are remembered; beyond it the one that ended first goes."""
OPEN_KEPT: Final = 4 * REQUESTS_KEPT
"""Likewise those without a reply on the chain, of which the oldest goes: those that ended take no place of theirs."""
EVENTS_KEPT: Final = 16
"""Events of one request; beyond it the oldest goes. Most have ten; of long reasons, 4,096 requests hold some tens of MiB."""
SILENT: Final = 900.0
"""Seconds without news after which an open request is taken for gone where others end: a reorganisation had it, or another process."""
DETAIL_CHARACTERS: Final = 240
"""Of a reason."""
LATENCY_WINDOW: Final = 300.0
"""Seconds over which latencies of the remembered requests are told."""
SPAN_SECONDS: Final = 5
SPANS: Final = 60
"""Throughput is counted in spans of ``SPAN_SECONDS``; so many are kept."""

_AFTER: Final = {"check": "gather", "gather": "submit", "submit": "answer", "answer": "answer"}
"""The stage that follows one that has finished."""
_ANSWERED, _INCLUDED = "recorded to answered", "recorded to included"
_SENDING: Final = frozenset({"answered", "signed", "sent"})
"""The stages in which a request waits for its reply to be sent and included."""
LATENCY_NAMES: Final = ("check", "gather", "submit", "answer", _ANSWERED, _INCLUDED)
"""In the order in which they are shown."""


@attrs.frozen
class Latency:
    """How long something took lately, in seconds: the count of observations, and their quantiles."""

    count: int
    p50: float
    p95: float
    p99: float


@attrs.define
class Timeline:
    """A request: when it began here, and what was told of it since, and when."""

    rid: int
    kind: Kind
    begun: float
    told: deque[tuple[float, Any]] = attrs.field(factory=partial(deque, (), EVENTS_KEPT))

    @property
    def id(self) -> int | None:
        """Its id on the chain, None where no event has told it."""
        return next((event.id for _, event in reversed(self.told) if event.id is not None), None)

    @property
    def changed(self) -> float:
        """When something was told last."""
        return self.told[-1][0]

    @property
    def stage(self) -> str:
        """Where it is."""
        event = self.told[-1][1]
        return _STAGES[type(event)](event)

    @property
    def waits_for(self) -> str:
        """What it was deferred for; nothing for one that was not."""
        event = self.told[-1][1]
        if not isinstance(event, events.RequestDeferred):
            return ""
        words = " ".join(f"{event.stage}: {event.reason}".split())
        return words if len(words) <= DETAIL_CHARACTERS else f"{words[: DETAIL_CHARACTERS - 1]}…"


class Throughput:
    """How many came in each of the last spans of time."""

    def __init__(self) -> None:
        self._spans: deque[tuple[int, int]] = deque(maxlen=SPANS)

    def add(self, now: float) -> None:
        """Count one."""
        span = int(now // SPAN_SECONDS)
        if self._spans and self._spans[-1][0] == span:
            self._spans[-1] = span, self._spans[-1][1] + 1
        else:
            self._spans.append((span, 1))

    def series(self, now: float) -> list[int]:
        """Return the counts of the last ``SPANS`` whole spans, the newest last."""
        counts, last = dict(self._spans), int(now // SPAN_SECONDS)
        return [counts.get(span, 0) for span in range(last - SPANS, last)]


class Timelines:
    """Takes the events about one request, and remembers the newest requests. ``wall`` gives the time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.takes: Takes = {
            **dict.fromkeys(_STAGES, self._take),
            events.RequestRecorded: self._record,
            events.RequestClosed: self._end,
            events.ReplySent: self._send,
            events.ReplyIncluded: self._include,
            events.ReplyCompared: self._end,
            events.ReplyFinalized: self._finalize,
        }
        self.recorded, self.included = Throughput(), Throughput()
        self._wall = wall
        self._open: dict[int, Timeline] = {}
        self._over: dict[int, Timeline] = {}
        self._ended = 0.0  # when something did last

    def __len__(self) -> int:
        return len(self._open) + len(self._over)

    def _take(self, event: Any) -> None:
        timeline = self._open.get(event.rid) or self._opened(event)
        timeline.told.append((self._wall(), event))

    def _opened(self, event: Any) -> Timeline:
        if len(self._open) >= OPEN_KEPT:
            del self._open[next(iter(self._open))]
        timeline = self._over.pop(event.rid, None) or Timeline(event.rid, event.kind, self._wall())
        self._open[event.rid] = timeline
        return timeline

    def _end(self, event: Any) -> None:
        self._take(event)
        if len(self._over) >= REQUESTS_KEPT:
            del self._over[next(iter(self._over))]
        self._over[event.rid] = self._open.pop(event.rid)
        self._ended = self._over[event.rid].changed

    def _send(self, event: events.ReplySent) -> None:
        if event.rid not in self._over:  # else the node has answered later than the block came
            self._take(event)

    def _finalize(self, event: events.ReplyFinalized) -> None:
        if event.rid in self._open:  # a shadow did not see it included
            self._end(event)
        elif (timeline := self._over.get(event.rid)) is not None:
            timeline.told.append((self._wall(), event))

    def _record(self, event: events.RequestRecorded) -> None:
        self.recorded.add(self._wall())
        self._take(event)

    def _include(self, event: events.ReplyIncluded) -> None:
        if not event.found:
            self.included.add(self._wall())
        self._end(event)

    @property
    def _all(self) -> Iterator[Timeline]:
        return chain(self._open.values(), self._over.values())

    def newest(self, count: int) -> list[Timeline]:
        """Return the requests that came last, the newest first."""
        return nlargest(count, self._all, key=lambda one: one.rid)

    def oldest_unreplied(self, count: int, *, sends: bool = True) -> list[Timeline]:
        """Return the requests without a reply on the chain that have been here the longest, the oldest first.

        Where another process ``sends``, what became of answered ones is not known here.
        """
        known = (one for one in self._open.values() if self._ended - one.changed < SILENT)
        waiting = (one for one in known if sends or one.stage not in _SENDING)
        return nsmallest(count, waiting, key=lambda one: (one.begun, one.rid))

    def latencies(self) -> Iterator[tuple[str, Latency]]:
        """Yield what took how long within ``LATENCY_WINDOW``, by stage and for the whole, in the order of a request."""
        since = self._wall() - LATENCY_WINDOW
        took: dict[str, list[float]] = {name: [] for name in LATENCY_NAMES}
        for timeline in self._all:
            for at, event in timeline.told:
                if at >= since and (name := _timed(event)) in took:
                    took[name].append(event.seconds)
        for name, seconds in took.items():
            if seconds:
                seconds.sort()
                yield name, Latency(len(seconds), *(_quantile(seconds, part) for part in (0.5, 0.95, 0.99)))


def _timed(event: Any) -> str:
    """Return which latency an event tells; empty for none."""
    if isinstance(event, events.StageFinished):
        return event.stage
    if isinstance(event, events.AnswerKept):
        return _ANSWERED
    return _INCLUDED if isinstance(event, events.ReplyIncluded) and not event.found else ""


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


_STAGES: Final[dict[type, Callable[[Any], str]]] = {
    events.RequestRecorded: lambda _: "check",
    events.StageFinished: lambda event: _AFTER.get(event.stage, event.stage),
    events.StageFailed: lambda event: event.stage,
    events.RequestDeferred: lambda _: "deferred",
    events.RequestClosed: lambda event: event.state.value,
    events.AnswerKept: lambda _: "answered",
    events.ReplySigned: lambda _: "signed",
    events.ReplySent: lambda _: "sent",
    events.ReplyIncluded: lambda _: "included",
    events.ReplyFinalized: lambda _: "finalized",
    events.ReplyReturned: lambda event: event.state.value,
    events.ReplyCompared: lambda _: "included",
}
"""The stage that a request is in after an event."""
