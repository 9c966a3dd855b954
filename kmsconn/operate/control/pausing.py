"""``pause``, ``resume`` and ``skip``: an operator stops a kind of requests for a while, or ends one request for good."""

from __future__ import annotations

from typing import Any, Final

from kmsconn.journal import inspecting, pausing
from kmsconn.journal.inspecting import SkipError
from kmsconn.journal.pausing import PausedKind
from kmsconn.journal.values import Row
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import Arguments, Command, Commands, Context
from kmsconn.operate.control.naming import kind_of, name_of, one_row, word_of
from kmsconn.operate.control.status import paused_as_json


async def pause_kind(context: Context, arguments: Arguments) -> Any:
    """Pause a kind, over restarts: ``kind``, and perhaps a ``reason``. What a worker has already goes on."""
    paused = PausedKind(kind_of(context, arguments), context.wall(), word_of(arguments, needed=False))
    changed = await context.journal.run(pausing.pause, paused)
    return await _paused(context, paused.kind, changed=changed)


async def resume_kind(context: Context, arguments: Arguments) -> Any:
    """End the pause of a ``kind``."""
    kind = kind_of(context, arguments)
    changed = await context.journal.run(pausing.resume, kind)
    return await _paused(context, kind, changed=changed)


async def _paused(context: Context, kind: Kind, *, changed: bool) -> Any:
    """Let the running connector do as the journal says, and return what is paused now."""
    paused = await context.journal.run(pausing.paused_kinds)
    if context.running is not None:
        of_pool = context.running.pool_of(kind).paused
        of_pool.pop(kind, None)
        of_pool.update({one.kind: one for one in paused if one.kind is kind})
        context.wake(kind)
    return {"kind": kind.value, "changed": changed, "paused": paused_as_json(paused)}


async def skip_request(context: Context, arguments: Arguments) -> Any:
    """End a request for good: ``request``, its row number or id, and the ``reason``."""
    row, reason = await one_row(context, arguments.get("request")), word_of(arguments, needed=True)
    return await skip_row(context, row, reason)


async def skip_row(context: Context, row: Row, reason: str) -> dict[str, Any]:
    """End a request, and tell it; or return why it does not end."""
    try:
        kept = await context.journal.run(inspecting.skip, row.rid, reason)
    except SkipError as error:
        return {"skipped": [], "refused": [{**name_of(row), "why": str(error)}]}
    if context.running is not None:
        context.running.ended(row, kept)
    return {"skipped": [name_of(row)], "refused": []}


COMMANDS: Final[Commands] = {
    "pause": Command("pause a kind of requests", frozenset({"kind", "reason"}), pause_kind),
    "resume": Command("end a pause", frozenset({"kind"}), resume_kind),
    "skip": Command("end a request for good", frozenset({"request", "reason"}), skip_request),
}
