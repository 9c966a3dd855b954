"""The metrics as a prometheus-client collector over the tally, the health and a snapshot of the connector; and their text.

Never registers itself anywhere: ``run`` prints it at ``/metrics``, an embedding program may put it into its own registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from kmsconn.journal.values import Counts
from kmsconn.model.life import CLOSED as CLOSED_STATES
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.observe.families import (
    CIPHERTEXT_ERRORS,
    CIPHERTEXTS,
    UNSUFFIXED,
    WITHOUT_REPLY,
    Family,
    Shape,
    request_table,
    response_table,
)
from kmsconn.observe.gauges import (
    ALERT,
    BALANCE,
    BUCKET_ATTEMPTS,
    BUCKET_FAILURES,
    BUSY,
    BYTES,
    DEFERRED,
    DELETED,
    DRAINING,
    FINALIZED_AGE,
    GAPS,
    HEAD_AGE,
    HEAD_TIME,
    HEALTHY,
    HTTP_BODY_BYTES,
    HTTP_CERTIFICATE_END,
    HTTP_CONNECTIONS,
    HTTP_DROPPED,
    HTTP_PLACES,
    HTTP_WAITING,
    IN_FLIGHT,
    JOURNAL_FREE,
    LEASES,
    LIVE,
    MEMBERS,
    NEXT_NONCE,
    OFF_CHAIN,
    OLDEST,
    OPEN,
    PLACES,
    QUARANTINED,
    QUARANTINED_LOGS,
    READY,
    RECONNECTS,
    REPLIES_LEFT,
    REQUESTS,
    SKIPPED,
    UNPROCESSED,
    UNSENT,
)
from kmsconn.observe.health import Health
from kmsconn.observe.tally import Histogram, Labels, Tally, Value

if TYPE_CHECKING:  # only its fields are read: monitoring can be imported without the whole connector
    from kmsconn.replies.manager import TxStatistics
    from kmsconn.requests.snapshot import (
        ChainStatistics,
        CiphertextStatistics,
        HttpApiStatistics,
        JournalStatistics,
        Statistics,
    )

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


_ETH = 1e18
_OPEN_STATES = (State.PENDING, State.ANSWERED, State.SIGNED, State.INCLUDED)

T = TypeVar("T")
Series = dict[Family, dict[Labels, float]]


class ConnectorCollector(Collector):
    """Gives all metrics of one connector; ``statistics`` returns its snapshot, or None before there is one."""

    def __init__(self, tally: Tally, health: Health, statistics: Callable[[], Statistics | None]) -> None:
        self._tally, self._health, self._statistics = tally, health, statistics

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a series."""
        gauges: Series = {
            ALERT: {(one.dependency, one.cause): 1.0 + one.critical for one in self._health.alerts}
        }
        statistics = self._statistics()
        if statistics is not None:
            gauges.update(_from_statistics(statistics))
            gauges.update(_from_health(self._health, statistics))
        series: dict[Family, Mapping[Labels, Value]] = {**self._tally.families, **gauges}
        yield from (_metric(family, values) for family, values in series.items() if values)


def exposition(collector: Collector) -> bytes:
    """Return the metrics as Prometheus text 0.0.4, with the 0.14 counters under their own names.

    prometheus-client writes ``_total`` after the name of every counter in its HELP and TYPE lines; the 0.14 names have none.
    """
    text = generate_latest(collector)
    for family in UNSUFFIXED:
        text = text.replace(f" {family.name}_total ".encode(), f" {family.name} ".encode())
    return text


def _from_health(health: Health, statistics: Statistics) -> Series:
    report = health.report(ready=statistics.ready, draining=statistics.draining)
    return {
        READY: {(): float(statistics.ready)},
        DRAINING: {(): float(statistics.draining)},
        HEALTHY: {(): float(report.healthy)},
        LIVE: {(): float(not health.stalled(statistics))},
    }


def _from_statistics(statistics: Statistics) -> Series:
    series: Series = {
        BUSY: {(kind,): float(busy) for kind, busy in statistics.queue.busy.items()},
        PLACES: {(kind,): float(places) for kind, places in statistics.queue.places.items()},
        GAPS: {(): float(statistics.queue.gaps)},
    }
    series |= _from_transactions(statistics)
    series |= _from_chains(statistics.chains)
    series |= _from_ciphertexts(statistics.ciphertexts)
    if statistics.http is not None:
        series |= _from_http(statistics.http)
    series |= _from_journal(statistics.journal)
    if statistics.queue.counts is not None:
        series.update(_from_counts(statistics.queue.counts, statistics.queue.busy))
    return series


def _from_journal(journal: JournalStatistics) -> Series:
    """Return what is known of where the journal is kept; a file is no matter of several processes."""
    series: Series = {} if journal.free is None else {JOURNAL_FREE: {(): float(journal.free)}}
    if journal.members:
        series[MEMBERS] = {(): float(len(journal.members))}
        series[LEASES] = {(lease,): 1.0 for one in journal.members if one.is_self for lease in one.leases}
    return series


def _by_chain(of: Mapping[str, T], value: Callable[[T], float | None]) -> dict[Labels, float]:
    values = ((name, value(one)) for name, one in of.items())
    return {(name,): float(number) for name, number in values if number is not None}


def _from_transactions(statistics: Statistics) -> Series:
    """Return what the transaction managers say; what they do not know yet has no series."""

    def by_chain(value: Callable[[TxStatistics], float | None]) -> dict[Labels, float]:
        return _by_chain(statistics.transactions, value)

    return {
        BALANCE: by_chain(lambda one: None if one.balance is None else one.balance / _ETH),
        REPLIES_LEFT: by_chain(lambda one: one.replies_left),
        NEXT_NONCE: by_chain(lambda one: one.next_nonce),
        IN_FLIGHT: by_chain(lambda one: one.in_flight),
        UNSENT: by_chain(lambda one: one.waiting),
    }


def _from_chains(chains: Mapping[str, ChainStatistics]) -> Series:
    """Return what is known of each chain; what is not known yet has no series."""

    def by_chain(value: Callable[[ChainStatistics], float | None]) -> dict[Labels, float]:
        return _by_chain(chains, value)

    gateway = chains.get("gateway")
    return {
        HEAD_TIME: {} if gateway is None or gateway.head_time is None else {(): float(gateway.head_time)},
        HEAD_AGE: by_chain(lambda one: one.head_age),
        FINALIZED_AGE: by_chain(lambda one: one.finalized_age),
        RECONNECTS: by_chain(lambda one: one.reconnects),
    }


def _from_ciphertexts(statistics: CiphertextStatistics) -> Series:
    def by_bucket(numbers: Mapping[str, int]) -> dict[Labels, float]:
        return {(name,): float(number) for name, number in numbers.items()}

    failures = statistics.bucket_failures
    return {
        BYTES: {(): float(statistics.bytes_held)},
        SKIPPED: {(): float(statistics.attestations_skipped)},
        BUCKET_ATTEMPTS: by_bucket(statistics.bucket_attempts),
        BUCKET_FAILURES: by_bucket({name: failures.get(name, 0) for name in statistics.bucket_attempts}),
        CIPHERTEXTS: {(): float(statistics.fetched)},
        CIPHERTEXT_ERRORS: {(): float(sum(failures.values()))},
    }


def _from_http(statistics: HttpApiStatistics) -> Series:
    end = statistics.certificate_end
    return {
        HTTP_CERTIFICATE_END: {} if end is None else {(): end},
        HTTP_WAITING: {(): float(statistics.waiting)},
        HTTP_PLACES: {(): float(statistics.places)},
        HTTP_CONNECTIONS: {(): float(statistics.connections)},
        HTTP_BODY_BYTES: {(): float(statistics.body_bytes)},
        HTTP_DROPPED: {(): float(statistics.dropped)},
    }


def _from_counts(counts: Counts, busy: Mapping[str, int]) -> Series:
    def number(kind: Kind, *states: State) -> float:
        return float(sum(counts.states.get((kind, state), 0) for state in states))

    return {
        REQUESTS: {(kind, state): number(kind, state) for kind in Kind for state in State},
        DELETED: {
            (kind, state): float(counts.deleted.get((kind, state), 0))
            for kind in Kind
            for state in CLOSED_STATES
        },
        OPEN: {(kind,): number(kind, *_OPEN_STATES) for kind in Kind},
        QUARANTINED: {(kind,): number(kind, State.QUARANTINED) for kind in Kind},
        DEFERRED: {(kind,): float(counts.deferred.get(kind, 0)) for kind in Kind},
        OLDEST: {(kind,): counts.oldest.get(kind, 0.0) for kind in Kind},
        OFF_CHAIN: {(): float(counts.off_chain)},
        QUARANTINED_LOGS: {(): float(counts.quarantined_logs)},
        UNPROCESSED: {
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


def _metric(family: Family, series: Mapping[Labels, Value]) -> Metric:
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
