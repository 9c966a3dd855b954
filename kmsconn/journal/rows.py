"""Rows of the ``request`` table ↔ values, and what a row has been through, in a few lines of text. Pure; never talks to a database.

A transition appends one line; a deferral appends one only when the row waits for something else than before, so that a dependency that
is down for hours costs one line. The text is bounded: where it is full, its oldest lines go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import attrs
import msgspec

from kmsconn.config.places import MOST_CORES
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address, address
from kmsconn.journal.values import Row, RowEvent, RowProgress, RowReply, RowTimes
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answer

ID_BYTES = 32

# Of each part of a row, in the order in which ``read_row`` takes them.
_PARTS = (
    "rid, id, kind, state, on_chain",
    "chain_id, contract, digest, log, block, block_hash, transaction_hash, log_index",
    "next_attempt, deadline, submitted, deferred, reason, cause, choice",
    "calldata, signer",
    "nonce, raw, reply_hash, included_block",
    "recorded_at, answered_at, closed_at",
)
COLUMNS = ", ".join(_PARTS)
_LENGTHS = tuple(part.count(",") + 1 for part in _PARTS)

_said = msgspec.msgpack.Decoder(tuple[bytes, tuple[bytes, ...], bytes])
_say = msgspec.msgpack.Encoder()


def pack_id(identifier: int) -> bytes:
    """Return an id as stored: 32 bytes, big-endian. Raises OverflowError beyond 256 bits."""
    return identifier.to_bytes(ID_BYTES, "big")


def _unpack_id(packed: bytes) -> int:
    if len(packed) != ID_BYTES:
        raise ValueError(f"an id has {ID_BYTES} bytes, not {len(packed)}")
    return int.from_bytes(packed)


RESIDUES = math.lcm(*range(1, MOST_CORES + 1))
"""Of an id the journal keeps the remainder by this number: it tells the shard of each count that divides it."""


def pack_log(log: Log) -> bytes:
    """Return what a log says (address, topics, data) as one value; where it stands has columns of its own."""
    return _say.encode((log.address, log.topics, log.data))


def pack_nothing(contract: bytes) -> bytes:
    """Return what stands for the event of a row that retention has cleared: it says nothing but whose it was."""
    return _say.encode((contract, (), b""))


def unpack_log(said: bytes, block: int, block_hash: bytes, transaction_hash: bytes, log_index: int) -> Log:
    """Return a log from what it says and where it stands. Raises ValueError for what is no log."""
    who, topics, data = _said.decode(said)
    return Log(address(who), topics, data, block, block_hash, transaction_hash, log_index)


def place_of(log: Log) -> tuple[int, bytes, bytes, int]:
    """Return where a log stands, in the order of the columns."""
    return log.block_number, log.block_hash, log.transaction_hash, log.log_index


def read_row(stored: tuple[Any, ...]) -> Row:
    """Return the value of one row selected with ``COLUMNS``. Raises ValueError or TypeError for what is none."""
    values = iter(stored)
    request, event, progress, answer, reply, times = (tuple(islice(values, length)) for length in _LENGTHS)
    rid, identifier, kind, state, on_chain = request
    chain_id, contract, digest, log, *place = event
    next_attempt, deadline, submitted, deferred, reason, cause, choice = progress
    calldata, signer = answer
    return Row(
        rid=rid,
        id=_unpack_id(identifier),
        kind=Kind(kind),
        state=State(state),
        on_chain=bool(on_chain),
        event=RowEvent(
            chain_id, address(contract), digest, unpack_log(log or pack_nothing(contract), *place)
        ),
        progress=RowProgress(
            next_attempt, deadline, bool(submitted), deferred, reason, RowCause(cause), choice
        ),
        answer=None if calldata is None else Answer(calldata, None if signer is None else Address(signer)),
        reply=RowReply(*reply),
        times=RowTimes(*times),
    )


HISTORY_CHARACTERS = 2048
"""After which the oldest of a row's history goes: an answered request has some 200."""
DETAIL_CHARACTERS = 160
"""Of a reason: what the row waits for at present stands in the row in full."""

_Line = tuple[float, str, dict[str, float], str]
_write = msgspec.json.Encoder()
_read = msgspec.json.Decoder(_Line)


@attrs.frozen
class HistoryEntry:
    """One step in the life of a row, at a wall time.

    ``step`` is a transition of ``model.life``, ``defer`` with or without the stage (``defer answer``), ``moved`` or ``gone``. ``stages``
    are the seconds of the stages that the pass before it took; ``detail`` is a reason, or what the step came with.
    """

    at: float
    step: str
    stages: Mapping[str, float] = attrs.field(factory=dict)
    detail: str = ""


def line_of(at: float, step: str, detail: str = "", stages: Mapping[str, float] | None = None) -> str:
    """Return a step as one line of a history."""
    short = detail if len(detail) <= DETAIL_CHARACTERS else f"{detail[: DETAIL_CHARACTERS - 1]}…"
    line: _Line = (
        round(at, 3),
        step,
        {name: round(seconds, 3) for name, seconds in (stages or {}).items()},
        short,
    )
    return _write.encode(line).decode() + "\n"


def appended(line: str = ":line") -> str:
    """Return the SQL of a row's history with a line more."""
    return (
        f"CASE WHEN length(history) > {HISTORY_CHARACTERS} THEN substr(history, length(history) - {HISTORY_CHARACTERS} + 1) "
        f"ELSE history END || {line}"
    )


def read_history(text: str) -> tuple[HistoryEntry, ...]:
    """Return the steps of a history, the first one first; a line that was cut, or cannot be read, is left out."""
    found = (_entry(line) for line in text.splitlines())
    return tuple(entry for entry in found if entry is not None)


def _entry(line: str) -> HistoryEntry | None:
    try:
        return HistoryEntry(*_read.decode(line))
    except (msgspec.DecodeError, UnicodeError):
        return None
