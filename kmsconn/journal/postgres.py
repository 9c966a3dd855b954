"""PostgreSQL as the journal's database: transactions in one global order, and what is known when the connection is lost in one.

Each transaction begins with the writers' lock and reads the tick that the last one left, whoever committed it: so ticks are ordered as
commits are, and every rule that holds for SQLite's single writer holds among processes too.

Statements wait until somebody looks at the result of one, and go as one batch then: what nobody looks at costs no round trip of its own.
An error of a statement therefore comes out where results are looked at; ``is_faulty`` says that there was one.

A connection that ends while a commit is under way leaves its outcome unknown: then the process begins anew with what the journal has. Used
by one thread at a time; never knows what a request is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, ClassVar, Final

import psycopg
from psycopg import Error, OperationalError, errors

from kmsconn.config.description import PostgresAddress
from kmsconn.errors import JournalWentBack, LeaseLost, OutcomeUnknown, StartRefused
from kmsconn.journal.database import Tally
from kmsconn.journal.postgres_schema import CAPTURE, LOCK, STOP_CAPTURING, migrate
from kmsconn.journal.postgres_servers import connect, refusal_of
from kmsconn.journal.postgres_session import (
    MIGRATING,
    BoundStatement,
    Reply,
    Session,
    SessionLimits,
    Values,
    call_of,
)


class BatchResult:
    """The result of a statement, once it was sent: see ``journal.database.QueryResult``."""

    __slots__ = ("_batch", "_left", "reply")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._left: Iterator[Any] | None = None
        self.reply: Reply | None = None

    @property
    def rowcount(self) -> int:
        """How many rows an INSERT, UPDATE or DELETE changed; one as long as that is assumed (``Batch.assumes``)."""
        if self.reply is None and self._batch.assumes:
            return 1
        return self._sent().changed

    def __iter__(self) -> Iterator[Any]:
        if self._left is None:
            self._left = iter(self._sent().rows)
        return self._left

    def fetchone(self) -> Any:
        """Return the next row as a tuple; None when there is none."""
        return next(iter(self), None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return [*self]

    def _sent(self) -> Reply:
        if self.reply is None:
            self._batch.flush()
        assert self.reply is not None, "a statement that was sent has a reply"
        return self.reply


class Batch:
    """A connection, made when it is needed, and the statements of its transaction that were not sent yet.

    ``assumes``: that each statement whose count is looked at changes one row, so that it need not be sent for that; who assumes it looks
    again when it was. ``is_faulty``: a statement of the transaction failed. ``last``: the result of the last statement. ``changes``: rows
    that were changed so far.
    """

    def __init__(self, connect: Callable[[], Session]) -> None:
        self.assumes = False
        self.is_faulty = False
        self.changes = 0
        self.last: BatchResult | None = None
        self._connect = connect
        self._session: Session | None = None
        self._waiting: list[tuple[BoundStatement, BatchResult]] = []

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as anybody heard."""
        return self._session is not None and not self._session.is_lost

    @property
    def is_aborted(self) -> bool:
        """Whether the transaction takes nothing but its end, or a return to a savepoint."""
        return self._session is not None and self._session.is_aborted

    @property
    def pid(self) -> int:
        """Which of the server's processes serves the connection; 0 where there is none."""
        return 0 if self._session is None else self._session.pid

    def connect(self) -> None:
        """Make a connection, unless there is one. Raises OperationalError."""
        if not self.is_connected:
            self.close()
            self._session = self._connect()

    def close(self) -> None:
        """End the connection. Repeating: does nothing."""
        self.forget()
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def begin(self, *calls: BoundStatement) -> list[Reply]:
        """Send what begins a transaction, and return the replies; over a new connection where the old one ended while nobody listened."""
        is_fresh = not self.is_connected
        self.forget()
        self.connect()
        try:
            return self.flush(*calls)
        except OperationalError:
            if is_fresh or self.is_connected:
                raise
        self.connect()
        return self.flush(*calls)

    def end(self, call: BoundStatement, *, wait: bool = True) -> None:
        """Send what undoes a transaction, if there is one. Raises nothing: a connection that cannot is given up."""
        self.forget()
        session = self._session
        if session is None or session.is_lost or session.is_idle:
            return
        try:
            if wait:
                session.exchange([call])
            else:
                session.post(call)
        except Error:
            self.close()

    def execute(self, statement: str, values: Values = ()) -> BatchResult:
        """Let a statement wait for those it goes with. Raises what ``call_of`` raises for values that no column holds."""
        call = call_of(statement, values)
        self.last = result = BatchResult(self)
        self._waiting.append((call, result))
        return result

    def flush(self, *more: BoundStatement) -> list[Reply]:
        """Send what waits and ``more`` as one batch; return the replies to ``more``.

        Raises the error of the statement that failed; what stood behind it was not run.
        """
        waiting, self._waiting = self._waiting, []
        calls = [*(call for call, _ in waiting), *more]
        if not calls:
            return []
        if self._session is None:
            raise OperationalError("the journal is not open")
        try:
            replies = self._session.exchange(calls)
        except BaseException:
            self.is_faulty = True
            raise
        for (_, result), reply in zip(waiting, replies, strict=False):
            result.reply = reply
            self.changes += reply.changed
        return replies[len(waiting) :]

    def forget(self) -> None:
        """Leave what waits unsent."""
        self._waiting = []
        self.is_faulty = self.assumes = False


_BEGIN: Final = call_of("BEGIN")
_COMMIT: Final = call_of("COMMIT")
_ROLLBACK: Final = call_of("ROLLBACK")
_LOCK: Final = call_of(LOCK)
_TICK: Final = "SELECT value FROM meta WHERE key = 'tick'"

# A connection that was given up keeps the writers' lock as long as its commit waits, so the connections of all processes are looked at.
# Other users' are not shown to this one. Of a standby this user may see no more than that it is connected.
UNCONFIRMED: Final = (
    "SELECT current_setting('synchronous_standby_names'), (SELECT count(*) FROM pg_stat_replication) WHERE EXISTS (SELECT FROM "
    "pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database() AND usename = current_user AND "
    "state_change < clock_timestamp() - make_interval(secs => ?::float8))"
)
_SLOW: Final = 2.0  # seconds for which a standby may take to confirm a commit

# A process that is alone tells nobody what it does (``postgres_schema``): who joins later looks by itself.
_ALONE: Final = "set_config('kmsconn.alone', CASE WHEN EXISTS (SELECT FROM member WHERE token <> ?) THEN '' ELSE 'on' END, true)"
_COUNT: Final = f"UPDATE member SET groups = groups + 1 WHERE token = ? RETURNING {_ALONE}, groups, ({_TICK})"  # noqa: S608 - of our own literals


class PostgresDriver:
    """A database on a server; see ``journal.database.Driver``.

    ``batch``: the statements that were not sent yet; ``reading`` makes a driver beside this one that only reads. Once this process has
    joined the members, its row among them counts its commits.
    """

    error = psycopg.Error
    conflict = errors.UniqueViolation
    is_remote: ClassVar[bool] = True
    capture: ClassVar[Sequence[str]] = CAPTURE
    stop_capturing: ClassVar[Sequence[str]] = STOP_CAPTURING
    warnings: ClassVar[Sequence[str]] = ()
    _waits: ClassVar[bool] = True

    def __init__(
        self, address: PostgresAddress, shards: int = 1, connect: Callable[..., Session] = connect
    ) -> None:
        self.where = str(address)
        self.refusal: Callable[[Exception], StartRefused] = partial(refusal_of, self.where)
        self.shards = shards
        self.tally = Tally()
        self.batch = Batch(partial(connect, address, SessionLimits()))
        self.execute, self.close = self.batch.execute, self.batch.close
        self.reading = partial(PostgresReadingDriver, address, shards, connect)
        self._connect_to_migrate = partial(connect, address, MIGRATING, looks=True)
        self._has_begun = False
        self._token: int | None = None
        self._commits = 0

    @property
    def is_begun(self) -> bool:
        """Whether there is a transaction: it ends with its connection."""
        return self._has_begun and self.batch.is_connected

    @property
    def changes(self) -> int:
        """How many rows this process has changed."""
        return self.batch.changes

    def open(self, *, make: bool) -> None:
        """Check the server, and bring the tables up to date."""
        with closing(Batch(self._connect_to_migrate)) as batch:
            batch.connect()
            migrate(batch.execute, self.shards, self.where, make=make)
        self.batch.connect()

    def join(self, token: int | None) -> None:
        """Let each transaction from now on count in the row of this member; in none (None) once that is deleted."""
        self._token, self._commits = token, 0

    def begin(self) -> int | None:
        """Take the writers' lock, and return the tick that the last commit left.

        Raises LeaseLost when this process is no longer a member; JournalWentBack when a commit of it is gone.
        """
        asking = call_of(*((_TICK,) if self._token is None else (_COUNT, (self._token, self._token))))
        try:
            *_, found = self.batch.begin(_BEGIN, _LOCK, asking)
            self._has_begun = True
            if self._token is not None:
                self._check(found.rows)
        except BaseException:
            self.roll_back()
            raise
        return int(found.rows[0][-1] or 0) if found.rows else 0

    def _check(self, found: Sequence[tuple[Any, ...]]) -> None:
        """Compare the number of our commits in the database with ours, where one more was just counted."""
        if not found:
            raise LeaseLost(
                f"this process is no longer a member of the journal {self.where}: it was silent for too long, "
                "or a newer version changed the tables"
            )
        if (groups := found[0][1]) != self._commits + 1:
            raise JournalWentBack(
                f"the journal {self.where} has lost commits: it has {groups} of this process, not {self._commits + 1}"
            )

    def commit(self) -> None:
        """Commit what was executed since ``begin``.

        Raises OutcomeUnknown when the connection ends meanwhile: nobody can tell whether it was kept.
        """
        if self.batch.is_aborted:  # the server would take the word, and roll back
            raise errors.InFailedSqlTransaction("a statement of the transaction failed")
        try:
            self.batch.flush(_COMMIT)
        except psycopg.Error as error:
            if self.batch.is_connected:
                raise
            raise OutcomeUnknown(
                f"the connection to the journal {self.where} ended within a commit, and nobody can tell whether it was kept: {error}"
            ) from error
        self._has_begun = False
        self._commits += 1

    def roll_back(self) -> None:
        """Undo everything since ``begin``, if there is anything. Raises nothing: a connection that cannot is given up."""
        self._has_begun = False
        self.batch.end(_ROLLBACK, wait=self._waits)

    def misplaced(self) -> str:
        """Say nothing: a server that is another one is found by what it lacks (``begin``)."""
        return ""

    def unconfirmed(self) -> str:
        """Say which synchronous standbys a commit of the journal, of any process, has waited for too long; empty if none has.

        The server waits for them without a limit. Called for a connection that only reads: the one that commits has no answer meanwhile.
        """
        found = self.execute(UNCONFIRMED, (_SLOW,)).fetchone()
        if found is None:
            return ""
        names, connected = found
        standbys = "1 standby is" if connected == 1 else f"{connected} standbys are"
        return f"commits wait for a synchronous standby: synchronous_standby_names is {names or 'empty now'}, and {standbys} connected"

    def give_back(self, pages: int, spare: float) -> None:
        """Do nothing: the server gives pages back by itself."""


class PostgresReadingDriver(PostgresDriver):
    """A connection that only reads, without the writers' lock; each transaction sees the journal as it was when it began.

    Nobody waits for the end of one.
    """

    _waits = False

    def begin(self) -> int | None:
        """Begin a transaction with the first statement."""
        self.batch.forget()
        self.batch.connect()
        self._has_begun = True
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return None
