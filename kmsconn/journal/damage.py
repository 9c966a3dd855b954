"""Rows that cannot be read: each is set aside by itself, and the rest of the journal goes on. Never ends an operation.

What cannot be read is a value that does not decode (a flipped bit, a cut blob, an edit by hand). Such a row becomes ``quarantined``, off
chain and under a digest of its own, so that the proof of completeness finds its id missing and reads the event again from the chain; what
stood for its event is kept in place of the answer. A page of the file that the database itself calls malformed is for an operator, who
moves the journal away: nothing is lost with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kmsconn.journal.database import Database
from kmsconn.journal.rows import COLUMNS, ID_BYTES, pack_id, read_row
from kmsconn.journal.values import Row
from kmsconn.model.life import CLOSED, State
from kmsconn.model.requests import Kind

_ROW = f"SELECT {COLUMNS} FROM request WHERE rid = ?"  # noqa: S608 - of our own literals
_ASIDE = (
    "UPDATE request SET state = 'quarantined', on_chain = 0, digest = :digest, kind = :kind, closed_at = :now, tick = :tick, "
    "reason = :reason, cause = 0, id = CASE WHEN length(id) = 32 THEN id ELSE :no_id END, "
    "contract = CASE WHEN length(contract) = 20 THEN contract ELSE :no_contract END, "
    "calldata = coalesce(calldata, log), log = :nothing, signer = NULL WHERE rid = :rid"
)
_ASIDE_KIND = "SELECT kind FROM request WHERE rid = ?"
_COUNTED = "SELECT kind, state FROM tally WHERE rows > 0"
_ODD = "SELECT rid FROM request WHERE kind = ? AND state = ?"  # walks over the table, of a journal that has such rows
_IDENTITY = "SELECT chain_id, contract, kind, id, block FROM request WHERE rid = ?"
_LOWER = (
    "UPDATE low_water SET id = :below, block = CASE WHEN block < :block THEN block ELSE :block END "
    "WHERE chain_id = :chain_id AND contract = :contract AND kind = :kind AND id > :below"
)

_NOTHING = {"no_id": bytes(ID_BYTES), "no_contract": bytes(20), "nothing": b""}

_KINDS, _STATES = frozenset(Kind), frozenset(State)

UNREADABLE = (ValueError, TypeError, OverflowError)  # of values; msgspec's errors are ValueErrors


def read_rows(db: Database, rids: Iterable[int]) -> tuple[Row, ...]:
    """Return the rows that can be read, in this order; the others are set aside. A server is asked for all of them at once."""
    wanted = list(rids)
    found = zip(wanted, db.fetch_each(_ROW, ((rid,) for rid in wanted)), strict=True)
    rows = (_readable(db, rid, stored[0]) for rid, stored in found if stored)
    return tuple(row for row in rows if row is not None)


def _readable(db: Database, rid: int, stored: tuple[Any, ...]) -> Row | None:
    """Return a row as stored; None for one that is set aside, since a value in it cannot be read."""
    try:
        return read_row(stored)
    except UNREADABLE as error:
        set_aside(db, rid, f"a value in it cannot be read: {error}")
    return None


def read_one(db: Database, rid: int) -> Row | None:
    """Return one row; None when there is none, or when it cannot be read and was set aside."""
    return next(iter(read_rows(db, [rid])), None)


def set_aside(db: Database, rid: int, why: str) -> None:
    """Quarantine a row in whatever state it is, and remember it. Repeating: no effect."""
    db.damaged[rid] = why
    with db.savepoint():
        _lower_the_mark(db, rid)
        db.tick += 1
        named = {
            "rid": rid,
            "digest": b"damaged row %d" % rid,
            "kind": _known_kind(db, rid),
            "reason": f"damaged: {why}",
        }
        db.execute(_ASIDE, {**_NOTHING, **named, "now": db.wall(), "tick": db.tick})


def _lower_the_mark(db: Database, rid: int) -> None:
    """Let the proof of completeness look for a row's id again, as far as the row still says which one it had."""
    chain_id, contract, kind, packed, block = db.execute(_IDENTITY, (rid,)).fetchone()
    if len(packed) == ID_BYTES and any(packed):
        below = pack_id(int.from_bytes(packed) - 1)
        named = {"chain_id": chain_id, "contract": contract, "kind": kind, "below": below, "block": block}
        db.execute(_LOWER, named)


def _known_kind(db: Database, rid: int) -> str:
    """Return the kind of a row; where it is none that we know, the first of all, so that it is counted somewhere."""
    (kind,) = db.execute(_ASIDE_KIND, (rid,)).fetchone()
    return kind if kind in set(Kind) else next(iter(Kind)).value


def find_odd_rows(db: Database) -> None:
    """Set aside what no look would ever find: rows in a state, and open ones of a kind, that is none."""
    for kind, state in db.execute(_COUNTED).fetchall():
        if state not in _STATES or (state not in CLOSED and kind not in _KINDS):
            for (rid,) in db.execute(_ODD, (kind, state)).fetchall():
                set_aside(db, rid, f"its kind is {kind!r}, its state {state!r}")
