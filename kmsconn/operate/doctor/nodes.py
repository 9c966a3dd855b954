"""What a node of a chain says of itself and of its limits, each question put alone, and what its limits are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kmsconn.chain.jsonrpc import clean
from kmsconn.chain.logs import BlockHead, decode_logs, read_block
from kmsconn.chain.port import Call, Rpc, RpcError
from kmsconn.errors import KmsconnError, Unreachable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity, quantity, to_hex
from kmsconn.operate.doctor.diagnosis import Diagnosis, fault, ok, warning

LARGEST_BATCH = 100
"""Calls in a batch that ``chain.asking`` makes at most."""
_BATCHES = (LARGEST_BATCH, 50, 20, 10, 3)  # the reader puts three calls in a batch: head, kept block and logs
_VERSION_LENGTH = 64


async def read_head(rpc: Rpc) -> BlockHead:
    """Ask for the newest block. Raises Unreachable."""
    return read_block(await _ask(rpc, "eth_getBlockByNumber", "latest", False))


async def read_version(rpc: Rpc) -> str:
    """Ask which program the node runs; empty where it does not tell."""
    try:
        said = await rpc.call("web3_clientVersion")
    except RpcError:
        return ""
    return clean(said)[:_VERSION_LENGTH] if isinstance(said, str) else ""


async def is_syncing(rpc: Rpc) -> bool:
    """Ask whether the node still catches up; one that does not tell is taken to be there."""
    try:
        return bool(await rpc.call("eth_syncing"))
    except RpcError:
        return False


async def read_wei(rpc: Rpc, method: str, *params: Any) -> int:
    """Ask for an amount. Raises Unreachable."""
    try:
        return from_quantity(await _ask(rpc, method, *params))
    except ValueError as error:
        raise Unreachable(f"the node's answer to {method} cannot be read") from error


async def _ask(rpc: Rpc, method: str, *params: Any) -> Any:
    try:
        return await rpc.call(method, *params)
    except RpcError as error:
        raise Unreachable(f"the node refuses {method}: {error}") from error


async def logs_between(
    rpc: Rpc, contract: Address, topics: Sequence[bytes], first: int, last: int
) -> list[Log]:
    """Ask for the logs of a contract. Raises RpcError where the node refuses, Unreachable."""
    criteria = {
        "address": to_hex(contract),
        "topics": [[to_hex(topic) for topic in topics]],
        "fromBlock": quantity(first),
        "toBlock": quantity(last),
    }
    found, _ = decode_logs(await rpc.call("eth_getLogs", criteria))
    return found


async def check_log_range(
    node: str, rpc: Rpc, contract: Address, topics: Sequence[bytes], *, head: int, wanted: int
) -> Diagnosis:
    """Ask for the newest blocks of logs, and where they are too many search the most that the node gives. Raises Unreachable."""
    checked = f"{node}: blocks of eth_getLogs"
    asked, refusal = min(wanted, head + 1), ""
    given, refused = 0, asked + 1
    width = asked
    while refused - given > 1:
        try:
            await logs_between(rpc, contract, topics, head - width + 1, head)
        except RpcError as error:
            refusal, refused = refusal or str(error), width
        else:
            given = width
        width = (given + refused) // 2
    if not given:
        return fault(checked, f"none: {refusal}", "name a node that serves eth_getLogs")
    if given < asked:
        found = f"{given} are given, {asked} (get_logs_batch_size) are not: {refusal}"
        return warning(checked, found, f"set get_logs_batch_size to {given}, or raise the node's limit")
    return ok(checked, f"{given} at once")


async def check_batch(node: str, rpc: Rpc) -> Diagnosis:
    """Ask in ever smaller batches until the node answers one."""
    checked, refusal = f"{node}: calls in a batch", ""
    for size in _BATCHES:
        try:
            found = await rpc.batch([Call("eth_chainId")] * size)
        except KmsconnError as error:
            refusal = refusal or str(error)
            continue
        refused = [str(one) for one in found if isinstance(one, RpcError)]
        if not refused:
            remedy = f"raise the node's limit to {LARGEST_BATCH} calls a batch"
            return (
                warning(checked, f"{size} at most: {refusal}", remedy) if refusal else ok(checked, f"{size}")
            )
        refusal = refusal or refused[0]
    return fault(checked, f"none is answered: {refusal}", "name a node that takes JSON-RPC batches")


async def check_history(
    node: str, rpc: Rpc, contract: Address, topics: Sequence[bytes], block: int, *, option: str
) -> Diagnosis:
    """Ask for the logs of the block from which the connector is to begin. Raises Unreachable."""
    checked = f"{node}: logs of block {block}"
    try:
        await logs_between(rpc, contract, topics, block, block)
    except RpcError as error:
        remedy = f"name a node with the history from there on (archive), or a later {option}"
        return fault(checked, f"the connector is to begin there, and the node has none: {error}", remedy)
    return ok(checked, "are there")
