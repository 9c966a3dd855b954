"""What a server of PostgreSQL says of a journal's place, over one connection. Judges nothing, changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from kmsconn.config.values import PostgresAddress
from kmsconn.extras import require_extra
from kmsconn.journal.members import MEMBERS, MemberRow, member_of
from kmsconn.journal.postgres_refusals import PoolerMode
from kmsconn.journal.postgres_schema import SCHEMA_KEY, TABLE_COUNTS

if TYPE_CHECKING:
    import psycopg

_LIMITS: Final = {"connect_timeout": 5, "autocommit": True}
_SETTINGS: Final = "SET statement_timeout = '5s'; SET lock_timeout = '5s'"
"""Not among the parameters of the connection: a pooler refuses those that it does not know."""
_SERVER: Final = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int, current_setting('server_encoding'),
    current_schema(), pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
    coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
    least(
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend'),
        (SELECT rolconnlimit - (SELECT count(*)::int FROM pg_stat_activity WHERE usesysid = pg_roles.oid) FROM pg_roles
            WHERE rolname = current_user AND rolconnlimit >= 0),
        (SELECT datconnlimit - (SELECT count(*)::int FROM pg_stat_activity WHERE datid = pg_database.oid) FROM pg_database
            WHERE datname = current_database() AND datconnlimit >= 0)
    ),
    current_setting('fsync') = 'on', current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
    current_setting('autovacuum') = 'on'
"""
_RIGHTS: Final = """
SELECT has_schema_privilege(current_schema(), 'USAGE'), has_schema_privilege(current_schema(), 'CREATE'),
    coalesce((SELECT bool_and(pg_has_role(tableowner, 'USAGE')) FROM pg_tables WHERE schemaname = current_schema()), true)
"""
_SCHEMA: Final = "SELECT current_setting('search_path'), has_database_privilege(current_database(), 'CREATE')"
_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_META: Final = "SELECT key, value FROM meta"


@attrs.frozen
class ServerState:
    """The server and this connection: version in words and as a number, standby or read-only, TLS, connections that are left."""

    version: str
    number: int
    encoding: str
    standby: bool = False
    read_only: bool = False
    encrypted: bool = False
    free_connections: int = 100
    fsync: bool = True
    synchronous_commit: str = "on"
    standbys: str = ""
    """``synchronous_standby_names``: those that have each commit before it counts; empty: none."""
    autovacuum: bool = True


@attrs.frozen
class TablesState:
    """The schema in use (None: there is none), the rights in it, and the tables there.

    ``path``: the search path, where it leads to no schema; then ``creatable`` says whether one can be made.
    ``stored`` is the journal's ``meta``; empty where there is no journal. ``foreign``: there are tables, and no journal among them.
    """

    schema: str | None
    usable: bool = True
    creatable: bool = True
    owned: bool = True
    foreign: bool = False
    stored: Mapping[str, str] = attrs.field(factory=dict)
    path: str = ""

    @property
    def versions(self) -> tuple[int, int] | None:
        """The version of the tables and the oldest whose programs may use them; None where there is no journal."""
        written = self.stored.get(SCHEMA_KEY, "").split()
        return (int(written[0]), int(written[1])) if len(written) == 2 else None  # noqa: PLR2004 - two numbers


@attrs.frozen
class PostgresPlace:
    """All that was found. ``refusal``: why there is no connection, then nothing else is known.

    ``clock``: how far the server's clock is ahead of this machine's, in seconds. ``members``: the processes that use the journal.
    ``pooler``: how a pooler before the server hands out connections; by the transaction, nothing else is known.
    """

    refusal: str = ""
    server: ServerState | None = None
    tables: TablesState | None = None
    clock: float = 0.0
    members: tuple[MemberRow, ...] = ()
    pooler: PoolerMode = PoolerMode.NONE


def look_at_postgres(address: PostgresAddress) -> PostgresPlace:
    """Ask a server. Raises ExtraMissing where its package is not installed."""
    require_extra("postgres", "a journal in PostgreSQL")
    import psycopg

    from kmsconn.journal.postgres_servers import mode_of
    from kmsconn.journal.postgres_session import keywords_of

    try:
        connect: Any = partial(psycopg.connect, **{**_LIMITS, **keywords_of(address)})
        with connect() as connection:
            mode = mode_of(connection, connect)
            if mode is PoolerMode.TRANSACTION:
                return PostgresPlace(pooler=mode)
            connection.execute(_SETTINGS)
            return attrs.evolve(_look(connection), pooler=mode)
    except psycopg.Error as error:
        return PostgresPlace(refusal=" ".join(str(error).split()) or type(error).__name__)


def _look(connection: psycopg.Connection[Any]) -> PostgresPlace:
    def ask(question: str) -> tuple[Any, ...]:
        (found,) = connection.execute(question.encode()).fetchall()
        return tuple(found)

    version, number, encoding, schema, *state = ask(_SERVER)
    started = time.time()
    (clock,) = ask(_CLOCK)
    ahead = float(clock) - (started + time.time()) / 2
    server = ServerState(version, number, encoding, *state)
    if schema is None:
        path, creatable = ask(_SCHEMA)
        return PostgresPlace(
            server=server, tables=TablesState(None, creatable=creatable, path=path), clock=ahead
        )
    usable, creatable, owned = ask(_RIGHTS)
    tables, metas = ask(TABLE_COUNTS)
    stored = dict(_rows(connection, _META)) if metas and usable else {}
    is_journal = SCHEMA_KEY in stored
    found = TablesState(
        schema, usable, creatable, owned, bool(tables) and not is_journal, stored if is_journal else {}
    )
    members = _rows(connection, MEMBERS) if is_journal else ()
    return PostgresPlace("", server, found, ahead, tuple(map(member_of, members)))


def _rows(connection: psycopg.Connection[Any], question: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table; none where it is not ours to read, or another program's."""
    import psycopg

    try:
        return connection.execute(question.encode()).fetchall()
    except psycopg.Error:
        return []
