"""What an operator asks about requests and does with them: looks, retries or skips one, pauses kinds, replays what was not decoded.

A look walks over ``SLICE`` rows at most. A paused kind is recorded as ever and not dispatched, over every restart. What is replayed is
never decoded here, and nothing comes back that the chain has left since, as far as the journal knows.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.database import Database, off_loop, reads
from kmsconn.journal.moves import move
from kmsconn.journal.recording import REPLACED, Arrival, Read, Recorded, record
from kmsconn.journal.rows import (
    KINDS,
    HistoryEntry,
    Row,
    pack_id,
    read_history,
    read_rows,
    signed_hash,
    unpack_log,
)
from kmsconn.model.life import TRANSITIONS, RowCause, State
from kmsconn.model.requests import Kind

SLICE = 2000
RETRIED = TRANSITIONS["restart"][0] - {State.INCLUDED}
"""The states in which an operator may let a request begin again; an included reply is sent again by the transaction manager alone."""

_NEWEST = "SELECT coalesce(max(rid), 0) FROM request"
_WANTED = (
    "SELECT rid FROM request WHERE rid < :before AND rid >= :first "
    "AND {kinds} AND {states} AND lower(reason) LIKE :cause ESCAPE '!' ORDER BY rid DESC LIMIT :limit"
)
_CONTRACTS = "SELECT DISTINCT chain_id, contract FROM cursor"
_OF_ID = "SELECT rid FROM request INDEXED BY request_identity WHERE chain_id = ? AND contract = ? AND id = ? ORDER BY rid"
_HISTORY = "SELECT hex(history) FROM request WHERE rid = ?"  # bytes of a damaged one may be no text
_STANDING = "SELECT state, on_chain, length(log), reason FROM request WHERE rid = ?"

_REFUSED = {
    State.PENDING: "it is pending already",
    State.ANSWERED: "the Core has answered it already, and its reply is on its way",
    State.SIGNED: "its reply is signed and may be included at any moment; what is signed cannot be taken back",
    State.INCLUDED: "its reply is included already",
    State.FINALIZED: "its reply is final already",
    State.EXPIRED: "it has ended already: it is expired",
    State.REJECTED: "it has ended already: it is rejected",
    State.DONE: "the Core has finished it already, and it needs no reply",
    State.ABORTED: "the chain asked for its abort",
}
"""Why an operator may not let a request begin again, or end it, in a state that does not allow that."""


class InspectionError(KmsconnError):
    """A request does not begin again or is not ended, or a log does not become a request; and why."""


@attrs.frozen
class Wanted:
    """Which requests an operator wants: of these kinds and states (none: all), whose reason holds ``cause``, in whatever case."""

    kinds: frozenset[Kind] = frozenset()
    states: frozenset[State] = frozenset()
    cause: str = ""


@reads
@off_loop()
def find(db: Database, wanted: Wanted, before: int | None, limit: int) -> tuple[tuple[Row, ...], int | None]:
    """Return the newest rows that are wanted below a row number (None: of all), and below which one the look goes on.

    A look may find none and yet not be at the end; None: there are no more.
    """
    start = db.execute(_NEWEST).fetchone()[0] + 1 if before is None else before
    first = max(1, start - SLICE)
    cause = f"%{_literally(wanted.cause.lower())}%"
    values = {"before": start, "first": first, "limit": limit, "cause": cause}
    statement = _WANTED.format(kinds=_one_of("kind", wanted.kinds), states=_one_of("state", wanted.states))
    rids = db.execute(statement, values).fetchall()
    further = rids[-1][0] if len(rids) == limit else first
    return read_rows(db, rids), further if further > 1 else None


def _one_of(column: str, values: Collection[StrEnum]) -> str:
    return f"{column} IN ({', '.join(sorted(repr(one.value) for one in values))})" if values else "TRUE"


def _literally(text: str) -> str:
    """Return a text as a pattern of LIKE that means just this text."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


@reads
def of_id(db: Database, identifier: int) -> tuple[Row, ...]:
    """Return all rows of an on-chain id: other kinds, contracts and contents have rows of their own."""
    packed = pack_id(identifier)
    contracts = db.execute(_CONTRACTS).fetchall()
    rids = [rid for contract in contracts for rid in db.execute(_OF_ID, (*contract, packed))]
    return read_rows(db, sorted(rids))


def retry(db: Database, rid: int, now: float, deadline: float) -> None:
    """Let a rejected, expired or quarantined request begin again, as if recorded now; ``deadline`` in chain time.

    Raises InspectionError with the reason why it does not. Repeating: the second time it is pending, and says so.
    """
    found = db.execute(_STANDING, (rid,)).fetchone()
    if found is None:
        raise InspectionError("there is no such row")
    state, on_chain, length, reason = found
    if state not in RETRIED:
        raise InspectionError(_REFUSED.get(state, f"its state is {state!r}"))
    if not on_chain:
        raise InspectionError("it is off chain: it restarts without a retry once the chain has it again")
    if not length:
        raise InspectionError("its event is no longer in the journal: read the chain again from its block")
    why = f"retried by an operator; it had ended as {state}: {reason}"
    move(db, "retry", rid, reason=why, now=now, deadline=deadline)


@reads
def history(db: Database, rid: int) -> tuple[HistoryEntry, ...]:
    """Return what a row has been through, as far as it is kept; nothing where there is no such row."""
    found = db.execute(_HISTORY, (rid,)).fetchone()
    return () if found is None else read_history(bytes.fromhex(found[0]).decode(errors="replace"))


def signed_hashes(db: Database, rid: int) -> list[bytes]:
    """Return the hashes of all transactions that were signed for a row, as far as its history is kept, the first one first."""
    return [found for entry in history(db, rid) if (found := signed_hash(entry)) is not None]


def skip(db: Database, rid: int, reason: str) -> str:
    """End a pending, answered or quarantined request for good, and return the reason as it is kept.

    Raises InspectionError with the reason why it does not end. Repeating: the second time it has ended, and says so.
    """
    found = db.execute(_STANDING, (rid,)).fetchone()
    if found is None:
        raise InspectionError("there is no such row")
    kept = f"skipped by an operator: {reason}"
    if not move(db, "skip", rid, reason=kept, cause=RowCause.SKIPPED):
        raise InspectionError(_REFUSED.get(found[0], f"its state is {found[0]!r}"))
    return kept


_PAUSE = "INSERT INTO paused (kind, since, reason) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_RESUME = "DELETE FROM paused WHERE kind = ?"
_PAUSED = "SELECT kind, since, reason FROM paused ORDER BY kind"


@attrs.frozen
class PausedKind:
    """A kind that is paused, since when (wall time), and what the operator said."""

    kind: Kind
    since: float
    reason: str = ""


def pause(db: Database, paused: PausedKind) -> bool:
    """Pause a kind; False where it is paused already: then that stays as it was."""
    return db.execute(_PAUSE, (paused.kind.value, paused.since, paused.reason)).rowcount == 1


def resume(db: Database, kind: Kind) -> bool:
    """End a pause; False where there is none."""
    return db.execute(_RESUME, (kind.value,)).rowcount == 1


@reads
def paused_kinds(db: Database) -> tuple[PausedKind, ...]:
    """Return the kinds that are paused."""
    return tuple(PausedKind(Kind(kind), *rest) for kind, *rest in db.execute(_PAUSED) if kind in KINDS)


_LOGS = (
    "SELECT chain_id, contract, log, block, block_hash, transaction_hash, log_index, reason, found_at FROM quarantined_log "
    "WHERE chain_id = coalesce(?, chain_id) AND contract = coalesce(?, contract) AND log_index = coalesce(?, log_index) "
    "ORDER BY found_at DESC, block DESC, log_index DESC LIMIT ?"
)
_DROP = "DELETE FROM quarantined_log WHERE chain_id = ? AND block_hash = ? AND log_index = ?"
_OTHER_CHECKPOINT = "SELECT hash FROM checkpoint WHERE chain_id = ? AND block = ? AND hash <> ?"
_OTHER_CONTENT = "SELECT rid FROM request WHERE chain_id = ? AND contract = ? AND id = ? AND kind = ? AND digest <> ? AND on_chain = 1"

PREFIX_BYTES = 4
"""Of a block hash, with which a log is named: logs that cannot be decoded are few."""


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
def undecodable_logs(
    db: Database,
    chain_id: int | None = None,
    contract: Address | None = None,
    *,
    log_index: int | None = None,
    limit: int = 2**31,
) -> tuple[UndecodableLog, ...]:
    """Return logs that could not be decoded, those found last first; None: of all chains and contracts, at any place in a block."""
    return tuple(_read(stored) for stored in db.execute(_LOGS, (chain_id, contract, log_index, limit)))


def _read(stored: tuple[Any, ...]) -> UndecodableLog:
    chain_id, contract, log = stored[:3]
    place, (reason, found) = stored[3:7], stored[7:]
    return UndecodableLog(chain_id, Address(contract), log, place, reason, found)


def drop_log(db: Database, log: UndecodableLog) -> bool:
    """Delete a log; False where it is gone already."""
    _, block_hash, _, log_index = log.place
    return db.execute(_DROP, (log.chain_id, block_hash, log_index)).rowcount == 1


@off_loop()
def replay_log(
    db: Database, log: UndecodableLog, arrival: Arrival, *, now: float, chain_time: float, expiry: float
) -> Recorded:
    """Record the request in a log that can be decoded now, and delete the log. All or nothing.

    No row is judged, for nothing was asked, and no cursor moves. Raises InspectionError where the log is gone, its block has left the
    chain, or another request has its id. Repeating: the log is gone.
    """
    of, (block, block_hash, *_) = (log.chain_id, log.contract), log.place
    with db.savepoint():
        other_blocks = (
            db.execute(_OTHER_CHECKPOINT, (log.chain_id, block, block_hash)),
            db.execute(REPLACED, (*of, block, block_hash)),
        )
        if any(found.fetchone() for found in other_blocks):
            raise InspectionError(
                f"the chain has another block {block} now: the log is of a branch that it has left"
            )
        identity = (*of, pack_id(arrival.id), arrival.kind.value, arrival.digest)
        other = db.execute(_OTHER_CONTENT, identity).fetchone()
        if other is not None:
            raise InspectionError(f"row {other[0]} has the same id with other content on the chain")
        if not drop_log(db, log):
            raise InspectionError("it is no longer there")
        nothing, headers = (block, block - 1), {block: block_hash}
        return record(
            db, Read(*of, nothing, (arrival,), (), 0, None, now, chain_time, expiry, headers=headers)
        )
