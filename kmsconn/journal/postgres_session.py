"""One connection to PostgreSQL: batches of statements in one round trip, prepared once, and nothing that waits for ever.

psycopg's connection, and over ``psycopg.pq`` its pipeline mode: psycopg's own ``pipeline`` polls and sends at each statement, which takes
four times as long. Never knows what a statement means.

Operations keep to SQL that SQLite and PostgreSQL both speak (``journal.database``): only how a value is marked differs, and the index that
SQLite is told to use, which is left out. Values go without a type, so that the server takes them as the column beside them has it: one
prepared statement for one text, whatever its values are.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, Final, NamedTuple

import attrs
import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

from kmsconn.journal.postgres_schema import storable

Values = Mapping[str, Any] | Sequence[Any]

_MARK: Final = re.compile(r"\s+INDEXED BY \w+|'(?:[^']|'')*'|::|(?<!:):(?P<name>[a-zA-Z_]\w*)|(?P<mark>\?)")
_STATEMENTS: Final = (
    1024  # more than all operations have; an operator's searches have some dozens of their own
)
_LARGEST: Final = 2**63
_NAMES: Final = count()


class PreparedStatement(NamedTuple):
    """A statement of PostgreSQL under a name of its own, and the names of its values in their order; None where they are counted."""

    name: bytes
    text: bytes
    names: tuple[str, ...] | None


class BoundStatement(NamedTuple):
    """A statement with its values, as operations say them and as they go over the wire: ``binary`` says which of them are no text."""

    statement: str
    values: Values
    prepared: PreparedStatement
    dumped: Sequence[bytes | None]
    binary: Sequence[int]


def call_of(statement: str, values: Values = ()) -> BoundStatement:
    """Return a statement with its values, ready to be sent.

    Raises KeyError for a value that is missing, OverflowError for a number that no column holds, UnicodeEncodeError for text that is none,
    and TypeError for anything else that no column holds.
    """
    prepared = prepare(statement)
    ordered = [values[name] for name in prepared.names or ()] if isinstance(values, Mapping) else values
    return BoundStatement(
        statement, values, prepared, [*map(_dumped, ordered)], [isinstance(one, bytes) for one in ordered]
    )


@lru_cache(maxsize=_STATEMENTS)
def prepare(statement: str) -> PreparedStatement:
    """Return a statement as PostgreSQL takes it: ``:name`` and ``?`` are ``$1`` and so on, names that repeat share one."""
    names: dict[str, int] = {}
    marks = count(1)

    def counted(found: re.Match[str]) -> str:
        if found["mark"]:
            return f"${next(marks)}"
        if found["name"]:
            return f"${names.setdefault(found['name'], len(names) + 1)}"
        return "" if found[0].lstrip().startswith("INDEXED") else found[0]

    text = _MARK.sub(counted, statement).encode()
    return PreparedStatement(b"s%d" % next(_NAMES), text, tuple(names) or None)


def _dumped(value: Any) -> bytes | None:
    """Return a value as the server reads it: numbers and truth as text of an integer, text without zero characters."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return storable(value).encode()
    if isinstance(value, int):
        if not -_LARGEST <= value < _LARGEST:
            raise OverflowError("a number beyond 64 bits")
        return b"%d" % value
    if isinstance(value, float):
        return repr(value).encode()
    raise TypeError(f"no column holds a {type(value).__name__}")


@attrs.frozen
class SessionLimits:
    """The seconds that things may take, shorter ones inside longer ones, so that nothing waits for ever.

    ``lock``: a statement waits for a lock, the writers' among them; ``statement``: the server works on one; ``reply``: a whole batch has
    its replies, since a synchronous connection waits for ever on a peer that is silent; ``stopped``: a process may do nothing within a
    transaction, before the server ends it, since others wait for it. ``is_fleeting``: a crash of the server may undo what is committed,
    which waits for no disk then.
    """

    lock: int = 8
    statement: int = 10
    reply: int = 15
    stopped: int = 3
    is_fleeting: bool = False


MIGRATING: Final = SessionLimits(lock=60, statement=3600, reply=3700)
"""An index of millions of rows takes its time, and so does another process that makes it."""

_KEYWORDS: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,  # seconds for each address of a server
    "keepalives_idle": 5,  # seconds without traffic after which the network is probed
    "keepalives_interval": 2,  # seconds between probes
    "keepalives_count": 3,  # probes without an answer after which a connection is dead
    "tcp_user_timeout": 15_000,
    "application_name": "kmsconn",
}
"""Of every connection, unless the address says otherwise: the network is probed, so that one that is dead is noticed."""

_PLANS: Final = (
    "enable_indexscan",
    "enable_indexonlyscan",
    "enable_bitmapscan",
    "enable_nestloop",
    "enable_sort",
    "enable_hashjoin",
    "enable_hashagg",
)
_ALWAYS: Final = {
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "idle_session_timeout": "0",  # one that listens or reads is idle for hours
    "transaction_timeout": "0",
    **{f"tcp_{name}": str(_KEYWORDS[name]) for name in _KEYWORDS if name.startswith("keepalives")},
    # Indices are used as SQLite is told to use them by name; plans are made once for each statement and connection.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
    **dict.fromkeys(_PLANS, "on"),
}
"""What a role, a database or a provider sets for all programs holds for none of this."""
FIRST_REPLY: Final = 15.0
"""Seconds for the first questions: a pooler lets them wait until a connection is free."""


def _setting(limits: SessionLimits) -> str:
    """Return what sets all that the server knows, versions before 14 and 17 not all; it asks who serves, which a pooler tells wrong."""
    wanted = {
        **_ALWAYS,
        "lock_timeout": f"{limits.lock}s",
        "idle_in_transaction_session_timeout": f"{limits.stopped}s",
    }
    values = ", ".join(f"('{name}', '{value}')" for name, value in wanted.items())
    weak = "true" if limits.is_fleeting else "current_setting('synchronous_commit') IN ('off', 'local')"
    return (
        f"SELECT pg_backend_pid(), count(set_config(name, value, false)) FROM (VALUES {values}, "  # noqa: S608 - our own words
        f"('synchronous_commit', CASE WHEN {weak} THEN '{'off' if limits.is_fleeting else 'on'}' END)) AS wanted (name, value) "
        "WHERE current_setting(name, true) IS NOT NULL AND value IS NOT NULL"
    )


_CHANGING: Final = (b"INSERT", b"UPDATE", b"DELETE")
_DONE: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})
_BINARY: Final = pq.Format.BINARY


class Reply(NamedTuple):
    """What a statement returned: its rows, and how many it changed (0 for one that changes nothing)."""

    rows: list[tuple[Any, ...]]
    changed: int


class Session:
    """A connection to a server; ``keywords`` are libpq's, the password among them.

    ``pid``: which of the server's processes serves it, once it is ``set_up``; ``behind`` says why its server must not be used any more;
    ``wire``: the connection of libpq; ``close`` ends it.
    """

    def __init__(self, keywords: Mapping[str, Any], limits: SessionLimits) -> None:
        self.pid = 0
        self.behind: Callable[[], str] = str
        self._limits = limits
        self._patience = FIRST_REPLY
        self._connection = psycopg.connect(autocommit=True, **{**_KEYWORDS, **keywords})
        self.wire, self.close = self._connection.pgconn, self._connection.close
        self._reading = Transformer(self._connection)
        self._prepared: set[bytes] = set()
        self._owed: list[list[bytes]] = []
        self._deadline = 0.0
        self.wire.enter_pipeline_mode()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, or its server was left behind by a fail-over: nothing can be told of what it was doing."""
        return self.wire.status != pq.ConnStatus.OK or self.behind() != ""

    @property
    def is_aborted(self) -> bool:
        """Whether a statement of the transaction failed, so that it takes nothing but an end or a return to a savepoint."""
        return self.wire.transaction_status == pq.TransactionStatus.INERROR

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is under way, as far as anybody heard."""
        return self.wire.transaction_status == pq.TransactionStatus.IDLE

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        """Ask a question of which nothing stays with the server's process: a pooler may give that to others."""
        (reply,) = self.exchange(
            [BoundStatement("", (), PreparedStatement(b"", question.encode(), None), (), ())]
        )
        return reply.rows

    def ask(self, question: str) -> Any:
        """Return the first value of the answer to a question (``rows``); None where there is none."""
        return next((row[0] for row in self.rows(question)), None)

    def set_up(self) -> None:
        """Set what every connection has, first how long a statement may take: less than the others take, where the role has it so."""
        self.ask(f"SET statement_timeout = '{self._limits.statement}s'")
        self.pid = self.ask(_setting(self._limits))
        self._patience = self._limits.reply

    def exchange(self, calls: Sequence[BoundStatement]) -> list[Reply]:
        """Run a batch of statements in one round trip; after one that fails none is run. Outside a transaction they are one.

        Raises an error of psycopg: that of the statement that failed, or OperationalError when the connection is lost, or silent for too
        long.
        """
        try:
            self.post(*calls)
            while len(self._owed) > 1:
                self._replies()
            replies, failed = self._replies()
        except psycopg.Error as error:  # between a question and its answer nothing else can be asked
            self._connection.close()
            said = " ".join(str(error).removeprefix("consuming input failed: ").split())
            raise psycopg.OperationalError(f"the connection is lost: {said}") from error
        except BaseException:
            self._connection.close()
            raise
        if failed is not None:
            raise failed
        return replies

    def post(self, *calls: BoundStatement) -> None:
        """Send everything, and note for each result that is owed then the name that it prepares; none where a statement is run.

        Raises OperationalError when the connection is lost. Nobody waits for the replies before the next exchange.
        """
        if said := self.behind():
            raise psycopg.OperationalError(f"its server {said}")
        self._deadline = time.monotonic() + self._patience
        owed: list[bytes] = []
        fresh: set[bytes] = set()
        for _, _, (name, text, _), dumped, binary in calls:
            if not name:
                self.wire.send_query_params(text, None, result_format=_BINARY)
            else:
                if name not in self._prepared and name not in fresh:
                    fresh.add(name)
                    self.wire.send_prepare(name, text)
                    owed.append(name)
                self.wire.send_query_prepared(name, dumped, binary, result_format=_BINARY)
            owed.append(b"")
        self.wire.pipeline_sync()
        self._owed.append(owed)
        while self.wire.flush():
            if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                self.wire.consume_input()

    def _replies(self) -> tuple[list[Reply], psycopg.Error | None]:
        """Return the replies of the oldest batch that are owed, and the error of the statement that failed."""
        replies: list[Reply] = []
        failed: psycopg.Error | None = None
        for prepares in self._owed.pop(0):
            result = self._result()
            if result.status not in _DONE:
                failed = failed or _failure(result)
            elif prepares:
                self._prepared.add(prepares)
            else:
                replies.append(self._reply(result))
            self.wire.get_result()  # says that there is no other one
        try:
            end = self._result()
        except psycopg.OperationalError as error:  # a pooler closes behind its refusal
            raise failed or error from None
        if end.status != pq.ExecStatus.PIPELINE_SYNC:  # what was no transaction is kept, or nobody knows
            raise failed or _failure(end)
        return replies, failed

    def _reply(self, result: pq.abc.PGresult) -> Reply:
        rows: list[tuple[Any, ...]] = []
        if result.ntuples:
            self._reading.set_pgresult(result, format=_BINARY)
            rows = self._reading.load_rows(0, result.ntuples, tuple)
        changes = (result.command_status or b"").startswith(_CHANGING)
        return Reply(rows, (result.command_tuples or 0) if changes else 0)

    def _result(self) -> pq.abc.PGresult:
        while self.wire.is_busy():
            self._wait(select.POLLIN)
            self.wire.consume_input()
        result = self.wire.get_result()
        if result is None or self.wire.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError("" if result is None else result.get_error_message())
        return result

    def _wait(self, events: int) -> int:
        """Wait until the server says something, or takes something, and return which."""
        poll = select.poll()
        poll.register(self.wire.socket, events)
        if ready := poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            return ready[0][1]
        pooler = "no answer to the first statement: a pooler before the server may have no connection left (default_pool_size)"
        raise psycopg.OperationalError("the server was silent for too long" if self.pid else pooler)


def _failure(result: pq.abc.PGresult) -> psycopg.Error:
    """Return a statement's error in the server's words, without the values that its details may show."""
    error = error_from_result(result)
    return type(error)(error.diag.message_primary or str(error))
