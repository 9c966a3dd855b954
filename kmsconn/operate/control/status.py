"""``status``: one look at everything, running or by the journal of a stopped one; and how requests are told as JSON.

Bytes and ids are 0x…, times Unix seconds, absent values null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from kmsconn import __version__
from kmsconn.config.assembly import differences
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal import queries
from kmsconn.journal.inspecting import PausedKind, paused_kinds
from kmsconn.journal.members import Gathering, gathering
from kmsconn.journal.rows import Row
from kmsconn.model.events import AlertRaised
from kmsconn.model.requests import Content
from kmsconn.observe.status import parts_of, processes_of, requests_of
from kmsconn.operate.control.commands import Arguments, Command, Commands, Context, RunningConnector, name_of

SHORT: Final = 400  # characters of a reason in a list: a traceback has thousands
_EXACT: Final = 2**53  # beyond it JSON readers lose digits


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
        "oldest_request": next((_waiting_as_json(one, now) for one in oldest), None),
        "paused": paused_as_json(await context.journal.run(paused_kinds)),
        "cursors": [
            {"chain_id": chain_id, "contract": checksum(contract), "next_block": block}
            for chain_id, contract, block in await context.journal.run(queries.cursors)
        ],
        "damaged_rows": len(context.journal.damaged),
        "processes": processes_of(members.members, now),
        "different_settings": differences_as_json(members),
    }
    return shown if running is None else {**shown, **process_as_json(running)}


def _waiting_as_json(row: Row, now: float) -> dict[str, Any]:
    return {**name_of(row), "seconds": now - row.times.recorded, "reason": row.progress.reason[:SHORT]}


def differences_as_json(found: Gathering) -> list[Mapping[str, str]]:
    """Return the settings that the processes do not have alike, each with the values and who has them."""
    return [*map(attrs.asdict, differences((one.label, one.settings) for one in found.members))]


def process_as_json(running: RunningConnector) -> dict[str, Any]:
    """Return what only a running connector knows."""
    statistics = running.connector.statistics()
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


COMMANDS: Final[Commands] = {"status": Command(status)}


# --- a request


def as_json(row: Row, *, whole: bool = False) -> dict[str, Any]:
    """Return a row; ``whole``: with its reason in full, and with the bytes of answer and transaction."""
    log = row.event.log
    shown = {
        **name_of(row),
        "state": row.state.value,
        "on_chain": row.on_chain,
        "reason": row.progress.reason if whole else row.progress.reason[:SHORT],
        "recorded_at": row.times.recorded,
        "answered_at": row.times.answered,
        "closed_at": row.times.closed,
        "next_attempt": row.progress.next_attempt,
        "deferred": row.progress.deferred,
        "submitted": row.progress.submitted,
        "nonce": row.reply.nonce,
        "transaction": None if row.reply.hash is None else to_hex(row.reply.hash),
        "included_block": row.reply.included_block,
    }
    if not whole:
        return shown
    return {
        **shown,
        "chain_id": row.event.chain_id,
        "contract": checksum(row.event.contract),
        "digest": to_hex(row.event.digest),
        "deadline": None if math.isinf(row.progress.deadline) else row.progress.deadline,
        **place_as_json(row),
        "choice": row.progress.choice or None,
        "block_hash": to_hex(log.block_hash) if log.block_hash else None,
        "log_index": log.log_index,
        "signer": None if row.answer is None or row.answer.signer is None else checksum(row.answer.signer),
        "calldata": None if row.answer is None else to_hex(row.answer.calldata),
        "raw_transaction": None if row.reply.raw is None else to_hex(row.reply.raw),
    }


def place_as_json(row: Row) -> dict[str, Any]:
    """Return where a request came from: a block and a transaction, or HTTP."""
    over_http, log = row.over_http, row.event.log
    return {
        "source": "http" if over_http else "chain",
        "block": None if over_http else log.block_number,
        "request_transaction": None if over_http else to_hex(log.transaction_hash),
    }


def content_as_json(content: Content) -> dict[str, Any]:
    """Return what a request asks for."""
    return {"type": type(content).__name__, **_plain(content)}


def _plain(value: Any) -> Any:
    """Turn a value of the model into JSON."""
    if isinstance(value, bytes):
        return checksum(Address(value)) if len(value) == ADDRESS_BYTES else to_hex(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < _EXACT else f"0x{value:x}"
    if attrs.has(type(value)):
        return {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value
