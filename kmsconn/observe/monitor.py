"""One connector watched: its tally, its health, and its metrics as a prometheus-client collector over them and a snapshot; and their text.

Opens nothing, and never registers itself anywhere: ``run`` prints it at ``/metrics``, an embedding program may put the collector into its
own registry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from kmsconn.ethereum.addresses import checksum
from kmsconn.journal.queries import Counts
from kmsconn.model.events import CursorMoved, OnEvent
from kmsconn.model.life import CLOSED as CLOSED_STATES
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.observe import gauges
from kmsconn.observe.families import (
    CIPHERTEXT_ERRORS,
    CIPHERTEXTS,
    CURSOR,
    HEAD,
    LAG,
    UNSUFFIXED,
    WITHOUT_REPLY,
    Family,
    Shape,
    request_table,
    response_table,
)
from kmsconn.observe.status import Health, HealthReport
from kmsconn.observe.tally import EventTakers, EventTally, Histogram, Labels
from kmsconn.observe.timelines import Timelines

if TYPE_CHECKING:  # only its fields are read: monitoring can be imported without the whole connector
    from kmsconn.requests.snapshot import HttpApiStatistics, Statistics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


_ETH = 1e18
_OPEN_STATES = (State.PENDING, State.ANSWERED, State.SIGNED, State.INCLUDED)

T = TypeVar("T")
Figure = float | Mapping[Any, float | None] | None
"""What a family shows: a number, or numbers by the value of its label, or by the values of its labels; None is not known yet."""


class ConnectorCollector(Collector):
    """Gives all metrics of one connector; ``statistics`` returns its snapshot, or None before there is one."""

    def __init__(
        self, tally: EventTally, health: Health, statistics: Callable[[], Statistics | None]
    ) -> None:
        self._tally, self._health, self._statistics = tally, health, statistics

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a series."""
        alerts = {(one.dependency, one.cause): 1.0 + one.critical for one in self._health.alerts}
        figures: dict[Family, Figure] = {gauges.ALERT: alerts}
        statistics = self._statistics()
        if statistics is not None:
            figures |= _figures(statistics) | _of_health(self._health, statistics)
        shown = {family: _series(figure) for family, figure in figures.items()}
        series: dict[Family, Mapping[Labels, Any]] = {
            **self._tally.families,
            **_of_reading(self._tally.read.values()),
            **shown,
        }
        yield from (_metric(family, values) for family, values in series.items() if values)


def _series(figure: Figure) -> dict[Labels, float]:
    """Return a figure by its labels; what is not known yet has no series."""
    values = figure if isinstance(figure, Mapping) else {(): figure}
    return {
        of if isinstance(of, tuple) else (of,): float(value)
        for of, value in values.items()
        if value is not None
    }


def _of_reading(read: Iterable[CursorMoved]) -> dict[Family, dict[Labels, float]]:
    """Return how far the contracts are read."""
    by_contract = {(str(one.chain_id), checksum(one.contract)): one for one in read}
    return {
        CURSOR: {labels: one.block for labels, one in by_contract.items()},
        HEAD: {labels: one.head for labels, one in by_contract.items()},
        LAG: {labels: one.lag for labels, one in by_contract.items()},
    }


def exposition(collector: Collector) -> bytes:
    """Return the metrics as Prometheus text 0.0.4, with the 0.14 counters under their own names.

    prometheus-client writes ``_total`` after the name of every counter in its HELP and TYPE lines; the 0.14 names have none.
    """
    text = generate_latest(collector)
    for family in UNSUFFIXED:
        text = text.replace(f" {family.name}_total ".encode(), f" {family.name} ".encode())
    return text


def _of_health(health: Health, statistics: Statistics) -> dict[Family, Figure]:
    report = health.report(ready=statistics.ready, draining=statistics.draining)
    return {
        gauges.READY: statistics.ready,
        gauges.DRAINING: statistics.draining,
        gauges.HEALTHY: report.healthy,
        gauges.LIVE: not health.stalled(statistics),
    }


def _figures(statistics: Statistics) -> dict[Family, Figure]:
    """Return what a snapshot shows; a journal in a file is no matter of several processes."""
    queue, ciphertexts, journal = statistics.queue, statistics.ciphertexts, statistics.journal
    chains, transactions, members = statistics.chains, statistics.transactions, journal.members
    gateway, failures = chains.get("gateway"), ciphertexts.bucket_failures
    return {
        gauges.BUSY: queue.busy,
        gauges.PLACES: queue.places,
        gauges.GAPS: queue.gaps,
        gauges.BALANCE: _each(transactions, lambda one: None if one.balance is None else one.balance / _ETH),
        gauges.REPLIES_LEFT: _each(transactions, lambda one: one.replies_left),
        gauges.NEXT_NONCE: _each(transactions, lambda one: one.next_nonce),
        gauges.IN_FLIGHT: _each(transactions, lambda one: one.in_flight),
        gauges.UNSENT: _each(transactions, lambda one: one.waiting),
        gauges.HEAD_TIME: None if gateway is None else gateway.head_time,
        gauges.HEAD_AGE: _each(chains, lambda one: one.head_age),
        gauges.FINALIZED_AGE: _each(chains, lambda one: one.finalized_age),
        gauges.RECONNECTS: _each(chains, lambda one: one.reconnects),
        gauges.BYTES: ciphertexts.bytes_held,
        gauges.SKIPPED: ciphertexts.attestations_skipped,
        gauges.BUCKET_ATTEMPTS: ciphertexts.bucket_attempts,
        gauges.BUCKET_FAILURES: {name: failures.get(name, 0) for name in ciphertexts.bucket_attempts},
        CIPHERTEXTS: ciphertexts.fetched,
        CIPHERTEXT_ERRORS: sum(failures.values()),
        **({} if statistics.http is None else _of_http(statistics.http)),
        gauges.JOURNAL_FREE: journal.free,
        gauges.MEMBERS: len(members) or None,
        gauges.LEASES: {lease: 1.0 for one in members if one.token == journal.token for lease in one.leases},
        **({} if queue.counts is None else _of_counts(queue.counts, queue.busy)),
    }


def _each(of: Mapping[str, T], value: Callable[[T], float | None]) -> Mapping[str, float | None]:
    return {name: value(one) for name, one in of.items()}


def _of_http(http: HttpApiStatistics) -> dict[Family, Figure]:
    return {
        gauges.HTTP_CERTIFICATE_END: http.certificate_end,
        gauges.HTTP_WAITING: http.waiting,
        gauges.HTTP_PLACES: http.places,
        gauges.HTTP_CONNECTIONS: http.connections,
        gauges.HTTP_BODY_BYTES: http.body_bytes,
        gauges.HTTP_DROPPED: http.dropped,
    }


def _of_counts(counts: Counts, busy: Mapping[str, int]) -> dict[Family, Figure]:
    def number(kind: Kind, *states: State) -> float:
        return float(sum(counts.states.get((kind, state), 0) for state in states))

    return {
        gauges.REQUESTS: {(kind, state): number(kind, state) for kind in Kind for state in State},
        gauges.DELETED: {
            (kind, state): counts.deleted.get((kind, state), 0) for kind in Kind for state in CLOSED_STATES
        },
        gauges.OPEN: {kind: number(kind, *_OPEN_STATES) for kind in Kind},
        gauges.QUARANTINED: {kind: number(kind, State.QUARANTINED) for kind in Kind},
        gauges.DEFERRED: {kind: counts.deferred.get(kind, 0) for kind in Kind},
        gauges.OLDEST: {kind: counts.oldest.get(kind, 0.0) for kind in Kind},
        gauges.ANSWERABLE: {kind: counts.answerable.get(kind, 0.0) for kind in Kind},
        gauges.OFF_CHAIN: counts.off_chain,
        gauges.QUARANTINED_LOGS: counts.quarantined_logs,
        gauges.UNPROCESSED: {
            labels: value
            for kind in Kind
            for labels, value in _unprocessed(kind, busy.get(kind, 0), number).items()
        },
    }


def _unprocessed(kind: Kind, busy: int, number: Callable[..., float]) -> dict[Labels, float]:
    """Return the rows as the tables of 0.14 would have held them (10.4): what a pool holds is under process."""
    seen = number(kind, State.PENDING)
    asked: dict[Labels, float] = {
        (request_table(kind), "pending"): max(0.0, seen - busy),
        (request_table(kind), "under_process"): min(seen, float(busy)),
    }
    if kind in WITHOUT_REPLY:
        return asked
    return {
        **asked,
        (response_table(kind), "pending"): number(kind, State.ANSWERED),
        (response_table(kind), "under_process"): number(kind, State.SIGNED),
    }


def _metric(family: Family, series: Mapping[Labels, Any]) -> Metric:
    name = family.name.removesuffix("_total") if family.shape is Shape.COUNTER else family.name
    metric = Metric(name, family.doc, str(family.shape))
    for values, value in sorted(series.items(), key=lambda one: one[0]):
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, Histogram):
            _add_histogram(metric, labels, value)
        else:
            metric.add_sample(family.name, labels, value)
    return metric


def _add_histogram(metric: Metric, labels: dict[str, str], histogram: Histogram) -> None:
    count = 0
    for limit, count in histogram.cumulative:
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": limit}, count)
    metric.add_sample(f"{metric.name}_sum", labels, histogram.sum)
    metric.add_sample(f"{metric.name}_count", labels, count)


class Monitor:
    """Feeds on ``on_event``; answers with health and metrics, before, while and after the connector runs.

    ``timelines`` and ``tally`` are what the status page shows of the last minutes; ``takes`` say what is to be done with an event.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.wall = wall
        self.tally = EventTally()
        self._health = Health()
        self.timelines = Timelines(wall)
        self.takes = self.tally.takes, self._health.takes, self.timelines.takes
        self.on_event: OnEvent = EventTakers(*self.takes).on_event
        self._statistics: Callable[[], Statistics | None] = lambda: None
        self.collector = ConnectorCollector(self.tally, self._health, self.statistics)

    def watch(self, statistics: Callable[[], Statistics]) -> None:
        """Look at a connector from now on."""
        self._statistics = statistics

    def statistics(self) -> Statistics | None:
        """Return the snapshot of this moment, None before the connector runs."""
        return self._statistics()

    def health(self) -> HealthReport:
        """Return the health of this moment."""
        statistics = self.statistics()
        if statistics is None:
            return self._health.report(ready=False, draining=False)
        return self._health.report(ready=statistics.ready, draining=statistics.draining)

    def stalled(self) -> list[str]:
        """Return what stands still in this process although its dependency answers; while it ends, nothing does."""
        statistics = self.statistics()
        return [] if statistics is None else self._health.stalled(statistics)

    def metrics(self) -> bytes:
        """Return the metrics of this moment as Prometheus text."""
        return exposition(self.collector)
