"""What the journal lets go: what is no longer needed, a little at a time, and at a fork of a chain all that stood above it. Asks no chain.

Long values of closed rows go first, whole rows much later. Never goes what may be needed again: a row above the block that is final on its
chain (a reorganisation may bring its request or its reply back), a row that the proof of completeness still counts (above the low-water
mark), an open row that is on chain. A step looks at ``ROWS`` rows at most, so that nobody waits for it. Deleted rows stay counted in
``tally``.

At a fork requests above it keep their state and are off chain: what stands on the new branch comes back with its block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from kmsconn.chain.fork import Rewound
from kmsconn.chain.logs import BlockHead
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import queries
from kmsconn.journal.database import Database, listed, off_loop, reads
from kmsconn.journal.moves import FIRST, move
from kmsconn.journal.queries import JournalPlace, Reread
from kmsconn.journal.recording import CHECKPOINT, generation
from kmsconn.journal.rows import appended, line_of, pack_id, unpack_id
from kmsconn.model.events import ReplyReturned
from kmsconn.model.life import REORGANISED, TRANSITIONS, State
from kmsconn.model.requests import Kind

ROWS = 64  # looked at in one step: some milliseconds
PAGES = 64  # a quarter of a MiB of the file is given back in one step
SPARE = 0.25
"""Of the file: so much may be free before any of it is given back, since new rows will want it again."""


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
_FORGOTTEN = "DELETE FROM low_water WHERE chain_id = ? AND contract = ? AND kind = ?"


# Walks over rows in the order of their ends: by which look, whether they go as a whole, and whether only below the low-water mark.
_SWEEPS = ((_WHOLE, False, False), (_CLEARED, True, True), (_WHOLE, True, True), (_GONE, True, False))


@attrs.frozen
class RetentionStep:
    """What may leave the journal.

    Closed rows lose their long values when they ended before ``clear_before``, and go when they ended before ``delete_before`` (wall
    times; None: they stay). ``final`` is the last block of each chain, by its id, that no reorganisation replaces any more; rows above
    it stay, and so do those of a chain that is not named. Rows of the kinds that are ``numbered`` go only below the low-water mark.
    """

    clear_before: float | None
    delete_before: float | None
    final: Mapping[int, int]
    numbered: frozenset[Kind] = frozenset()


@attrs.frozen
class Position:
    """How far a round of retention has come."""

    sweep: int = 0
    ended: float = -math.inf
    rid: int = 0


@off_loop()
def step(db: Database, plan: RetentionStep, at: Position) -> Position | None:
    """Take a bounded step of retention: clear or delete some rows that are not needed, give some free pages of the file back.

    Return where the next one goes on; None: that was the last step of the round. Repeating: what is gone is not found again.
    """
    db.driver.give_back(PAGES, SPARE)
    look, deletes, is_counted = _SWEEPS[at.sweep]
    before = plan.delete_before if deletes else plan.clear_before
    following = Position(at.sweep + 1) if at.sweep + 1 < len(_SWEEPS) else None
    if before is None:
        return following
    found = db.execute(look, {"at": at.ended, "rid": at.rid, "before": before}).fetchall()
    marks = {tuple(of): id_ for *of, id_ in db.execute(_MARKS)}
    taken = []
    for _, rid, chain, contract, kind, id_, block in found:
        above = is_counted and kind in plan.numbered and id_ > marks.get((chain, contract, kind), b"")
        if block <= plan.final.get(chain, -1) and not above:
            taken.append(rid)
    db.execute(_DELETE if deletes else _CLEAR, {"rids": listed(taken), "nothing": b""})
    return Position(at.sweep, *found[-1][:2]) if len(found) == ROWS else following


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
        db.execute(_FORGOTTEN, (*of, kind))
        if below is not None:
            db.execute(_RAISE, (*of, kind, *below))


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
            db.execute(CHECKPOINT, (chain_id, head.number, head.hash))
        db.execute(_CURSORS, {"fork": fork, "since": float(head.timestamp), "chain": chain_id})
        contracts = db.execute(_CONTRACTS, (chain_id,)).fetchall()
        done = [_rewind(db, chain_id, Address(contract), fork) for (contract,) in contracts]
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
    db.execute(_REREAD, (chain_id, contract, reread.from_block, reread.next_block, reread.to_block))
