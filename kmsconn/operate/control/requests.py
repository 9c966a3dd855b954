"""``requests.list``, ``requests.show`` and ``requests.retry``: what an operator sees of requests, and how one begins again."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, TypeVar

from kmsconn.errors import Undecodable
from kmsconn.journal import inspecting
from kmsconn.journal.inspecting import RetryError
from kmsconn.journal.values import Row, Wanted
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import Arguments, Command, CommandError, Commands, Context
from kmsconn.operate.control.describing import FAILED, STATES, as_json, content_as_json
from kmsconn.operate.control.naming import ROW_LIMIT, name_of, named_rows
from kmsconn.protocols.port import expiry_of

MOST: Final = 1000  # requests of one list: an answer of some hundred kilobytes
USUAL: Final = 100
ROWS_BETWEEN_LOOKS: Final = 64  # rows between two looks of a retry

E = TypeVar("E", bound=StrEnum)


async def list_requests(context: Context, arguments: Arguments) -> Any:
    """List requests, the newest first: ``kinds``, ``states``, ``cause``, ``limit``, and ``before``, a row number to go on below."""
    wanted, limit = _wanted(arguments), _number(arguments, "limit", USUAL, MOST)
    before = _number(arguments, "before", None, ROW_LIMIT) if arguments.get("before") is not None else None
    rows: list[Row] = []
    while len(rows) < limit:
        found = await context.journal.run(inspecting.find, wanted, before, limit - len(rows))
        rows += found.rows
        before = found.before
        if before is None:
            break
    return {"requests": [as_json(row) for row in rows], "before": before}


async def show_request(context: Context, arguments: Arguments) -> Any:
    """Show all that is known of a request: ``request``, its row number or its on-chain id with 0x."""
    rows = await named_rows(context, arguments.get("request"))
    return {"requests": [await _whole(context, row) for row in rows]}


async def _whole(context: Context, row: Row) -> dict[str, Any]:
    others = [
        other.rid for other in await context.journal.run(inspecting.of_id, row.id) if other.rid != row.rid
    ]
    shown = {**as_json(row, whole=True), "others_of_this_id": others}
    try:
        content = context.profile.decode(row.event.log)
    except Undecodable as error:
        return {**shown, "event": f"cannot be decoded: {error}"}
    return {**shown, "event": None if content is None else content_as_json(content)}


async def retry_requests(context: Context, arguments: Arguments) -> Any:
    """Let requests begin again: ``requests`` (row numbers or ids), or all failed ones of ``kinds``, ``states`` and ``cause``."""
    named = arguments.get("requests") or []
    if not isinstance(named, list):
        raise CommandError("requests must be a list of row numbers or ids")
    wanted = _wanted(arguments)
    if not named and wanted == Wanted():
        raise CommandError("no request is selected: name requests, or filter by kinds, states or cause")
    if named and wanted != Wanted():
        raise CommandError("name requests, or kinds, states and cause, not both")
    return await (_retrynamed_rows(context, named) if named else _retry_wanted(context, wanted))


async def _retrynamed_rows(context: Context, named: Iterable[object]) -> Any:
    rows = [row for name in named for row in await named_rows(context, name)]
    return await retry_rows(context, rows)


async def _retry_wanted(context: Context, wanted: Wanted) -> Any:
    if unfit := sorted(STATES[state] for state in wanted.states - FAILED):
        raise CommandError(
            f"requests that are {', '.join(unfit)} are not retried; rejected, expired and quarantined ones are"
        )
    only = Wanted(wanted.kinds, wanted.states or FAILED, wanted.cause)
    retried, refused, before = [], [], None
    while True:
        found = await context.journal.run(inspecting.find, only, before, ROWS_BETWEEN_LOOKS)
        done = await retry_rows(context, found.rows)
        retried += done["retried"]
        refused += done["refused"]
        before = found.before
        if before is None:
            return {"retried": retried, "refused": refused}


async def retry_rows(context: Context, rows: Iterable[Row]) -> dict[str, list[dict[str, Any]]]:
    """Let requests begin again, each for itself; return which do, and why others do not."""
    retried, refused = [], []
    for row in rows:
        try:
            await context.journal.run(inspecting.retry, row.rid, context.wall(), _deadline(context, row))
        except RetryError as error:
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
    return context.chain_time(row.event.chain_id) + expiry_of(operation, context.expiry())


def _wanted(arguments: Arguments) -> Wanted:
    cause = arguments.get("cause") or ""
    if not isinstance(cause, str):
        raise CommandError("cause must be a text")
    return Wanted(_members(arguments, "kinds", KIND_WORDS), _states(arguments), cause)


KIND_WORDS = {kind.value: frozenset({kind}) for kind in Kind}
_STATE_WORDS = {
    **{state.value: frozenset({state}) for state in State},
    **{word: frozenset({state}) for state, word in STATES.items()},
    "failed": FAILED,
}


def _states(arguments: Arguments) -> frozenset[State]:
    return _members(arguments, "states", _STATE_WORDS)


def _members(arguments: Arguments, name: str, words: dict[str, frozenset[E]]) -> frozenset[E]:
    given = arguments.get(name) or []
    if not isinstance(given, list):
        raise CommandError(f"{name} must be a list")
    if unknown := [word for word in given if not isinstance(word, str) or word not in words]:
        raise CommandError(f"{name}: there is no {unknown[0]!r:.80}; there are {', '.join(words)}")
    return frozenset(member for word in given for member in words[word])


def limit_of(arguments: Arguments, usual: int, most: int) -> int:
    """Return how many an operator wants. Raises CommandError for what is no such number."""
    return _number(arguments, "limit", usual, most)


def _number(arguments: Arguments, name: str, usual: int | None, most: int) -> int:
    number = arguments.get(name, usual)
    if type(number) is not int or not 1 <= number <= most:
        raise CommandError(f"{name} must be a number from 1 to {most}")
    return number


COMMANDS: Final[Commands] = {
    "requests.list": Command(
        "list requests, the newest first",
        frozenset({"kinds", "states", "cause", "limit", "before"}),
        list_requests,
    ),
    "requests.show": Command("show a request with all its fields", frozenset({"request"}), show_request),
    "requests.retry": Command(
        "retry failed requests", frozenset({"requests", "kinds", "states", "cause"}), retry_requests
    ),
}
