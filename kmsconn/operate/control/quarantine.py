"""``quarantine.list|show|retry|drop``: logs that could not be decoded, and requests that met something unexpected.

A log is named by the beginning of its block's hash and its index in the block (``0x1a2b3c4d:7``), a request as everywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal import inspecting
from kmsconn.journal.inspecting import PREFIX_BYTES, InspectionError, UndecodableLog, Wanted
from kmsconn.model.life import State
from kmsconn.model.requests import Content
from kmsconn.operate.control.commands import (
    NAME,
    Arguments,
    Command,
    CommandError,
    Commands,
    Context,
    a_limit,
    a_reason,
    name_of,
    one_row,
)
from kmsconn.operate.control.requests import newest, retry_rows, show_request, skip_row
from kmsconn.operate.control.status import SHORT, as_json, content_as_json
from kmsconn.requests.decoding import DecodeCache, tell_recorded

_LOG_NAME = re.compile(rf"0x([0-9a-fA-F]{{{2 * PREFIX_BYTES},64}}):(\d{{1,9}})")
_QUARANTINED = Wanted(states=frozenset({State.QUARANTINED}))


async def list_quarantine(context: Context, arguments: Arguments) -> Any:
    """List logs that could not be decoded and quarantined requests, the newest first; ``limit`` of each."""
    limit = arguments["limit"]
    logs = await context.journal.run(inspecting.undecodable_logs, limit=limit)
    rows, _ = await newest(context, _QUARANTINED, limit)
    return {"logs": [log_as_json(one) for one in logs], "requests": [as_json(row) for row in rows]}


async def show_quarantined(context: Context, arguments: Arguments) -> Any:
    """Show a log with its bytes and what it says now, or a request with all its fields: ``name``."""
    name = arguments["name"]
    if not _names_a_log(name):
        return {"logs": [], **await show_request(context, {"request": name})}
    logs = await _named_logs(context, name)
    return {"logs": [{**log_as_json(one, whole=True), **_now(context, one)} for one in logs], "requests": []}


async def retry_quarantined(context: Context, arguments: Arguments) -> Any:
    """Record the request of a log that can be decoded by now, or let a quarantined request begin again: ``name``."""
    name = arguments["name"]
    if _names_a_log(name):
        return await _replay(context, await _one_log(context, name))
    row = await one_row(context, name)
    if row.state is not State.QUARANTINED:
        why = f"it is {row.state}, not quarantined; see `kmsconn requests retry`"
        return {"retried": [], "refused": [{**name_of(row), "why": why}]}
    return await retry_rows(context, [row])


async def drop_quarantined(context: Context, arguments: Arguments) -> Any:
    """Delete a log, or end a quarantined request for good: ``name``, and for a request the ``reason``."""
    name = arguments["name"]
    if _names_a_log(name):
        log = await _one_log(context, name)
        await context.journal.run(inspecting.drop_log, log)
        return {"dropped": [{"log": log.name}], "refused": []}
    if not (reason := arguments["reason"]):
        raise CommandError("a reason is needed: it is kept with the request")
    row = await one_row(context, name)
    if row.state is not State.QUARANTINED:
        why = f"it is {row.state}, not quarantined; see `kmsconn skip`"
        return {"dropped": [], "refused": [{**name_of(row), "why": why}]}
    skipped = await skip_row(context, row, reason)
    return {"dropped": skipped["skipped"], "refused": skipped["refused"]}


def log_as_json(one: UndecodableLog, *, whole: bool = False) -> dict[str, Any]:
    """Return a log that could not be decoded; ``whole``: with all its bytes."""
    block, block_hash, transaction_hash, log_index = one.place
    shown = {
        "log": one.name,
        "chain_id": one.chain_id,
        "contract": checksum(one.contract),
        "block": block,
        "log_index": log_index,
        "reason": one.reason if whole else one.reason[:SHORT],
        "found_at": one.found,
    }
    if not whole:
        return shown
    log = one.log
    shown |= {"block_hash": to_hex(block_hash), "transaction": to_hex(transaction_hash)}
    if log is None:
        return shown | {"stored": to_hex(one.stored)}
    return shown | {"topics": [to_hex(topic) for topic in log.topics], "data": to_hex(log.data)}


def _now(context: Context, one: UndecodableLog) -> Mapping[str, Any]:
    """Return what this version reads in a log."""
    try:
        _, content = _decoded(context, one)
    except CommandError as error:
        return {"event": None, "next": f"{error}; keep it for a version that can, or drop it"}
    return {"event": content_as_json(content), "next": "this version can decode it: retry it"}


def _decoded(context: Context, one: UndecodableLog) -> tuple[Log, Content]:
    """Return the log and what it asks for. Raises CommandError where it cannot be decoded."""
    log = one.log
    if log is None:
        raise CommandError("the stored bytes are no log")
    try:
        content = context.profile.decode(log)
    except Undecodable as error:
        raise CommandError(f"it still cannot be decoded: {error}") from error
    if content is None or content.kind not in context.profile.operations:
        raise CommandError(f"it asks for nothing that {context.profile.name} knows")
    return log, content


async def _replay(context: Context, one: UndecodableLog) -> Any:
    try:
        log, _ = _decoded(context, one)
        (arrival,) = DecodeCache(context.profile).decode([log]).arrivals
        chain_time, expiry = context.chain_time(one.chain_id), context.expiry()
        times = {"now": context.wall(), "chain_time": chain_time, "expiry": expiry}
        recorded = await context.journal.run(inspecting.replay_log, one, arrival, **times)
    except (CommandError, InspectionError) as error:
        return {"retried": [], "refused": [{"log": one.name, "why": str(error)}]}
    if context.running is not None:
        tell_recorded(context.running.components, one.chain_id, recorded)
    for _, new in recorded.new:
        context.wake(new.kind)
    told = ((rid, new.kind.value, f"0x{new.id:064x}") for rid, new in recorded.new)
    rows = [{"row": rid, "kind": kind, "id": name, "log": one.name} for rid, kind, name in told]
    return {"retried": rows or [{"log": one.name, "known": True}], "refused": []}


def _names_a_log(name: object) -> bool:
    return isinstance(name, str) and ":" in name


async def _named_logs(context: Context, name: object) -> tuple[UndecodableLog, ...]:
    found = _LOG_NAME.fullmatch(str(name))
    if found is None or len(found[1]) % 2:
        raise CommandError(f"{name!r:.80} is no log: `kmsconn quarantine list` shows their names")
    logs = await context.journal.run(inspecting.undecodable_logs, log_index=int(found[2]))
    named = tuple(one for one in logs if one.place[1].startswith(bytes.fromhex(found[1])))
    if not named:
        missing = f"the journal has no undecodable log {name!s:.80}"
        raise CommandError(f"{missing}; `kmsconn quarantine list` shows them")
    return named


async def _one_log(context: Context, name: object) -> UndecodableLog:
    first, *others = await _named_logs(context, name)
    if others:
        hashes = ", ".join(to_hex(one.place[1]) for one in (first, *others))
        raise CommandError(f"several logs are called {name!s:.80}; write more of the block's hash: {hashes}")
    return first


COMMANDS: Final[Commands] = {
    "quarantine.list": Command(
        list_quarantine, a_limit(" of each"), words="list undecodable logs and quarantined requests, the newest first",
    ),
    "quarantine.show": Command(show_quarantined, NAME, words="show one with its bytes, and what this version reads in it"),
    "quarantine.retry": Command(
        retry_quarantined, NAME, words="decode a log again and record its request, or let a request begin again",
    ),
    "quarantine.drop": Command(
        drop_quarantined, NAME, a_reason("why; needed for a request"), words="delete a log, or end a request for good",
    ),
}  # fmt: skip
