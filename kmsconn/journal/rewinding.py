"""Rewinds the journal to a fork of a chain: nothing above it stands any more. One savepoint; never asks a chain.

Requests above the fork keep their state and are off chain: what stands on the new branch comes back with its block.
"""

from __future__ import annotations

from collections.abc import Sequence

from kmsconn.chain.fork import Rewound
from kmsconn.chain.logs import BlockHead
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import queries
from kmsconn.journal.database import Database, off_loop
from kmsconn.journal.moves import FIRST, move
from kmsconn.journal.recording import generation
from kmsconn.journal.retention import lower_low_water
from kmsconn.journal.rows import appended, line_of, unpack_id
from kmsconn.journal.values import Reread
from kmsconn.model.events import ReplyReturned
from kmsconn.model.life import REORGANISED, TRANSITIONS, State
from kmsconn.model.requests import Kind

_CONTRACTS = "SELECT contract FROM cursor WHERE chain_id = ?"
_CURSORS = (
    "UPDATE cursor SET block = CASE WHEN block > :fork + 1 THEN :fork + 1 ELSE block END, "
    "settled = CASE WHEN settled > :fork THEN :fork ELSE settled END, passed = CASE WHEN passed > :fork THEN :fork ELSE passed END, "
    "since = :since WHERE chain_id = :chain"
)
_FOLLOWED = (
    "INSERT INTO follower VALUES (?, ?, ?) "
    "ON CONFLICT (chain_id) DO UPDATE SET generation = excluded.generation, doubted_since = excluded.doubted_since"
)
_FORGET = "DELETE FROM checkpoint WHERE chain_id = ? AND block > ?"
_FORGET_ONE = "DELETE FROM checkpoint WHERE chain_id = ? AND block = ?"
_ANCHOR = (
    "INSERT INTO checkpoint VALUES (?, ?, ?) ON CONFLICT (chain_id, block) DO UPDATE SET hash = excluded.hash"
)
# By the block of the reply, and by that of the request where nobody noted the other one.
_REPLIED = (
    "SELECT rid, kind, id FROM request INDEXED BY request_included WHERE chain_id = :chain AND (closed_at IS NULL) = TRUE "
    "AND included_block > :fork AND contract = :contract AND state = 'included' UNION "
    "SELECT rid, kind, id FROM request INDEXED BY request_included WHERE chain_id = :chain AND (closed_at IS NULL) = FALSE "
    "AND included_block > :fork AND contract = :contract AND state = 'finalized' UNION "
    "SELECT rid, kind, id FROM request INDEXED BY request_place WHERE chain_id = :chain AND contract = :contract AND on_chain = 1 "
    "AND block > :fork AND state = 'finalized'"
)
_FORGET_LOGS = "DELETE FROM quarantined_log WHERE chain_id = ? AND contract = ? AND block > ?"
_REREAD = (
    "INSERT INTO reread VALUES (?, ?, ?, ?, ?) ON CONFLICT (chain_id, contract) "
    "DO UPDATE SET from_block = excluded.from_block, next_block = excluded.next_block, to_block = excluded.to_block"
)
_OFF = (
    f"UPDATE request INDEXED BY request_place SET on_chain = 0, history = {appended()} "  # noqa: S608 - of our own literals
    "WHERE chain_id = :chain AND contract = :contract AND on_chain = 1 AND block > :fork"
)


@off_loop()
def rewind(db: Database, chain_id: int, of: int, fork: int, head: BlockHead) -> Rewound:
    """Go back to a fork, all contracts of the chain together, and begin the next generation: what stands above is read again.

    ``head`` proved the fork, and its hash is kept in place of those above. Cursors and what is settled fall to the fork, and nothing is
    doubted any more; logs above it that could not be decoded are forgotten. Replies above it, or to requests above it, go back to
    answered with their nonces and bytes, or to the start where no answer is kept. Requests above it are off chain. All or nothing.
    Where the generation is not ``of`` another process has gone back already, and nothing is changed. Repeating: likewise.
    """
    with db.savepoint():
        if of != generation(db, chain_id):
            return Rewound(followed=queries.followed(db, chain_id))
        db.execute(_FOLLOWED, (chain_id, of + 1, None))
        db.execute(_FORGET, (chain_id, fork))
        if head.hash is not None:
            db.execute(_ANCHOR, (chain_id, head.number, head.hash))
        db.execute(_CURSORS, {"fork": fork, "since": float(head.timestamp), "chain": chain_id})
        done = [
            _rewind(db, chain_id, Address(contract), fork)
            for (contract,) in db.execute(_CONTRACTS, (chain_id,)).fetchall()
        ]
        returned = tuple(one for replies, _ in done for one in replies)
        return Rewound(returned, sum(gone for _, gone in done), queries.followed(db, chain_id))


def _rewind(db: Database, chain_id: int, contract: Address, fork: int) -> tuple[list[ReplyReturned], int]:
    """Rewind one contract; return the replies that went back, and how many requests left the chain."""
    of = {"chain": chain_id, "contract": contract, "fork": fork}
    db.execute(_FORGET_LOGS, (chain_id, contract, fork))  # what still stands is found again
    lower_low_water(db, chain_id, contract, fork)
    replied = db.execute(_REPLIED, of).fetchall()
    returned = [
        ReplyReturned(rid, Kind(kind), state, REORGANISED, id=unpack_id(id_))
        for rid, kind, id_ in replied
        if (state := _take_back(db, rid)) is not None
    ]
    gone = db.execute(_OFF, {**of, "line": line_of(db.wall(), "gone")}).rowcount
    db.tick = db.answers_tick = db.tick + (gone > 0)
    return returned, gone


def _take_back(db: Database, rid: int) -> State | None:
    """Take a reply back, so that it claims its nonce before all others; return where its row is then, None where nothing is kept of it."""
    due = db.wall() + FIRST
    for step in ("resend", "restart", "reopen"):
        if move(db, step, rid, next_attempt=due, reason=REORGANISED):
            return TRANSITIONS[step][1]
    return None


def note_doubt(db: Database, chain_id: int, since: float | None) -> None:
    """Remember since when a chain is doubted (wall time); None: it is not."""
    db.execute(_FOLLOWED, (chain_id, generation(db, chain_id), since))


def forget(db: Database, chain_id: int, blocks: Sequence[int]) -> None:
    """Keep the hashes of these blocks no more. Repeating: changes nothing."""
    for block in blocks:
        db.execute(_FORGET_ONE, (chain_id, block))


def note_reread(db: Database, chain_id: int, contract: Address, reread: Reread) -> None:
    """Remember what is to be read once more, and how far that is done."""
    values = (chain_id, contract, reread.from_block, reread.next_block, reread.to_block)
    db.execute(_REREAD, values)
