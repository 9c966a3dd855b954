"""One connection to PostgreSQL: batches of statements in one round trip, prepared once, and nothing that waits for ever.

psycopg's connection, and over ``psycopg.pq`` its pipeline mode: psycopg's own ``pipeline`` polls and sends at each statement, which takes
four times as long. A password that a file has at present is read here and shown to nobody. Never knows what a statement means.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs
import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

from kmsconn.config.keyfiles import password as of_file
from kmsconn.config.keyfiles import secret_in
from kmsconn.config.values import PostgresAddress
from kmsconn.journal.postgres_servers import MET, ask_plainly, connect_to_newest, wait_for
from kmsconn.journal.postgres_statements import BoundStatement

CONNECT_TIMEOUT: Final = 5  # seconds for each address of a server
KEEPALIVE_IDLE: Final = 5  # seconds without traffic after which the network is probed
KEEPALIVE_INTERVAL: Final = 2  # seconds between probes
KEEPALIVE_COUNT: Final = 3  # probes without an answer after which a connection is dead


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

KEYWORDS: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": KEEPALIVE_IDLE,
    "keepalives_interval": KEEPALIVE_INTERVAL,
    "keepalives_count": KEEPALIVE_COUNT,
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
        password = secret_in(address.password_file, of_file)
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
SET tcp_keepalives_idle = {KEEPALIVE_IDLE};
SET tcp_keepalives_interval = {KEEPALIVE_INTERVAL};
SET tcp_keepalives_count = {KEEPALIVE_COUNT};
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET jit = off;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');
"""


def _settings(limits: SessionLimits) -> str:
    """Return the first statements of a connection; the last one asks who serves it, which a pooler tells wrong as it begins."""
    return (
        f"SET statement_timeout = '{limits.statement}s'; SET lock_timeout = '{limits.lock}s'; "
        f"SET idle_in_transaction_session_timeout = '{limits.stopped}s'; {_SETTINGS}"
        f"{'SET synchronous_commit = off;' if limits.is_fleeting else ''} SELECT pg_backend_pid()"
    )


_CHANGING: Final = (b"INSERT", b"UPDATE", b"DELETE")
_DONE: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})
_BINARY: Final = pq.Format.BINARY


class Reply(NamedTuple):
    """What a statement returned: its rows, and how many it changed (0 for one that changes nothing)."""

    rows: list[tuple[Any, ...]]
    changed: int


class Session:
    """A connection to a server; ``keywords`` are libpq's, the password among them. ``pid``: which of the server's processes serves it.

    ``check`` looks at the connection before anything is set for it, and may raise.
    """

    def __init__(
        self,
        keywords: Mapping[str, Any],
        limits: SessionLimits,
        check: Callable[[psycopg.Connection[Any]], None] | None = None,
    ) -> None:
        self._limits = limits
        self._connection, self._timeline = connect_to_newest({**KEYWORDS, **keywords})
        self._wire = self._connection.pgconn
        self._reading = Transformer(self._connection)
        self._prepared: set[bytes] = set()
        self._owed: list[list[bytes]] = []
        self._deadline = 0.0
        try:
            if check is not None:
                check(self._connection)
            self.pid = int(ask_plainly(self._connection, _settings(limits)))
            self._wire.enter_pipeline_mode()
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, or its server was left behind by a fail-over: nothing can be told of what it was doing."""
        return self._wire.status != pq.ConnStatus.OK or MET.is_behind(self._timeline)

    @property
    def is_aborted(self) -> bool:
        """Whether a statement of the transaction failed, so that it takes nothing but an end or a return to a savepoint."""
        return self._wire.transaction_status == pq.TransactionStatus.INERROR

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is under way, as far as anybody heard."""
        return self._wire.transaction_status == pq.TransactionStatus.IDLE

    def close(self) -> None:
        """End the connection. Repeating: does nothing."""
        self._connection.close()

    def exchange(self, calls: Sequence[BoundStatement]) -> list[Reply]:
        """Run a batch of statements in one round trip; after one that fails none is run. Outside a transaction they are one.

        Raises an error of psycopg: that of the statement that failed, or OperationalError when the connection is lost, or silent for too
        long.
        """
        try:
            self._send(calls)
            while len(self._owed) > 1:
                self._replies()
            replies, failed = self._replies()
        except psycopg.Error as error:
            self._connection.close()
            said = " ".join(str(error).removeprefix("consuming input failed: ").split())
            raise psycopg.OperationalError(f"the connection is lost: {said}") from error
        except BaseException:  # between a question and its answer nothing else can be asked
            self._connection.close()
            raise
        if failed is not None:
            raise failed
        return replies

    def post(self, call: BoundStatement) -> None:
        """Send a statement whose reply nobody waits for. Raises OperationalError when the connection is lost."""
        self._send([call])

    def _send(self, calls: Sequence[BoundStatement]) -> None:
        """Send everything, and note for each result that is owed then the name that it prepares; none where a statement is run."""
        if MET.is_behind(self._timeline):
            raise psycopg.OperationalError(f"its server {MET.say(self._timeline)}")
        self._deadline = time.monotonic() + self._limits.reply
        owed: list[bytes] = []
        fresh: set[bytes] = set()
        for _, _, (name, text, _), dumped, binary in calls:
            if name not in self._prepared and name not in fresh:
                fresh.add(name)
                self._wire.send_prepare(name, text)
                owed.append(name)
            self._wire.send_query_prepared(name, dumped, binary, result_format=_BINARY)
            owed.append(b"")
        self._wire.pipeline_sync()
        self._owed.append(owed)
        while self._wire.flush():
            if wait_for(self._connection, select.POLLIN | select.POLLOUT, self._deadline) & select.POLLIN:
                self._wire.consume_input()

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
            self._wire.get_result()  # says that there is no other one
        end = self._result()
        if (
            end.status != pq.ExecStatus.PIPELINE_SYNC
        ):  # what stood outside a transaction is kept, or nobody knows
            raise failed or _failure(end)
        return replies, failed

    def _reply(self, result: pq.abc.PGresult) -> Reply:
        if not result.ntuples:
            changes = (result.command_status or b"").startswith(_CHANGING)
            return Reply([], (result.command_tuples or 0) if changes else 0)
        self._reading.set_pgresult(result, format=_BINARY)
        rows = self._reading.load_rows(0, result.ntuples, tuple)
        return Reply(rows, len(rows) if (result.command_status or b"").startswith(_CHANGING) else 0)

    def _result(self) -> pq.abc.PGresult:
        while self._wire.is_busy():
            wait_for(self._connection, select.POLLIN, self._deadline)
            self._wire.consume_input()
        result = self._wire.get_result()
        if result is None or self._wire.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError("" if result is None else result.get_error_message())
        return result


def _failure(result: pq.abc.PGresult) -> psycopg.Error:
    """Return a statement's error in the server's words, without the values that its details may show."""
    error = error_from_result(result)
    return type(error)(error.diag.message_primary or str(error))
