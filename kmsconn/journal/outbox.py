"""The outbox of the audit log: every transition of a request, written by triggers in the transaction that makes it. Never writes the log.

So no transition is missed, whatever statement or command made it, and none stands there that was not committed. A transition leaves
the outbox once the log's file holds it for good; what a process leaves behind is for the next one. Triggers (``journal.schema``) are there
only while the audit log is on, and the database's own clock gives the time, so that they work in whichever program changes a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from kmsconn.journal.database import Database, reads

_HEAD: Final = "audit head"

_PENDING: Final = (
    "SELECT seq, at, old_state, state, reason, rid, kind, id, chain_id, contract, block, transaction_hash, nonce, reply_hash, "
    "included_block FROM audit_outbox ORDER BY seq LIMIT ?"
)

_OWN: Final = 5  # columns of the transition itself, before those of its request and of the reply
_OF_REPLY: Final = 12


@attrs.frozen
class TransitionSubject:
    """The request that a transition is of, as its row stands after it."""

    rid: int
    kind: str
    id: bytes
    chain_id: int
    contract: bytes
    block: int
    transaction_hash: bytes


@attrs.frozen
class TransitionReply:
    """What is known of the reply: nonce and hash of the transaction, and its block."""

    nonce: int | None = None
    transaction_hash: bytes | None = None
    block: int | None = None


@attrs.frozen
class Transition:
    """One transition of a request: what it was before (None: it is new) and is now, at a time in Unix seconds."""

    seq: int
    at: float
    old_state: str | None
    state: str
    reason: str
    subject: TransitionSubject
    reply: TransitionReply


@attrs.frozen
class Head:
    """How far the audit log is: the last transition that it holds for good, and the hash of its last line then."""

    seq: int
    line_hash: str


def capture(db: Database) -> None:
    """Let every transition go into the outbox from now on. Repeating: no effect."""
    with db.savepoint():
        for statement in db.driver.capture:
            db.execute(statement)


def stop_capturing(db: Database) -> None:
    """Let no transition go into the outbox any more; what waits there stays. Repeating: no effect."""
    with db.savepoint():
        for statement in db.driver.stop_capturing:
            db.execute(statement)


@reads
def pending(db: Database, most: int) -> Sequence[Transition]:
    """Return the oldest transitions of the outbox."""
    return [_transition(row) for row in db.execute(_PENDING, (most,)).fetchall()]


def _transition(row: tuple[Any, ...]) -> Transition:
    seq, at, old_state, state, reason = row[:_OWN]
    subject, reply = TransitionSubject(*row[_OWN:_OF_REPLY]), TransitionReply(*row[_OF_REPLY:])
    return Transition(seq, at, old_state, state, reason, subject, reply)


def written(db: Database, head: Head) -> None:
    """Take out of the outbox what the log's file holds for good, and remember its head. Repeating: no effect."""
    with db.savepoint():
        db.execute("DELETE FROM audit_outbox WHERE seq <= ?", (head.seq,))
        values: tuple[Any, ...] = (_HEAD, f"{head.seq} {head.line_hash}")
        db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", values
        )


@reads
def read_head(db: Database) -> Head | None:
    """Return the head of the audit log as it was last written; None where there never was one."""
    found = db.execute("SELECT value FROM meta WHERE key = ?", (_HEAD,)).fetchone()
    if found is None:
        return None
    seq, _, line_hash = found[0].partition(" ")
    return Head(int(seq), line_hash)
