"""Is a connector healthy, and why not; and a running one as JSON, for the status page, ``kmsconn top`` and ``kmsconn status``. Pure.

Readiness is latched: once every dependency has answered, only a critical alert or the drain makes it unready. A warning is named
in the details and changes nothing else: the connector waits it out by itself, and a restart would not help. So is a critical alert
about other processes over the journal: every process that is left tells it, and each does its own work. So is a contract that is newer
than this version knows: all nodes tell it in the minute of an upgrade, and were they unready, no roll-out of the cure would end.
Nothing here is secret. Times are Unix seconds, ages and latencies seconds; what is not known yet is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from kmsconn.ethereum.addresses import checksum
from kmsconn.model.causes import cause_of
from kmsconn.model.events import AlertCleared, AlertRaised, CursorMoved
from kmsconn.model.life import State
from kmsconn.observe.tally import Takes
from kmsconn.observe.timelines import Timeline
from kmsconn.requests.membership import SENDS

if TYPE_CHECKING:
    from kmsconn.requests.snapshot import Statistics

CONNECTION = frozenset({"unreachable", "calls-fail", "too-slow", "no-answer-yet", "unwritable", "misplaced"})
"""Causes for which a dependency cannot be used, as far as the flags of 0.14 go."""


@attrs.frozen
class HealthReport:
    """The health object (fhevm-0.14.md, 10.2) with the state it was decided from."""

    healthy: bool
    database_connected: bool
    gateway_connected: bool
    ethereum_connected: bool
    kms_core_connected: bool
    details: str
    ready: bool
    draining: bool
    alerts: tuple[AlertRaised, ...]


class Health:
    """Remembers the present alerts."""

    def __init__(self) -> None:
        self.takes: Takes = {AlertRaised: self._raise, AlertCleared: self._clear}
        self._alerts: dict[tuple[str, str], AlertRaised] = {}
        self._ready = False

    @property
    def alerts(self) -> tuple[AlertRaised, ...]:
        """The present alerts, critical ones first."""
        return tuple(
            sorted(
                self._alerts.values(), key=lambda alert: (not alert.critical, alert.dependency, alert.cause)
            )
        )

    def _raise(self, event: AlertRaised) -> None:
        self._alerts[event.dependency, event.cause] = event

    def _clear(self, event: AlertCleared) -> None:
        self._alerts.pop((event.dependency, event.cause), None)

    def report(self, *, ready: bool, draining: bool) -> HealthReport:
        """Say how it is; ``ready`` that every dependency has answered once, now or ever before."""
        self._ready = self._ready or ready
        critical = any(alert.critical and not cause_of(alert.cause).leaves_ready for alert in self.alerts)
        return HealthReport(
            healthy=self._ready and not draining and not critical,
            database_connected=self._is_well("journal"),
            gateway_connected=self._is_well("gateway"),
            ethereum_connected=self._is_well("ethereum"),
            kms_core_connected=self._is_well("core"),
            details="; ".join(self._details(draining)),
            ready=self._ready,
            draining=draining,
            alerts=self.alerts,
        )

    def stalled(self, statistics: Statistics) -> list[str]:
        """Return what stands still in the process although its dependency answers; while it ends, nothing does."""
        if statistics.draining:
            return []
        excused = {alert.dependency for alert in self._alerts.values() if alert.critical}
        return [
            f"the {one.part} has made no progress for {one.seconds:.0f} s"
            for one in statistics.stalled
            if one.dependency not in excused
        ]

    def _is_well(self, dependency: str) -> bool:
        """Say whether a dependency can be used; of several Cores each has requests of its own."""
        names = {
            alert.dependency
            for alert in self._alerts.values()
            if alert.critical and alert.cause in CONNECTION
        }
        return not any(name == dependency or name.startswith(f"{dependency}[") for name in names)

    def _details(self, draining: bool) -> list[str]:
        state = (
            ["draining"]
            if draining
            else []
            if self._ready
            else ["not ready: not every dependency has answered yet"]
        )
        return state + [f"{alert.dependency}: {alert.text}" for alert in self.alerts]


if TYPE_CHECKING:
    from kmsconn.journal.members import MemberRow
    from kmsconn.journal.queries import Counts
    from kmsconn.observe.monitor import Monitor
    from kmsconn.replies.state import TxStatistics
    from kmsconn.requests.snapshot import Statistics

NEWEST_SHOWN: Final = 20
"""Requests in the list of the newest ones."""
OLDEST_SHOWN: Final = 8
"""Requests in the list of the oldest ones without a reply on the chain."""
STAGES: Final = ("check", "gather", "submit", "answer")
"""The stages that workers do."""


def status_of(monitor: Monitor, newest: int = NEWEST_SHOWN) -> dict[str, Any]:
    """Return what is known of the connector at this moment, with so many of the newest requests."""
    statistics, health = monitor.statistics(), monitor.health()
    return {
        "at": monitor.wall(),
        "state": _state(health.ready, health.draining, health.healthy),
        "alerts": [attrs.asdict(alert) for alert in health.alerts],
        "latency": {name: attrs.asdict(latency) for name, latency in monitor.timelines.latencies()},
        "throughput": {
            "recorded": monitor.timelines.recorded.series(monitor.wall()),
            "included": monitor.timelines.included.series(monitor.wall()),
        },
        "newest": [_brief(one) for one in monitor.timelines.newest(newest)],
        "oldest": [
            _brief(one) for one in monitor.timelines.oldest_unreplied(OLDEST_SHOWN, sends=_sends(statistics))
        ],
        **(_of_statistics(statistics, monitor) if statistics is not None else _NOTHING_YET),
    }


_NOTHING_YET: Final[Mapping[str, Any]] = {
    **{part: {} for part in ("flow", "workers", "chains", "cores", "buckets", "transactions", "journal")},
    "contracts": [],
    "http": None,
}


def _state(ready: bool, draining: bool, healthy: bool) -> str:
    if draining:
        return "draining"
    if not ready:
        return "starting"
    return "healthy" if healthy else "unhealthy"


def _sends(statistics: Statistics | None) -> bool:
    """Say whether replies are sent by this process: by one of several over a journal only where it has a lease for that."""
    journal = None if statistics is None else statistics.journal
    mine = [] if journal is None else [one.leases for one in journal.members if one.token == journal.token]
    return all(any(lease.startswith(SENDS) for lease in leases) for leases in mine)


def _of_statistics(statistics: Statistics, monitor: Monitor) -> dict[str, Any]:
    counts, journal = statistics.queue.counts, statistics.journal
    names = {one.chain_id: name for name, one in statistics.chains.items() if one.head is not None}
    return {
        **parts_of(statistics),
        "flow": _flow(statistics),
        "contracts": [_contract(one, names) for one in monitor.tally.read.values()],
        "journal": {
            **({} if counts is None else requests_of(counts)),
            "processes": processes_of(journal.members, monitor.wall()),
            "free": journal.free,
            "gaps": statistics.queue.gaps,
        },
        "http": None if statistics.http is None else attrs.asdict(statistics.http),
    }


def parts_of(statistics: Statistics) -> dict[str, Mapping[str, Any]]:
    """Return the parts of a running connector that have names, each by its name."""
    queue, ciphertexts = statistics.queue, statistics.ciphertexts
    return {
        "workers": {name: {"busy": busy, "places": queue.places[name]} for name, busy in queue.busy.items()},
        "chains": {name: attrs.asdict(one) for name, one in statistics.chains.items()},
        "cores": {name: attrs.asdict(one) for name, one in statistics.cores.items()},
        "buckets": {
            name: {"asked": asked, "failed": ciphertexts.bucket_failures.get(name, 0)}
            for name, asked in ciphertexts.bucket_attempts.items()
        },
        "transactions": {name: _transactions(one) for name, one in statistics.transactions.items()},
    }


def _transactions(one: TxStatistics) -> dict[str, Any]:
    """Return a transaction manager's figures; amounts of wei as text, since JSON readers lose their digits."""
    figures = attrs.asdict(one)
    amounts = {name: figures[name] for name in ("balance", "fee", "priority", "reply_cost")}
    texts = {name: None if wei is None else str(wei) for name, wei in amounts.items()}
    return {**figures, **texts, "replies_left": one.replies_left}


def _flow(statistics: Statistics) -> dict[str, int]:
    """Return how many requests are where on their way: what is pending and in no stage waits for its turn or was deferred."""
    counts, running = statistics.queue.counts, statistics.queue.running
    rows = {} if counts is None else counts.states

    def number(state: State) -> int:
        return sum(count for (_, one), count in rows.items() if one is state)

    deferred = 0 if counts is None else sum(counts.deferred.values())
    stages = {stage: running.get(stage, 0) for stage in STAGES}
    waiting = max(0, number(State.PENDING) - sum(stages.values()))
    return {
        "waiting": max(0, waiting - deferred),
        "deferred": min(waiting, deferred),
        **stages,
        "answered": number(State.ANSWERED),
        "signed": number(State.SIGNED),
        "included": number(State.INCLUDED),
        "finalized": number(State.FINALIZED),
    }


def requests_of(counts: Counts) -> dict[str, Any]:
    """Return the requests in the journal by kind and state."""
    kinds = dict.fromkeys(kind.value for kind, _ in counts.states)
    return {
        "requests": {
            name: {state.value: rows for (kind, state), rows in counts.states.items() if kind.value == name}
            for name in kinds
        },
        "oldest": {kind.value: seconds for kind, seconds in counts.oldest.items()},
        "deferred": {kind.value: rows for kind, rows in counts.deferred.items() if rows},
        "off_chain": counts.off_chain,
        "undecodable_logs": counts.quarantined_logs,
    }


def processes_of(members: Iterable[MemberRow], now: float) -> list[Mapping[str, Any]]:
    """Return the processes over a journal in PostgreSQL, what each holds, and since when it has said nothing; none over a file."""
    return [
        {
            "name": one.name,
            "roles": sorted(one.roles),
            "uptime": max(0.0, now - one.since),
            "silent": one.silent,
            "leases": list(one.leases),
        }
        for one in members
    ]


def _contract(one: CursorMoved, names: Mapping[int | None, str]) -> dict[str, Any]:
    return {
        "chain": names.get(one.chain_id, str(one.chain_id)),
        "contract": checksum(one.contract),
        "next_block": one.block,
        "lag": one.lag,
    }


def _brief(one: Timeline) -> dict[str, Any]:
    return {
        "row": one.rid,
        "id": None if one.id is None else f"0x{one.id:064x}",
        "kind": one.kind.value,
        "stage": one.stage,
        "begun": one.begun,
        "changed": one.changed,
        "detail": one.waits_for,
    }
