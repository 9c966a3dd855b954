"""What one node sent to KMSGeneration and ProtocolConfig, read from the blocks of an anvil. Asks no connector."""

from __future__ import annotations

from kmsconn.chain.port import Call
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, from_quantity, quantity, to_hex
from kmsconn.protocols.fhevm import contexts, crsgen, epochs, keygen
from tests.real.anvil.world import World

_FUNCTIONS = {
    function.selector: function.name
    for function in (
        keygen.PREP_RESPONSE,
        keygen.KEY_RESPONSE,
        crsgen.RESPONSE,
        contexts.CONFIRM,
        epochs.CONFIRM,
    )
}


async def read_key_replies(world: World, sender: Address) -> dict[tuple[str, int], list[str]]:
    """Return the status of each transaction with a reply, by function and id."""
    rpc = world.ethereum.rpc
    head = from_quantity(await rpc.call("eth_blockNumber"))
    calls = [Call("eth_getBlockByNumber", (quantity(number), True)) for number in range(head + 1)]
    found: dict[tuple[str, int], list[str]] = {}
    for block in [
        block for at in range(0, len(calls), 200) for block in await rpc.batch(calls[at : at + 200])
    ]:
        for transaction in block["transactions"]:
            name = _FUNCTIONS.get(from_hex(transaction["input"])[:4])
            if name is not None and transaction["from"] == to_hex(sender):
                receipt = await rpc.call("eth_getTransactionReceipt", transaction["hash"])
                found.setdefault((name, int(transaction["input"][10:74], 16)), []).append(receipt["status"])
    return found
