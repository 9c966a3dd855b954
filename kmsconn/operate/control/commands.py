"""The commands that a connector understands, by name: what each takes, and what it does. Knows no socket and no terminal.

A command takes the values of a JSON object and returns what becomes one. Each argument is described once: how its value is read, and how
the command line writes it. A command works on a ``Context``, which a running connector and the journal of a stopped one can both give.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import attrs

from kmsconn.connector.connector import Connector
from kmsconn.errors import KmsconnError
from kmsconn.journal import inspecting, queries
from kmsconn.journal.inspecting import RETRIED
from kmsconn.journal.journal import Journal
from kmsconn.journal.rows import Row
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.observe.status import HealthReport
from kmsconn.protocols.profile import Profile
from kmsconn.requests.components import Components

T = TypeVar("T")
Arguments = Mapping[str, Any]

ROW_LIMIT: Final = 1 << 63  # a larger number without 0x is an on-chain id
WORD_CHARACTERS: Final = 500  # of a reason that an operator gives
MOST: Final = 1000  # requests of one list: an answer of some hundred kilobytes
USUAL: Final = 100


class CommandError(KmsconnError):
    """A command was not done: it is unknown, or what it was given is wrong."""


@attrs.frozen
class RunningConnector:
    """A connector that runs since ``started``, a wall time; ``health`` is None where nobody watches it."""

    connector: Connector
    started: float
    health: Callable[[], HealthReport] | None = None

    @property
    def components(self) -> Components:
        """What it is made of."""
        return self.connector.components


@attrs.frozen
class Context:
    """The objects that commands work on. ``chain_time`` is the time of a chain by its id; ``wake`` wakes the dispatcher of a kind.

    ``running`` is None with the journal of a connector that is stopped.
    """

    journal: Journal
    profile: Profile
    expiry: Callable[[], float]
    wall: Callable[[], float]
    chain_time: Callable[[int], float]
    wake: Callable[[Kind], None] = lambda _kind: None
    running: RunningConnector | None = None


class Argument:
    """One argument: its name, how its value is read, and how the command line writes it: ``written`` and the ``form`` for argparse.

    ``read`` takes None where it is left out. Raises CommandError.
    """

    def __init__(self, name: str, read: Callable[[Any], Any], written: str = "", **form: Any) -> None:
        self.name, self.read, self.written, self.form = name, read, written, form


class Command:
    """One command: what runs it, its arguments, which ``run`` gets as they were read, and words on it where it is one of some actions."""

    def __init__(
        self, run: Callable[[Context, Arguments], Awaitable[Any]], *arguments: Argument, words: str = ""
    ) -> None:
        self.run, self.arguments, self.words = run, arguments, words


Commands = Mapping[str, Command]


async def perform(commands: Commands, context: Context, name: object, arguments: object) -> Any:
    """Run a command by its name. Raises CommandError, and JournalFailed where the disk does not take it."""
    command = commands.get(name) if isinstance(name, str) else None
    if command is None:
        raise CommandError(f"there is no command {name!r:.80}; there are {', '.join(sorted(commands))}")
    if not isinstance(arguments, Mapping):
        raise CommandError(f"the arguments of {name} must be an object")
    if unknown := sorted(set(arguments) - {one.name for one in command.arguments}):
        known = ", ".join(sorted(one.name for one in command.arguments)) or "nothing"
        raise CommandError(f"{name} takes no {', '.join(unknown):.80}; it takes {known}")
    read = {one.name: one.read(arguments.get(one.name)) for one in command.arguments}
    return await command.run(context, read)


# --- arguments


def _typed(usual: T, what: str, name: str, value: Any) -> T:
    """Read a value of the type of the usual one, which stands for none."""
    if not isinstance(value or usual, type(usual)):
        raise CommandError(f"{name} must be {what}")
    found: T = value or usual
    return found


_text = partial(_typed, "", "a text")


def _number(name: str, usual: int | None, most: int, value: Any) -> int | None:
    number = usual if value is None else value
    if number is not None and (type(number) is not int or not 1 <= number <= most):
        raise CommandError(f"{name} must be a number from 1 to {most}")
    return number


def _members(name: str, words: Mapping[str, frozenset[T]], value: Any) -> frozenset[T]:
    given = _typed(list[Any](), "a list", name, value)
    if unknown := [word for word in given if not isinstance(word, str) or word not in words]:
        raise CommandError(f"{name}: there is no {unknown[0]!r:.80}; there are {', '.join(words)}")
    return frozenset(member for word in given for member in words[word])


def _reason(needed: bool, value: Any) -> str:
    """Read the reason that an operator gives, on one line."""
    word = " ".join(_text("reason", value).split())
    if needed and not word:
        raise CommandError("a reason is needed: it is kept with the request")
    if len(word) > WORD_CHARACTERS:
        raise CommandError(f"reason has at most {WORD_CHARACTERS} characters")
    return word


def _as_given(value: Any) -> Any:
    return value


def a_reason(words: str, *, needed: bool = False) -> Argument:
    """Return the argument of a reason; ``needed``: it is always."""
    form = {"required": True} if needed else {"default": ""}
    return Argument("reason", partial(_reason, needed), "--reason", metavar="TEXT", help=words, **form)


def a_limit(of: str) -> Argument:
    """Return the argument of how many are listed at most."""
    words = f"maximum number{of}, up to {MOST} ({USUAL})"
    read = partial(_number, "limit", USUAL, MOST)
    return Argument("limit", read, "--limit", type=int, default=USUAL, metavar="N", help=words)


_REQUEST_HELP: Final = "on-chain id with 0x, or row number of the journal"
_KIND_WORDS: Final = {kind.value: frozenset({kind}) for kind in Kind}
_STATE_WORDS: Final = {**{state.value: frozenset({state}) for state in State}, "failed": RETRIED}

REQUEST: Final = Argument("request", _as_given, metavar="ID", help=_REQUEST_HELP)
_ROWS: Final = partial(_typed, list[Any](), "a list of row numbers or ids", "requests")
REQUESTS: Final = Argument("requests", _ROWS, metavar="ID", nargs="*", help=_REQUEST_HELP)
KIND: Final = Argument("kind", _as_given, metavar="KIND", help="kind of requests, such as user_decryption")
NAME: Final = Argument(
    "name", _as_given, metavar="NAME",
    help="a log as `list` names it, 0x…:INDEX; or the on-chain id with 0x, or row number, of a request",
)  # fmt: skip
DRY: Final = Argument(
    "dry", partial(_typed, False, "true or false", "dry"), "--dry-run", action="store_true",
    help="compare what the journal keeps, and do not ask the Core",
)  # fmt: skip
FILTERS: Final = (
    Argument("kinds", partial(_members, "kinds", _KIND_WORDS), "--kind", action="append", metavar="KIND",
             help="of this kind, such as user_decryption; several times"),
    Argument("states", partial(_members, "states", _STATE_WORDS), "--state", action="append", metavar="STATE",
             help="in this state: pending, answered, signed, included, finalized, expired, rejected, quarantined, done, aborted; "
             "failed means rejected, expired or quarantined; several times"),
    Argument("cause", partial(_text, "cause"), "--cause", default="", metavar="TEXT", help="whose reason contains this text"),
)  # fmt: skip
BEFORE: Final = Argument("before", partial(_number, "before", None, ROW_LIMIT))
"""A row number to go on below; of programs alone."""


# --- requests by their names


def name_of(row: Row) -> dict[str, Any]:
    """Return what an answer calls a request."""
    return {"row": row.rid, "kind": row.kind.value, "id": f"0x{row.id:064x}"}


async def named_rows(context: Context, name: object) -> tuple[Row, ...]:
    """Return the rows that a row number or an on-chain id means. Raises CommandError where there are none."""
    number, is_id = _reference(name)
    if is_id:
        rows = await context.journal.run(inspecting.of_id, number)
    else:
        row = await context.journal.run(queries.row, number)
        rows = () if row is None else (row,)
    if not rows:
        raise CommandError(
            f"the journal has no request {name!s:.80}; `kmsconn requests list` shows its requests"
        )
    return rows


def _reference(name: object) -> tuple[int, bool]:
    text = str(name)
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 256:
        raise CommandError(
            f"{name!r:.80} is no request: a row number, or an on-chain id with 0x, is expected"
        )
    return number, text[:2].lower() == "0x" or number >= ROW_LIMIT


async def one_row(context: Context, name: object) -> Row:
    """Return the row that a name means. Raises CommandError where it means none, or several."""
    rows = await named_rows(context, name)
    if len(rows) > 1:
        several = ", ".join(f"{row.rid} ({row.kind}, {row.state})" for row in rows)
        raise CommandError(
            f"several requests have the id {name!s:.80}; name one by its row number: {several}"
        )
    return rows[0]
