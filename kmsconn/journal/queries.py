"""What the journal is asked. Reads only; never changes a row.

A row is due when its ``next_attempt`` has come, and also when it lies further away than the row's own ``max_wait``: it was set by a clock
that has been set back since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from kmsconn.chain.checkpoints import Checkpoint, Checkpoints
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.logs import Log
from kmsconn.journal.book import Book
from kmsconn.journal.damage import read_one, read_rows
from kmsconn.journal.port import NO_SHARDS, Counts, Due, Ending, Place, Queued, Reread, Row, Shards, Waiting
from kmsconn.journal.rows import pack_id, unpack_log
from kmsconn.journal.schema import shard_of
from kmsconn.model.life import OPEN, State
from kmsconn.model.requests import Kind

_NEXT = "SELECT min(next_attempt) FROM request"
_RIDS = "SELECT rid FROM request"
_HEADS = "SELECT next_attempt, block, log_index, rid FROM request"

# The indices are named, so that no guess of the planner ever makes a query walk over closed rows. Each look takes only as many entries
# of its index as it asks for, beside the rows that are worked on already: however many rows wait, and whatever the clock does.
_SEEN = (
    "kind = :kind AND {shard} = :shard AND state = 'pending' AND on_chain = 1 "
    "AND rid NOT IN (SELECT value FROM json_each(:busy))"
)
_DUE = (
    f"{_HEADS} INDEXED BY request_due_{{shards}} WHERE {_SEEN} AND next_attempt <= :now "
    "ORDER BY next_attempt, block, log_index LIMIT :limit"
)
_STRANDED = (
    f"{_HEADS} INDEXED BY request_stranded_{{shards}} WHERE {_SEEN} AND next_attempt - max_wait > :now "
    "ORDER BY next_attempt - max_wait, next_attempt, block, log_index LIMIT :limit"
)
_LATER = "next_attempt > :now AND next_attempt - max_wait <= :now"
_NEXT_SEEN = f"{_NEXT} INDEXED BY request_due_{{shards}} WHERE {_SEEN} AND {_LATER}"
_IN_ORDER = (
    "SELECT block, log_index, rid, next_attempt <= :now OR next_attempt - max_wait > :now "
    "FROM request INDEXED BY request_due_{shards} "
    "WHERE kind = :kind AND state = 'pending' AND on_chain = 1 AND rid NOT IN (SELECT value FROM json_each(:damaged)) "
    "ORDER BY block, log_index LIMIT :limit"
)

_ANSWERED = "INDEXED BY request_unsent WHERE chain_id = :chain_id AND state = 'answered' AND on_chain = 1"
_UNSENT = f"{_HEADS} {_ANSWERED} AND (next_attempt <= :now OR next_attempt - max_wait > :now) ORDER BY block, log_index LIMIT :limit"
_NEXT_UNSENT = f"{_NEXT} {_ANSWERED} AND {_LATER}"

_BEHIND = f"{_RIDS} {_ANSWERED} AND (block, log_index) > (:block, :log_index) ORDER BY block, log_index LIMIT :limit"

_SIGNED = f"{_RIDS} INDEXED BY request_nonce WHERE chain_id = ? AND state = 'signed' ORDER BY nonce"
_INCLUDED = (
    f"{_RIDS} INDEXED BY request_included WHERE chain_id = ? AND state = 'included' AND included_block BETWEEN ? AND ? "
    "ORDER BY included_block LIMIT ?"
)
_INCLUDED_FROM = (
    f"{_RIDS} INDEXED BY request_included WHERE chain_id = ? AND state = 'included' AND nonce >= ? "
    "ORDER BY included_block DESC LIMIT ?"
)
_CURSOR = "SELECT block FROM cursor WHERE chain_id = ? AND contract = ?"
_KEPT = "SELECT block, hash FROM checkpoint WHERE chain_id = ? AND contract = ? ORDER BY block"
_REREAD = "SELECT from_block, next_block, to_block FROM reread WHERE chain_id = ? AND contract = ?"
_STANDING = (
    "SELECT DISTINCT block, block_hash FROM request INDEXED BY request_place WHERE chain_id = ? AND contract = ? AND on_chain = 1 "
    "AND block BETWEEN ? AND ? ORDER BY block LIMIT ?"
)
_DOUBTED = (
    "SELECT DISTINCT block FROM request INDEXED BY request_suspect WHERE chain_id = ? AND contract = ? AND block >= ? "
    "AND on_chain = 0 AND state IN ('pending', 'answered', 'signed', 'included') ORDER BY block DESC LIMIT ?"
)
_SIBLING = (
    "SELECT count(*) FROM request AS ours JOIN request AS other USING (chain_id, contract, kind, id) "
    "WHERE ours.rid = ? AND other.digest <> ours.digest"
)
_PLACES = (
    "SELECT id, block FROM request INDEXED BY request_identity WHERE chain_id = ? AND contract = ? AND id BETWEEN ? AND ? "
    "AND on_chain = 1 AND kind = ? ORDER BY id LIMIT ?"
)
_ASIDE = "SELECT log, block, block_hash, transaction_hash, log_index FROM quarantined_log WHERE chain_id = ? AND contract = ?"
_TALLY = "SELECT kind, state, on_chain, rows, deferred, deleted FROM tally"
_OPEN_ON_CHAIN = "on_chain = 1 AND state IN ('pending', 'answered', 'signed', 'included')"
_OLDEST = (
    "SELECT min(recorded_at) FROM request INDEXED BY request_oldest "  # noqa: S608 - of our own literals
    f"WHERE kind = ? AND {_OPEN_ON_CHAIN}"
)
_WAITING = (
    "SELECT recorded_at, rid, kind, id, reason FROM request INDEXED BY request_oldest "  # noqa: S608 - of our own literals
    f"WHERE kind = ? AND {_OPEN_ON_CHAIN} AND recorded_at < ? ORDER BY recorded_at LIMIT ?"
)
_ENDINGS = (
    "SELECT rid, id, state, reason FROM request INDEXED BY request_key_management "
    "WHERE kind = ? AND kind NOT IN ('public_decryption', 'user_decryption') AND on_chain = 1 "
    "AND state IN ('included', 'finalized', 'done', 'rejected', 'quarantined') ORDER BY block DESC, log_index DESC LIMIT ?"
)

_KINDS, _STATES = frozenset(Kind), frozenset(State)

Values = Mapping[str, Any]
Head = tuple[float, int, int, int]
"""What a row that may be due is chosen by: its next try, block and log index; and the row."""


def cursor(book: Book, chain_id: int, contract: Address) -> int | None:
    """Return the first block of a contract that was not read yet."""
    found = book.execute(_CURSOR, (chain_id, contract)).fetchone()
    return None if found is None else int(found[0])


def checkpoints(book: Book, chain_id: int, contract: Address) -> Checkpoints:
    """Return the block hashes that are kept, the lowest first."""
    return tuple(Checkpoint(number, hash_) for number, hash_ in book.execute(_KEPT, (chain_id, contract)))


def reread(book: Book, chain_id: int, contract: Address) -> Reread | None:
    """Return what of a contract is to be read once more."""
    found = book.execute(_REREAD, (chain_id, contract)).fetchone()
    return None if found is None else Reread(*found)


def standing(
    book: Book, chain_id: int, contract: Address, blocks: tuple[int, int], limit: int
) -> Checkpoints:
    """Return the blocks where requests on chain stand, the lowest first."""
    found = book.execute(_STANDING, (chain_id, contract, *blocks, limit))
    return tuple(Checkpoint(number, hash_) for number, hash_ in found)


def doubted(book: Book, chain_id: int, contract: Address, from_block: int, limit: int) -> tuple[int, ...]:
    """Return the blocks where open requests stood that are off chain, the newest first."""
    return tuple(block for (block,) in book.execute(_DOUBTED, (chain_id, contract, from_block, limit)))


def due_of_kinds(
    book: Book,
    kinds: Collection[Kind],
    now: float,
    limit: int,
    *,
    busy: Collection[int] = (),
    without: Shards = NO_SHARDS,
) -> Due:
    """Return what a pool may work on: what is in time, best first over all its kinds and shards, then what is stranded."""
    asked = {"now": now, "limit": limit + 1, "busy": _listed([*busy, *book.damaged])}
    lines = _lines(book, kinds, without, asked)
    heads = sorted(_heads(book, _DUE, lines))
    if len(heads) <= limit:
        heads += sorted(_heads(book, _STRANDED, lines))
    if len(heads) > limit:  # one further row tells that others are due
        return Due(_of(book, heads[:limit]), min(now, heads[limit][0]))
    later = (book.execute(_for_shards(_NEXT_SEEN, book.shards), line).fetchone()[0] for line in lines)
    return Due(_of(book, heads), min((one for one in later if one is not None), default=None))


def _lines(book: Book, kinds: Collection[Kind], without: Shards, asked: Values) -> list[Values]:
    """Return the values of one query for each kind and each shard that is wanted. Raises ValueError for another number of shards."""
    if without.chosen and without.count != book.shards:
        raise ValueError(f"the journal was opened for {book.shards} shards, not {without.count}")
    wanted = [shard for shard in range(book.shards) if shard not in without.chosen]
    return [{**asked, "kind": kind.value, "shard": shard} for kind in kinds for shard in wanted]


def _heads(book: Book, statement: str, lines: Iterable[Values]) -> Iterator[Head]:
    for line in lines:
        yield from book.execute(_for_shards(statement, book.shards), line)


@cache
def _for_shards(statement: str, shards: int) -> str:
    return statement.format(shard=shard_of(shards), shards=shards)


def _of(book: Book, heads: Iterable[Head]) -> tuple[Row, ...]:
    return read_rows(book, [rid for *_, rid in heads])


def in_order(book: Book, kinds: Collection[Kind], now: float, limit: int) -> tuple[Queued, ...]:
    """Return what waits in the order of the chain, whether it is due or not."""
    statement = _for_shards(_IN_ORDER, book.shards)
    values = {"now": now, "limit": limit, "damaged": _listed(book.damaged)}
    found = sorted(
        place for kind in kinds for place in book.execute(statement, {**values, "kind": kind.value})
    )[:limit]
    is_due = {rid: bool(due) for *_, rid, due in found}
    return tuple(Queued(row, is_due[row.rid]) for row in read_rows(book, list(is_due)))


def answered(book: Book, chain_id: int, now: float, limit: int) -> Due:
    """Return what a lane may sign."""
    values = {"chain_id": chain_id, "now": now, "limit": limit + 1}
    heads = [head for head in book.execute(_UNSENT, values) if head[-1] not in book.damaged]
    if len(heads) > limit:
        return Due(_of(book, heads[:limit]), min(now, heads[limit][0]))
    return Due(_of(book, heads), book.execute(_NEXT_UNSENT, values).fetchone()[0])


def answered_after(book: Book, chain_id: int, after: tuple[int, int], limit: int) -> tuple[Row, ...]:
    """Return a page of what is answered and not signed."""
    block, log_index = after
    values = {"chain_id": chain_id, "block": block, "log_index": log_index, "limit": limit}
    return read_rows(book, [rid for (rid,) in book.execute(_BEHIND, values)])


def signed(book: Book, chain_id: int) -> tuple[Row, ...]:
    """Return what flies on a chain, in nonce order."""
    return _rows(book, book.execute(_SIGNED, (chain_id,)))


def included(book: Book, chain_id: int, up_to_block: int, limit: int, from_block: int = 0) -> tuple[Row, ...]:
    """Return what is to be looked at once more, the deepest first."""
    return _rows(book, book.execute(_INCLUDED, (chain_id, from_block, up_to_block, limit)))


def included_from_nonce(book: Book, chain_id: int, nonce: int, limit: int) -> tuple[Row, ...]:
    """Return included rows whose nonce may be open again, the highest first."""
    return _rows(book, book.execute(_INCLUDED_FROM, (chain_id, nonce, limit)))


def row(book: Book, rid: int) -> Row | None:
    """Return one row; None when there is none, or when it cannot be read."""
    return read_one(book, rid)


def has_sibling(book: Book, rid: int) -> bool:
    """Say whether other content is known under the same chain, contract and id."""
    return bool(book.execute(_SIBLING, (rid,)).fetchone()[0])


def places(
    book: Book, contract: tuple[int, Address], kind: Kind, ids: tuple[int, int], limit: int
) -> tuple[Place, ...]:
    """Return requests of a kind that are on chain by their ids."""
    found = book.execute(_PLACES, (*contract, *map(pack_id, ids), kind.value, limit))
    return tuple(Place(int.from_bytes(identifier), block) for identifier, block in found)


def quarantined(book: Book, chain_id: int, contract: Address) -> tuple[Log, ...]:
    """Return the logs of a contract that could not be decoded; one that cannot even be read as a log is left out."""
    found = (_readable(stored) for stored in book.execute(_ASIDE, (chain_id, contract)))
    return tuple(log for log in found if log is not None)


def _readable(stored: tuple[bytes, int, bytes, bytes, int]) -> Log | None:
    try:
        return unpack_log(*stored)
    except ValueError:
        return None


def waiting(book: Book, kinds: Collection[Kind], before: float, limit: int) -> tuple[Waiting, ...]:
    """Return what has been open for long, the oldest first."""
    found = sorted(one for kind in kinds for one in book.execute(_WAITING, (kind.value, before, limit)))
    return tuple(
        Waiting(rid, Kind(kind), int.from_bytes(i), since, why) for since, rid, kind, i, why in found[:limit]
    )


def endings(book: Book, kind: Kind, limit: int) -> tuple[Ending, ...]:
    """Return how the newest requests of a kind of key management ended."""
    found = book.execute(_ENDINGS, (kind.value, limit))
    return tuple(Ending(rid, int.from_bytes(i), State(state), why) for rid, i, state, why in found)


def counts(book: Book, now: float) -> Counts:
    """Say how many rows there are: they are counted as they move, so the cost is that of a table of kinds and states."""
    states: dict[tuple[Kind, State], int] = {}
    deleted: dict[tuple[Kind, State], int] = {}
    deferred: dict[Kind, int] = {}
    off_chain = 0
    for kind, state, on_chain, rows, waiting, gone in _tally(book):
        _add(states, (kind, state), rows)
        _add(deleted, (kind, state), gone)
        if state in OPEN and on_chain:
            deferred[kind] = deferred.get(kind, 0) + waiting
        elif state in OPEN:  # waits for nobody: neither late nor deferred
            off_chain += rows
    oldest = {kind: now - since for kind in deferred if (since := _oldest(book, kind)) is not None}
    logs = book.execute("SELECT count(*) FROM quarantined_log").fetchone()[0]
    return Counts(states, deferred, oldest, off_chain, logs, deleted)


def _tally(book: Book) -> Iterator[tuple[Kind, State, bool, int, int, int]]:
    for kind, state, on_chain, *numbers in book.execute(_TALLY).fetchall():
        if kind in _KINDS and state in _STATES and any(numbers):  # of a damaged row they may be anything
            rows, deferred, deleted = numbers
            yield Kind(kind), State(state), bool(on_chain), rows, deferred, deleted


def _add(numbers: dict[tuple[Kind, State], int], key: tuple[Kind, State], amount: int) -> None:
    if amount:
        numbers[key] = numbers.get(key, 0) + amount


def _oldest(book: Book, kind: Kind) -> float | None:
    since: float | None = book.execute(_OLDEST, (kind.value,)).fetchone()[0]
    return since


def _rows(book: Book, rids: Iterable[tuple[int]]) -> tuple[Row, ...]:
    return read_rows(book, [rid for (rid,) in rids if rid not in book.damaged])


def _listed(numbers: Collection[int]) -> str:
    return msgspec.json.encode(list(numbers)).decode()
