"""PostgreSQL as the journal's database: transactions in one global order, and what is known when the connection is lost in one.

Each transaction begins with the writers' lock and reads the tick that the last one left, whoever committed it: so ticks are ordered as
commits are, and every rule that holds for SQLite's single writer holds among processes too.

A connection that ends while a commit is under way leaves its outcome unknown: then the process begins anew with what the journal has. Used
by one thread at a time; never knows what a request is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, ClassVar, Final

import attrs
import psycopg
from psycopg import errors

from kmsconn.config.values import PostgresAddress
from kmsconn.errors import JournalUnreachable, JournalWentBack, LeaseLost, OutcomeUnknown, StartRefused
from kmsconn.journal.database import Tally
from kmsconn.journal.postgres_batch import Batch
from kmsconn.journal.postgres_refusals import is_lasting, remedy_of
from kmsconn.journal.postgres_schema import BEGIN, CAPTURE, COMMIT, LOCK, ROLLBACK, STOP_CAPTURING, migrate
from kmsconn.journal.postgres_servers import look_around, refuse_transaction_mode
from kmsconn.journal.postgres_session import (
    KEYWORDS,
    MIGRATING,
    Session,
    SessionLimits,
    keywords_of,
)
from kmsconn.journal.postgres_statements import BoundStatement, call_of

_BEGIN: Final = call_of(BEGIN)
_COMMIT: Final = call_of(COMMIT)
_ROLLBACK: Final = call_of(ROLLBACK)
_LOCK: Final = call_of(LOCK)
_TICK: Final = call_of("SELECT value FROM meta WHERE key = 'tick'")

# A process that is alone tells nobody what it does (``postgres_schema``): who joins later looks by itself.
_ALONE: Final = "set_config('kmsconn.alone', CASE WHEN EXISTS (SELECT FROM member WHERE token <> ?) THEN '' ELSE 'on' END, true)"
_COUNT: Final = f"UPDATE member SET groups = groups + 1 WHERE token = ? RETURNING groups, {_ALONE}"  # noqa: S608 - of our own literals


@attrs.define
class MemberCount:
    """The row of this process among the members, and how many of its commits are known to be kept."""

    token: int
    groups: int = 0

    def counting(self) -> BoundStatement:
        """Return the statement that counts one more, within its transaction."""
        return call_of(_COUNT, (self.token, self.token))

    def check(self, found: Sequence[tuple[Any, ...]], where: str) -> None:
        """Compare the number in the database with ours. Raises LeaseLost where there is no row, JournalWentBack for another number."""
        expected = self.groups + 1
        if not found:
            raise LeaseLost(
                f"this process is no longer a member of the journal {where}: it was silent for too long, "
                "or a newer version changed the tables"
            )
        if found[0][0] != expected:
            raise JournalWentBack(
                f"the journal {where} has lost commits: it has {found[0][0]} of this process, not {expected}"
            )


Connect = Callable[[PostgresAddress, SessionLimits], Session]


def connect(address: PostgresAddress, limits: SessionLimits) -> Session:
    """Make a connection. Raises OperationalError."""
    return Session(keywords_of(address), limits)


def connect_first(address: PostgresAddress, limits: SessionLimits) -> Session:
    """Make a connection, after a look which servers there are and who serves it.

    Raises OperationalError; StartRefused for a pooler in transaction mode.
    """
    keywords = keywords_of(address)
    look_around({**KEYWORDS, **keywords})
    further: Callable[[], psycopg.Connection[Any]] = partial(
        psycopg.connect, autocommit=True, **{**KEYWORDS, **keywords}
    )
    return Session(keywords, limits, partial(refuse_transaction_mode, str(address), further))


def may_pass(error: Exception) -> bool:
    """Say whether an error at the opening may pass by itself: the server is away, starts, is full, or is a standby at present."""
    if isinstance(error, (errors.ReadOnlySqlTransaction, OutcomeUnknown)):
        return True
    return isinstance(error, psycopg.OperationalError) and not (
        error.sqlstate is None and is_lasting(str(error))
    )


def refusal_of(where: str, error: Exception) -> StartRefused:
    """Say why a journal cannot be opened, in the server's words, and what to do."""
    said = " ".join(str(error).split())
    kind = JournalUnreachable if may_pass(error) else StartRefused
    what = ": ".join(filter(None, (said, remedy_of(said))))
    return kind(f"the journal {where} cannot be opened: {what}")


class PostgresDriver:
    """A database on a server; see ``journal.database.Driver``.

    ``member``: set once this process has joined the members, None before; ``batch``: the statements that were not sent yet.
    """

    error = psycopg.Error
    conflict = errors.UniqueViolation
    is_remote: ClassVar[bool] = True
    capture: ClassVar[Sequence[str]] = CAPTURE
    stop_capturing: ClassVar[Sequence[str]] = STOP_CAPTURING

    def __init__(
        self,
        address: PostgresAddress,
        shards: int = 1,
        connect: Connect = connect,
        connect_first: Connect | None = None,
    ) -> None:
        self.where = str(address)
        self.refusal: Callable[[Exception], StartRefused] = partial(refusal_of, self.where)
        self.shards = shards
        self.tally = Tally()
        self.member: MemberCount | None = None
        self.batch = Batch(partial(connect, address, SessionLimits()))
        self.execute = self.batch.execute
        self._connect_to_migrate = partial(connect_first or connect, address, MIGRATING)
        self._has_begun = False

    @property
    def is_begun(self) -> bool:
        """Whether there is a transaction: it ends with its connection."""
        return self._has_begun and self.batch.is_connected

    @property
    def changes(self) -> int:
        """How many rows this process has changed."""
        return self.batch.changes

    def open(self, *, make: bool) -> tuple[str, ...]:
        """Check the server, and bring the tables up to date; return what an operator should know about it."""
        with closing(Batch(self._connect_to_migrate)) as batch:
            batch.connect()
            migrate(batch.execute, self.shards, self.where, make=make)
        self.batch.connect()
        return ()

    def close(self) -> None:
        """End the connection; the server rolls back what was not committed. Repeating: does nothing."""
        self.batch.close()

    def join(self, token: int) -> None:
        """Let each transaction from now on count in the row of this member, while none is under way."""
        self.member = MemberCount(token)

    def leave(self) -> None:
        """Count no more: the row is deleted with the transaction that is under way."""
        self.member = None

    def begin(self) -> int | None:
        """Take the writers' lock, and return the tick that the last commit left.

        Raises LeaseLost when this process is no longer a member; JournalWentBack when a commit of it is gone.
        """
        member = self.member
        counting = () if member is None else (member.counting(),)
        try:
            _, _, tick, *count = self.batch.begin(_BEGIN, _LOCK, _TICK, *counting)
            self._has_begun = True
            if member is not None:
                member.check(count[0].rows, self.where)
        except BaseException:
            self.roll_back()
            raise
        return int(tick.rows[0][0]) if tick.rows else 0

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
        if self.member is not None:
            self.member.groups += 1

    def roll_back(self) -> None:
        """Undo everything since ``begin``, if there is anything. Raises nothing: a connection that cannot is given up."""
        self._has_begun = False
        self.batch.end(_ROLLBACK)

    def misplaced(self) -> str:
        """Say nothing: a server that is another one is found by what it lacks (``begin``)."""
        return ""

    def give_back(self, pages: int, spare: float) -> int:  # noqa: ARG002 - the port's signature
        """Do nothing: the server gives pages back by itself."""
        return 0


class PostgresReadingDriver(PostgresDriver):
    """A connection that only reads, without the writers' lock; each transaction sees the journal as it was when it began.

    Nobody waits for the end of one.
    """

    def begin(self) -> int | None:
        """Begin a transaction with the first statement."""
        self.batch.forget()
        self.batch.connect()
        self._has_begun = True
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return None

    def roll_back(self) -> None:
        """End the transaction, if there is one."""
        self._has_begun = False
        self.batch.end(_ROLLBACK, wait=False)
