"""Judges the place of a journal in PostgreSQL: server, rights, clock, how safe commits and the connection are. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kmsconn.config.places import is_loopback
from kmsconn.config.storage import differences
from kmsconn.config.values import PostgresAddress, Role
from kmsconn.config.working import Pools
from kmsconn.journal.members import MemberRow
from kmsconn.journal.postgres_place import PostgresPlace, ServerState, TablesState
from kmsconn.journal.postgres_refusals import BREAKS, REMEDY, PoolerMode, remedy_of
from kmsconn.journal.postgres_schema import OLDEST_SERVER, PLAIN_SCHEMA
from kmsconn.operate.doctor.diagnosis import Diagnosis, fault, ok, warning

CLOCK_DIFFERENCE: Final = 2.0  # seconds: due times of rows are by the clocks of the processes
OTHER_CONNECTIONS: Final = (
    4  # of a process, beside those that only read: one writes, one claims, one renews the lease, one listens
)

UNFINISHED: Final = (
    4_000  # decryptions of a kind that a Core has room for: 10,000 entries, 6,000 of them for finished ones
)

_UNKNOWN: Final = "check the address in journal, that PostgreSQL runs there, and that the network lets this machine reach it"
"""What to do about a refusal whose words are not known."""


def judge_postgres(
    checked: str, address: PostgresAddress, place: PostgresPlace, pool: int
) -> Iterator[Diagnosis]:
    """Yield a line for each thing that matters. ``pool``: the connections that only read, at most."""
    if place.pooler is PoolerMode.TRANSACTION:
        yield fault(checked, f"before the server stands {BREAKS}", REMEDY)
        return
    if place.server is None or place.tables is None:
        yield fault(
            checked,
            place.refusal,
            remedy_of(place.refusal) or _UNKNOWN,
        )
        return
    yield _server(checked, place.server)
    yield _tables(f"{checked}: tables", place.tables, tuple(one.label for one in place.members))
    if place.pooler is PoolerMode.SESSION:
        yield ok(f"{checked}: pooler", f"one in {place.pooler} mode stands before the server")
    yield _commits(f"{checked}: commits", place.server)
    if not place.server.autovacuum:
        yield warning(
            f"{checked}: autovacuum",
            "it is off: with half a million rows that nobody removed claims took fifteen times as long",
            "set autovacuum = on",
        )
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
        yield warning(
            f"{checked}: {one.option} of all processes",
            one.text,
            f"set {one.option} alike in all processes, and restart those that have it otherwise",
        )
    if not found:
        yield ok(f"{checked}: settings of all processes", f"alike with {len(members)}: {', '.join(ours)}")


def judge_workers(
    checked: str, pools: Pools, cores: int, members: Sequence[MemberRow]
) -> Iterator[Diagnosis]:
    """Multiply the workers by the processes that work now, and compare with what a Core has room for."""
    working = sum(Role.WORK in one.roles for one in members)
    if not working:
        return
    of_each = max(
        pools.public_decryption + pools.http_public_decryption,
        pools.user_decryption + pools.http_user_decryption,
    )
    asked, room = working * of_each, cores * UNFINISHED
    found = f"{working} x {of_each} = {asked} decryptions of a kind at once at most, room for {room} in {cores} Core{'s' * (cores > 1)}"
    if asked > room:
        yield warning(
            checked, found, "lower pools.* in all processes, or give the Cores larger tables (dec_capacity)"
        )
    else:
        yield ok(checked, found)


def _server(checked: str, server: ServerState) -> Diagnosis:
    if server.number < OLDEST_SERVER:
        return fault(
            checked,
            f"PostgreSQL {server.version} is too old",
            f"run PostgreSQL {OLDEST_SERVER // 10_000} or later",
        )
    if server.standby:
        return fault(
            checked,
            f"PostgreSQL {server.version} is a standby, which takes no writes",
            "name all servers in journal, with ?target_session_attrs=read-write",
        )
    if server.read_only:
        return fault(
            checked,
            f"PostgreSQL {server.version} takes no writes: transactions are read-only",
            "set default_transaction_read_only = off for this user and database",
        )
    if server.encoding != "UTF8":
        return fault(
            checked, f"the database stores text as {server.encoding}", "create it with ENCODING 'UTF8'"
        )
    return ok(checked, f"PostgreSQL {server.version}, takes writes")


def _tables(checked: str, tables: TablesState, members: tuple[str, ...]) -> Diagnosis:
    if tables.schema is None:
        return _no_schema(checked, tables)
    if tables.foreign:
        return fault(
            checked,
            f"the schema {tables.schema} has the tables of another program",
            "name an empty database, or a schema of its own (?options=-csearch_path%3DNAME)",
        )
    if not tables.usable or (tables.versions is None and not tables.creatable):
        return fault(
            checked,
            f"this user may not make tables in the schema {tables.schema}",
            f"GRANT USAGE, CREATE ON SCHEMA {tables.schema} TO this user, or make it the owner of the database",
        )
    if not tables.owned:
        return fault(
            checked,
            f"the tables in the schema {tables.schema} belong to another user",
            "connect as their owner, who alone may bring them up to date",
        )
    return ok(checked, _found(tables, members))


def _no_schema(checked: str, tables: TablesState) -> Diagnosis:
    if not PLAIN_SCHEMA.fullmatch(tables.path):
        return fault(checked, "there is no schema on the search path", "create it, or change search_path")
    if not tables.creatable:
        return fault(
            checked,
            f"there is no schema {tables.path}, and this user may not make one",
            f"CREATE SCHEMA {tables.path} AUTHORIZATION this user, or GRANT CREATE ON DATABASE to this user",
        )
    return ok(checked, f"not there yet, nor the schema {tables.path}; both can be made")


def _found(tables: TablesState, members: tuple[str, ...]) -> str:
    if tables.versions is None:
        return f"not there yet, can be made in the schema {tables.schema}"
    used = f", used by {', '.join(members)}" if members else ", used by no process"
    return f"version {tables.versions[0]} in the schema {tables.schema}{used}"


def _commits(checked: str, server: ServerState) -> Diagnosis:
    if not server.fsync:
        return warning(
            checked,
            "fsync is off: a crash of its machine may destroy the database",
            "set fsync = on; after a loss the chain is read again from decryption_from_block_number",
        )
    if server.synchronous_commit in {"off", "local"}:
        return warning(
            checked,
            f"synchronous_commit is {server.synchronous_commit}; kmsconn sets it to on for its own connections",
            "nothing, unless other programs of this database need it",
        )
    if server.standbys:
        return ok(
            checked, f"synchronous_commit is {server.synchronous_commit}, with the standbys {server.standbys}"
        )
    return ok(checked, f"synchronous_commit is {server.synchronous_commit}, no standby has to confirm")


def _clock(checked: str, ahead: float) -> Diagnosis:
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > CLOCK_DIFFERENCE:
        return warning(checked, found, "set both clocks by NTP (chronyd, systemd-timesyncd)")
    return ok(checked, found)


def _connections(checked: str, free: int, pool: int) -> Diagnosis:
    needed = pool + OTHER_CONNECTIONS
    if free < needed:
        return warning(
            checked,
            f"{free} are left, a process needs up to {needed}",
            "raise max_connections, and CONNECTION LIMIT of the user and the database; or set a smaller database_pool_size",
        )
    return ok(checked, f"{free} are left, a process needs up to {needed}")


def _is_here(address: PostgresAddress) -> bool:
    """Say whether what is sent to the server stays on this machine."""
    return address.is_local or (bool(address.hosts) and all(is_loopback(host) for host in address.hosts))


def _encryption(checked: str, server: ServerState) -> Diagnosis:
    if not server.encrypted:
        return warning(
            checked,
            "the connection is not encrypted",
            "turn ssl on at the server, and add ?sslmode=verify-full&sslrootcert=FILE to journal",
        )
    return ok(checked, "the connection is encrypted")
