"""Rewinds the journal to a fork of the chain: nothing above it is final any more. One savepoint; never asks a chain.

Requests above the fork keep their state until their blocks are read again (``journal.recording``). Only what stands above the new head
cannot be read again soon, and is off chain at once: it comes back with its block.
"""

from __future__ import annotations

from kmsconn.chain.fork import Doubts
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.database import Database, off_loop
from kmsconn.journal.moves import move
from kmsconn.journal.retention import lower_low_water
from kmsconn.journal.rows import appended, line_of
from kmsconn.journal.values import Reread, Rewound
from kmsconn.model.life import BLOCK_UNKNOWN, RowCause

_CURSOR = (
    "UPDATE cursor SET block = CASE WHEN block > :next THEN :next ELSE block END, forked_since = NULL, low_since = NULL "
    "WHERE chain_id = :chain AND contract = :contract"
)
_DOUBTS = "UPDATE cursor SET forked_since = ?, low_since = ? WHERE chain_id = ? AND contract = ?"
_FORGET = "DELETE FROM checkpoint WHERE chain_id = ? AND contract = ? AND block > ?"
# By the block of the reply, and by that of the request where nobody noted the other one.
_FINAL = (
    "SELECT rid FROM request INDEXED BY request_included WHERE chain_id = :chain AND (closed_at IS NULL) = FALSE "
    "AND included_block > :fork AND contract = :contract AND state = 'finalized' UNION "
    "SELECT rid FROM request INDEXED BY request_place WHERE chain_id = :chain AND contract = :contract AND on_chain = 1 "
    "AND block > :fork AND state = 'finalized'"
)
_FORGET_LOGS = "DELETE FROM quarantined_log WHERE chain_id = ? AND contract = ? AND block > ?"
_ASK_AGAIN = (
    "UPDATE request INDEXED BY request_included SET included_block = :fork, reason = :reason, cause = :cause "
    "WHERE chain_id = :chain AND (closed_at IS NULL) = TRUE AND included_block > :fork AND contract = :contract AND state = 'included'"
)
_REREAD = (
    "INSERT INTO reread VALUES (?, ?, ?, ?, ?) ON CONFLICT (chain_id, contract) "
    "DO UPDATE SET from_block = excluded.from_block, next_block = excluded.next_block, to_block = excluded.to_block"
)
_OFF = (
    f"UPDATE request INDEXED BY request_place SET on_chain = 0, tick = :tick, history = {appended()} "  # noqa: S608 - of our own literals
    "WHERE chain_id = :chain AND contract = :contract AND on_chain = 1 AND block > :head"
)


@off_loop()
def rewind(db: Database, chain_id: int, contract: Address, fork: int, head: int) -> Rewound:
    """Go back to a fork: what stands above it is read again.

    The cursor, and the blocks to ask about included replies, fall to the fork, and nothing is doubted any more; block hashes above it,
    and logs there that could not be decoded, are forgotten. Final replies above it, or to requests above it, are included only, so that
    the contract is asked again. Requests above the new ``head`` are off chain. All or nothing. Repeating: changes nothing.
    """
    with db.savepoint():
        of = {"chain": chain_id, "contract": contract, "fork": fork}
        db.execute(_CURSOR, {"next": fork + 1, "chain": chain_id, "contract": contract})
        db.execute(_FORGET, (chain_id, contract, fork))
        db.execute(_FORGET_LOGS, (chain_id, contract, fork))  # what still stands is found again
        lower_low_water(db, chain_id, contract, fork)
        reopened = [rid for (rid,) in db.execute(_FINAL, of).fetchall()]
        for rid in reopened:
            move(db, "reopen", rid, reason=BLOCK_UNKNOWN, cause=RowCause.BLOCK_UNKNOWN, block=fork)
        db.execute(_ASK_AGAIN, {**of, "reason": BLOCK_UNKNOWN, "cause": RowCause.BLOCK_UNKNOWN.value})
        gone = db.execute(
            _OFF, {**of, "tick": db.tick + 1, "head": head, "line": line_of(db.wall(), "gone")}
        ).rowcount
        db.tick += gone > 0
        return Rewound(len(reopened), gone)


def note_doubts(db: Database, chain_id: int, contract: Address, doubts: Doubts) -> None:
    """Remember since when a contract's chain is doubted; of one that was never read there is nothing to doubt."""
    db.execute(_DOUBTS, (doubts.forked_since, doubts.low_since, chain_id, contract))


def note_reread(db: Database, chain_id: int, contract: Address, reread: Reread) -> None:
    """Remember what is to be read once more, and how far that is done."""
    values = (chain_id, contract, reread.from_block, reread.next_block, reread.to_block)
    db.execute(_REREAD, values)
