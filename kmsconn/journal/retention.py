"""What is no longer needed leaves the journal a little at a time: long values of closed rows first, whole rows much later.

Never takes what may be needed again: a row above the block that is final on its chain (a reorganisation may bring its request or its
reply back), a row that the proof of completeness still counts (above the low-water mark), an open row that is on chain.

A step looks at ``ROWS`` rows at most, so that nobody waits for it. Deleted rows stay counted in ``tally``. Logs that could not be decoded
are few; the service says which of them are not needed any more (``forget_logs``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import msgspec

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.database import Database, off_loop, reads
from kmsconn.journal.rows import pack_id
from kmsconn.journal.values import JournalPlace, Position, RetentionStep
from kmsconn.model.requests import Kind

ROWS = 64  # looked at in one step: some milliseconds
PAGES = 64  # a quarter of a MiB of the file is given back in one step
SPARE = (
    0.25  # of the file: so much may be free before any of it is given back, since new rows will want it again
)


# Where a request, or the reply to it, stands last.
_LAST_BLOCK = "CASE WHEN included_block > block THEN included_block ELSE block END"


def _look(index: str, where: str, key: str) -> str:
    return (
        f"SELECT {key}, rid, chain_id, contract, kind, id, {_LAST_BLOCK} FROM request INDEXED BY {index} "  # noqa: S608 - of our own literals
        f"WHERE {where} AND {key} >= :at AND {key} <= :before AND ({key} > :at OR rid > :rid) ORDER BY {key}, rid LIMIT {ROWS}"
    )


_WHOLE, _CLEARED = (
    _look("request_closed", f"closed_at IS NOT NULL AND cleared = {cleared}", "closed_at")
    for cleared in (0, 1)
)
# What left the chain and never came back waits for nobody, and has no end of its own.
_GONE = _look("request_off", "on_chain = 0 AND state IN ('pending', 'answered')", "recorded_at")

# Of what an operator may begin again the event stays as long as the row.
_CLEAR = (
    "UPDATE request SET cleared = 1, calldata = NULL, raw = NULL, history = '', "
    "log = CASE WHEN state IN ('expired', 'rejected', 'quarantined') THEN log ELSE :nothing END "
    "WHERE rid IN (SELECT value FROM json_each(:rids))"
)
_DELETE = "DELETE FROM request WHERE rid IN (SELECT value FROM json_each(:rids))"

_FORGET_LOG = "DELETE FROM quarantined_log WHERE chain_id = ? AND contract = ? AND block_hash = ? AND log_index = ? AND found_at < ?"

_MARKS = "SELECT chain_id, contract, kind, id FROM low_water"
_MARK = "SELECT id, block FROM low_water WHERE chain_id = ? AND contract = ? AND kind = ?"
_RAISE = (
    "INSERT INTO low_water VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (chain_id, contract, kind) DO UPDATE SET id = excluded.id, block = excluded.block WHERE excluded.id > low_water.id"
)

_RAISED = "SELECT kind FROM low_water WHERE chain_id = ? AND contract = ? AND block > ?"
_BELOW = (
    "SELECT id, block FROM request INDEXED BY request_place WHERE chain_id = ? AND contract = ? AND on_chain = 1 AND block <= ? "
    "AND kind = ? ORDER BY block DESC, id DESC LIMIT 1"
)
_LOWERED = "UPDATE low_water SET id = ?, block = ? WHERE chain_id = ? AND contract = ? AND kind = ?"
_FORGOTTEN = "DELETE FROM low_water WHERE chain_id = ? AND contract = ? AND kind = ?"


@attrs.frozen
class _Sweep:
    """One walk over rows in the order of their ends. ``counted``: only below the low-water mark."""

    look: str
    deletes: bool
    counted: bool = True


_SWEEPS = (
    _Sweep(_WHOLE, deletes=False, counted=False),
    _Sweep(_CLEARED, deletes=True),
    _Sweep(_WHOLE, deletes=True),
    _Sweep(_GONE, deletes=True, counted=False),
)


@attrs.frozen
class _Candidate:
    """A row that is old enough."""

    ended: float
    rid: int
    chain_id: int
    contract: bytes
    kind: str
    id: bytes
    block: int


@off_loop()
def step(db: Database, plan: RetentionStep, at: Position) -> Position | None:
    """Take a bounded step of retention: clear or delete some rows that are not needed, give some free pages of the file back.

    Return where the next one goes on; None: that was the last step of the round. Repeating: what is gone is not found again.
    """
    db.driver.give_back(PAGES, SPARE)
    sweep = _SWEEPS[at.sweep]
    before = plan.delete_before if sweep.deletes else plan.clear_before
    if before is None:
        return _next_sweep(at)
    values = {"at": at.ended, "rid": at.rid, "before": before}
    found = [_Candidate(*stored) for stored in db.execute(sweep.look, values)]
    taken = [one.rid for one in _not_needed(db, plan, sweep, found)]
    statement = _DELETE if sweep.deletes else _CLEAR
    db.execute(statement, {"rids": msgspec.json.encode(taken).decode(), "nothing": b""})
    return Position(at.sweep, found[-1].ended, found[-1].rid) if len(found) == ROWS else _next_sweep(at)


def _next_sweep(at: Position) -> Position | None:
    return Position(at.sweep + 1) if at.sweep + 1 < len(_SWEEPS) else None


def _not_needed(
    db: Database, plan: RetentionStep, sweep: _Sweep, found: Iterable[_Candidate]
) -> Iterable[_Candidate]:
    marks = {(chain, contract, kind): id_ for chain, contract, kind, id_ in db.execute(_MARKS)}
    for one in found:
        is_final = one.block <= plan.final.get(one.chain_id, -1)
        is_counted = (
            sweep.counted
            and one.kind in plan.numbered
            and one.id > marks.get((one.chain_id, one.contract, one.kind), b"")
        )
        if is_final and not is_counted:
            yield one


@reads
def low_water(db: Database, chain_id: int, contract: Address, kind: Kind) -> JournalPlace | None:
    """Return up to which request of a kind all are known, whatever rows are left of them; None before it was said."""
    found = db.execute(_MARK, (chain_id, contract, kind.value)).fetchone()
    return None if found is None else JournalPlace(int.from_bytes(found[0]), found[1])


def raise_low_water(db: Database, chain_id: int, contract: Address, kind: Kind, place: JournalPlace) -> None:
    """Remember that all requests of a kind up to this one are known. It must be final on its chain.

    Repeating: a lower one than before changes nothing.
    """
    db.execute(_RAISE, (chain_id, contract, kind.value, pack_id(place.id), place.block))


def lower_low_water(db: Database, chain_id: int, contract: Address, fork: int) -> None:
    """Take back what was complete above a fork: the marks of a contract fall to its last requests that stand below."""
    of = (chain_id, contract)
    for (kind,) in db.execute(_RAISED, (*of, fork)).fetchall():
        below = db.execute(_BELOW, (*of, fork, kind)).fetchone()
        if below is None:
            db.execute(_FORGOTTEN, (*of, kind))
        else:
            db.execute(_LOWERED, (*below, *of, kind))


@off_loop()
def forget_logs(db: Database, chain_id: int, contract: Address, logs: Sequence[Log], before: float) -> int:
    """Delete those of these undecodable logs that were found ``before`` (wall time); return how many.

    All or nothing. Repeating: changes nothing.
    """
    with db.savepoint():
        keys = ((chain_id, contract, log.block_hash, log.log_index, before) for log in logs)
        return sum(db.execute(_FORGET_LOG, key).rowcount for key in keys)
