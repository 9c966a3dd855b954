"""A request that the journal does not have yet, and the one statement that makes its row. Never looks whether it is there."""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.logs import Log
from kmsconn.journal.database import Database
from kmsconn.journal.moves import LONGEST_WAIT
from kmsconn.journal.rows import RESIDUES, pack_id, pack_log, place_of
from kmsconn.model.requests import Kind

_NEW = (
    "INSERT INTO request (chain_id, contract, id, digest, kind, state, on_chain, tick, block, block_hash, transaction_hash, log_index, "
    "next_attempt, max_wait, deadline, recorded_at, log, residue) "
    "VALUES (?, ?, ?, ?, ?, 'pending', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING rid"
)


@attrs.frozen
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
    db.tick += 1
    identity: tuple[Any, ...] = (
        new.chain_id,
        new.contract,
        pack_id(new.id),
        new.digest,
        new.kind.value,
        db.tick,
    )
    times = (new.now, LONGEST_WAIT, new.deadline, new.now)
    said = (pack_log(new.log), new.id % RESIDUES)
    rid: int = db.execute(_NEW, (*identity, *place_of(new.log), *times, *said)).fetchone()[0]
    return rid
