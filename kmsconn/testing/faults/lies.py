"""Lies of nodes: one kind of answer is wrong for a while, and looks as an honest one does.

Nothing that cannot be undone may rest on one of them (``chain.witness``). What a node refuses, omits or spoils is elsewhere
(``emulator.node_faults``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs
import trio

from kmsconn.emulator.fhevm_dependencies import CONTEXT
from kmsconn.emulator.node_faults import CallFault, Honest, reverted
from kmsconn.ethereum.hexes import from_quantity, quantity
from kmsconn.protocols.fhevm.contracts import CONFIG_BASE, DECRYPTION
from kmsconn.protocols.queries import mapping_slot
from kmsconn.testing.world import World

HOUR, DAY, YEARS = 3600, 86_400, 10 * 365 * 86_400

Bend = Callable[[Honest], Any]
"""Makes a lie of what carries the call out."""


class BentAnswers(CallFault, frozen=True):
    """Calls get what a function makes of the honest result."""

    name = "bent"
    bend: Any = None

    def act(self, _method: str, honest: Honest) -> Any:
        """Return the bent result."""
        return self.bend(honest)


@attrs.frozen
class Lie:
    """Which calls of which chain are answered wrongly, and how. ``containing`` as in ``CallFault``."""

    method: str
    bend: Bend = attrs.field(repr=False)
    containing: str = ""
    chain: str = "gateway"
    ends: bool = False
    """It would end requests, so that it is believed once every node has told it for a reorg window."""


def number(shift: Callable[[int], int]) -> Bend:
    """Bend a quantity."""
    return lambda honest: quantity(max(0, shift(from_quantity(honest()))))


def field(name: str, shift: Callable[[int], int]) -> Bend:
    """Bend a quantity in an object."""

    def bend(honest: Honest) -> Any:
        result = honest()
        if not isinstance(result, Mapping) or result.get(name) is None:
            return result
        return {**result, name: quantity(max(0, shift(from_quantity(result[name]))))}

    return bend


def _other_hash(honest: Honest) -> Any:
    block = honest()
    if not isinstance(block, Mapping):
        return block
    return {**block, "hash": f"0x{int(block['hash'], 16) ^ 1:064x}"}


def _failed(honest: Honest) -> Any:
    receipt = honest()
    return receipt and {**receipt, "status": "0x0", "logs": []}


def _invented(honest: Honest) -> Any:
    return honest() or {
        "blockHash": "0x" + "ab" * 32,
        "blockNumber": "0x1",
        "status": "0x1",
        "gasUsed": "0x30000",
        "logs": [],
    }


def _refuse_for_good(_honest: Honest) -> Any:
    raise reverted(DECRYPTION.error("InvalidNullContextId").selector)


_HEAD, _FINAL = '"latest"', '"finalized"'
_DESTROYED = f"{mapping_slot(CONFIG_BASE + 10, CONTEXT):x}"

LIES: Final[Mapping[str, Lie]] = MappingProxyType(
    {
        "head 0": Lie("eth_getBlockByNumber", field("timestamp", lambda _: 0), _HEAD),
        "head -2 d": Lie("eth_getBlockByNumber", field("timestamp", lambda n: n - 2 * DAY), _HEAD),
        "head +1 h": Lie("eth_getBlockByNumber", field("timestamp", lambda n: n + HOUR), _HEAD),
        "head +2 d": Lie("eth_getBlockByNumber", field("timestamp", lambda n: n + 2 * DAY), _HEAD),
        "head +10 y": Lie("eth_getBlockByNumber", field("timestamp", lambda n: n + YEARS), _HEAD),
        "final +1000": Lie("eth_getBlockByNumber", field("number", lambda n: n + 1000), _FINAL),
        "nonce +1": Lie("eth_getTransactionCount", number(lambda n: n + 1)),
        "nonce +100": Lie("eth_getTransactionCount", number(lambda n: n + 100)),
        "nonce 2^53-1": Lie("eth_getTransactionCount", number(lambda _: 2**53 - 1)),
        "nonce -100": Lie("eth_getTransactionCount", number(lambda n: n - 100)),
        "another hash": Lie("eth_getBlockByNumber", _other_hash),
        "another head": Lie("eth_getBlockByNumber", _other_hash, _HEAD),
        "no logs": Lie("eth_getLogs", lambda _: []),
        "no receipt": Lie("eth_getTransactionReceipt", lambda _: None),
        "failed": Lie("eth_getTransactionReceipt", _failed),
        "mined": Lie("eth_getTransactionReceipt", _invented),
        "estimate 21000": Lie("eth_estimateGas", number(lambda _: 21_000)),
        "answered": Lie("eth_getStorageAt", lambda _: f"0x{1:064x}", ends=True),
        "not answered": Lie("eth_getStorageAt", lambda _: f"0x{0:064x}"),
        "never taken": Lie("eth_estimateGas", _refuse_for_good, ends=True),
        "context destroyed": Lie(
            "eth_getStorageAt", lambda _: f"0x{1:064x}", _DESTROYED, "ethereum", ends=True
        ),
    }
)
"""By name, so that a plan's line is Python."""


_UNCONTRADICTED = 0.6
"""Of a reorg window."""


@attrs.frozen
class Lying:
    """A node, or all of a chain's (None), tell a lie for ``seconds``.

    One that ends requests and that no honest node contradicts is shorter than a reorg window, and another one like it waits as long.
    """

    at: float
    lie: str
    seconds: float
    node: int | None = None

    async def play(self, world: World) -> None:
        """Begin it and end it."""
        lie = LIES[self.lie]
        cluster = world.dependencies.clusters.get(lie.chain)
        if cluster is None:  # a generation without this chain
            await trio.lowlevel.checkpoint()
            return
        fault = BentAnswers(bend=lie.bend, method=lie.method, containing=lie.containing)
        liars = cluster.nodes if self.node is None else [cluster.nodes[self.node % len(cluster.nodes)]]
        is_believed = lie.ends and len(liars) == len(cluster.nodes)
        window = world.settings().reading.reorg_window
        async with world.scene.turns[lie.chain, lie.method, lie.containing]:
            ends = [node.faults.strike(fault) for node in liars]
            await trio.sleep(min(self.seconds, window * _UNCONTRADICTED) if is_believed else self.seconds)
            for end in ends:
                end()
            await trio.sleep(window if is_believed else 0.0)
