"""A PostgreSQL server in memory, for tests in virtual time: it keeps the journal in SQLite, and loses connections where a test says so.

It speaks the statements of the journal's operations, which SQLite speaks too, and knows by their words the few that are PostgreSQL's alone.
As there, a statement that fails spoils its transaction, and what a lost connection had begun is undone; whether a commit was kept that it
had asked for depends on the moment (``Loss.after``).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import attrs
import psycopg
from psycopg import errors

from kmsconn.config.description import PostgresAddress
from kmsconn.journal import postgres_schema, schema
from kmsconn.journal.postgres import _COUNT, UNCONFIRMED, PostgresDriver
from kmsconn.journal.postgres_schema import SCHEMA_KEY, TABLE_COUNTS, VERSION
from kmsconn.journal.postgres_session import BoundStatement, Reply, SessionLimits

ADDRESS = PostgresAddress("journal", ("/fake",))

_MEMBERS = (
    "CREATE TABLE member (token INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT DEFAULT '', groups INTEGER NOT NULL DEFAULT 0)",
    "ALTER TABLE request ADD COLUMN owner INTEGER",
)
_COUNT_ROW = (
    "INSERT INTO tally VALUES ({0}.kind, {0}.state, {0}.on_chain, {1}, {1} * ({0}.deferred > 0), {2}) ON CONFLICT DO UPDATE SET "
    "rows = rows + excluded.rows, deferred = deferred + excluded.deferred, deleted = deleted + excluded.deleted;"
)
_COUNTING = (
    f"CREATE TRIGGER appears AFTER INSERT ON request BEGIN {_COUNT_ROW.format('new', 1, 0)} END",
    f"CREATE TRIGGER moves AFTER UPDATE ON request BEGIN {_COUNT_ROW.format('old', -1, 0)} {_COUNT_ROW.format('new', 1, 0)} END",
    f"CREATE TRIGGER goes AFTER DELETE ON request BEGIN {_COUNT_ROW.format('old', -1, 1)} END",
)
"""As there, triggers count the rows."""
_CHANGING = re.compile(r"\s*(INSERT|UPDATE|DELETE)\b")
_INDICES = "SELECT name FROM sqlite_master WHERE type = 'index'"
_BEGINS = "BEGIN"


def made_at(path: str = ":memory:") -> sqlite3.Connection:
    """Make the tables of a journal and its members in SQLite."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for migration in schema.MIGRATIONS:
        for statement in migration:
            database.execute(statement)
    for statement in (*_MEMBERS, *_COUNTING, schema.shard_index(1)[1]):
        database.execute(statement)
    database.execute("INSERT INTO meta VALUES (?, ?)", (SCHEMA_KEY, f"{VERSION} {VERSION}"))
    return database


@attrs.define
class Loss:
    """The connection ends at a statement (the first one is 1), counted over all connections: before it, or after it was run."""

    at: int
    after: bool = False


@attrs.define(eq=False)
class Hazards:
    """Connections end at random, one in so many statements, before or after it; then the server is away for some attempts.

    ``calm``: commits that a process makes before: its start is refused where it cannot reach the database. ``fails_over``: the transaction
    before which a standby takes over, and how many commits it lacks.
    """

    random: Random
    one_in: int
    fails_over: tuple[int, int] = (-1, 0)
    calm: int = 0
    met_so_far: int = 0
    _begins: int = 0
    _standby: sqlite3.Connection | None = None

    def met(self, server: FakeServer, number: int) -> Loss | None:
        """Return the loss that a statement meets, if there is one."""
        if server.asked[-1] == _BEGINS:
            self._fail_over(server)
        if server.asked[-1] == "COMMIT":
            self.calm -= 1
        if self.calm >= 0 or self.random.randrange(self.one_in):
            return None
        self.met_so_far += 1
        server.refusals = self.random.choice((0, 0, 1, 4))
        return Loss(number, self.random.random() < 0.5)

    def _fail_over(self, server: FakeServer) -> None:
        self._begins += 1
        at, lacks = self.fails_over
        if self._begins == at - lacks:
            self._standby = server.snapshot()
        if self._begins == at and self._standby is not None:
            server.fail_over(self._standby)


@attrs.define(eq=False)
class FakeServer:
    """The server. ``losses``: where connections end; ``refusals``: how many connections are refused before one is made.

    ``asked`` are all statements, ``rounds`` how many of them went in each round trip. ``hazards`` loses more of them at random.
    """

    losses: list[Loss] = attrs.field(factory=list)
    refusals: int = 0
    refusal: str = "connection refused"
    """The words of a refusal."""
    asked: list[str] = attrs.field(factory=list)
    rounds: list[int] = attrs.field(factory=list)
    sessions: list[FakeSession] = attrs.field(factory=list)
    database: sqlite3.Connection = attrs.field(factory=made_at)
    hazards: Hazards | None = None
    unconfirmed: list[tuple[str, int]] = attrs.field(factory=list)
    """What it says of standbys that commits wait for: their names, and how many are connected."""
    is_locked: bool = False
    """Whether somebody has the writers' lock, and keeps it."""

    def connect(self, address: PostgresAddress, limits: SessionLimits, *, looks: bool = False) -> Any:
        """Make a connection. Raises OperationalError while connections are refused."""
        assert (address, limits.lock > 0) == (ADDRESS, True)
        if self.refusals:
            self.refusals -= 1
            raise psycopg.OperationalError(self.refusal)
        self.sessions.append(session := FakeSession(self))
        return session

    def driver(self, shards: int = 1) -> PostgresDriver:
        """Return a driver that reaches this server, not opened."""
        return PostgresDriver(ADDRESS, shards, self.connect)

    def join(self) -> int:
        """Add a member, and return its token."""
        return int(self.database.execute("INSERT INTO member DEFAULT VALUES RETURNING token").fetchone()[0])

    def snapshot(self) -> sqlite3.Connection:
        """Return a standby that got everything so far; no transaction is under way."""
        standby = sqlite3.connect(":memory:", check_same_thread=False)
        self.database.backup(standby)
        return standby

    def fail_over(self, standby: sqlite3.Connection) -> None:
        """Lose all connections, and go on from what a standby has."""
        for session in self.sessions:
            session.lose()
        standby.backup(self.database)

    def loss_at(self, number: int) -> Loss | None:
        """Return the loss that a statement meets, if there is one."""
        if self.hazards is not None and (loss := self.hazards.met(self, number)):
            return loss
        return next((loss for loss in self.losses if loss.at == number), None)


@attrs.define(eq=False)
class FakeSession:
    """A connection; see ``postgres_session.Session``."""

    server: FakeServer
    is_lost: bool = False
    is_aborted: bool = False
    has_begun: bool = False
    pid: int = 1

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is under way."""
        return not self.has_begun

    def exchange(self, calls: Sequence[BoundStatement]) -> list[Reply]:
        """Run statements; after one that fails none is run."""
        self.server.rounds.append(len(calls))
        return [self._run(call) for call in calls]

    def post(self, call: BoundStatement) -> None:
        """Run a statement whose reply nobody waits for."""
        self._run(call)

    def close(self) -> None:
        """End the connection; what it had begun is undone."""
        if self.has_begun:
            self.server.database.rollback()
        self.is_lost, self.has_begun = True, False

    def lose(self) -> None:
        """End the connection from outside."""
        self.close()

    def _run(self, call: BoundStatement) -> Reply:
        if self.is_lost:
            raise psycopg.OperationalError("the connection is lost: it ended")
        self.server.asked.append(call.statement)
        loss = self.server.loss_at(len(self.server.asked))
        if self.is_lost or (loss is not None and not loss.after):
            self._end()
        reply = self._reply(call)
        if loss is not None:
            self._end()
        return reply

    def _end(self) -> None:
        self.lose()
        raise psycopg.OperationalError("the connection is lost: server closed the connection unexpectedly")

    def _reply(self, call: BoundStatement) -> Reply:
        word = call.statement.split()[0]
        if self.is_aborted and word not in {"ROLLBACK", "COMMIT"}:
            raise errors.InFailedSqlTransaction("current transaction is aborted")
        try:
            found = _ANSWERS.get(call.statement, _of_sqlite)(self.server, call)
        except sqlite3.Error as error:
            self.is_aborted = True
            raise _ours(error) from error
        if word in {"BEGIN", "COMMIT", "ROLLBACK"}:
            self.is_aborted = False
            self.has_begun = word == "BEGIN" or " TO " in call.statement
        return found


def _of_sqlite(server: FakeServer, call: BoundStatement) -> Reply:
    if call.statement.startswith("DO $$"):  # triggers of the audit log, which nothing here wants
        return _nothing(server, call)
    statement = _BEGINS if call.statement.startswith(_BEGINS) else call.statement
    cursor = server.database.execute(statement, call.values)
    rows = cursor.fetchall()
    return Reply(rows, max(cursor.rowcount, 0) if _CHANGING.match(statement) else 0)


def _counted(server: FakeServer, call: BoundStatement) -> Reply:
    count = "UPDATE member SET groups = groups + 1 WHERE token = ? RETURNING '', groups, (SELECT value FROM meta WHERE key = 'tick')"
    return Reply(server.database.execute(count, (call.values[0],)).fetchall(), 1)  # type: ignore[index]


def _nothing(_server: FakeServer, _call: BoundStatement) -> Reply:
    return Reply([], 0)


def _locked(server: FakeServer, _call: BoundStatement) -> Reply:
    if server.is_locked:
        raise sqlite3.DatabaseError("canceling statement due to lock timeout")
    return Reply([], 0)


_ANSWERS: dict[str, Callable[[FakeServer, BoundStatement], Reply]] = {
    postgres_schema.LOCK: _locked,
    _COUNT: _counted,
    UNCONFIRMED: lambda server, _call: Reply(list(server.unconfirmed), 0),
    postgres_schema._SURROUNDINGS: lambda _server, _call: Reply([(150_000, "UTF8", "public", "public")], 0),
    TABLE_COUNTS: lambda _server, _call: Reply([(9, 1)], 0),
    postgres_schema._KNOWN_INDICES: lambda server, _call: Reply(
        server.database.execute(_INDICES).fetchall(), 0
    ),
    postgres_schema._MEMBERS: lambda _server, _call: Reply([(1,)], 0),
}


def _ours(error: sqlite3.Error) -> psycopg.Error:
    known = errors.UniqueViolation if isinstance(error, sqlite3.IntegrityError) else psycopg.DatabaseError
    return known(str(error))
