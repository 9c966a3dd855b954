"""Puts the lane's questions to its chain: in batches, each with a deadline, each answer with the head of the node that gave it.

Decides nothing. Every error that comes out is Retryable.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from kmsconn.chain.asking import MAX_BATCH, inquire
from kmsconn.chain.port import Call, PipelinedRpc, RpcError
from kmsconn.errors import Retryable, StageTimeout, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_count, from_quantity, quantity, to_hex
from kmsconn.journal.port import Row
from kmsconn.net.together import together
from kmsconn.protocols.port import Inquiry
from kmsconn.sending.fees import Errand

T = TypeVar("T")
PATIENCE = 15.0  # seconds for one batch; a node that hangs must not hang the lane
_HEAD = Call("eth_blockNumber")


@attrs.frozen
class Head:
    """The latest block and the sender's nonce, both of one node, in this order: the nonce is not older than the block."""

    number: int
    timestamp: int
    base_fee: int | None
    nonce: int


@attrs.frozen
class Looked:
    """Answers, and for each the head of the node that gave it at that moment; ``head`` is the lowest of them."""

    head: int
    heads: Sequence[int]
    results: Sequence[Any]


@attrs.frozen
class Node:
    """The chain, as the account ``sender`` asks it."""

    rpc: PipelinedRpc
    sender: Address

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Ask one node. Raises Unreachable, Overloaded, StageTimeout."""
        try:
            with trio.fail_after(PATIENCE):
                return await self.rpc.batch(calls)
        except trio.TooSlowError as error:
            raise StageTimeout("a call of the lane", PATIENCE) from error

    async def inquire(self, inquiry: Inquiry[T]) -> T:
        """Put an inquiry to the chain. Raises as ``batch``."""
        try:
            with trio.fail_after(PATIENCE):
                return await inquire(self.rpc, inquiry)
        except trio.TooSlowError as error:
            raise StageTimeout("a question of the lane", PATIENCE) from error

    async def hand_over(self, raws: Sequence[bytes]) -> list[Any]:
        """Send transactions in this order; return for each the result, or the error of ours that came instead.

        StageTimeout stands where nothing came in time. They are calls of their own on one connection, all on their way at once: a
        sequencer answers only when the transaction is in a block, and nodes work through a batch one by one, which would cost a block
        for each.
        Cancellation: each may have been taken. Repeating: the same bytes again are known to the node.
        """
        calls = [Call("eth_sendRawTransaction", (to_hex(raw),)) for raw in raws]
        results: list[Any] = [StageTimeout("a call of the lane", PATIENCE)] * len(calls)
        with trio.move_on_after(PATIENCE):
            await self.rpc.each(calls, results.__setitem__)
        return results

    async def look(self, calls: Sequence[Call]) -> Looked:
        """Ask for all at once, in batches that public endpoints take, each after the head of the node that answers it.

        In the place of what a batch of several did not answer stands an RpcError. Raises as ``batch`` when none was answered.
        Repeating: reads only.
        """
        pieces = [calls[at : at + MAX_BATCH] for at in range(0, len(calls), MAX_BATCH)] or [calls]
        looked = await together([partial(self._look, piece) for piece in pieces])
        failures = [head for head, _ in looked if isinstance(head, Retryable)]
        if len(failures) == len(looked):
            raise failures[0]
        lowest = min(head for head, _ in looked if isinstance(head, int))
        pairs = [
            (head if isinstance(head, int) else lowest, one) for head, results in looked for one in results
        ]
        return Looked(lowest, [head for head, _ in pairs], [one for _, one in pairs])

    async def _look(self, calls: Sequence[Call]) -> tuple[int | Retryable, Sequence[Any]]:
        """Return the head and the answers, or why there is none and as many errors."""
        try:
            head, *results = await self.batch([_HEAD, *calls])
            return _count_of(head), results
        except Retryable as error:
            return error, [RpcError(0, str(error))] * len(calls)

    async def head(self) -> Head:
        """Return head and nonce of one node. Raises as ``batch``. Repeating: reads only."""
        block, nonce = await self.batch([_LATEST, self._nonce_call()])
        try:
            return _read_head(_usable(block), _usable(nonce))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Unreachable("the node gave a head that cannot be read") from error

    def _nonce_call(self) -> Call:
        return Call("eth_getTransactionCount", (to_hex(self.sender), "latest"))

    def call_of(self, row: Row, block: int | None = None) -> Call:
        """Return the question what the contract says to a row's reply, from its own sender."""
        return Call("eth_call", (self._message(row), "latest" if block is None else quantity(block)))

    def estimate_of(self, row: Row) -> Call:
        """Return the question for the gas of a row's reply."""
        return Call("eth_estimateGas", (self._message(row),))

    def estimate_of_errand(self, errand: Errand) -> Call:
        """Return the question for the gas of anything else."""
        return Call("eth_estimateGas", ({"from": to_hex(self.sender), "to": to_hex(errand.to)},))

    def _message(self, row: Row) -> dict[str, str]:
        return {"from": to_hex(self.sender), "to": to_hex(row.contract), "data": to_hex(calldata_of(row))}


_LATEST = Call("eth_getBlockByNumber", ("latest", False))


def block_at(number: int) -> Call:
    """Return the question for a block, without its transactions."""
    return Call("eth_getBlockByNumber", (quantity(max(0, number)), False))


def receipt_of(row: Row) -> Call:
    """Return the question for the receipt of a row's transaction."""
    return Call("eth_getTransactionReceipt", (to_hex(row.reply_hash or b""),))


def trace_of(row: Row) -> Call:
    """Return the question why a row's transaction failed."""
    return Call("debug_traceTransaction", (to_hex(row.reply_hash or b""), {"tracer": "callTracer"}))


def calldata_of(row: Row) -> bytes:
    """Return the calldata of a row's reply; a row that the lane sends always has an answer."""
    assert row.answer is not None
    return row.answer.calldata


def nonce_of(row: Row) -> int:
    """Return the nonce of a signed row."""
    assert row.nonce is not None
    return row.nonce


def _usable(result: Any) -> Any:
    if isinstance(result, RpcError):
        raise Unreachable(f"the node answered {result}") from result
    return result


def _count_of(head: Any) -> int:
    try:
        return from_count(_usable(head))
    except ValueError as error:
        raise Unreachable("the node gave a block number that is none") from error


def _read_head(block: Any, nonce: Any) -> Head:
    base_fee = block.get("baseFeePerGas")
    return Head(
        number=from_count(block["number"]),
        timestamp=from_count(block["timestamp"]),
        base_fee=None if base_fee is None else from_quantity(base_fee),
        nonce=from_count(nonce),
    )
