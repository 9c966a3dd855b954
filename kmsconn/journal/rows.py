"""Rows of the ``request`` table ↔ values, what a row has been through, and rows that cannot be read.

A transition appends one line; a deferral appends one only when the row waits for something else than before, so that a dependency that
is down for hours costs one line. The text is bounded: where it is full, its oldest lines go.

What cannot be read is a value that does not decode (a flipped bit, a cut blob, an edit by hand). Such a row becomes ``quarantined``, off
chain and under a digest of its own, so that the proof of completeness finds its id missing and reads the event again from the chain; what
stood for its event is kept in place of the answer, and the rest of the journal goes on. A page of the file that the database itself calls
malformed is for an operator, who moves the journal away: nothing is lost with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec

from kmsconn.config.places import MOST_CORES
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address, address
from kmsconn.frozen import frozen
from kmsconn.journal.database import Database
from kmsconn.model.life import CLOSED, Answer, RowCause, State
from kmsconn.model.requests import NO_BLOCK, Kind

ID_BYTES = 32

COLUMNS = (
    "rid, id, kind, state, on_chain, chain_id, contract, digest, log, block, block_hash, transaction_hash, log_index, "
    "next_attempt, deadline, submitted, deferred, reason, cause, choice, calldata, signer, "
    "nonce, raw, reply_hash, included_block, recorded_at, answered_at, closed_at"
)
"""In the order in which ``read_row`` takes them."""

_said = msgspec.msgpack.Decoder(tuple[bytes, tuple[bytes, ...], bytes])
_say = msgspec.msgpack.Encoder()


@frozen
class RowEvent:
    """The event of a request as stored: of which contract, the whole log, and the digest of its content."""

    chain_id: int
    contract: Address
    digest: bytes
    log: Log


@frozen
class RowProgress:
    """How far the work on a request has come, and what it waits for. ``deferred`` counts deferrals in a row.

    ``deadline`` is in chain time, infinite for what never expires. ``submitted``: the Core has the request.
    ``reason`` is for people; what decides is the ``cause``. ``choice`` is what the operation chose for every start of the request.
    """

    next_attempt: float
    deadline: float
    submitted: bool
    deferred: int
    reason: str
    cause: RowCause = RowCause.NONE
    choice: str = ""


@frozen
class RowReply:
    """The reply to a request as far as it has come: nonce, signed bytes and their hash, and the block that has it."""

    nonce: int | None = None
    raw: bytes | None = None
    hash: bytes | None = None
    included_block: int | None = None


@frozen
class RowTimes:
    """When a request was recorded, answered and ended, in wall time."""

    recorded: float
    answered: float | None = None
    closed: float | None = None


@frozen
class Row:
    """A request as stored. ``answer`` is what the Core said, once it is durable."""

    rid: int
    id: int
    kind: Kind
    state: State
    on_chain: bool
    event: RowEvent
    progress: RowProgress
    answer: Answer | None
    reply: RowReply
    times: RowTimes

    @property
    def over_http(self) -> bool:
        """Whether it came over HTTP and not from a chain: its answer goes to who asks and not to a contract."""
        return self.event.log.block_number == NO_BLOCK


def pack_id(identifier: int) -> bytes:
    """Return an id as stored: 32 bytes, big-endian. Raises OverflowError beyond 256 bits."""
    return identifier.to_bytes(ID_BYTES, "big")


def unpack_id(packed: bytes) -> int:
    """Return an id from how it is stored. Raises ValueError for what is none."""
    if len(packed) != ID_BYTES:
        raise ValueError(f"an id has {ID_BYTES} bytes, not {len(packed)}")
    return int.from_bytes(packed)


RESIDUES = math.lcm(*range(1, MOST_CORES + 1))
"""Of an id the journal keeps the remainder by this number: it tells the shard of each count that divides it."""


def pack_log(log: Log) -> bytes:
    """Return what a log says (address, topics, data) as one value; where it stands has columns of its own."""
    return _say.encode((log.address, log.topics, log.data))


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
        rid, identifier, kind, state, on_chain, chain_id, contract, digest, log, block, block_hash, transaction_hash, log_index,
        next_attempt, deadline, submitted, deferred, reason, cause, choice, calldata, signer,
        nonce, raw, reply_hash, included_block, *times,
    ) = stored  # fmt: skip
    place = (block, block_hash, transaction_hash, log_index)
    # retention clears events
    said = unpack_log(log, *place) if log else Log(address(contract), (), b"", *place)
    return Row(
        rid,
        unpack_id(identifier),
        _kind_of(kind),
        _state_of(state),
        bool(on_chain),
        RowEvent(chain_id, address(contract), digest, said),
        RowProgress(next_attempt, deadline, bool(submitted), deferred, reason, _cause_of(cause), choice),
        None if calldata is None else Answer(calldata, None if signer is None else Address(signer)),
        RowReply(nonce, raw, reply_hash, included_block),
        RowTimes(*times),
    )


# An enumeration's own look-up costs three calls of Python.
_kind_of, _state_of, _cause_of = cache(Kind), cache(State), cache(RowCause)

HISTORY_CHARACTERS = 2048
"""After which the oldest of a row's history goes: an answered request has some 200."""
DETAIL_CHARACTERS = 160
"""Of a reason: what the row waits for at present stands in the row in full."""


class HistoryEntry(msgspec.Struct, array_like=True, frozen=True):
    """One step in the life of a row, at a wall time.

    ``step`` is a transition of ``model.life``, ``defer`` with or without the stage (``defer answer``), ``moved`` or ``gone``. ``stages``
    are the seconds of the stages that the pass before it took; ``detail`` is a reason, or what the step came with.
    """

    at: float
    step: str
    stages: Mapping[str, float] = {}
    detail: str = ""


_write = msgspec.json.Encoder()
_read = msgspec.json.Decoder(HistoryEntry)


def line_of(at: float, step: str, detail: str = "", stages: Mapping[str, float] | None = None) -> str:
    """Return a step as one line of a history."""
    short = detail if len(detail) <= DETAIL_CHARACTERS else f"{detail[: DETAIL_CHARACTERS - 1]}…"
    seconds = {} if stages is None else {name: round(seconds, 3) for name, seconds in stages.items()}
    return _write.encode((round(at, 3), step, seconds, short)).decode() + "\n"


def signing_detail(nonce: int, transaction_hash: bytes) -> str:
    """Return what a history says of a signing; ``signed_hash`` reads it."""
    return f"nonce {nonce}, 0x{transaction_hash.hex()}"


def signed_hash(entry: HistoryEntry) -> bytes | None:
    """Return the hash of the transaction that a step signed; None for every other step, and for one of an older program."""
    if entry.step != "sign":
        return None
    try:
        return bytes.fromhex(entry.detail.partition(", 0x")[2]) or None
    except ValueError:
        return None


def appended(line: str = ":line") -> str:
    """Return the SQL of a row's history with a line more."""
    return (
        f"CASE WHEN length(history) > {HISTORY_CHARACTERS} THEN substr(history, length(history) - {HISTORY_CHARACTERS} + 1) "
        f"ELSE history END || {line}"
    )


def read_history(text: str) -> tuple[HistoryEntry, ...]:
    """Return the steps of a history, the first one first; a line that was cut, or cannot be read, is left out."""
    entries = []
    for line in text.splitlines():
        with suppress(msgspec.DecodeError, UnicodeError):
            entries.append(_read.decode(line))
    return tuple(entries)


_ROW = f"SELECT {COLUMNS} FROM request WHERE rid = ?"  # noqa: S608 - of our own literals
_ASIDE = (
    "UPDATE request SET state = 'quarantined', on_chain = 0, digest = :digest, kind = :kind, closed_at = :now, "
    "reason = :reason, cause = 0, id = CASE WHEN length(id) = 32 THEN id ELSE :no_id END, "
    "contract = CASE WHEN length(contract) = 20 THEN contract ELSE :no_contract END, "
    "calldata = coalesce(calldata, log), log = :nothing, signer = NULL WHERE rid = :rid"
)
_COUNTED = "SELECT kind, state FROM tally WHERE rows > 0"
_ODD = "SELECT rid FROM request WHERE kind = ? AND state = ?"  # walks over the table, of a journal that has such rows
_IDENTITY = "SELECT chain_id, contract, kind, id, block FROM request WHERE rid = ?"
_LOWER = (
    "UPDATE low_water SET id = :below, block = CASE WHEN block < :block THEN block ELSE :block END "
    "WHERE chain_id = :chain_id AND contract = :contract AND kind = :kind AND id > :below"
)

_NOTHING = {"no_id": bytes(ID_BYTES), "no_contract": bytes(20), "nothing": b""}

KINDS, STATES = frozenset(Kind), frozenset(State)

UNREADABLE = (ValueError, TypeError, OverflowError)  # of values; msgspec's errors are ValueErrors


def read_rows(db: Database, found: Iterable[tuple[Any, ...]]) -> tuple[Row, ...]:
    """Return the rows whose numbers stand last in what was found, in this order; those that cannot be read are set aside.

    A server is asked for all of them at once.
    """
    return readable(db, (row for rows in db.fetch_each(_ROW, [one[-1:] for one in found]) for row in rows))


def readable(db: Database, found: Iterable[tuple[Any, ...]]) -> tuple[Row, ...]:
    """Return rows selected with ``COLUMNS``, in this order; those that cannot be read are set aside."""
    rows: list[Row] = []
    for stored in found:
        try:
            rows.append(read_row(stored))
        except UNREADABLE as error:
            set_aside(db, stored[0], f"a value in it cannot be read: {error}")
    return tuple(rows)


def set_aside(db: Database, rid: int, why: str) -> None:
    """Quarantine a row in whatever state it is, and remember it. Repeating: no effect."""
    db.damaged[rid] = why
    with db.savepoint():
        kind = _lower_the_mark(db, rid)
        db.tick = db.answers_tick = db.tick + 1
        named = {
            "rid": rid,
            "digest": b"damaged row %d" % rid,
            "kind": kind if kind in KINDS else next(iter(Kind)).value,  # so that it is counted somewhere
            "reason": f"damaged: {why}",
        }
        db.execute(_ASIDE, {**_NOTHING, **named, "now": db.wall()})


def _lower_the_mark(db: Database, rid: int) -> Any:
    """Let the proof of completeness look for a row's id again, as far as the row still says which one it had; return its kind."""
    chain_id, contract, kind, packed, block = db.execute(_IDENTITY, (rid,)).fetchone()
    if len(packed) == ID_BYTES and any(packed):
        below = pack_id(int.from_bytes(packed) - 1)
        named = {"chain_id": chain_id, "contract": contract, "kind": kind, "below": below, "block": block}
        db.execute(_LOWER, named)
    return kind


def find_odd_rows(db: Database) -> None:
    """Set aside what no look would ever find: rows in a state, and open ones of a kind, that is none."""
    for kind, state in db.execute(_COUNTED).fetchall():
        if state not in STATES or (state not in CLOSED and kind not in KINDS):
            for (rid,) in db.execute(_ODD, (kind, state)).fetchall():
                set_aside(db, rid, f"its kind is {kind!r}, its state {state!r}")
