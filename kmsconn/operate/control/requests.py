"""What an operator sees of requests, how one begins again or ends for good, how a kind of them is paused, and ``replay``.

``replay`` compares the bytes of a reply with what comes of its recorded inputs. Dry: event, calldata and signed transaction are read and
written again from what the journal keeps. Else the Core is asked for the answer once more, through the running connector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import attrs

from kmsconn.errors import KmsconnError, Undecodable
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.journal import inspecting
from kmsconn.journal.inspecting import RETRIED, InspectionError, PausedKind, Wanted
from kmsconn.journal.rows import Row
from kmsconn.model.events import RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import (
    BEFORE,
    DRY,
    FILTERS,
    KIND,
    REQUEST,
    REQUESTS,
    Arguments,
    Command,
    CommandError,
    Commands,
    Context,
    a_limit,
    a_reason,
    name_of,
    named_rows,
    one_row,
)
from kmsconn.operate.control.status import as_json, content_as_json, paused_as_json
from kmsconn.protocols.profile import Profile
from kmsconn.requests.components import Components
from kmsconn.requests.pipeline import answer_again

ROWS_BETWEEN_LOOKS: Final = 64  # rows between two looks of a retry


async def list_requests(context: Context, arguments: Arguments) -> Any:
    """List requests, the newest first: ``kinds``, ``states``, ``cause``, ``limit``, and ``before``, a row number to go on below."""
    rows, before = await newest(context, _wanted(arguments), arguments["limit"], arguments["before"])
    return {"requests": [as_json(row) for row in rows], "before": before}


async def newest(
    context: Context, wanted: Wanted, limit: int, before: int | None = None
) -> tuple[list[Row], int | None]:
    """Return the newest rows that are wanted, and the row number below which there may be more."""
    rows: list[Row] = []
    while len(rows) < limit:
        found, before = await context.journal.run(inspecting.find, wanted, before, limit - len(rows))
        rows += found
        if before is None:
            break
    return rows, before


async def show_request(context: Context, arguments: Arguments) -> Any:
    """Show all that is known of a request: ``request``, its row number or its on-chain id with 0x."""
    rows = await named_rows(context, arguments["request"])
    return {"requests": [await _whole(context, row) for row in rows]}


async def _whole(context: Context, row: Row) -> dict[str, Any]:
    named = await context.journal.run(inspecting.of_id, row.id)
    others = [other.rid for other in named if other.rid != row.rid]
    shown = {**as_json(row, whole=True), "others_of_this_id": others}
    try:
        content = context.profile.decode(row.event.log)
    except Undecodable as error:
        return {**shown, "event": f"cannot be decoded: {error}"}
    return {**shown, "event": None if content is None else content_as_json(content)}


async def retry_requests(context: Context, arguments: Arguments) -> Any:
    """Let requests begin again: ``requests`` (row numbers or ids), or all failed ones of ``kinds``, ``states`` and ``cause``."""
    named, wanted = arguments["requests"], _wanted(arguments)
    if not named and wanted == Wanted():
        raise CommandError("no request is selected: name requests, or filter by kinds, states or cause")
    if named and wanted != Wanted():
        raise CommandError("name requests, or kinds, states and cause, not both")
    if named:
        return await retry_rows(context, [row for name in named for row in await named_rows(context, name)])
    return await _retry_wanted(context, wanted)


async def _retry_wanted(context: Context, wanted: Wanted) -> Any:
    if unfit := sorted(wanted.states - RETRIED):
        are = f"requests that are {', '.join(unfit)} are not retried"
        raise CommandError(f"{are}; rejected, expired and quarantined ones are")
    only = Wanted(wanted.kinds, wanted.states or RETRIED, wanted.cause)
    retried, refused, before = [], [], None
    while True:
        found, before = await context.journal.run(inspecting.find, only, before, ROWS_BETWEEN_LOOKS)
        done = await retry_rows(context, found)
        retried += done["retried"]
        refused += done["refused"]
        if before is None:
            return {"retried": retried, "refused": refused}


async def retry_rows(context: Context, rows: Iterable[Row]) -> dict[str, list[dict[str, Any]]]:
    """Let requests begin again, each for itself; return which do, and why others do not."""
    retried, refused = [], []
    for row in rows:
        try:
            await context.journal.run(inspecting.retry, row.rid, context.wall(), _deadline(context, row))
        except InspectionError as error:
            refused.append({**name_of(row), "why": str(error)})
        else:
            retried.append(name_of(row))
            context.wake(row.kind)
    return {"retried": retried, "refused": refused}


def _deadline(context: Context, row: Row) -> float:
    """Return a deadline as of a request that is recorded now, in chain time."""
    operation = context.profile.operations.get(row.kind)
    if operation is None or not operation.expires:
        return math.inf
    return context.chain_time(row.event.chain_id) + min(operation.lifetime, context.expiry())


def _wanted(arguments: Arguments) -> Wanted:
    return Wanted(arguments["kinds"], arguments["states"], arguments["cause"])


# --- a kind is paused, a request ends


async def pause_kind(context: Context, arguments: Arguments) -> Any:
    """Pause a kind, over restarts: ``kind``, and perhaps a ``reason``. What a worker has already goes on."""
    paused = PausedKind(_kind_of(context, arguments), context.wall(), arguments["reason"])
    changed = await context.journal.run(inspecting.pause, paused)
    return await _paused(context, paused.kind, changed=changed)


async def resume_kind(context: Context, arguments: Arguments) -> Any:
    """End the pause of a ``kind``."""
    kind = _kind_of(context, arguments)
    changed = await context.journal.run(inspecting.resume, kind)
    return await _paused(context, kind, changed=changed)


def _kind_of(context: Context, arguments: Arguments) -> Kind:
    """Return the kind that an argument names. Raises CommandError for one that this generation has not."""
    kinds = {kind.value: kind for kind in context.profile.operations}
    name = arguments["kind"]
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise CommandError(f"there is no kind {name!r:.80}; there are {', '.join(kinds)}")
    return kind


async def _paused(context: Context, kind: Kind, *, changed: bool) -> Any:
    """Let the running connector do as the journal says, and return what is paused now."""
    paused = await context.journal.run(inspecting.paused_kinds)
    if context.running is not None:
        of_pool = context.running.components.pool_for[kind].paused
        of_pool.pop(kind, None)
        of_pool.update({one.kind: one for one in paused if one.kind is kind})
        context.wake(kind)
    return {"kind": kind.value, "changed": changed, "paused": paused_as_json(paused)}


async def skip_request(context: Context, arguments: Arguments) -> Any:
    """End a request for good: ``request``, its row number or id, and the ``reason``."""
    return await skip_row(context, await one_row(context, arguments["request"]), arguments["reason"])


async def skip_row(context: Context, row: Row, reason: str) -> dict[str, Any]:
    """End a request, and tell it; or return why it does not end."""
    try:
        kept = await context.journal.run(inspecting.skip, row.rid, reason)
    except InspectionError as error:
        return {"skipped": [], "refused": [{**name_of(row), "why": str(error)}]}
    if context.running is not None:
        _tell_end(context.running.components, row, kept)
    return {"skipped": [name_of(row)], "refused": []}


def _tell_end(components: Components, row: Row, reason: str) -> None:
    """Forget a request that an operator has ended, and tell it."""
    components.pipeline.runner.forget(row.rid)
    end = (row.rid, row.kind, State.REJECTED, reason, "skipped")
    components.on_event(RequestClosed(*end, told=row.over_http, id=row.id))
    if (chain_context := components.chain_contexts.get(row.event.chain_id)) is not None:
        chain_context.wake_up.notify()


# --- whether a reply can be made again: ``replay`` sends nothing, and changes nothing


@attrs.frozen
class ReplayCheck:
    """One comparison: what was compared, whether it is the same (None: it cannot be told), and what was found."""

    check: str
    same: bool | None
    found: str


async def replay_request(context: Context, arguments: Arguments) -> Any:
    """Compare a reply with what comes of its recorded inputs: ``request``; ``dry``: without asking the Core."""
    dry, row = arguments["dry"], await one_row(context, arguments["request"])
    checks = [*kept_checks(context.profile, row)]
    if not dry:
        checks.append(await _core_check(context, row))
    same = all(one.same is not False for one in checks)
    return {**name_of(row), "dry": dry, "same": same, "checks": [attrs.asdict(one) for one in checks]}


def kept_checks(profile: Profile, row: Row) -> Iterator[ReplayCheck]:
    """Yield what can be compared without anybody else. Raises CommandError where no answer is kept."""
    if row.answer is None:
        kept = f"row {row.rid} is {row.state} and keeps no answer"
        raise CommandError(f"{kept}: it was not answered, or retention has cleared it")
    yield _checked("event", lambda: _event(profile, row))
    yield _checked("calldata", lambda: _calldata(profile, row, row.answer.calldata if row.answer else b""))
    if row.reply.raw is None:
        yield ReplayCheck("transaction", None, "the reply is not signed, or its bytes are cleared")
    else:
        yield _checked("transaction", lambda: _transaction(row, row.reply.raw or b""))


def _checked(check: str, compare: Callable[[], tuple[bool | None, str]]) -> ReplayCheck:
    try:
        return ReplayCheck(check, *compare())
    except (Undecodable, ValueError) as error:
        return ReplayCheck(check, False, f"cannot be decoded: {error}")


def _event(profile: Profile, row: Row) -> tuple[bool | None, str]:
    if not row.event.log.topics:
        return None, "retention has cleared the event"
    content = profile.decode(row.event.log)
    if content is None or content.id != row.id:
        return False, "the event asks for something else than the row says"
    digest = profile.digest(row.event.log)
    if digest != row.event.digest:
        return False, f"the event's digest is {to_hex(digest)}, kept is {to_hex(row.event.digest)}"
    return True, f"it decodes to the same request, digest {to_hex(digest)}"


def _calldata(profile: Profile, row: Row, kept: bytes) -> tuple[bool | None, str]:
    operation = profile.operations.get(row.kind)
    function = None if operation is None else operation.reply
    if function is None:
        return None, f"{profile.name} does not name the function of replies to {row.kind}"
    values = function.decode(kept)
    again = function.encode(*values)
    if again != kept:
        return False, f"{function.signature} encodes to {len(again)} other bytes than the {len(kept)} kept"
    if values[0] != row.id:
        return False, f"the reply is to 0x{values[0]:x}"
    return True, f"{function.signature}, {len(kept)} bytes, encodes to the same"


def _transaction(row: Row, raw: bytes) -> tuple[bool | None, str]:
    signed = decode_transaction(raw)
    calldata = b"" if row.answer is None else row.answer.calldata
    # the contract may have taken other bytes of this reply, at an earlier price
    kept_hash = row.reply.hash if row.state is State.SIGNED else None
    compared: dict[str, tuple[Any, Any]] = {
        "hash": (kept_hash, signed.hash),
        "calldata": (calldata, signed.transaction.data),
        "contract": (row.event.contract, signed.transaction.to),
        "nonce": (row.reply.nonce, signed.transaction.nonce),
    }
    if differences := [name for name, (kept, found) in compared.items() if kept not in {None, found}]:
        return False, f"the signed transaction has another {' and another '.join(differences)}"
    by = f"nonce {signed.transaction.nonce}, from {checksum(signed.sender)}"
    return True, f"{to_hex(signed.hash)} carries the calldata, {by}"


async def _core_check(context: Context, row: Row) -> ReplayCheck:
    """Ask the Core again. Raises CommandError where that cannot be done."""
    if context.running is None:
        raise CommandError(
            "only a running connector asks the Core; --dry-run compares what the journal keeps"
        )
    try:
        answered = await answer_again(context.running.components.pipeline, row)
    except KmsconnError as error:
        return ReplayCheck("core", None, f"no answer to compare with: {error}")
    kept = b"" if row.answer is None else row.answer.calldata
    if answered.answer is None:
        return ReplayCheck("core", False, "no reply of this node comes of it now")
    if answered.answer.calldata != kept:
        found = f"the Core's answer gives {len(answered.answer.calldata)} bytes that differ from the {len(kept)} kept"
        return ReplayCheck("core", False, found)
    return ReplayCheck("core", True, f"the Core's answer gives the same {len(kept)} bytes")


COMMANDS: Final[Commands] = {
    "requests.list": Command(list_requests, *FILTERS, a_limit(""), BEFORE, words="list requests, the newest first"),
    "requests.show": Command(show_request, REQUEST, words="show a request with all its fields"),
    "requests.retry": Command(retry_requests, REQUESTS, *FILTERS, words="retry rejected, expired and quarantined requests"),
    "pause": Command(pause_kind, KIND, a_reason("why; shown by status, health and the alert")),
    "resume": Command(resume_kind, KIND),
    "replay": Command(replay_request, REQUEST, DRY),
    "skip": Command(skip_request, REQUEST, a_reason("why; kept with the request", needed=True)),
}  # fmt: skip
