"""A request that the journal does not have yet, and the one statement that makes its row. Never looks whether it is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.journal.database import Database
from kmsconn.journal.moves import LONGEST_WAIT
from kmsconn.journal.rows import RESIDUES, pack_id, pack_log, place_of
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
