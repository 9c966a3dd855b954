"""``status``: one look at everything, from a running connector's statistics, or as far as the journal of a stopped one knows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from kmsconn import __version__
from kmsconn.config.common_settings import differences
from kmsconn.ethereum.addresses import checksum
from kmsconn.journal import queries
from kmsconn.journal.members import Gathering, gathering
from kmsconn.journal.pausing import PausedKind, paused_kinds
from kmsconn.journal.values import Counts
from kmsconn.model.events import AlertRaised
from kmsconn.observe.status import parts_of
from kmsconn.operate.control.commands import Arguments, Command, Commands, Context, RunningConnector
from kmsconn.operate.control.describing import SHORT, STATES


async def status(context: Context, arguments: Arguments) -> Any:  # noqa: ARG001 - a command's arguments
    """Show how the connector is, in one screen."""
    running, now = context.running, context.wall()
    members = await context.journal.run(gathering)
    oldest = await context.journal.run(queries.waiting, tuple(context.profile.operations), math.inf, 1)
    shown = {
        "running": running is not None,
        "profile": context.profile.name,
        "version": __version__,
        "uptime": None if running is None else now - running.started,
        **requests_of(await context.journal.run(queries.counts, now)),
        "oldest_request": next(
            (
                {
                    "row": one.rid,
                    "kind": one.kind.value,
                    "id": f"0x{one.id:064x}",
                    "seconds": now - one.since,
                    "reason": one.reason[:SHORT],
                }
                for one in oldest
            ),
            None,
        ),
        "paused": paused_as_json(await context.journal.run(paused_kinds)),
        "cursors": [
            {"chain_id": chain_id, "contract": checksum(contract), "next_block": block}
            for chain_id, contract, block in await context.journal.run(queries.cursors)
        ],
        "damaged_rows": len(context.journal.damaged),
        "processes": processes_as_json(members, now),
        "different_settings": differences_as_json(members),
    }
    return shown if running is None else {**shown, **process_as_json(running)}


def processes_as_json(found: Gathering, now: float) -> list[Mapping[str, Any]]:
    """Return the processes over a journal in PostgreSQL, what each holds, and since when it has said nothing; none over a file."""
    return [
        {
            "name": one.name,
            "roles": sorted(one.roles),
            "uptime": max(0.0, now - one.since),
            "silent": one.silent,
            "leases": [lease.name for lease in found.leases if lease.token == one.token],
        }
        for one in found.members
    ]


def differences_as_json(found: Gathering) -> list[Mapping[str, str]]:
    """Return the settings that the processes do not have alike, each with the values and who has them."""
    return [
        attrs.asdict(one) for one in differences((member.label, member.settings) for member in found.members)
    ]


def requests_of(counts: Counts) -> dict[str, Any]:
    """Return the requests in the journal by kind and state."""
    kinds = dict.fromkeys(kind.value for kind, _ in counts.states)
    return {
        "requests": {
            name: {STATES[state]: rows for (kind, state), rows in counts.states.items() if kind.value == name}
            for name in kinds
        },
        "oldest": {kind.value: seconds for kind, seconds in counts.oldest.items()},
        "deferred": {kind.value: rows for kind, rows in counts.deferred.items() if rows},
        "off_chain": counts.off_chain,
        "undecodable_logs": counts.quarantined_logs,
    }


def process_as_json(running: RunningConnector) -> dict[str, Any]:
    """Return what only a running connector knows."""
    statistics = running.statistics()
    report = None if running.health is None else running.health()
    return {
        "ready": statistics.ready,
        "draining": statistics.draining,
        "healthy": None if report is None else report.healthy,
        "details": "" if report is None else report.details,
        "alerts": None if report is None else alerts_as_json(report.alerts),
        "missing_requests": statistics.queue.gaps,
        **parts_of(statistics),
        "stalled": [attrs.asdict(one) for one in statistics.stalled],
        "journal_free": statistics.journal.free,
    }


def alerts_as_json(alerts: Iterable[AlertRaised]) -> list[Mapping[str, Any]]:
    """Return the present alerts with their remedies."""
    return [{**attrs.asdict(one), "severity": one.severity.value, "text": one.text[:SHORT]} for one in alerts]


def paused_as_json(paused: Iterable[PausedKind]) -> list[Mapping[str, Any]]:
    """Return the kinds that are paused."""
    return [{"kind": one.kind.value, "since": one.since, "reason": one.reason} for one in paused]


COMMANDS: Final[Commands] = {"status": Command("show how the connector is", frozenset(), status)}
