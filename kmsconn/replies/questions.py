"""The JSON-RPC calls of the transaction manager, and how a look at the chain is read. Pure; every error that comes out is Retryable."""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.chain.port import Call, JsonBlock, JsonBlockHash, RpcError, read
from kmsconn.errors import KmsconnError, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_count, from_hex, from_quantity, quantity, to_hex
from kmsconn.journal.values import Row
from kmsconn.protocols.deployments import NO_DATA
from kmsconn.protocols.port import ExplainsSilence, Revert
from kmsconn.protocols.profile import Profile
from kmsconn.replies.answers import (
    Finds,
    Receipt,
    Says,
    read_call,
    read_estimate,
    read_receipt,
    read_stands,
    read_trace,
)
from kmsconn.replies.view import Question, Track

HEAD = Call("eth_blockNumber")
LATEST = Call("eth_getBlockByNumber", ("latest", False))
FINALIZED = Call("eth_getBlockByNumber", ("finalized", False))


@attrs.frozen
class HeadAnswer:
    """The latest block and the sender's nonce, both of one node, in this order: the nonce is not older than the block."""

    number: int
    timestamp: int
    base_fee: int | None
    nonce: int
    gas_limit: int | None = None


def nonce_call(sender: Address) -> Call:
    """Return the question for the sender's nonce at the latest block."""
    return Call("eth_getTransactionCount", (to_hex(sender), "latest"))


def balance_call(sender: Address) -> Call:
    """Return the question for the sender's balance."""
    return Call("eth_getBalance", (to_hex(sender), "latest"))


def block_call(number: int) -> Call:
    """Return the question for a block, without its transactions."""
    return Call("eth_getBlockByNumber", (quantity(max(0, number)), False))


def broadcast_call(raw: bytes) -> Call:
    """Return the call that hands a raw transaction to a node."""
    return Call("eth_sendRawTransaction", (to_hex(raw),))


def transfer_estimate(sender: Address) -> Call:
    """Return the question for the gas of an empty transfer of the sender to itself."""
    return Call("eth_estimateGas", ({"from": to_hex(sender), "to": to_hex(sender)},))


def call_for(track: Track, question: Question, sender: Address) -> Call:
    """Return the call that puts a question about a reply."""
    row = track.row
    match question:
        case Question.ESTIMATE:
            return Call("eth_estimateGas", (_message(row, sender),))
        case Question.CALL:
            return Call("eth_call", (_message(row, sender), "latest"))
        case Question.CALL_AT_BLOCK:
            return Call("eth_call", (_message(row, sender), quantity(_receipt_block(track))))
        case Question.RECEIPT:
            return Call("eth_getTransactionReceipt", (to_hex(row.reply.hash or b""),))
        case Question.TRACE:
            return Call("debug_traceTransaction", (to_hex(row.reply.hash or b""), {"tracer": "callTracer"}))
        case Question.BLOCK:
            return block_call(row.event.log.block_number)


def _receipt_block(track: Track) -> int:
    found = track.findings.get(Question.RECEIPT)
    return found.value.block if found is not None and isinstance(found.value, Receipt) else 0


def _message(row: Row, sender: Address) -> dict[str, str]:
    return {"from": to_hex(sender), "to": to_hex(row.event.contract), "data": to_hex(calldata_of(row))}


def calldata_of(row: Row) -> bytes:
    """Return the calldata of a row's reply; a row that is sent always has an answer."""
    assert row.answer is not None
    return row.answer.calldata


def read_finding(profile: Profile, track: Track, question: Question, result: Any) -> Finds:
    """Return what a node's answer to a question says."""
    kind = track.row.kind
    match question:
        case Question.ESTIMATE:
            return _explained(profile, track.row, read_estimate(profile, kind, result))
        case Question.CALL | Question.CALL_AT_BLOCK:
            return _explained(profile, track.row, read_call(profile, kind, result))
        case Question.RECEIPT:
            return read_receipt(result)
        case Question.TRACE:
            return read_trace(profile, kind, result)
        case Question.BLOCK:
            return read_stands(track.row.event.log.block_hash, result)


def _explained(profile: Profile, row: Row, said: Says) -> Says:
    """Return what a contract says, with what its silence means for this very reply."""
    operation = profile.operations[row.kind]
    is_silent = isinstance(said, Revert) and said.name == NO_DATA
    explained = (
        is_silent and isinstance(operation, ExplainsSilence) and operation.explain_silence(calldata_of(row))
    )
    return explained or said


def usable(result: Any) -> Any:
    """Return a result that is no error. Raises Unreachable."""
    if isinstance(result, KmsconnError):
        raise Unreachable(f"the node answered {result}") from result
    return result


def read_number(result: Any) -> int:
    """Return the number of ``eth_blockNumber``. Raises Unreachable."""
    try:
        return from_count(usable(result))
    except (TypeError, ValueError) as error:
        raise Unreachable("the node's answer to eth_blockNumber is not a number") from error


def read_head(block: Any, nonce: Any) -> HeadAnswer:
    """Return the latest block and the nonce. Raises Unreachable."""
    block, nonce = usable(block), usable(nonce)
    try:
        head = read(block, JsonBlock)
        return HeadAnswer(
            number=from_count(head.number),
            timestamp=from_count(head.timestamp),
            base_fee=None if head.base_fee_per_gas is None else from_quantity(head.base_fee_per_gas),
            nonce=from_count(nonce),
            gas_limit=None if head.gas_limit is None else from_quantity(head.gas_limit),
        )
    except (TypeError, ValueError) as error:
        raise Unreachable("the node's latest block or nonce cannot be decoded") from error


def read_block_number(block: Any) -> int | None:
    """Return the number of a block, None where the node has none or gives no block."""
    try:
        return (
            None
            if block is None or isinstance(block, RpcError)
            else from_count(read(block, JsonBlock).number)
        )
    except ValueError:
        return None


def read_block_hash(block: Any) -> bytes | None:
    """Return the hash of a block, None where the node gives none."""
    try:
        return from_hex(read(block, JsonBlockHash).hash)
    except ValueError:
        return None


def read_wei(result: Any) -> int | None:
    """Return an amount, None where the node gives none."""
    try:
        return from_quantity(result)
    except (TypeError, ValueError):
        return None
