"""The place of a journal in PostgreSQL: asks server, rights and clock, and judges them, how safe commits are, and the connection."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import attrs

from kmsconn.config.assembly import differences
from kmsconn.config.description import PostgresAddress, Role
from kmsconn.config.places import is_loopback
from kmsconn.config.working import Pools
from kmsconn.extras import require_extra
from kmsconn.journal.members import MEMBERS, MemberRow, member_of
from kmsconn.journal.postgres_schema import (
    FORMER_SCHEMA_KEY,
    PLAIN_SCHEMA,
    SCHEMA_KEY,
    TABLE_COUNTS,
    server_fault,
    tables_fault,
)
from kmsconn.operate.doctor.probing import Diagnosis, fault, ok, warning

if TYPE_CHECKING:
    from kmsconn.journal.postgres_session import Session

_LIMITS: Final = (
    "SELECT set_config(name, '5s', false) FROM unnest(ARRAY['statement_timeout', 'lock_timeout']) AS name"
)
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
    ``stored`` is the journal's ``meta``; empty where there is no journal. ``foreign``: there are tables, and no journal among them;
    ``former``: these are a journal of before the first release.
    """

    schema: str | None
    usable: bool = True
    creatable: bool = True
    owned: bool = True
    foreign: bool = False
    former: bool = False
    stored: Mapping[str, str] = attrs.field(factory=dict)
    path: str = ""

    @property
    def versions(self) -> tuple[int, int] | None:
        """The version of the tables and the oldest whose programs may use them; None where there is no journal."""
        written = self.stored.get(SCHEMA_KEY, "").split()
        return (int(written[0]), int(written[1])) if len(written) == 2 else None  # noqa: PLR2004 - two numbers


@attrs.frozen
class PostgresPlace:
    """All that was found. ``refusal``: why there is no connection, or none to work with, and its ``remedy``; nothing else is known then.

    ``clock``: how far the server's clock is ahead of this machine's, in seconds. ``members``: the processes that use the journal.
    ``is_pooled``: whether a pooler in session mode stands before the server.
    """

    refusal: str = ""
    remedy: str = ""
    server: ServerState | None = None
    tables: TablesState | None = None
    clock: float = 0.0
    members: tuple[MemberRow, ...] = ()
    is_pooled: bool = False


def look_at_postgres(address: PostgresAddress) -> PostgresPlace:
    """Ask a server, over one connection; changes nothing. Raises ExtraMissing where its package is not installed."""
    require_extra("postgres", "a journal in PostgreSQL")
    import psycopg

    from kmsconn.journal.postgres_servers import BREAKS, REMEDY, is_pooled, is_shared, keywords_of, remedy_of
    from kmsconn.journal.postgres_session import Session, SessionLimits

    try:
        keywords = keywords_of(address)
        with closing(Session(keywords, SessionLimits())) as session:
            if is_shared(session, keywords):
                return PostgresPlace(f"before the server stands {BREAKS}", REMEDY)
            session.ask(_LIMITS)
            return attrs.evolve(_look(session), is_pooled=is_pooled(session))
    except psycopg.Error as error:
        said = " ".join(str(error).split()) or type(error).__name__
        return PostgresPlace(said, remedy_of(said)[1])


def _look(session: Session) -> PostgresPlace:
    ((version, number, encoding, schema, *state),) = session.rows(_SERVER)
    started = time.time()
    ahead = float(session.ask(_CLOCK)) - (started + time.time()) / 2
    server = ServerState(version, number, encoding, *state)
    if schema is None:
        ((path, creatable),) = session.rows(_SCHEMA)
        return PostgresPlace("", "", server, TablesState(None, creatable=creatable, path=path), ahead)
    ((usable, creatable, owned),) = session.rows(_RIGHTS)
    ((tables, metas),) = session.rows(TABLE_COUNTS)
    stored = dict(_rows(session, _META)) if metas and usable else {}
    is_journal = SCHEMA_KEY in stored
    foreign, meta = bool(tables) and not is_journal, stored if is_journal else {}
    found = TablesState(schema, usable, creatable, owned, foreign, FORMER_SCHEMA_KEY in stored, meta)
    members = _rows(session, MEMBERS) if is_journal else ()
    return PostgresPlace("", "", server, found, ahead, tuple(map(member_of, members)))


def _rows(session: Session, question: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table; none where it is not ours to read, or another program's."""
    import psycopg

    try:
        return session.rows(question)
    except psycopg.Error:
        return []


CLOCK_DIFFERENCE: Final = 2.0  # seconds: due times of rows are by the clocks of the processes
OTHER_CONNECTIONS: Final = 4
"""Of a process, beside those that only read: one writes, one claims, one renews the lease, one listens."""
UNFINISHED: Final = 4_000
"""Decryptions of a kind that a Core has room for: 10,000 entries, 6,000 of them for finished ones."""

_UNKNOWN: Final = "check the address in journal, that PostgreSQL runs there, and that the network lets this machine reach it"
"""What to do about a refusal whose words are not known."""


def judge_postgres(
    checked: str, address: PostgresAddress, place: PostgresPlace, pool: int
) -> Iterator[Diagnosis]:
    """Yield a line for each thing that matters. ``pool``: the connections that only read, at most."""
    if place.server is None or place.tables is None:
        yield fault(checked, place.refusal, place.remedy or _UNKNOWN)
        return
    yield _server(checked, place.server)
    yield _tables(f"{checked}: tables", place.tables, tuple(one.label for one in place.members))
    if place.is_pooled:
        yield ok(f"{checked}: pooler", "one in session mode stands before the server")
    yield _commits(f"{checked}: commits", place.server)
    if not place.server.autovacuum:
        found = "it is off: with half a million rows that nobody removed claims took fifteen times as long"
        yield warning(f"{checked}: autovacuum", found, "set autovacuum = on")
    yield _clock(f"{checked}: clock", place.clock)
    yield _connections(f"{checked}: connections", place.server.free_connections, pool)
    if not _is_here(address):
        yield _encryption(f"{checked}: TLS", place.server)


def judge_common(checked: str, ours: Mapping[str, str], members: Sequence[MemberRow]) -> Iterator[Diagnosis]:
    """Compare what all processes must have alike: this configuration, and those that use the journal now."""
    if not members:
        return
    found = differences([("this configuration", ours), *((one.label, one.settings) for one in members)])
    for one in found:
        remedy = f"set {one.option} alike in all processes, and restart those that have it otherwise"
        yield warning(f"{checked}: {one.option} of all processes", one.text, remedy)
    if not found:
        yield ok(f"{checked}: settings of all processes", f"alike with {len(members)}: {', '.join(ours)}")


def judge_workers(
    checked: str, pools: Pools, cores: int, members: Sequence[MemberRow]
) -> Iterator[Diagnosis]:
    """Multiply the workers by the processes that work now, and compare with what a Core has room for."""
    working = sum(Role.WORK in one.roles for one in members)
    if not working:
        return
    of_public = pools.public_decryption + pools.http_public_decryption
    of_each = max(of_public, pools.user_decryption + pools.http_user_decryption)
    asked, room = working * of_each, cores * UNFINISHED
    found = f"{working} x {of_each} = {asked} decryptions of a kind at once at most, room for {room} in {cores} Core{'s' * (cores > 1)}"
    remedy = "lower pools.* in all processes, or give the Cores larger tables (dec_capacity)"
    yield warning(checked, found, remedy) if asked > room else ok(checked, found)


def _server(checked: str, server: ServerState) -> Diagnosis:
    if wrong := server_fault(server.number, server.encoding):
        return fault(checked, *wrong)
    if server.standby:
        remedy = "name all servers in journal, with ?target_session_attrs=read-write"
        return fault(checked, f"PostgreSQL {server.version} is a standby, which takes no writes", remedy)
    if server.read_only:
        found = f"PostgreSQL {server.version} takes no writes: transactions are read-only"
        return fault(checked, found, "set default_transaction_read_only = off for this user and database")
    return ok(checked, f"PostgreSQL {server.version}, takes writes")


def _tables(checked: str, tables: TablesState, members: tuple[str, ...]) -> Diagnosis:
    if tables.schema is None:
        return _no_schema(checked, tables)
    if tables.foreign:
        owner, remedy = tables_fault(is_former=tables.former)
        return fault(checked, f"the schema {tables.schema} has the tables of {owner}", remedy)
    if not tables.usable or (tables.versions is None and not tables.creatable):
        remedy = f"GRANT USAGE, CREATE ON SCHEMA {tables.schema} TO this user, or make it the owner of the database"
        return fault(checked, f"this user may not make tables in the schema {tables.schema}", remedy)
    if not tables.owned:
        remedy = "connect as their owner, who alone may bring them up to date"
        return fault(checked, f"the tables in the schema {tables.schema} belong to another user", remedy)
    return ok(checked, _found(tables, members))


def _no_schema(checked: str, tables: TablesState) -> Diagnosis:
    if not PLAIN_SCHEMA.fullmatch(tables.path):
        return fault(checked, "there is no schema on the search path", "create it, or change search_path")
    if not tables.creatable:
        found = f"there is no schema {tables.path}, and this user may not make one"
        remedy = (
            f"CREATE SCHEMA {tables.path} AUTHORIZATION this user, or GRANT CREATE ON DATABASE to this user"
        )
        return fault(checked, found, remedy)
    return ok(checked, f"not there yet, nor the schema {tables.path}; both can be made")


def _found(tables: TablesState, members: tuple[str, ...]) -> str:
    if tables.versions is None:
        return f"not there yet, can be made in the schema {tables.schema}"
    used = f", used by {', '.join(members)}" if members else ", used by no process"
    return f"version {tables.versions[0]} in the schema {tables.schema}{used}"


def _commits(checked: str, server: ServerState) -> Diagnosis:
    if not server.fsync:
        remedy = "set fsync = on; after a loss the chain is read again from decryption_from_block_number"
        return warning(checked, "fsync is off: a crash of its machine may destroy the database", remedy)
    said = f"synchronous_commit is {server.synchronous_commit}"
    if server.synchronous_commit in {"off", "local"}:
        found = f"{said}; kmsconn sets it to on for its own connections"
        return warning(checked, found, "nothing, unless other programs of this database need it")
    by = f"with the standbys {server.standbys}" if server.standbys else "no standby has to confirm"
    return ok(checked, f"{said}, {by}")


def _clock(checked: str, ahead: float) -> Diagnosis:
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > CLOCK_DIFFERENCE:
        return warning(checked, found, "set both clocks by NTP (chronyd, systemd-timesyncd)")
    return ok(checked, found)


def _connections(checked: str, free: int, pool: int) -> Diagnosis:
    needed = pool + OTHER_CONNECTIONS
    found = f"{free} are left, a process needs up to {needed}"
    return warning(checked, found, _MORE_CONNECTIONS) if free < needed else ok(checked, found)


_MORE_CONNECTIONS: Final = "raise max_connections, and CONNECTION LIMIT of the user and the database; or set a smaller database_pool_size"


def _is_here(address: PostgresAddress) -> bool:
    """Say whether what is sent to the server stays on this machine."""
    return address.is_local or (bool(address.hosts) and all(is_loopback(host) for host in address.hosts))


def _encryption(checked: str, server: ServerState) -> Diagnosis:
    if server.encrypted:
        return ok(checked, "the connection is encrypted")
    remedy = "turn ssl on at the server, and add ?sslmode=verify-full&sslrootcert=FILE to journal"
    return warning(checked, "the connection is not encrypted", remedy)
