"""Makes the rows of new requests, and takes those that come over HTTP. Never asks a chain.

What comes over HTTP is one row for ever: its id is the hash of all that it says. So whoever posts it, and however often, is told of the
same work: one operation inserts it, finds it in work or ended, or lets it begin again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.journal.damage import read_one
from kmsconn.journal.database import Database
from kmsconn.journal.moves import LONGEST_WAIT, move
from kmsconn.journal.rows import RESIDUES, pack_id, pack_log, place_of
from kmsconn.journal.values import Row
from kmsconn.model.requests import Kind

if TYPE_CHECKING:
    from sqlite3 import Cursor

_NEW = (
    "INSERT INTO request (chain_id, contract, id, digest, kind, state, on_chain, tick, block, block_hash, transaction_hash, log_index, "
    "next_attempt, max_wait, deadline, recorded_at, log, residue) "
    "VALUES (?, ?, ?, ?, ?, 'pending', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RETURNING = f"{_NEW} RETURNING rid"


@frozen
class NewRequest:
    """A request with its identity, its content as a log, and until when (chain time) its answer is of use. ``now`` is the wall time."""

    chain_id: int
    contract: Address
    id: int
    kind: Kind
    digest: bytes
    log: Log
    deadline: float
    now: float


def insert(db: Database, new: NewRequest) -> int:
    """Insert a request as pending and on chain, due at once, and return its row."""
    return insert_all(db, [new])[0]


def insert_all(db: Database, requests: Iterable[NewRequest]) -> list[int]:
    """Insert requests as pending and on chain, due at once, and return their rows in the same order."""
    values = (_values(db, new) for new in requests)
    if db.driver.is_remote:
        return [rid for ((rid,),) in db.fetch_each(_RETURNING, values)]
    return [
        cast("Cursor", db.execute(_NEW, one)).lastrowid or 0 for one in values
    ]  # for a third of the time less


def _values(db: Database, new: NewRequest) -> tuple[Any, ...]:
    db.tick += 1
    identity = (new.chain_id, new.contract, pack_id(new.id), new.digest, new.kind.value, db.tick)
    times = (new.now, LONGEST_WAIT, new.deadline, new.now)
    return (*identity, *place_of(new.log), *times, pack_log(new.log), new.id % RESIDUES)


_KNOWN = "SELECT rid FROM request WHERE chain_id = ? AND contract = ? AND id = ? AND digest = ?"
_PENDING = "SELECT coalesce(sum(rows), 0) FROM tally WHERE kind = ? AND state = 'pending'"

MOST_PENDING = 10_000
"""Requests of a kind that are in work or wait for it: clients that leave give up their turn, and not their work."""


class TooManyPosts(KmsconnError):  # noqa: N818 - what a client gets, not a fault of the program
    """So many requests over HTTP are in work that none more is taken."""


@attrs.frozen
class Taken:
    """The row of a posted request (None: it cannot be read), and whether it begins now, for the first time or again."""

    row: Row | None
    begins: bool


def take(db: Database, post: NewRequest) -> Taken:
    """Insert a request that is new, let one begin again that may, and return its row in any case. All or nothing.

    Raises TooManyPosts where it would begin beside ``MOST_PENDING`` others. Repeating: finds the row that the first time made.
    """
    with db.savepoint():
        identity = (post.chain_id, post.contract, pack_id(post.id), post.digest)
        found = db.execute(_KNOWN, identity).fetchone()
        if found is None:
            rid, begins = insert(db, post), True
        else:
            rid, begins = found[0], _repeat(db, found[0], post)
        db.driver.tally.write(db.execute)
        if begins and db.execute(_PENDING, (post.kind.value,)).fetchone()[0] > MOST_PENDING:
            raise TooManyPosts(f"{MOST_PENDING} requests of this kind are in work")
        return Taken(read_one(db, rid), begins)


def _repeat(db: Database, rid: int, post: NewRequest) -> bool:
    return move(
        db,
        "repeat",
        rid,
        reason="asked for again",
        now=post.now,
        deadline=post.deadline,
        log=pack_log(post.log),
    )
