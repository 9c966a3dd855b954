"""What the journal is asked. Reads only; never changes a row.

A row is due when its ``next_try`` has come, and also when it lies further away than the row's own ``max_wait``: it was set by a clock
that has been set back since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.logs import Log
from kmsconn.journal.book import Book
from kmsconn.journal.port import Counts, Due, Place, Row, Waiting
from kmsconn.journal.rows import COLUMNS, RESIDUES, pack_id, read_row, unpack_log
from kmsconn.model.life import State
from kmsconn.model.requests import Kind

_ROWS = f"SELECT {COLUMNS} FROM request"  # noqa: S608 - of our own literals
_NEXT = "SELECT min(next_try) FROM request"

# The indices are named, so that no guess of the planner ever makes a query walk over closed rows.
_WANTED = (
    "rid NOT IN (SELECT value FROM json_each(:busy)) "  # noqa: S608 - of our own literals
    f"AND (:without = '[]' OR CASE WHEN {RESIDUES} % :shards THEN shard(id, :shards) ELSE residue % :shards END "
    "NOT IN (SELECT value FROM json_each(:without)))"
)
_SEEN = f"kind = :kind AND state = 'seen' AND on_chain = 1 AND {_WANTED}"
_BEST_FIRST = "ORDER BY next_try, block, log_index LIMIT :limit"
_DUE = f"{_ROWS} INDEXED BY request_due WHERE {_SEEN} AND next_try <= :now {_BEST_FIRST}"
_STRANDED = f"{_ROWS} INDEXED BY request_stranded WHERE {_SEEN} AND next_try - max_wait > :now {_BEST_FIRST}"
_LATER = "next_try > :now AND next_try - max_wait <= :now"
_NEXT_SEEN = f"{_NEXT} INDEXED BY request_due WHERE {_SEEN} AND {_LATER}"
_FIRST = (
    "SELECT block, log_index, rid, next_try, next_try <= :now OR next_try - max_wait > :now FROM request INDEXED BY request_due "
    "WHERE kind = :kind AND state = 'seen' AND on_chain = 1 ORDER BY block, log_index LIMIT 1"
)

_ANSWERED = "INDEXED BY request_unsent WHERE chain_id = :chain_id AND state = 'answered' AND on_chain = 1"
_UNSENT = f"{_ROWS} {_ANSWERED} AND (next_try <= :now OR next_try - max_wait > :now) ORDER BY block, log_index LIMIT :limit"
_NEXT_UNSENT = f"{_NEXT} {_ANSWERED} AND {_LATER}"

_SIGNED = f"{_ROWS} INDEXED BY request_nonce WHERE chain_id = ? AND state = 'signed' ORDER BY nonce"
_LANDED = (
    f"{_ROWS} INDEXED BY request_landed WHERE chain_id = ? AND state = 'landed' AND landed_block <= ? "
    "ORDER BY landed_block LIMIT ?"
)
_ROW = f"{_ROWS} WHERE rid = ?"
_CURSOR = "SELECT block FROM cursor WHERE chain_id = ? AND contract = ?"
_DOUBTED = (
    "SELECT DISTINCT block FROM request INDEXED BY request_doubted WHERE chain_id = ? AND contract = ? AND block >= ? "
    "AND on_chain = 0 AND state IN ('seen', 'answered', 'signed', 'landed') ORDER BY block DESC LIMIT ?"
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
_OPEN = (
    "SELECT kind, state, on_chain, count(*), sum(parked > 0), min(admitted_at) FROM request INDEXED BY request_open "
    "WHERE state IN ('seen', 'answered', 'signed', 'landed') GROUP BY kind, state, on_chain"
)

_WAITING = (
    "SELECT rid, kind, id, admitted_at, reason FROM request INDEXED BY request_open "
    "WHERE state IN ('seen', 'answered', 'signed', 'landed') AND on_chain = 1 AND admitted_at < ? "
    "AND kind IN (SELECT value FROM json_each(?)) ORDER BY admitted_at LIMIT ?"
)

Values = Mapping[str, Any]


def cursor(book: Book, chain_id: int, contract: Address) -> int | None:
    """Return the first block of a contract that was not read yet."""
    found = book.execute(_CURSOR, (chain_id, contract)).fetchone()
    return None if found is None else int(found[0])


def doubted(book: Book, chain_id: int, contract: Address, from_block: int, limit: int) -> tuple[int, ...]:
    """Return the blocks where open requests stood that are off chain, the newest first."""
    return tuple(block for (block,) in book.execute(_DOUBTED, (chain_id, contract, from_block, limit)))


def due_of_kinds(book: Book, kinds: Collection[Kind], values: Values) -> Due:
    """Return what a pool may work on, best first over all its kinds."""
    each = [due(book, {**values, "kind": kind.value}) for kind in kinds]
    if len(each) == 1:
        return each[0]
    rows = sorted((row for one in each for row in one.rows), key=_best_first)
    next_due = min((one.next_due for one in each if one.next_due is not None), default=None)
    if len(rows) > values["limit"]:
        next_due = values["now"]
    return Due(tuple(rows[: values["limit"]]), next_due)


def first_of_kinds(book: Book, kinds: Collection[Kind], now: float, busy: Collection[int]) -> Due:
    """Return the first row in the order of the chain, if it is due and nobody works on it."""
    each = [book.execute(_FIRST, {"kind": kind.value, "now": now}).fetchone() for kind in kinds]
    first = min((one for one in each if one is not None), default=None)
    if first is None or first[2] in busy:
        return Due((), None)
    _block, _index, rid, next_try, is_due = first
    return Due(_rows(book.execute(_ROW, (rid,))), None) if is_due else Due((), next_try)


def _best_first(row: Row) -> tuple[float, int, int]:
    return row.next_try, row.log.block_number, row.log.log_index


def due(book: Book, values: Values) -> Due:
    """Return what is due of one kind: ``kind``, ``now``, ``limit``, ``busy`` as a JSON array.

    ``without`` names, as a JSON array, those of so many ``shards`` whose rows are not wanted.
    """
    more = {**values, "limit": values["limit"] + 1}  # one further row tells whether any other is due
    found = book.execute(_DUE, more).fetchall()
    found += book.execute(_STRANDED, {**more, "limit": more["limit"] - len(found)}).fetchall()
    return _due(book, found, values, _NEXT_SEEN)


def answered(book: Book, values: Values) -> Due:
    """Return what a lane may sign: ``chain_id``, ``now``, ``limit``."""
    found = book.execute(_UNSENT, {**values, "limit": values["limit"] + 1}).fetchall()
    return _due(book, found, values, _NEXT_UNSENT)


def _due(book: Book, found: list[tuple[Any, ...]], values: Values, next_after: str) -> Due:
    rows = tuple(read_row(stored) for stored in found)
    limit, now = values["limit"], values["now"]
    if len(rows) > limit:
        return Due(rows[:limit], min(now, rows[limit].next_try))
    return Due(rows, book.execute(next_after, values).fetchone()[0])


def signed(book: Book, chain_id: int) -> tuple[Row, ...]:
    """Return what flies on a chain, in nonce order."""
    return _rows(book.execute(_SIGNED, (chain_id,)))


def landed(book: Book, chain_id: int, up_to_block: int, limit: int) -> tuple[Row, ...]:
    """Return what is to be looked at once more, the deepest first."""
    return _rows(book.execute(_LANDED, (chain_id, up_to_block, limit)))


def row(book: Book, rid: int) -> Row | None:
    """Return one row."""
    return next(iter(_rows(book.execute(_ROW, (rid,)))), None)


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
    """Return the logs of a contract that could not be decoded."""
    return tuple(unpack_log(*stored) for stored in book.execute(_ASIDE, (chain_id, contract)))


def waiting(book: Book, kinds: str, before: float, limit: int) -> tuple[Waiting, ...]:
    """Return what has been open for long; ``kinds`` as a JSON array."""
    found = book.execute(_WAITING, (before, kinds, limit))
    return tuple(
        Waiting(rid, Kind(kind), int.from_bytes(i), since, why) for rid, kind, i, since, why in found
    )


def counts(book: Book, now: float) -> Counts:
    """Count rows and logs; closed rows were counted as they closed, so the cost is that of the open ones."""
    states: dict[tuple[Kind, State], int] = {}
    parked: dict[Kind, int] = {}
    oldest: dict[Kind, float] = {}
    off_chain = 0
    for name, state, on_chain, rows, waiting, since in book.execute(_OPEN):
        kind = Kind(name)
        states[kind, State(state)] = states.get((kind, State(state)), 0) + rows
        if not on_chain:  # waits for nobody: neither late nor parked
            off_chain += rows
            continue
        parked[kind] = parked.get(kind, 0) + waiting
        oldest[kind] = max(oldest.get(kind, 0.0), now - since)
    for name, state, rows in book.execute("SELECT kind, state, rows FROM closed WHERE rows > 0"):
        states[Kind(name), State(state)] = rows
    logs = book.execute("SELECT count(*) FROM quarantined_log").fetchone()[0]
    return Counts(states, parked, oldest, off_chain, logs)


def _rows(stored: sqlite3.Cursor) -> tuple[Row, ...]:
    return tuple(read_row(found) for found in stored)
