"""The last minutes in numbers: how long stages and requests took, how many were recorded and included. Pure, fed by ``on_event``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from kmsconn.ethereum.addresses import checksum
from kmsconn.model import events
from kmsconn.observe.tally import EventTaker

LATENCY_WINDOW: Final = 300.0
"""Seconds over which latencies are told."""
LATENCIES_KEPT: Final = 512
"""Observations of each name: at more than 1.7 requests/s the window is shorter than ``LATENCY_WINDOW``."""
SPAN_SECONDS: Final = 5
SPANS: Final = 60
"""Throughput is counted in spans of ``SPAN_SECONDS``; so many are kept."""

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
class ReadPosition:
    """How far a contract is read: ``next_block`` is the first block not read, ``head`` the head seen with it."""

    chain_id: int
    contract: str
    next_block: int
    head: int

    @property
    def lag(self) -> int:
        """Blocks between the read position and the head."""
        return max(0, self.head + 1 - self.next_block)


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


class RecentActivity(EventTaker):
    """Takes what took time and what came and went; memory is bounded by stages, contracts and the numbers above."""

    def __init__(self, wall: Callable[[], float]) -> None:
        super().__init__(
            {
                events.StageFinished: self._finish,
                events.RequestRecorded: self._record,
                events.AnswerKept: self._answer,
                events.ReplyIncluded: self._include,
                events.CursorMoved: self._move,
            }
        )
        self._wall = wall
        self._latencies: dict[str, deque[tuple[float, float]]] = {}
        self.recorded, self.included = Throughput(), Throughput()
        self.positions: dict[tuple[int, bytes], ReadPosition] = {}

    def _finish(self, event: events.StageFinished) -> None:
        self._observe(event.stage, event.seconds)

    def _record(self, _event: events.RequestRecorded) -> None:
        self.recorded.add(self._wall())

    def _answer(self, event: events.AnswerKept) -> None:
        self._observe(_ANSWERED, event.seconds)

    def _move(self, event: events.CursorMoved) -> None:
        position = ReadPosition(event.chain_id, checksum(event.contract), event.block, event.head)
        self.positions[event.chain_id, event.contract] = position

    def _include(self, event: events.ReplyIncluded) -> None:
        if not event.found:
            self.included.add(self._wall())
            self._observe(_INCLUDED, event.seconds)

    def _observe(self, name: str, seconds: float) -> None:
        kept = self._latencies.setdefault(name, deque(maxlen=LATENCIES_KEPT))
        kept.append((self._wall(), seconds))

    def latencies(self) -> Iterator[tuple[str, Latency]]:
        """Yield what was observed within ``LATENCY_WINDOW``, by stage and for the whole, in the order of a request."""
        since = self._wall() - LATENCY_WINDOW
        for name in LATENCY_NAMES:
            seconds = sorted(took for at, took in self._latencies.get(name, ()) if at >= since)
            if seconds:
                yield name, Latency(len(seconds), *(_quantile(seconds, part) for part in (0.5, 0.95, 0.99)))


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
