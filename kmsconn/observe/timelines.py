"""What has become of the newest requests, as the events of this process told it, and how long it took. Pure; numbers here bound memory.

One record for each request holds its events with their times; steps and latencies are read from it when somebody asks. A request of
before the start appears with its first event. The journal has what is older.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import nlargest, nsmallest
from typing import Any, Final

import attrs

from kmsconn.ethereum.hexes import to_hex
from kmsconn.model import events
from kmsconn.model.life import CLOSED
from kmsconn.model.requests import Kind
from kmsconn.observe.tally import Takes

REQUESTS_KEPT: Final = 1024
"""Requests that are remembered; beyond it the one without news for the longest goes."""
STEPS_KEPT: Final = 48
"""Steps of one request, without the first: beyond it the second one goes. Equal waits in a row are one step."""
DETAIL_CHARACTERS: Final = 240
"""Of a reason."""
LATENCY_WINDOW: Final = 300.0
"""Seconds over which latencies of the remembered requests are told."""
SPAN_SECONDS: Final = 5
SPANS: Final = 60
"""Throughput is counted in spans of ``SPAN_SECONDS``; so many are kept."""

ENDED: Final = frozenset({"included", *CLOSED})
"""The stages of a request that waits for nothing of this node."""

_AFTER: Final = {"check": "gather", "gather": "submit", "submit": "answer", "answer": "answer"}
"""The stage that follows one that has finished."""
_ANSWERED, _INCLUDED = "recorded to answered", "recorded to included"
LATENCY_NAMES: Final = ("check", "gather", "submit", "answer", _ANSWERED, _INCLUDED)
"""In the order in which they are shown."""


@attrs.frozen
class Latency:
    """How long something took lately, in seconds: the count of observations, and their quantiles."""

    count: int
    p50: float
    p95: float
    p99: float


@attrs.frozen
class TimelineStep:
    """One step at a wall time; ``seconds`` that it took, ``times`` how often it came in a row."""

    at: float
    name: str
    detail: str = ""
    seconds: float | None = None
    times: int = 1


@attrs.define
class Timeline:
    """A request: when it began here, and what was told of it since: when, by which event, and how often that came in a row."""

    rid: int
    kind: Kind
    begun: float
    told: list[tuple[float, Any, int]] = attrs.field(factory=list)

    @property
    def id(self) -> int | None:
        """Its id on the chain, None where no event has told it."""
        return next((event.id for _, event, _ in reversed(self.told) if event.id is not None), None)

    @property
    def changed(self) -> float:
        """When something was told last."""
        return self.told[-1][0]

    @property
    def stage(self) -> str:
        """Where it is."""
        event = self.told[-1][1]
        return _TELLING[type(event)](event)[1]

    @property
    def steps(self) -> list[TimelineStep]:
        """Its steps, the oldest first."""
        return [_step(*told) for told in self.kept]

    @property
    def kept(self) -> list[tuple[float, Any, int]]:
        """What was told, equal waits in a row as one, without the middle of a long way."""
        kept: list[tuple[float, Any, int]] = []
        said: object = None
        for at, event, times in self.told:
            name, _, detail = _TELLING[type(event)](event)
            if said == (name, detail):
                kept[-1] = at, kept[-1][1], kept[-1][2] + times
            else:
                kept.append((at, event, times))
            said = name, detail
        return kept if len(kept) <= STEPS_KEPT else [kept[0], *kept[1 - STEPS_KEPT :]]


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
            **dict.fromkeys(_TELLING, self._take),
            events.RequestRecorded: self._record,
            events.ReplyIncluded: self._include,
        }
        self.recorded, self.included = Throughput(), Throughput()
        self._wall = wall
        self._by_row: dict[int, Timeline] = {}

    def __len__(self) -> int:
        return len(self._by_row)

    def _take(self, event: Any) -> None:
        now, rid = self._wall(), event.rid
        timeline = self._by_row.pop(rid, None)
        if timeline is None:
            timeline = Timeline(rid, event.kind, now)
            if len(self._by_row) >= REQUESTS_KEPT:
                del self._by_row[next(iter(self._by_row))]
        self._by_row[rid] = timeline
        timeline.told.append((now, event, 1))
        if len(timeline.told) > 2 * STEPS_KEPT:
            timeline.told = timeline.kept

    def _record(self, event: events.RequestRecorded) -> None:
        self.recorded.add(self._wall())
        self._take(event)

    def _include(self, event: events.ReplyIncluded) -> None:
        if not event.found:
            self.included.add(self._wall())
        self._take(event)

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

    def latencies(self) -> Iterator[tuple[str, Latency]]:
        """Yield what took how long within ``LATENCY_WINDOW``, by stage and for the whole, in the order of a request."""
        since = self._wall() - LATENCY_WINDOW
        took: dict[str, list[float]] = {name: [] for name in LATENCY_NAMES}
        for timeline in self._by_row.values():
            for at, event, _ in timeline.told:
                if at >= since and (name := _timed(event)) in took:
                    took[name].append(event.seconds)
        for name, seconds in took.items():
            if seconds:
                seconds.sort()
                yield name, Latency(len(seconds), *(_quantile(seconds, part) for part in (0.5, 0.95, 0.99)))


def id_text(timeline: Timeline) -> str | None:
    """Return the on-chain id of a request as operators write it, None where it is not known."""
    identifier = timeline.id
    return None if identifier is None else f"0x{identifier:064x}"


def _timed(event: Any) -> str:
    """Return which latency an event tells; empty for none."""
    if isinstance(event, events.StageFinished):
        return event.stage
    if isinstance(event, events.AnswerKept):
        return _ANSWERED
    return _INCLUDED if isinstance(event, events.ReplyIncluded) and not event.found else ""


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _step(at: float, event: Any, times: int) -> TimelineStep:
    name, _, detail = _TELLING[type(event)](event)
    words = " ".join(detail.split())
    short = words if len(words) <= DETAIL_CHARACTERS else f"{words[: DETAIL_CHARACTERS - 1]}…"
    return TimelineStep(at, name, short, event.seconds if isinstance(event, _TIMED) else None, times)


def _place(event: events.RequestRecorded) -> str:
    if event.over_http:
        return "over HTTP"
    return f"block {event.block} of chain {event.chain_id}, transaction {to_hex(event.transaction_hash)}"


def _comparison(event: events.ReplyCompared) -> str:
    where = "" if event.at is None else f" from byte {event.at} on, in {event.field}"
    when = f"{abs(event.seconds):.3g} s {'before' if event.seconds >= 0 else 'after'} its inclusion"
    return f"the other connector's reply is {event.likeness}{where}; this answer was there {when}"


_TIMED: Final = (events.StageFinished, events.StageFailed, events.RequestDeferred)
"""Whose steps show how long they took."""

_TELLING: Final[dict[type, Callable[[Any], tuple[str, str, str]]]] = {
    events.RequestRecorded: lambda event: ("recorded", "check", _place(event)),
    events.StageFinished: lambda event: (event.stage, _AFTER.get(event.stage, event.stage), ""),
    events.StageFailed: lambda event: (f"{event.stage} failed", event.stage, event.cause),
    events.RequestDeferred: lambda event: ("deferred", "deferred", f"{event.stage}: {event.reason}"),
    events.RequestClosed: lambda event: (event.state.value, event.state.value, event.reason),
    events.AnswerKept: lambda _: ("answered", "answered", "the Core's answer is verified and durable"),
    events.ReplySigned: lambda event: (
        "signed",
        "signed",
        f"nonce {event.nonce}, transaction {to_hex(event.transaction_hash)}",
    ),
    events.ReplySent: lambda event: ("sent", "sent", f"nonce {event.nonce}, to {event.chain}"),
    events.ReplyIncluded: lambda event: (
        "included",
        "included",
        f"block {event.block}{', found on the chain' if event.found else ''}",
    ),
    events.ReplyFinalized: lambda _: ("finalized", "finalized", ""),
    events.ReplyReturned: lambda event: ("returned", event.state.value, event.reason),
    events.ReplyCompared: lambda event: ("compared", "included", _comparison(event)),
}
"""What an event says about its request: the name of the step, the stage behind it, and the details."""
