"""Logs that could not be decoded, as an operator sees them: listed, brought back as requests once they can be read, or dropped.

Never decodes: what a log says is for the caller. Nothing comes back that the chain has left since, as far as the journal knows.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.database import Database, off_loop, reads
from kmsconn.journal.recording import record
from kmsconn.journal.rows import pack_id, unpack_log
from kmsconn.journal.values import Arrival, Read, Recorded

_COLUMNS = "chain_id, contract, log, block, block_hash, transaction_hash, log_index, reason, found_at"
_ALL = f"SELECT {_COLUMNS} FROM quarantined_log ORDER BY found_at DESC, block DESC, log_index DESC LIMIT ?"  # noqa: S608 - of our own literals
_NAMED = f"SELECT {_COLUMNS} FROM quarantined_log WHERE log_index = ? ORDER BY block"  # noqa: S608
_DROP = "DELETE FROM quarantined_log WHERE chain_id = ? AND block_hash = ? AND log_index = ?"
_OTHER_CHECKPOINT = (
    "SELECT hash FROM checkpoint WHERE chain_id = ? AND contract = ? AND block = ? AND hash <> ?"
)
_OTHER_REQUEST = (
    "SELECT block_hash FROM request INDEXED BY request_place WHERE chain_id = ? AND contract = ? AND on_chain = 1 AND block = ? "
    "AND block_hash <> ?"
)
_OTHER_CONTENT = "SELECT rid FROM request WHERE chain_id = ? AND contract = ? AND id = ? AND kind = ? AND digest <> ? AND on_chain = 1"

PREFIX_BYTES = 4
"""Of a block hash, with which a log is named: logs that cannot be decoded are few."""


class ReplayError(KmsconnError):
    """A log does not become a request, and why."""


@attrs.frozen
class UndecodableLog:
    """A log that could not be decoded: where it stands, its bytes as stored, the log if they are one, why, and when it was found."""

    chain_id: int
    contract: Address
    stored: bytes
    place: tuple[int, bytes, bytes, int]
    reason: str
    found: float

    @property
    def name(self) -> str:
        """What an operator calls it: the beginning of its block's hash, and its index in the block."""
        _, block_hash, _, log_index = self.place
        return f"0x{block_hash[:PREFIX_BYTES].hex()}:{log_index}"

    @property
    def log(self) -> Log | None:
        """The log; None where the stored bytes are none."""
        try:
            return unpack_log(self.stored, *self.place)
        except ValueError:
            return None


@reads
def undecodable_logs(db: Database, limit: int) -> tuple[UndecodableLog, ...]:
    """Return logs that could not be decoded, those found last first."""
    return tuple(_read(stored) for stored in db.execute(_ALL, (limit,)))


@reads
def named_logs(db: Database, prefix: bytes, log_index: int) -> tuple[UndecodableLog, ...]:
    """Return those that a name means: mostly one, and two where two hashes begin alike."""
    found = (_read(stored) for stored in db.execute(_NAMED, (log_index,)))
    return tuple(one for one in found if one.place[1].startswith(prefix))


def _read(stored: tuple[Any, ...]) -> UndecodableLog:
    chain_id, contract, log = stored[:3]
    place, (reason, found) = stored[3:7], stored[7:]
    return UndecodableLog(chain_id, Address(contract), log, place, reason, found)


def drop_log(db: Database, log: UndecodableLog) -> bool:
    """Delete a log; False where it is gone already."""
    _, block_hash, _, log_index = log.place
    return db.execute(_DROP, (log.chain_id, block_hash, log_index)).rowcount == 1


@off_loop()
def replay_log(db: Database, log: UndecodableLog, read: Read) -> Recorded:
    """Record the request in a log that can be decoded now, and delete the log. All or nothing. ``read``: see ``read_of``.

    Raises ReplayError where the log is gone, its block has left the chain, or another request has its id. Repeating: the log is gone.
    """
    with db.savepoint():
        for arrival in read.arrivals:
            _refuse_outdated(db, log, arrival)
        if not drop_log(db, log):
            raise ReplayError("it is no longer there")
        return record(db, read)


def _refuse_outdated(db: Database, log: UndecodableLog, arrival: Arrival) -> None:
    block, block_hash, *_ = log.place
    at = (log.chain_id, log.contract, block, block_hash)
    if any(db.execute(statement, at).fetchone() for statement in (_OTHER_CHECKPOINT, _OTHER_REQUEST)):
        raise ReplayError(f"the chain has another block {block} now: the log is of a branch that it has left")
    identity = (log.chain_id, log.contract, pack_id(arrival.id), arrival.kind.value, arrival.digest)
    other = db.execute(_OTHER_CONTENT, identity).fetchone()
    if other is not None:
        raise ReplayError(f"row {other[0]} has the same id with other content on the chain")


def read_of(log: UndecodableLog, arrival: Arrival, now: float, chain_time: float, expiry: float) -> Read:
    """Return the read of one log, for ``replay_log``: it judges no row, for nothing was asked, and moves no cursor."""
    block = log.place[0]
    nothing_asked = -1
    return Read(
        log.chain_id,
        log.contract,
        block,
        block,
        (arrival,),
        (),
        cursor=0,
        asked=nothing_asked,
        now=now,
        chain_time=chain_time,
        expiry=expiry,
    )
