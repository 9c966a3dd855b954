"""The JSON-RPC methods of a node, one function each: from parameters to a JSON result. Reads no bytes and waits for nothing.

A method that must wait (a send that is answered with the block) returns a ``Later`` instead of a result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from kmsconn.emulator.blocks import Block, Mined
from kmsconn.emulator.chain import NodeStanding
from kmsconn.emulator.execution import OutOfGas, Reverted
from kmsconn.emulator.http import HangUp
from kmsconn.emulator.node_faults import (
    INVALID_PARAMS,
    LIMIT_EXCEEDED,
    PRUNED_HISTORY,
    SERVER_ERROR,
    NodeError,
    NodeFault,
    refused,
    reverted,
)
from kmsconn.emulator.rpc_json import (
    LogFilter,
    block_json,
    log_json,
    receipt_json,
    trace_json,
    transaction_json,
)
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, address
from kmsconn.ethereum.hexes import from_hex, from_quantity, quantity, to_hex
from kmsconn.ethereum.keccak import keccak256

T = TypeVar("T")
Params = Sequence[Any]
Later = Callable[[], Awaitable[Any]]
Method = Callable[[NodeStanding, Params], Any]

METHODS: dict[str, Method] = {
    "eth_chainId": lambda node, _: quantity(
        node.chain.chain_id + node.faults.happens(NodeFault.WRONG_CHAIN_ID)
    ),
    "web3_clientVersion": lambda _node, _: CLIENT_VERSION,
    "eth_syncing": lambda _node, _: False,
    "eth_blockNumber": lambda node, _: quantity(node.view().head.number),
    "eth_gasPrice": lambda node, _: quantity(
        _LEGACY_PRICE if node.chain.base_fee is None else node.chain.base_fee + node.tip
    ),
    "eth_getCode": lambda node, params: (
        _CODE if _address(_parameter(params, 0)) in node.chain.evm.contracts else "0x"
    ),
}

CALL_GAS = 50_000_000
CLIENT_VERSION = "kmsconn-emulator/1"
_ESTIMATE_PER_MILLE = 1_015  # the real contracts' estimates exceed the use by 1 to 2 % (fhevm-0.14.md, E.1)
_LEGACY_PRICE = 1_000_000_000
"""Of gas, in wei, on a chain of before EIP-1559."""
_CODE = "0xfe"  # INVALID: there is code, and nobody should run it elsewhere


def method(name: str) -> Callable[[Method], Method]:
    """Register a function as a method."""

    def register(function: Method) -> Method:
        METHODS[name] = function
        return function

    return register


def _parameter(params: Params, index: int) -> Any:
    if len(params) <= index:
        raise NodeError(INVALID_PARAMS, f"missing value for required argument {index}")
    return params[index]


def _read(read: Callable[[Any], T], content: Any) -> T:
    try:
        return read(content)
    except (TypeError, ValueError) as error:
        raise NodeError(INVALID_PARAMS, f"invalid argument: {error}") from error


def _bytes(content: Any) -> bytes:
    return _read(from_hex, content)


def _number(content: Any) -> int:
    return content if isinstance(content, int) else _read(from_quantity, content)


def _address(content: Any) -> Address:
    return _read(address, _bytes(content))


def _tag(params: Params, index: int) -> Any:
    return params[index] if len(params) > index and params[index] is not None else "latest"


def _find_block(node: NodeStanding, tag: Any) -> Block | None:
    """Return the block that a tag or a number names, None when this node has none."""
    view = node.view()
    if tag in {"latest", "pending"}:
        return view.head
    if tag in {"safe", "finalized"}:
        return view.block(node.chain.finality.newest(view.head.number))
    return view.block(0 if tag == "earliest" else _number(tag))


def _block(node: NodeStanding, tag: Any) -> Block:
    found = _find_block(node, tag)
    if found is None:
        raise NodeError(SERVER_ERROR, "header not found")
    if found.number < max(node.limits.pruned_before, node.chain.history.pruned_before):
        raise NodeError(SERVER_ERROR, "missing trie node: state is not available")
    return found


@method("eth_getBlockByNumber")
def _block_by_number(node: NodeStanding, params: Params) -> Any:
    block = _find_block(node, _parameter(params, 0))
    full = len(params) > 1 and bool(params[1])
    if block is None:
        return None
    return block_json(block, chain_id=node.chain.chain_id, gas_limit=node.chain.intake.gas_limit, full=full)


@method("eth_getTransactionCount")
def _transaction_count(node: NodeStanding, params: Params) -> str:
    owner, tag = _address(_parameter(params, 0)), _tag(params, 1)
    if tag == "pending" and node.chain.intake.pool.public and not node.behind:
        return quantity(node.chain.intake.pending_nonce(owner))
    block = _block(node, tag)
    nonce = node.chain.evm.account(owner, node.view().state(block)).nonce
    forged = {one.nonce for one, number in node.faults.forgeries().values() if number <= block.number}
    while nonce in forged:
        nonce += 1
    return quantity(nonce)


@method("eth_getBalance")
def _balance(node: NodeStanding, params: Params) -> str:
    owner = _address(_parameter(params, 0))
    return quantity(node.chain.evm.account(owner, node.view().state(_block(node, _tag(params, 1)))).balance)


@method("eth_getStorageAt")
def _storage_at(node: NodeStanding, params: Params) -> str:
    key = _address(_parameter(params, 0)), _number(_parameter(params, 1))
    value: int = node.view().state(_block(node, _tag(params, 2))).get(key, 0)
    return to_hex(value.to_bytes(32))


@method("eth_call")
def _call(node: NodeStanding, params: Params) -> str:
    return to_hex(_run(node, _parameter(params, 0), _tag(params, 1))[0])


@method("eth_estimateGas")
def _estimate_gas(node: NodeStanding, params: Params) -> str:
    _, used = _run(node, _parameter(params, 0), _tag(params, 1))
    return quantity(used * _ESTIMATE_PER_MILLE // 1_000)


def _run(node: NodeStanding, call: Any, tag: Any) -> tuple[bytes, int]:
    if not isinstance(call, dict) or not call.get("to"):
        raise NodeError(INVALID_PARAMS, "a call with a receiver is expected")
    data = _bytes(call.get("data") or call.get("input") or "0x")
    sender = _address(call["from"]) if call.get("from") else ZERO_ADDRESS
    gas = _number(call["gas"]) if call.get("gas") else CALL_GAS
    try:
        return node.view().call(_address(call["to"]), data, sender=sender, gas=gas, block=_block(node, tag))
    except Reverted as refusal:
        raise reverted(refusal.data) from refusal
    except OutOfGas as shortage:
        raise NodeError(SERVER_ERROR, f"out of gas: gas required exceeds allowance ({gas})") from shortage


@method("eth_feeHistory")
def _fee_history(node: NodeStanding, params: Params) -> Any:
    newest = _block(node, _tag(params, 1))
    oldest = max(0, newest.number - _number(_parameter(params, 0)) + 1)
    view = node.view()
    blocks = map(view.block, range(oldest, newest.number + 1))
    fees = [block.base_fee or 0 for block in blocks if block is not None]
    percentiles = params[2] if len(params) > 2 and params[2] else []  # noqa: PLR2004 - the third parameter
    history = {
        "oldestBlock": quantity(oldest),
        "baseFeePerGas": [quantity(fee) for fee in [*fees, node.chain.base_fee or 0]],
        "gasUsedRatio": [0.0] * len(fees),
    }
    tips = [quantity(node.tip)] * len(percentiles)
    return history | ({"reward": [tips] * len(fees)} if percentiles else {})


@method("eth_sendRawTransaction")
def _send(node: NodeStanding, params: Params) -> str | Later:
    """Take a transaction, or let it vanish; return its hash, or what waits until a block answers."""
    raw = _bytes(_parameter(params, 0))
    if node.faults.happens(NodeFault.SWALLOWED):
        return to_hex(keccak256(raw))
    if node.faults.happens(NodeFault.FORGED):
        transaction = node.chain.intake.check(raw)
        node.faults.forged[transaction.hash] = transaction, node.chain.head.number + 1
        return to_hex(transaction.hash)
    submission = node.chain.intake.enter(raw)
    if node.faults.happens(NodeFault.LOST_REPLY):
        raise HangUp
    name = to_hex(submission.transaction.hash)

    async def wait() -> str:
        await submission.wait()
        return name

    return name if submission.over else wait


@method("eth_getTransactionByHash")
def _transaction_by_hash(node: NodeStanding, params: Params) -> Any:
    wanted = _bytes(_parameter(params, 0))
    mined = node.view().find(wanted)
    if mined is not None:
        return transaction_json(mined.transaction, mined, node.chain.chain_id)
    waiting = node.chain.intake.pool.find(wanted) if node.chain.intake.pool.public else None
    return None if waiting is None else transaction_json(waiting, None, node.chain.chain_id)


@method("eth_getTransactionReceipt")
def _receipt(node: NodeStanding, params: Params) -> Any:
    mined = node.view().find(_bytes(_parameter(params, 0)))
    if mined is None:
        return _forged_receipt(node, _bytes(_parameter(params, 0)))
    if node.faults.happens(NodeFault.NO_RECEIPT):
        return None
    content = receipt_json(mined)
    if node.faults.happens(NodeFault.BARE_RECEIPT):
        content |= {"blockHash": None, "blockNumber": None}
    return content


def _forged_receipt(node: NodeStanding, transaction_hash: bytes) -> Any:
    """Return a receipt of success for a transaction that was forgotten, while the node does that."""
    _, number = node.faults.forgeries().get(transaction_hash, (None, None))
    block = None if number is None else node.view().block(number)
    if block is None:
        return None
    return {
        "transactionHash": to_hex(transaction_hash),
        "blockNumber": quantity(block.number),
        "blockHash": to_hex(block.hash),
        "transactionIndex": quantity(0),
        "status": quantity(1),
        "gasUsed": quantity(100_000),
        "effectiveGasPrice": quantity(1),
        "logs": [],
    }


@method("debug_traceTransaction")
def _trace(node: NodeStanding, params: Params) -> Any:
    mined = node.view().find(_bytes(_parameter(params, 0)))
    if mined is None:
        raise refused("transaction not found")
    return trace_json(mined)


@method("eth_getLogs")
def _logs(node: NodeStanding, params: Params) -> list[Any]:
    content = _parameter(params, 0)
    wanted = LogFilter.parse(content)
    start, end = (_bound(node, content.get(name) or "latest") for name in ("fromBlock", "toBlock"))
    _check_range(node, start, end)
    there = ((log, mined) for mined in _mined(node, start, end) for log in mined.logs if wanted.takes(log))
    found = [log_json(log, mined) for log, mined in there]
    return _spoiled(node, found) if found else found


def _mined(node: NodeStanding, start: int, end: int) -> Iterable[Mined]:
    if node.log_fork is None:
        return node.view().mined(start, end)
    old = node.chain.view(0, node.log_fork)
    top = old.head.number
    return (*old.mined(start, min(end, top)), *node.view().mined(max(start, top + 1), end))


def _bound(node: NodeStanding, tag: Any) -> int:
    if isinstance(tag, str) and tag.startswith("0x"):
        return _number(tag)
    block = _find_block(node, tag)
    return 0 if block is None else block.number


def _check_range(node: NodeStanding, start: int, end: int) -> None:
    if start > end:
        raise NodeError(SERVER_ERROR, "invalid block range params")
    if start < max(node.limits.pruned_before, node.chain.history.pruned_before):
        raise NodeError(PRUNED_HISTORY, "pruned history unavailable")
    if node.limits.log_range is not None and end - start + 1 > node.limits.log_range:
        raise NodeError(LIMIT_EXCEEDED, f"query exceeds max block range {node.limits.log_range}")


def _spoiled(node: NodeStanding, logs: list[Any]) -> list[Any]:
    happens = node.faults.happens
    if happens(NodeFault.EMPTY_LOGS):
        return []
    if happens(NodeFault.PARTIAL_LOGS):
        logs = logs[: len(logs) // 2]
    if happens(NodeFault.REMOVED_LOGS):
        logs = [{**log, "removed": True} for log in logs]
    if happens(NodeFault.DUPLICATE_LOGS):
        logs = [log for log in logs for _ in range(2)]
    return logs[::-1] if happens(NodeFault.REVERSED_LOGS) else logs
