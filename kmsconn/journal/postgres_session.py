"""One connection to PostgreSQL: several statements in one round trip, prepared once, and nothing that waits for ever.

Over libpq as psycopg wraps it (``psycopg.pq``), and not over psycopg's cursors: statements of a group go together in pipeline mode, for a
tenth of the time. A password that a file has at present is read here and shown to nobody. Never knows what a statement means.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import attrs
import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from kmsconn.config.keyfiles import password_in
from kmsconn.config.values import PostgresAddress
from kmsconn.journal.postgres_asking import ask_plainly
from kmsconn.journal.postgres_sql import BoundStatement, decoder_of
from kmsconn.journal.postgres_timeline import MET, connect_to_newest

CONNECT_TIMEOUT: Final = 5  # seconds for each address of a server
KEEPALIVE_IDLE: Final = 5  # seconds without traffic after which the network is probed


@attrs.frozen
class SessionLimits:
    """The seconds that things may take, shorter ones inside longer ones, so that nothing waits for ever.

    ``lock``: a statement waits for a lock, the writers' among them; ``statement``: the server works on one; ``reply``: not a byte comes
    from the server; ``stopped``: a process may do nothing within a transaction, before the server ends it, since others wait for it.
    """

    lock: int = 8
    statement: int = 10
    reply: int = 15
    stopped: int = 3


MIGRATING: Final = SessionLimits(lock=60, statement=3600, reply=3700)
"""An index of millions of rows takes its time, and so does another process that makes it."""

KEYWORDS: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": KEEPALIVE_IDLE,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "kmsconn",
}
"""Of every connection, unless the address says otherwise: the network is probed, so that one that is dead is noticed."""


def keywords_of(address: PostgresAddress) -> dict[str, Any]:
    """Return libpq's parameters of a connection that begins now, the password among them: not to be shown. Blocks.

    Whoever rotates a password changes the server and the file at different times: a file without a password is like a server that refuses
    one. Raises OperationalError then.
    """
    if address.password_file is None:
        return address.keywords()
    try:
        password = password_in(address.password_file)
    except ValueError as error:
        raise psycopg.OperationalError(f"no password for the server: {error}") from error
    return {**address.keywords(), "password": password.reveal()}


LASTING: Final = (
    "SELECT set_config(name, '0', false) FROM unnest(ARRAY['idle_session_timeout', 'transaction_timeout']) AS name "
    "WHERE current_setting(name, true) <> '0';"
)
"""Takes the ends off a connection that a role, a database or a provider sets for all: one that listens or reads is idle for hours.

Versions before 14 and 17 know no such settings.
"""

# Indices are used as SQLite is told to use them by name; plans are made once for each statement and connection. What a role, a database or
# a provider sets for all programs holds for none of this.
_PLANS: Final = (
    "SELECT set_config(name, 'on', false) FROM unnest(ARRAY['enable_indexscan', 'enable_indexonlyscan', 'enable_bitmapscan', "
    "'enable_nestloop', 'enable_sort', 'enable_hashjoin', 'enable_hashagg']) AS name WHERE current_setting(name) = 'off';"
)
_SETTINGS: Final = f"""
{LASTING}
{_PLANS}
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET default_transaction_isolation = 'read committed';
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET jit = off;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');
"""


def _settings(limits: SessionLimits) -> str:
    """Return the first statements of a connection; the last one asks who serves it, which a pooler tells wrong as it begins."""
    return (
        f"SET statement_timeout = '{limits.statement}s'; SET lock_timeout = '{limits.lock}s'; "
        f"SET idle_in_transaction_session_timeout = '{limits.stopped}s'; {_SETTINGS} SELECT pg_backend_pid()"
    )


_CHANGING: Final = frozenset({b"INSERT", b"UPDATE", b"DELETE"})
_DONE: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})


class Reply(NamedTuple):
    """What a statement returned: its rows, and how many it changed (0 for one that changes nothing)."""

    rows: list[tuple[Any, ...]]
    changed: int


class Session(Protocol):
    """A connection that was made; the fakes of the tests are sessions too."""

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone: nothing can be told of what it was doing."""
        ...

    @property
    def is_aborted(self) -> bool:
        """Whether a statement of the transaction failed, so that it takes nothing but an end or a return to a savepoint."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is under way, as far as anybody heard."""
        ...

    @property
    def pid(self) -> int:
        """Which of the server's processes serves it."""
        ...

    def exchange(self, calls: Sequence[BoundStatement]) -> list[Reply]:
        """Run statements in one round trip; after one that fails none is run. Outside a transaction they are one.

        Raises an error of psycopg: that of the statement that failed, or OperationalError when the connection is lost.
        """
        ...

    def post(self, call: BoundStatement) -> None:
        """Send a statement whose reply nobody waits for. Raises OperationalError when the connection is lost."""
        ...

    def close(self) -> None:
        """End the connection. Repeating: does nothing."""
        ...


class PostgresSession:
    """A connection to a server; ``keywords`` are libpq's, the password among them.

    ``check`` looks at the connection before anything is set for it, and may raise. ``is_fleeting``: a crash of the server may undo what
    is committed here.
    """

    def __init__(
        self,
        keywords: Mapping[str, Any],
        limits: SessionLimits,
        check: Callable[[psycopg.Connection[Any]], None] | None = None,
        *,
        is_fleeting: bool = False,
    ) -> None:
        self._limits = limits
        self._connection, self._timeline = connect_to_newest({**KEYWORDS, **keywords})
        self._wire = self._connection.pgconn
        self._prepared: dict[bytes, bytes] = {}
        self._poll = select.poll()
        self._owed: list[list[BoundStatement | None]] = []
        try:
            if check is not None:
                check(self._connection)
            self._pid = int(ask_plainly(self._connection, _settings(limits)))
            if is_fleeting:
                ask_plainly(self._connection, "SET synchronous_commit = off")
            self._wire.enter_pipeline_mode()
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, or its server was left behind by a fail-over."""
        return self._wire.status != pq.ConnStatus.OK or MET.is_behind(self._timeline)

    @property
    def is_aborted(self) -> bool:
        """Whether a statement of the transaction failed."""
        return self._wire.transaction_status == pq.TransactionStatus.INERROR

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is under way, as far as anybody heard."""
        return self._wire.transaction_status == pq.TransactionStatus.IDLE

    @property
    def pid(self) -> int:
        """Which of the server's processes serves it: who hears what it tells others knows it by that."""
        return self._pid

    @property
    def version(self) -> int:
        """The server's version as a number: 150000 for 15."""
        return self._wire.server_version

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def exchange(self, calls: Sequence[BoundStatement]) -> list[Reply]:
        """Run statements in one round trip."""
        try:
            expected = self._send(calls)
            while self._owed:
                self._replies(self._owed.pop(0))
            return self._replies(expected)
        except psycopg.Error as error:
            if self.is_lost:
                raise self._lost(error) from error
            raise
        except BaseException:  # between a question and its answer nothing else can be asked
            self._connection.close()
            raise

    def post(self, call: BoundStatement) -> None:
        """Send a statement whose reply nobody waits for."""
        self._owed.append(self._send([call]))

    def _send(self, calls: Sequence[BoundStatement]) -> list[BoundStatement | None]:
        """Send everything; return for each result that will come the statement that it prepares, None where one is run."""
        if MET.is_behind(self._timeline):
            raise psycopg.OperationalError(f"its server {MET.say(self._timeline)}")
        expected: list[BoundStatement | None] = []
        names = self._prepared
        fresh: dict[bytes, bytes] = {}
        for call in calls:
            name = names.get(call.text) or fresh.get(call.text)
            if name is None:
                name = fresh[call.text] = _name_of(len(names) + len(fresh))
                self._wire.send_prepare(name, call.text)
                expected.append(call)
            self._wire.send_query_prepared(name, call.encoded, call.formats, result_format=1)
            expected.append(None)
        self._wire.pipeline_sync()
        self._flush()
        return expected

    def _flush(self) -> None:
        while self._wire.flush():
            if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                self._wire.consume_input()

    def _replies(self, expected: Sequence[BoundStatement | None]) -> list[Reply]:
        replies: list[Reply] = []
        failed: psycopg.Error | None = None
        for prepares in expected:
            result = self._result()
            if result.status in _DONE:
                if prepares is not None:
                    self._prepared[prepares.text] = _name_of(len(self._prepared))
                else:
                    replies.append(_reply(result))
            elif failed is None:
                failed = _failure(result)
            if self._wire.get_result() is not None and not self.is_lost:
                raise psycopg.InternalError("a statement has two results")
        end = (
            self._result()
        )  # with the end of a round trip is kept what stood outside a transaction, or nobody knows
        if end.status != pq.ExecStatus.PIPELINE_SYNC:
            self._connection.close()
            failed = failed or _failure(end)
        if failed is not None:
            raise failed
        return replies

    def _result(self) -> Any:
        while self._wire.is_busy():
            self._wait(select.POLLIN)
            self._wire.consume_input()
        result = self._wire.get_result()
        if result is None or self.is_lost:
            raise psycopg.OperationalError("" if result is None else result.get_error_message())
        return result

    def _lost(self, error: psycopg.Error) -> psycopg.Error:
        """Return what to say of a connection that ended."""
        said = " ".join(str(error).removeprefix("consuming input failed: ").split())
        self._connection.close()
        return psycopg.OperationalError(f"the connection is lost: {said}")

    def _wait(self, events: int) -> int:
        """Wait until the server says something; a connection on which it says nothing is given up."""
        self._poll.register(self._wire.socket, events)
        ready = self._poll.poll(self._limits.reply * 1000)
        if not ready:
            self._connection.close()
            raise psycopg.OperationalError(f"the server was silent for {self._limits.reply} s")
        return ready[0][1]


def _failure(result: Any) -> psycopg.Error:
    """Return a statement's error in the server's words, without the values that its details may show."""
    error = error_from_result(result)
    return type(error)(error.diag.message_primary or str(error))


def _name_of(number: int) -> bytes:
    """Return the name of a prepared statement: they are prepared in the order in which they are sent, until one fails."""
    return b"s%d" % number


def _reply(result: Any) -> Reply:
    command = (result.command_status or b"").partition(b" ")[0]
    changed = (result.command_tuples or 0) if command in _CHANGING else 0
    return Reply(list(_rows(result)) if result.ntuples else [], changed)


def _rows(result: Any) -> Iterator[tuple[Any, ...]]:
    get = result.get_value
    columns = [(column, decoder_of(result.ftype(column))) for column in range(result.nfields)]
    for row in range(result.ntuples):
        cells = ((decode, get(row, column)) for column, decode in columns)
        yield tuple(None if cell is None else decode(cell) for decode, cell in cells)
