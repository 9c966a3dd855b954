"""What an operator asks about requests, and how one begins again. A look walks over ``SLICE`` rows at most."""

from __future__ import annotations

import msgspec

from kmsconn.errors import KmsconnError
from kmsconn.journal.book import Book
from kmsconn.journal.damage import read_rows
from kmsconn.journal.moves import LONGEST_WAIT
from kmsconn.journal.port import Found, Row, Wanted
from kmsconn.journal.rows import pack_id
from kmsconn.model.life import TRANSITIONS, State

SLICE = 2000
RETRIED = TRANSITIONS["restart"][0] - {State.INCLUDED}
"""The states in which an operator may let a request begin again; an included reply is sent again by the transaction manager alone."""

_STATES = ", ".join(sorted(f"'{state.value}'" for state in RETRIED))
_NEWEST = "SELECT coalesce(max(rid), 0) FROM request"
_WANTED = (
    "SELECT rid FROM request WHERE rid < :before AND rid >= :first "
    "AND (:kinds = '[]' OR kind IN (SELECT value FROM json_each(:kinds))) "
    "AND (:states = '[]' OR state IN (SELECT value FROM json_each(:states))) "
    "AND instr(lower(reason), :cause) > 0 ORDER BY rid DESC LIMIT :limit"
)
_CONTRACTS = "SELECT DISTINCT chain_id, contract FROM cursor"
_OF_ID = "SELECT rid FROM request INDEXED BY request_identity WHERE chain_id = ? AND contract = ? AND id = ? ORDER BY rid"
_RETRY = (
    "UPDATE request SET state = 'pending', tick = :tick, deferred = 0, submitted = 0, "  # noqa: S608 - of our own literals
    f"max_wait = {LONGEST_WAIT}, closed_at = NULL, cleared = 0, calldata = NULL, signer = NULL, answered_at = NULL, nonce = NULL, "
    "raw = NULL, reply_hash = NULL, included_block = NULL, next_attempt = :now, recorded_at = :now, deadline = :deadline, reason = :reason "
    f"WHERE rid = :rid AND state IN ({_STATES}) AND on_chain = 1 AND length(log) > 0"
)
_STANDING = "SELECT state, on_chain, length(log), reason FROM request WHERE rid = ?"

_REFUSED = {
    State.PENDING: "it is pending already",
    State.ANSWERED: "the Core has answered it already, and its reply is on its way",
    State.SIGNED: "its reply is signed and on its way already",
    State.INCLUDED: "its reply is included already",
    State.FINALIZED: "its reply is final already",
    State.DONE: "the Core has done it already, and nothing is replied to it",
    State.ABORTED: "the chain asked for its abort",
}


class RetryError(KmsconnError):
    """A request does not begin again, and why."""


def find(book: Book, wanted: Wanted, before: int | None, limit: int) -> Found:
    """Return the newest rows that are wanted below a row number, and where to go on; None: at the end."""
    start = book.execute(_NEWEST).fetchone()[0] + 1 if before is None else before
    first = max(1, start - SLICE)
    values = {
        "before": start,
        "first": first,
        "limit": limit,
        "cause": wanted.cause.lower(),
        "kinds": msgspec.json.encode([kind.value for kind in wanted.kinds]).decode(),
        "states": msgspec.json.encode([state.value for state in wanted.states]).decode(),
    }
    rids = [rid for (rid,) in book.execute(_WANTED, values)]
    further = rids[-1] if len(rids) == limit else first
    return Found(read_rows(book, rids), further if further > 1 else None)


def of_id(book: Book, identifier: int) -> tuple[Row, ...]:
    """Return all rows of an id, of whatever contract, kind and content."""
    packed = pack_id(identifier)
    contracts = book.execute(_CONTRACTS).fetchall()
    rids = [rid for contract in contracts for (rid,) in book.execute(_OF_ID, (*contract, packed))]
    return read_rows(book, sorted(rids))


def retry(book: Book, rid: int, now: float, deadline: float) -> None:
    """Let a request begin again (``restart``), recorded now and with a new deadline in chain time. Raises RetryError.

    Repeating: the second time it is pending, and says so.
    """
    found = book.execute(_STANDING, (rid,)).fetchone()
    if found is None:
        raise RetryError("there is no such row")
    state, on_chain, length, reason = found
    if state not in RETRIED:
        raise RetryError(_REFUSED.get(state, f"its state is {state!r}"))
    if not on_chain:
        raise RetryError("it is off chain: it begins again by itself once the chain has it again")
    if not length:
        raise RetryError("its event is no longer in the journal: read the chain again from its block")
    values = {"rid": rid, "tick": book.tick + 1, "now": now, "deadline": deadline}
    book.execute(_RETRY, {**values, "reason": f"retried by an operator; it had ended as {state}: {reason}"})
    book.tick += 1
