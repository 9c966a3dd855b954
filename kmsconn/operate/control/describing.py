"""A request as JSON for operators and their programs, and the words for its states. Pure.

Bytes and ids are 0x…, times Unix seconds, absent values null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import attrs

from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal.inspecting import RETRIED
from kmsconn.journal.values import Row
from kmsconn.model.life import State
from kmsconn.model.requests import Content

STATES: Final[dict[State, str]] = {state: state.value for state in State}
"""Each state as it is shown and chosen; ``failed`` chooses all of ``FAILED``."""

FAILED: Final = RETRIED


SHORT = 400  # characters of a reason in a list: a traceback has thousands
_EXACT = 2**53  # beyond it JSON readers lose digits


def as_json(row: Row, *, whole: bool = False) -> dict[str, Any]:
    """Return a row; ``whole``: with its reason in full, and with the bytes of answer and transaction."""
    log = row.event.log
    shown = {
        "row": row.rid,
        "kind": row.kind.value,
        "id": f"0x{row.id:064x}",
        "state": STATES[row.state],
        "on_chain": row.on_chain,
        "reason": row.progress.reason if whole else row.progress.reason[:SHORT],
        "recorded_at": row.times.recorded,
        "answered_at": row.times.answered,
        "closed_at": row.times.closed,
        "next_attempt": row.progress.next_attempt,
        "deferred": row.progress.deferred,
        "submitted": row.progress.submitted,
        "nonce": row.reply.nonce,
        "transaction": None if row.reply.hash is None else to_hex(row.reply.hash),
        "included_block": row.reply.included_block,
    }
    if not whole:
        return shown
    return {
        **shown,
        "chain_id": row.event.chain_id,
        "contract": checksum(row.event.contract),
        "digest": to_hex(row.event.digest),
        "deadline": None if math.isinf(row.progress.deadline) else row.progress.deadline,
        **place_as_json(row),
        "choice": row.progress.choice or None,
        "block_hash": to_hex(log.block_hash) if log.block_hash else None,
        "log_index": log.log_index,
        "signer": None if row.answer is None or row.answer.signer is None else checksum(row.answer.signer),
        "calldata": None if row.answer is None else to_hex(row.answer.calldata),
        "raw_transaction": None if row.reply.raw is None else to_hex(row.reply.raw),
    }


def place_as_json(row: Row) -> dict[str, Any]:
    """Return where a request came from: a block and a transaction, or HTTP."""
    over_http, log = row.over_http, row.event.log
    return {
        "source": "http" if over_http else "chain",
        "block": None if over_http else log.block_number,
        "request_transaction": None if over_http else to_hex(log.transaction_hash),
    }


def content_as_json(content: Content) -> dict[str, Any]:
    """Return what a request asks for."""
    return {"type": type(content).__name__, **_plain(content)}


def _plain(value: Any) -> Any:
    """Turn a value of the model into JSON."""
    if isinstance(value, bytes):
        return checksum(Address(value)) if len(value) == ADDRESS_BYTES else to_hex(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < _EXACT else f"0x{value:x}"
    if attrs.has(type(value)):
        return {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value
