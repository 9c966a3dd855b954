"""Makes the tables of a PostgreSQL journal, and brings them up to date: under the writers' lock, in one transaction. Knows no request.

A version that another process has made newer is fine while it says that ours may run on it (``postgres_schema``).
"""

from __future__ import annotations

from typing import Any, Final

from kmsconn.errors import JournalTooNew, StartRefused
from kmsconn.journal.postgres_schema import (
    MIGRATIONS,
    OLDEST_SERVER,
    PLAIN_SCHEMA,
    SCHEMA_KEY,
    TABLE_COUNTS,
    VERSION,
)
from kmsconn.journal.postgres_session import Session
from kmsconn.journal.postgres_statements import call_of
from kmsconn.journal.schema import shard_indices

BEGIN: Final = "BEGIN"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
_LOCK_KEY: Final = "hashtextextended('kmsconn journal ' || current_schema(), 0)"
LOCK: Final = f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"
"""The writers' lock: one journal has one, and two journals of a database, in schemas of their own, have two."""

_SURROUNDINGS: Final = "SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding'), current_schema()"
_SEARCH_PATH: Final = "SELECT current_setting('search_path')"
_VERSION: Final = "SELECT value FROM meta WHERE key = ?"
_NOTE: Final = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_KNOWN_INDICES: Final = (
    "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname LIKE ANY (ARRAY['request\\_due\\_%', "
    "'request\\_stranded\\_%'])"
)
_MEMBERS: Final = "SELECT count(*) FROM member"

_DISMISS_ALL: Final = ("LOCK TABLE member IN SHARE ROW EXCLUSIVE MODE", "DELETE FROM member")
"""What ends all processes that work on the journal: each begins anew, and one that is too old is refused then.

Who joins meanwhile waits for the lock, and looks at the version (``members.join``).
"""


def migrate(session: Session, shards: int, where: str, *, make: bool) -> None:
    """Check the server, and make or complete the tables; ``make``: where there are none.

    A version that excludes programs which could use the tables until now dismisses every member: one that is too old writes nothing more.

    Raises StartRefused for a server that is too old, for tables of another program, and for a journal that is missing; JournalTooNew;
    psycopg's errors for everything else, and leaves nothing behind then.
    """
    _check_server(session, where, make=make)
    _do(session, BEGIN)
    _do(session, LOCK)
    version = _known_version(session, where, make=make)
    for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
        session.exchange([call_of(statement) for statement in migration.statements])
        _do(session, _NOTE, SCHEMA_KEY, f"{number} {migration.compatible_from}")
    if version and MIGRATIONS[-1].compatible_from > MIGRATIONS[version - 1].compatible_from:
        for statement in _DISMISS_ALL:
            _do(session, statement)
    _index_shards(session, shards)
    _do(session, COMMIT)


def _index_shards(session: Session, shards: int) -> None:
    """Make the indices of due rows for our number of shards; drop those of another number, unless a member may use them still."""
    wanted = shard_indices(shards)
    known = {name for (name,) in _do(session, _KNOWN_INDICES)}
    for name in wanted.keys() - known:
        _do(session, wanted[name])
    ((members,),) = _do(session, _MEMBERS)
    for name in () if members else known - wanted.keys():
        _do(session, f"DROP INDEX {name}")


def _check_server(session: Session, where: str, *, make: bool) -> None:
    ((version, encoding, schema),) = _do(session, _SURROUNDINGS)
    if version < OLDEST_SERVER:
        raise StartRefused(
            f"the server of the journal {where} is PostgreSQL {version // 10_000}, which is too old; "
            f"run PostgreSQL {OLDEST_SERVER // 10_000} or later"
        )
    if encoding != "UTF8":
        raise StartRefused(
            f"the database of the journal {where} stores text as {encoding}; create it with ENCODING 'UTF8'"
        )
    if schema is None:
        _make_schema(session, where, make=make)


def _make_schema(session: Session, where: str, *, make: bool) -> None:
    """Make the schema that the search path names, where it names a single one in plain letters."""
    ((path,),) = _do(session, _SEARCH_PATH)
    if not PLAIN_SCHEMA.fullmatch(path):
        raise StartRefused(
            f"the database of the journal {where} has no schema on the search path; create it, or change search_path"
        )
    if not make:
        raise StartRefused(f"there is no journal in {where}, and no schema {path}")
    _do(session, f"CREATE SCHEMA IF NOT EXISTS {path}")


def _known_version(session: Session, where: str, *, make: bool) -> int:
    """Return the version of the tables, 0 where there are none; no newer one than ours, for what is newer needs nothing."""
    ((tables, metas),) = _do(session, TABLE_COUNTS)
    found = _do(session, _VERSION, SCHEMA_KEY) if metas else []
    if not tables and not make:
        raise StartRefused(f"there is no journal in {where}")
    if tables and not found:
        raise StartRefused(
            f"{where} has the tables of another program; name an empty database, or a schema of its own (?options=-csearch_path%3DNAME)"
        )
    if not found:
        return 0
    version, compatible_from = map(int, found[0][0].split())
    if compatible_from > VERSION:
        raise JournalTooNew(
            f"the journal {where} was written by a newer version (its tables are of version {version}, which needs programs of version "
            f"{compatible_from} or later, ours is {VERSION}); run that version or name another journal"
        )
    return min(version, VERSION)


def _do(session: Session, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    (reply,) = session.exchange([call_of(statement, values)])
    return reply.rows
