"""The queries of the journal. Reads only; never changes a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter

import attrs

from kmsconn.chain.fork import Checkpoint, Checkpoints, Followed
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.database import Database, listed, off_loop, reads
from kmsconn.journal.rows import COLUMNS, KINDS, STATES, Row, pack_id, read_rows, readable
from kmsconn.model.life import OPEN, RowCause, State
from kmsconn.model.requests import Kind

_NEXT = "SELECT min(next_attempt) FROM request"
_RIDS = "SELECT rid FROM request"

# The indices are named, so that no guess of the planner ever makes a query walk over closed rows. Each look takes only as many entries
# of its index as it asks for, beside the rows that are worked on already: however many rows wait, and whatever the clock does.
_SEEN = (
    "kind = :kind AND residue % {shards} = :shard AND state = 'pending' AND on_chain = 1 "
    "AND rid NOT IN (SELECT value FROM json_each(:busy))"
)
_DUE = (
    f"SELECT next_attempt, block, log_index, rid FROM request INDEXED BY request_due_{{shards}} WHERE {_SEEN} AND next_attempt <= :now "  # noqa: S608
    "ORDER BY next_attempt, block, log_index LIMIT :limit"
)
_NEXT_SEEN = f"{_NEXT} INDEXED BY request_due_{{shards}} WHERE {_SEEN} AND next_attempt > :now"
_IN_ORDER = (
    "SELECT block, log_index, rid FROM request INDEXED BY request_due_{shards} "
    "WHERE kind = :kind AND state = 'pending' AND on_chain = 1 ORDER BY block, log_index LIMIT :limit"
)

_ANSWERED = "chain_id = :chain_id AND state = 'answered' AND on_chain = 1"
_UNSENT = (
    f"SELECT {COLUMNS} FROM request INDEXED BY request_to_sign WHERE {_ANSWERED} AND next_attempt <= :now "  # noqa: S608 - our own words
    "ORDER BY next_attempt, block, log_index LIMIT :limit"
)
_PLACE = itemgetter(*map(COLUMNS.split(", ").index, ("block", "log_index")))
_NEXT_UNSENT = f"{_NEXT} INDEXED BY request_to_sign WHERE {_ANSWERED} AND next_attempt > :now"

_BEHIND = (
    f"{_RIDS} INDEXED BY request_to_sign WHERE {_ANSWERED} AND (block, log_index) > (:block, :log_index) "
    "ORDER BY block, log_index LIMIT :limit"
)

_SIGNED = f"{_RIDS} INDEXED BY request_nonce WHERE chain_id = ? AND state = 'signed' ORDER BY nonce"
_OF_INCLUDED = "chain_id = ? AND (closed_at IS NULL) = TRUE AND state = 'included'"
_INCLUDED = (
    f"{_RIDS} INDEXED BY request_included WHERE {_OF_INCLUDED} AND included_block <= ? "
    "ORDER BY included_block LIMIT ?"
)
_PROGRESS = "SELECT block, settled, passed, since FROM cursor WHERE chain_id = ? AND contract = ?"
_FOLLOWED = "SELECT generation, doubted_since FROM follower WHERE chain_id = ?"
_CURSORS = "SELECT chain_id, contract, block FROM cursor ORDER BY chain_id, contract"
_KEPT = "SELECT block, hash FROM checkpoint WHERE chain_id = ? ORDER BY block"
_REREAD = "SELECT from_block, next_block, to_block FROM reread WHERE chain_id = ? AND contract = ?"
_STANDING = (
    "SELECT DISTINCT block, block_hash FROM request INDEXED BY request_place WHERE chain_id = ? AND contract = ? AND on_chain = 1 "
    "AND block BETWEEN ? AND ? ORDER BY block LIMIT ?"
)
_SIBLING = (
    "SELECT count(*) FROM request AS ours JOIN request AS other USING (chain_id, contract, kind, id) "
    "WHERE ours.rid = ? AND other.digest <> ours.digest"
)
_PLACES = (
    "SELECT id, block FROM request INDEXED BY request_identity WHERE chain_id = ? AND contract = ? AND id BETWEEN ? AND ? "
    "AND on_chain = 1 AND kind = ? ORDER BY id LIMIT ?"
)
_OF_REQUEST = (
    "SELECT rid FROM request INDEXED BY request_identity WHERE chain_id = ? AND contract = ? AND id = ? "
    "AND kind = ? AND on_chain = 1 ORDER BY rid"
)
_PASSED = "SELECT rid FROM request WHERE rid IN (SELECT value FROM json_each(?)) AND state <> 'pending'"
_OLDEST_OPEN = (
    "SELECT min(block) FROM request INDEXED BY request_oldest WHERE closed_at IS NULL AND on_chain = 1 "
    "AND state IN ('pending', 'answered') AND chain_id = ? AND block >= 0"
)
_TALLY = "SELECT kind, state, on_chain, rows, deferred, deleted FROM tally"
_OPEN_ON_CHAIN = "closed_at IS NULL AND on_chain = 1"


def _oldest_but(causes: RowCause) -> str:
    return (
        "SELECT min(recorded_at) FROM request INDEXED BY request_oldest "  # noqa: S608 - of our own literals
        f"WHERE kind = ? AND {_OPEN_ON_CHAIN} AND (cause & {causes.value}) = 0"
    )


_OLDEST_OPEN_ROW = _oldest_but(RowCause.REFUSED_BY_CORE)
_OLDEST_ANSWERABLE = _oldest_but(RowCause.REFUSED_BY_CORE | RowCause.CHAIN_NOT_SERVED)
_WAITING = (
    "SELECT recorded_at, rid FROM request INDEXED BY request_oldest "  # noqa: S608 - of our own literals
    f"WHERE kind = ? AND {_OPEN_ON_CHAIN} AND recorded_at < ? ORDER BY recorded_at LIMIT ?"
)
_ENDINGS = (
    "SELECT rid FROM request INDEXED BY request_key_management "
    "WHERE kind = ? AND kind NOT IN ('public_decryption', 'user_decryption', 'http_public_decryption', 'http_user_decryption') "
    "AND on_chain = 1 "
    "AND state IN ('included', 'finalized', 'done', 'rejected', 'quarantined') ORDER BY block DESC, log_index DESC LIMIT ?"
)

LONG_LIST = 256  # rows: reading so many takes some milliseconds


@attrs.frozen
class ReadUpTo:
    """How far a contract is read: all blocks below ``next_block``. Blocks up to ``settled`` are never read again.

    Those up to ``passed`` were read before ``since`` (chain time), and nothing was learned of them after it.
    """

    next_block: int
    settled: int
    passed: int
    since: float


@attrs.frozen
class Reread:
    """What was asked to be read once more, from ``from_block`` to ``to_block``; everything below ``next_block`` is done."""

    from_block: int
    next_block: int
    to_block: int


@attrs.frozen
class JournalPlace:
    """A request's id with the block where it stands."""

    id: int
    block: int


@attrs.frozen
class Due:
    """Rows to work on now, best first, and when the next one after them is due (wall time; None: nothing waits)."""

    rows: tuple[Row, ...]
    next_due: float | None


@attrs.frozen
class Counts:
    """Rows by kind and state, deferred ones by kind, the age of the oldest open one by kind in seconds, quarantined logs.

    ``answerable`` is the age of the oldest open one by kind that names no host chain which is not configured or not served.
    ``deleted`` are rows that retention has taken out since the journal was made, by kind and the state they were in.
    """

    states: Mapping[tuple[Kind, State], int]
    deferred: Mapping[Kind, int]
    oldest: Mapping[Kind, float]
    off_chain: int
    quarantined_logs: int
    deleted: Mapping[tuple[Kind, State], int] = attrs.field(factory=dict)
    answerable: Mapping[Kind, float] = attrs.field(factory=dict)


@reads
def progress(db: Database, chain_id: int, contract: Address) -> ReadUpTo | None:
    """Return how far a contract is read, or None for one that was never read."""
    found = db.execute(_PROGRESS, (chain_id, contract)).fetchone()
    return None if found is None else ReadUpTo(*found)


@reads
def cursors(db: Database) -> tuple[tuple[int, Address, int], ...]:
    """Return the chain and address of each contract that is read, with its first block that was not."""
    return tuple((chain_id, Address(contract), block) for chain_id, contract, block in db.execute(_CURSORS))


@reads
def followed(db: Database, chain_id: int) -> Followed:
    """Return what is kept of a chain: its generation, block hashes with the lowest first, and since when it is doubted."""
    kept = tuple(Checkpoint(number, hash_) for number, hash_ in db.execute(_KEPT, (chain_id,)))
    generation, doubted = db.execute(_FOLLOWED, (chain_id,)).fetchone() or (0, None)
    return Followed(generation, kept, doubted)


@reads
def reread(db: Database, chain_id: int, contract: Address) -> Reread | None:
    """Return what of a contract is, or was, to be read once more."""
    found = db.execute(_REREAD, (chain_id, contract)).fetchone()
    return None if found is None else Reread(*found)


@reads
def standing(
    db: Database, chain_id: int, contract: Address, blocks: tuple[int, int], limit: int
) -> Checkpoints:
    """Return the first ``limit`` blocks, of a range with both ends included, where requests on chain stand, as they were read."""
    found = db.execute(_STANDING, (chain_id, contract, *blocks, limit))
    return tuple(Checkpoint(number, hash_) for number, hash_ in found)


@reads
def due(
    db: Database,
    kinds: Collection[Kind],
    now: float,
    limit: int,
    busy: frozenset[int] = frozenset(),
    *,
    without: frozenset[int] = frozenset(),
) -> Due:
    """Return up to ``limit`` PENDING rows of ``kinds`` that are on chain, due and not ``busy``, by (next_attempt, block, log index).

    Rows of the shards ``without`` (the id modulo the driver's number of them) are left out, also of when the next one is due.
    """
    asked = {"now": now, "limit": limit + 1, "busy": listed(busy)}
    wanted = [shard for shard in range(db.driver.shards) if shard not in without]
    lines = [{**asked, "kind": kind.value, "shard": shard} for kind in kinds for shard in wanted]
    statement = _DUE.format(shards=db.driver.shards)
    heads = sorted(head for line in lines for head in db.execute(statement, line))
    if len(heads) > limit:  # one further row tells that others are due
        return Due(read_rows(db, heads[:limit]), min(now, heads[limit][0]))
    later = (db.execute(_NEXT_SEEN.format(shards=db.driver.shards), line).fetchone()[0] for line in lines)
    return Due(read_rows(db, heads), min((one for one in later if one is not None), default=None))


@reads
def in_order(db: Database, kinds: Collection[Kind], limit: int) -> tuple[Row, ...]:
    """Return the first ``limit`` PENDING rows of ``kinds`` that are on chain, by (block, log index), due or not."""
    statement = _IN_ORDER.format(shards=db.driver.shards)
    asked = db.fetch_each(statement, ({"kind": kind.value, "limit": limit} for kind in kinds))
    return read_rows(db, sorted(place for found in asked for place in found)[:limit])


@reads
def answered(db: Database, chain_id: int, now: float, limit: int) -> Due:
    """Return what may be signed, longest due first; the rows by their places."""
    values = {"chain_id": chain_id, "now": now, "limit": limit + 1}
    following = db.execute(_NEXT_UNSENT, values)
    found = db.execute(_UNSENT, values).fetchall()
    # one further row tells that others are due
    later = now if len(found) > limit else following.fetchone()[0]
    return Due(readable(db, sorted(found[:limit], key=_PLACE)), later)


# takes its turn among the changes, so that it sees an answer that is being kept
@off_loop(lambda _chain_id, _after, limit: limit > LONG_LIST)
def answered_after(db: Database, chain_id: int, after: tuple[int, int], limit: int) -> tuple[Row, ...]:
    """Return ANSWERED rows of a chain that are on chain, due or not, by (block, log index), those that stand behind ``after``."""
    block, log_index = after
    values = {"chain_id": chain_id, "block": block, "log_index": log_index, "limit": limit}
    return read_rows(db, db.execute(_BEHIND, values))


@reads
def signed(db: Database, chain_id: int) -> tuple[Row, ...]:
    """Return all SIGNED rows of a chain in nonce order, on chain or not."""
    return read_rows(db, db.execute(_SIGNED, (chain_id,)))


@reads
@off_loop(lambda _chain_id, _up_to_block, limit: limit > LONG_LIST)
def included(db: Database, chain_id: int, up_to_block: int, limit: int) -> tuple[Row, ...]:
    """Return INCLUDED rows whose inclusion (or verify) block is not above ``up_to_block``, the lowest first."""
    return read_rows(db, db.execute(_INCLUDED, (chain_id, up_to_block, limit)))


@reads
def row(db: Database, rid: int) -> Row | None:
    """Return one row; None when there is none, or when it cannot be read and was set aside."""
    return next(iter(read_rows(db, [(rid,)])), None)


@reads
def of_request(
    db: Database, chain_id: int, contract: Address, kind: Kind, identifier: int
) -> tuple[Row, ...]:
    """Return the rows on chain of a kind and an on-chain id, the newest last: one, but for a moment after a reorganisation."""
    return read_rows(db, db.execute(_OF_REQUEST, (chain_id, contract, pack_id(identifier), kind.value)))


@reads
@off_loop(lambda rids: len(rids) > LONG_LIST)
def passed(db: Database, rids: Collection[int]) -> tuple[Row, ...]:
    """Return those of some rows that are no longer PENDING."""
    return read_rows(db, db.execute(_PASSED, (listed(rids),)))


@reads
@off_loop()
def oldest_open_block(db: Database, chain_id: int) -> int | None:
    """Return the lowest block with a request on chain that waits for its answer or its reply; walks over all open rows."""
    block: int | None = db.execute(_OLDEST_OPEN, (chain_id,)).fetchone()[0]
    return block


@reads
def has_sibling(db: Database, rid: int) -> bool:
    """Say whether the journal has another request with the same chain, contract, kind and id but other content."""
    return bool(db.execute(_SIBLING, (rid,)).fetchone()[0])


@reads
@off_loop()
def places(
    db: Database, chain_id: int, contract: Address, kind: Kind, ids: tuple[int, int], *, limit: int
) -> tuple[JournalPlace, ...]:
    """Return the first ``limit`` requests of a kind on chain in the order of their ids, from the first to the last of ``ids``."""
    found = db.execute(_PLACES, (chain_id, contract, *map(pack_id, ids), kind.value, limit))
    return tuple(JournalPlace(int.from_bytes(identifier), block) for identifier, block in found)


@reads
def waiting(db: Database, kinds: Collection[Kind], before: float, limit: int) -> tuple[Row, ...]:
    """Return the first ``limit`` open requests of ``kinds`` that are on chain and were recorded ``before`` (wall time)."""
    asked = db.fetch_each(_WAITING, ((kind.value, before, limit) for kind in kinds))
    return read_rows(db, sorted(one for found in asked for one in found)[:limit])


@reads
def endings(db: Database, kinds: Iterable[Kind], limit: int) -> dict[Kind, tuple[Row, ...]]:
    """Return how requests of each of some kinds of key management that are on chain ended, those that stand last first.

    Done are ``included``, ``finalized`` and ``done``; undone ``rejected`` and ``quarantined``. What is in work is left out.
    """
    return {kind: read_rows(db, db.execute(_ENDINGS, (kind.value, limit))) for kind in kinds}


@reads
def misplaced(db: Database) -> str:
    """Return which of the journal's files was removed or replaced, also where a group fails for it; empty when none was."""
    return db.driver.misplaced()


@reads
def unconfirmed(db: Database) -> str:
    """Return which standbys of a server commits have waited for too long; empty if none has waited."""
    return db.driver.unconfirmed()


@reads
def counts(db: Database, now: float) -> Counts:
    """Return what health and metrics show. Rows are counted as they move, so the cost is that of a table of kinds and states."""
    db.driver.tally.write(db.execute)
    states: Counter[tuple[Kind, State]] = Counter()
    deleted: Counter[tuple[Kind, State]] = Counter()
    deferred: dict[Kind, int] = {}
    off_chain = 0
    logs = db.execute("SELECT count(*) FROM quarantined_log")
    for kind, state, on_chain, *numbers in db.execute(_TALLY).fetchall():
        if kind not in KINDS or state not in STATES or not any(numbers):
            continue  # of a damaged row they may be anything
        key, (rows, waiting, gone) = (Kind(kind), State(state)), numbers
        states[key] += rows
        deleted[key] += gone
        if state in OPEN and on_chain:
            deferred[key[0]] = deferred.get(key[0], 0) + waiting
        elif state in OPEN:  # waits for nobody: neither late nor deferred
            off_chain += rows
    oldest, answerable = (_ages(db, one, deferred, now) for one in (_OLDEST_OPEN_ROW, _OLDEST_ANSWERABLE))
    return Counts(+states, deferred, oldest, off_chain, logs.fetchone()[0], +deleted, answerable)


def _ages(db: Database, statement: str, kinds: Collection[Kind], now: float) -> dict[Kind, float]:
    """Return the age of the oldest row of each kind that a statement finds."""
    found = zip(kinds, db.fetch_each(statement, [(kind.value,) for kind in kinds]), strict=True)
    return {kind: now - since for kind, ((since,),) in found if since is not None}
