"""Members, leases and claims of a PostgreSQL journal: which process is there, which one does what, and who works on which row.

A member's token is never used twice. Each commit of a process counts in its row, so a process whose row was deleted changes nothing any
more (``journal.postgres``); its leases go with the row, and what it had claimed is free, since a row's ``owner`` counts as long as it is a
member. Renewals stand in a table of their own (``presence``): a slow commit holds the member's row for as long as it takes.

All times are the database's. The questions here go over connections beside the one that writes, without the writers' lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import msgspec

from kmsconn.errors import LeaseLost
from kmsconn.journal.database import Database, listed, reads
from kmsconn.journal.postgres_schema import SCHEMA_KEY, VERSION
from kmsconn.journal.rows import COLUMNS

if TYPE_CHECKING:
    from kmsconn.journal.postgres import Batch, PostgresDriver

# Whoever changes the tables locks members out meanwhile: what is compared here is the version that stands then.
_JOIN: Final = (
    "WITH joined AS (INSERT INTO member (name, roles, settings) SELECT ?, ?, ? FROM meta "
    "WHERE key = ? AND split_part(value, ' ', 2)::bigint <= ? RETURNING token), "
    "present AS (INSERT INTO presence (token) SELECT token FROM joined) SELECT token FROM joined"
)
_RENEW: Final = "UPDATE presence SET renewed_at = clock_timestamp(), pid = ? WHERE token = ?"
MEMBERS: Final = (
    "SELECT token, name, roles, extract(epoch FROM since)::float8, extract(epoch FROM clock_timestamp() - renewed_at)::float8, settings, "
    "ARRAY(SELECT name FROM lease WHERE lease.token = member.token ORDER BY name) FROM member JOIN presence USING (token) ORDER BY token"
)
_TAKE: Final = "INSERT INTO lease (name, token) SELECT value, ? FROM json_array_elements_text(?::json) AS value ON CONFLICT DO NOTHING"
_GIVE: Final = "DELETE FROM lease WHERE name = ? AND token = ?"
# A process that was stopped within a transaction holds what all others wait for; the server may even wait for it to take an answer.
_DISCONNECT: Final = (
    "SELECT pg_terminate_backend(activity.pid) FROM presence JOIN pg_stat_activity AS activity ON activity.pid = presence.pid "
    "WHERE token <> ? AND renewed_at < clock_timestamp() - make_interval(secs => ?::float8) AND activity.usename = current_user "
    "AND activity.backend_start < renewed_at AND activity.datname = current_database()"
)
# Who is judged cannot renew meanwhile; a commit of it that is under way is waited for.
_DISMISS: Final = (
    "WITH silent AS (SELECT token FROM presence WHERE token <> ? AND renewed_at < clock_timestamp() - make_interval(secs => ?::float8) "
    "FOR UPDATE SKIP LOCKED) "
    "DELETE FROM member USING silent WHERE member.token = silent.token RETURNING member.token, member.name"
)
_LEAVE: Final = "DELETE FROM member WHERE token = ?"
_TICK: Final = "SELECT value FROM meta WHERE key = 'tick'"

_LINES: Final = (
    'line AS (SELECT kind COLLATE "C" AS kind, shard::bigint AS shard FROM json_array_elements_text(:kinds::json) AS kind, '
    "json_array_elements_text(:shards::json) AS shard)"
)
_OF_LINE: Final = (
    "kind = line.kind AND residue % {shards} = line.shard AND state = 'pending' AND on_chain = 1"
)
_BUSY: Final = "rid NOT IN (SELECT value::bigint FROM json_array_elements_text(:busy::json) AS value)"
_FREE: Final = "(owner IS NULL OR owner = :me OR NOT EXISTS (SELECT FROM member WHERE token = request.owner))"
_CLAIM: Final = (
    "WITH me AS MATERIALIZED (SELECT token FROM member WHERE token = :me FOR KEY SHARE), "  # noqa: S608 - of our own literals
    f"{_LINES}, due AS MATERIALIZED (SELECT found.* FROM me CROSS JOIN line CROSS JOIN LATERAL ("
    "SELECT rid AS best, next_attempt AS at, block AS in_block, log_index AS place FROM request "
    f"WHERE {_OF_LINE} AND next_attempt <= :now AND {_BUSY} AND {_FREE} "
    "ORDER BY next_attempt, block, log_index LIMIT :limit FOR UPDATE OF request SKIP LOCKED) AS found), "
    "claimed AS (UPDATE request SET owner = :me FROM (SELECT best FROM due ORDER BY at, in_block, place LIMIT :limit) AS chosen "
    f"WHERE rid = best RETURNING {COLUMNS}) SELECT * FROM claimed ORDER BY next_attempt, block, log_index"
)
_NEXT: Final = (
    f"WITH {_LINES} SELECT min(found.at) FROM line CROSS JOIN LATERAL (SELECT next_attempt AS at FROM request "  # noqa: S608
    f"WHERE {_OF_LINE} AND next_attempt > :now ORDER BY next_attempt LIMIT 1) AS found"
)
_GIVE_ROWS: Final = (
    "WITH given AS (UPDATE request SET owner = NULL WHERE owner = ? AND state = 'pending' AND on_chain = 1 RETURNING kind) "
    "SELECT kind, count(*), pg_notify('kmsconn', 'due ' || kind) FROM given GROUP BY kind"
)


@attrs.frozen
class MemberRow:
    """A process that works on the journal: token, name, roles, since when it is there (wall time), and for how long it was silent.

    ``settings``: what it has of the settings that all must have alike, in words; nothing of a version that did not write them. ``leases``:
    those that it holds.
    """

    token: int
    name: str
    roles: frozenset[str]
    since: float
    silent: float
    settings: Mapping[str, str] = attrs.field(factory=dict)
    leases: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name it as no other one: two processes may have one name."""
        return f"{self.name or 'a process without a name'} (member {self.token})"


@attrs.frozen
class Gathering:
    """Who is there and who holds what, as one process sees it. ``is_member``: whether that process is still one of them."""

    is_member: bool
    members: tuple[MemberRow, ...] = ()

    @property
    def leases(self) -> dict[str, int]:
        """Who holds each lease, by its name."""
        return {lease: one.token for one in self.members for lease in one.leases}

    def of(self, token: int) -> set[str]:
        """Return the leases of a member."""
        return {lease for lease, holder in self.leases.items() if holder == token}


def member_of(stored: Sequence[Any]) -> MemberRow:
    """Return a member as stored (``MEMBERS``); without settings where it wrote none, or in another form."""
    token, name, roles, since, silent, written, leases = stored
    try:
        settings = msgspec.json.decode(written or "{}", type=dict[str, str])
    except msgspec.MsgspecError:
        settings = {}
    return MemberRow(token, name, frozenset(roles.split()), since, silent, settings, tuple(leases))


def join(batch: Batch, name: str, roles: Collection[str], settings: Mapping[str, str] | None = None) -> int:
    """Become a member and return the token. Repeating: another member.

    Raises LeaseLost where a newer version has changed the tables since they were opened: who begins anew is refused, and told why.
    """
    words = name, " ".join(sorted(roles)), msgspec.json.encode(settings or {}).decode()
    if (joined := batch.execute(_JOIN, (*words, SCHEMA_KEY, VERSION)).fetchone()) is None:
        raise LeaseLost("a newer version has just changed the tables of the journal")
    return int(joined[0])


def renew(batch: Batch, token: int, pid: int) -> Gathering:
    """Say that the member is there, and look who else is; ``pid``: the server's process that serves its writes. Repeating: no effect."""
    batch.execute("BEGIN")
    batch.execute("SET LOCAL synchronous_commit = off")  # nothing stands on it for longer than a lease
    renewed = batch.execute(_RENEW, (pid, token))
    batch.execute("COMMIT")
    there = batch.execute(MEMBERS)
    return Gathering(renewed.rowcount == 1, tuple(map(member_of, there)))


@reads
def gathering(db: Database) -> Gathering:
    """Return who is there and who holds what, as somebody sees it who is no member; nobody where the journal is a file."""
    return Gathering(False, tuple(map(member_of, db.execute(MEMBERS))) if db.driver.is_remote else ())


def take(batch: Batch, token: int, names: Collection[str]) -> None:
    """Take those of some leases that nobody has. Raises an error of the database for a token that is none. Repeating: no effect."""
    batch.execute(_TAKE, (token, listed(names)))
    batch.flush()


def dismiss(batch: Batch, token: int, lease: float) -> list[tuple[int, str]]:
    """Delete the other members that have not renewed for a lease; return their tokens and names. Repeating: finds nobody.

    Their connections are ended before: what they had begun is undone, and holds nobody up.
    """
    batch.execute(_DISCONNECT, (token, lease))
    batch.flush()
    return batch.execute(_DISMISS, (token, lease)).fetchall()


def tick(batch: Batch) -> int:
    """Return the tick that the last commit of any process left."""
    found = batch.execute(_TICK).fetchone()
    return int(found[0]) if found else 0


def claim(
    batch: Batch,
    token: int,
    shards: int,
    *,
    kinds: Collection[str],
    of_shards: Collection[int],
    now: float,
    limit: int,
    busy: Collection[int],
) -> tuple[list[tuple[Any, ...]], float | None]:
    """Claim up to ``limit`` due rows that no other member has, the longest due ones first; ``busy`` ones are left out.

    Return them as stored, and when the next one will be due, as far as one is known.

    Rows that another process is just claiming are passed over: nothing found means "again soon". The connection may be
    a fleeting one: what a crash of the server undoes of a claim is claimed again. Repeating: rows of ours are due again.
    """
    lines = {"kinds": listed(kinds), "shards": listed(of_shards), "now": now}
    values = {**lines, "me": token, "limit": limit, "busy": listed(busy)}
    found = batch.execute(_CLAIM.format(shards=shards), values)
    later = batch.execute(_NEXT.format(shards=shards), lines)
    stored = found.fetchall()
    return stored, now if len(stored) >= limit else later.fetchone()[0]


def give_back(db: Database, token: int, name: str) -> bool:
    """Give a lease back, behind all that its holder has changed; False where it was not ours."""
    return db.execute(_GIVE, (name, token)).rowcount == 1


def give_rows_back(db: Database, token: int) -> int:
    """Give all claimed rows back, and tell the others; return how many they were."""
    return sum(count for _, count, _ in db.execute(_GIVE_ROWS, (token,)))


def leave(db: Database, token: int) -> None:
    """Be a member no more: leases and rows are free with this commit, and what is committed after it is not guarded."""
    db.execute(_LEAVE, (token,))
    cast("PostgresDriver", db.driver).join(None)


def depart(batch: Batch, token: int) -> None:
    """Be a member no more, once a commit that is under way has ended. Repeating: no effect."""
    batch.execute(_LEAVE, (token,))
    batch.flush()
