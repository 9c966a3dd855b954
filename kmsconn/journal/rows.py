"""Rows of the ``request`` table ↔ values. Pure; never talks to a database."""

from __future__ import annotations

from typing import Any

import msgspec

from kmsconn.ethereum.addresses import Address, address
from kmsconn.ethereum.logs import Log
from kmsconn.journal.values import Row
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answer

ID_BYTES = 32

# In the order in which ``read_row`` takes them.
COLUMNS = (
    "rid, chain_id, contract, id, digest, kind, state, on_chain, block, block_hash, transaction_hash, log_index, log, next_attempt, "
    "deadline, submitted, deferred, reason, calldata, signer, nonce, raw, reply_hash, included_block, recorded_at, answered_at, closed_at"
)

_said = msgspec.msgpack.Decoder(tuple[bytes, tuple[bytes, ...], bytes])
_say = msgspec.msgpack.Encoder()


def pack_id(identifier: int) -> bytes:
    """Return an id as stored: 32 bytes, big-endian. Raises OverflowError beyond 256 bits."""
    return identifier.to_bytes(ID_BYTES, "big")


def _unpack_id(packed: bytes) -> int:
    if len(packed) != ID_BYTES:
        raise ValueError(f"an id has {ID_BYTES} bytes, not {len(packed)}")
    return int.from_bytes(packed)


RESIDUES = 720_720
"""Of an id the journal keeps the remainder by this number: it tells the shard of each count that divides it, of all up to 16."""


def shard(packed_id: bytes, count: int) -> int:
    """Return which of so many parts has an id, as stored. A function of SQL too."""
    return int.from_bytes(packed_id) % count


def pack_log(log: Log) -> bytes:
    """Return what a log says (address, topics, data) as one value; where it stands has columns of its own."""
    return _say.encode((log.address, log.topics, log.data))


def pack_nothing(contract: bytes) -> bytes:
    """Return what stands for the event of a row that retention has cleared: it says nothing but whose it was."""
    return _say.encode((contract, (), b""))


def unpack_log(said: bytes, block: int, block_hash: bytes, transaction_hash: bytes, log_index: int) -> Log:
    """Return a log from what it says and where it stands. Raises ValueError for what is no log."""
    who, topics, data = _said.decode(said)
    return Log(address(who), topics, data, block, block_hash, transaction_hash, log_index)


def place_of(log: Log) -> tuple[int, bytes, bytes, int]:
    """Return where a log stands, in the order of the columns."""
    return log.block_number, log.block_hash, log.transaction_hash, log.log_index


def read_row(stored: tuple[Any, ...]) -> Row:
    """Return the value of one row selected with ``COLUMNS``. Raises ValueError or TypeError for what is none."""
    (
        rid,
        chain_id,
        contract,
        identifier,
        digest,
        kind,
        state,
        on_chain,
        block,
        block_hash,
        transaction_hash,
        log_index,
    ) = stored[:12]
    (
        log,
        next_attempt,
        deadline,
        submitted,
        deferred,
        reason,
        calldata,
        signer,
        nonce,
        raw,
        reply_hash,
        *rest,
    ) = stored[12:]
    included_block, recorded_at, answered_at, closed_at = rest
    return Row(
        rid=rid,
        chain_id=chain_id,
        contract=address(contract),
        id=_unpack_id(identifier),
        digest=digest,
        kind=Kind(kind),
        state=State(state),
        on_chain=bool(on_chain),
        log=unpack_log(log or pack_nothing(contract), block, block_hash, transaction_hash, log_index),
        next_attempt=next_attempt,
        deadline=deadline,
        submitted=bool(submitted),
        deferred=deferred,
        reason=reason,
        answer=None if calldata is None else Answer(calldata, None if signer is None else Address(signer)),
        nonce=nonce,
        raw=raw,
        reply_hash=reply_hash,
        included_block=included_block,
        recorded_at=recorded_at,
        answered_at=answered_at,
        closed_at=closed_at,
    )
