"""What is true on an anvil, of requests and of one node's part in keys, read from its blocks and from nothing a connector says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.port import Call
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, from_quantity, quantity, to_hex
from kmsconn.protocols.fhevm import contexts, epochs, key_management, keygen
from kmsconn.protocols.fhevm.decryptions import RESPONSE as PUBLIC_RESPONSE
from kmsconn.protocols.fhevm.profile import EVENTS
from kmsconn.protocols.fhevm.user_decryption import RESPONSE as USER_RESPONSE
from kmsconn.testing.ground_truth import GroundTruthReport
from tests.real.anvil.world import World

PATIENCE = 40.0  # seconds for everything to be included on a busy machine; undisturbed it is about one
AFTERMATH = 1.0  # seconds in which a double would still come
_REPLIES = {PUBLIC_RESPONSE.selector, USER_RESPONSE.selector}
_PAGE = 200


async def read_ground_truth(rpc: Endpoint, decryption: Address, sender: Address) -> GroundTruthReport:
    """Read all blocks of a gateway for one node's replies."""
    head = from_quantity(await rpc.call("eth_blockNumber"))
    begun = await _requests(rpc, decryption, head)
    answered: dict[int, int] = {}
    doubled: list[int] = []
    for transaction in await _replies(rpc, decryption, sender, head):
        identifier = int(transaction["input"][10:74], 16)
        receipt = await rpc.call("eth_getTransactionReceipt", transaction["hash"])
        if identifier in answered:
            doubled.append(identifier)
        elif receipt["status"] == "0x1":
            answered[identifier] = from_quantity(receipt["blockNumber"]) - begun.get(identifier, 0)
    open_ = tuple(identifier for identifier in begun if identifier not in answered)
    return GroundTruthReport(tuple(begun), tuple(sorted(answered)), tuple(doubled), open_, answered)


async def wait_answered(rpc: Endpoint, decryption: Address, sender: Address, count: int) -> GroundTruthReport:
    """Wait until so many requests are answered, and a little more for doubles; or until patience is over."""
    with trio.move_on_after(PATIENCE):
        while len((await read_ground_truth(rpc, decryption, sender)).answered) < count:
            await trio.sleep(0.25)
        await trio.sleep(AFTERMATH)
    return await read_ground_truth(rpc, decryption, sender)


async def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for something in this process. Raises TooSlowError."""
    with trio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - there is nobody who would tell
            await trio.sleep(0.02)


async def replies_of(rpc: Endpoint, decryption: Address, sender: Address) -> Mapping[int, tuple[Any, ...]]:
    """Return the arguments of a node's successful replies by request id, as they stand in its transactions."""
    found = {}
    for transaction in await _replies(
        rpc, decryption, sender, from_quantity(await rpc.call("eth_blockNumber"))
    ):
        data = from_hex(transaction["input"])
        function = PUBLIC_RESPONSE if data[:4] == PUBLIC_RESPONSE.selector else USER_RESPONSE
        arguments = function.decode(data)
        found[arguments[0]] = arguments
    return found


async def _requests(rpc: Endpoint, decryption: Address, head: int) -> dict[int, int]:
    query = {
        "address": to_hex(decryption),
        "topics": [[to_hex(topic) for topic in EVENTS.kinds]],
        "fromBlock": "0x0",
        "toBlock": quantity(head),
    }
    logs = await rpc.call("eth_getLogs", query)
    return {int(log["topics"][1], 16): from_quantity(log["blockNumber"]) for log in logs}


async def _replies(rpc: Endpoint, decryption: Address, sender: Address, head: int) -> list[dict[str, Any]]:
    return [
        each
        for each in await _transactions(rpc, sender, head)
        if each["to"] == to_hex(decryption) and from_hex(each["input"][:10]) in _REPLIES
    ]


async def _transactions(rpc: Endpoint, sender: Address, head: int) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for first in range(0, head + 1, _PAGE):
        numbers = range(first, min(first + _PAGE, head + 1))
        blocks += await rpc.batch([Call("eth_getBlockByNumber", (quantity(n), True)) for n in numbers])
    return [each for block in blocks for each in block["transactions"] if each["from"] == to_hex(sender)]


_FUNCTIONS = {
    function.selector: function.name
    for function in (
        keygen.PREP_RESPONSE,
        keygen.KEY_RESPONSE,
        key_management.RESPONSE,
        contexts.CONFIRM,
        epochs.CONFIRM,
    )
}


async def read_key_replies(world: World, sender: Address) -> dict[tuple[str, int], list[str]]:
    """Return the status of each transaction with a reply, by function and id."""
    rpc, found = world.ethereum.rpc, dict[tuple[str, int], list[str]]()
    for each in await _transactions(rpc, sender, from_quantity(await rpc.call("eth_blockNumber"))):
        if (name := _FUNCTIONS.get(from_hex(each["input"])[:4])) is not None:
            receipt = await rpc.call("eth_getTransactionReceipt", each["hash"])
            found.setdefault((name, int(each["input"][10:74], 16)), []).append(receipt["status"])
    return found
