"""The transitions of one request as guarded updates, generated from ``model.life``. Never decides which one is due.

Each statement names the states it may leave, so a late or doubled call changes nothing and says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from kmsconn.errors import NonceTaken
from kmsconn.journal.book import Book
from kmsconn.journal.port import Signing
from kmsconn.model.life import CLOSED, TRANSITIONS, WAITING, State
from kmsconn.model.steps import Answer

LONGEST_WAIT = 60.0  # seconds; the cap of a row that was not deferred with another one

# What goes back keeps its nonce and bytes: a process that dies before it signs again must know what may still be included.
_UNSIGNED = "nonce = NULL, raw = NULL, reply_hash = NULL"

# What each transition writes beside state, tick, and the end of any deferral.
_SETS = {
    "answer": "calldata = :calldata, signer = :signer, answered_at = :now, next_attempt = :now, reason = ''",
    "expire": "reason = :reason",
    "reject": "reason = :reason",
    "quarantine": "reason = :reason",
    "found_finalized": "reason = :reason, included_block = :block",
    "finish": "reason = :reason",
    "abort": "reason = :reason",
    "found_included": "included_block = :block, reason = ''",
    "sign": "nonce = :nonce, raw = :raw, reply_hash = :reply_hash, reason = ''",
    "release": "next_attempt = :next_attempt, reason = :reason",
    "confirm": "included_block = :block, reason = ''",
    "finalize": "reason = ''",
    "reopen": "reason = :reason",
    "reoffer": "included_block = NULL, next_attempt = :next_attempt, reason = :reason",
    "rejudge": f"{_UNSIGNED}, included_block = NULL, next_attempt = :next_attempt, reason = :reason",
    "resend": "included_block = NULL, next_attempt = :next_attempt, reason = :reason",
    "restart": f"{_UNSIGNED}, included_block = NULL, next_attempt = :next_attempt, reason = :reason",
}

# What the state alone does not say: nobody signs for a request that left the chain; without an answer there is nothing to send again;
# without its event, which retention may have cleared, nothing begins again.
_ALSO = {
    "sign": "(state = 'signed' OR on_chain = 1)",
    "resend": "calldata IS NOT NULL",
    "reoffer": "calldata IS NOT NULL",
    "rejudge": "calldata IS NULL",
    "restart": "state = 'included' AND length(log) > 0",
}

CLOSINGS = frozenset({"expire", "reject", "quarantine", "found_finalized", "finish", "abort"})
RETURNS = frozenset({"resend", "restart"})


def _states(states: Iterable[State]) -> str:
    return ", ".join(sorted(f"'{state.value}'" for state in states))


def _guarded(transition: str) -> str:
    sources, target = TRANSITIONS[transition]
    ended = ":closed_at" if target in CLOSED else "NULL"
    return (
        f"UPDATE request SET state = '{target.value}', tick = :tick, deferred = 0, max_wait = {LONGEST_WAIT}, closed_at = {ended}, "  # noqa: S608 - of our own literals
        f"{_SETS[transition]} "
        f"WHERE rid = :rid AND state IN ({_states(sources)}) AND {_ALSO.get(transition, 'TRUE')}"
    )


STATEMENTS = {transition: _guarded(transition) for transition in TRANSITIONS}

_DEFER = (
    "UPDATE request SET next_attempt = :next_attempt, max_wait = :max_wait, reason = :reason, deferred = deferred * :again + 1, "  # noqa: S608 - of our own literals
    f"submitted = coalesce(:submitted, submitted) WHERE rid = :rid AND state IN ({_states(WAITING)})"
)


def move(book: Book, transition: str, rid: int, **values: object) -> bool:
    """Apply a transition of ``model.life`` and say whether the row was in a state that allows it."""
    always = {"rid": rid, "tick": book.tick + 1, "closed_at": book.wall()}
    moved = book.execute(STATEMENTS[transition], {**always, **values}).rowcount == 1
    book.tick += moved
    return moved


def answer(book: Book, rid: int, kept: Answer, now: float) -> bool:
    """PENDING → ANSWERED; due for the lane at once."""
    return move(book, "answer", rid, calldata=kept.calldata, signer=kept.signer, now=now)


def sign(book: Book, signing: Signing) -> bool:
    """ANSWERED and on chain, or SIGNED → SIGNED. Raises NonceTaken."""
    try:
        return move(
            book,
            "sign",
            signing.rid,
            nonce=signing.nonce,
            raw=signing.raw,
            reply_hash=signing.reply_hash,
        )
    except sqlite3.IntegrityError as error:
        raise NonceTaken(f"nonce {signing.nonce} belongs to another signed reply") from error


def defer(
    book: Book,
    rid: int,
    next_attempt: float,
    reason: str,
    max_wait: float,
    *,
    submitted: bool | None = None,
    again: bool = True,
) -> bool:
    """Put a waiting row off; no transition, so reads that were asked before still judge it. ``submitted`` as ``note_submitted``."""
    values = {
        "rid": rid,
        "next_attempt": next_attempt,
        "reason": reason,
        "max_wait": max_wait,
        "submitted": submitted,
        "again": again,
    }
    return book.execute(_DEFER, values).rowcount == 1


def note_submitted(book: Book, rid: int, submitted: bool) -> None:
    """Write down that the Core has a request, or has forgotten it."""
    book.execute("UPDATE request SET submitted = ? WHERE rid = ?", (submitted, rid))
