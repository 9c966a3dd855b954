"""What the nodes of a chain do wrong."""

from __future__ import annotations

from typing import Literal

import attrs
import trio

from kmsconn.emulator.node_faults import NodeFault as NodeFaultName
from kmsconn.testing.world import World

ChainName = Literal["gateway", "ethereum", "host"]


@attrs.frozen
class NodeTrouble:
    """A node of a chain's cluster does something wrong at its next ``times`` occasions."""

    at: float
    chain: ChainName
    fault: str
    node: int = 0
    times: int = 1

    async def play(self, world: World) -> None:
        """Script it."""
        await trio.lowlevel.checkpoint()
        nodes = world.dependencies.clusters[self.chain].nodes
        nodes[self.node % len(nodes)].faults.script(NodeFaultName(self.fault), self.times)


@attrs.frozen
class MethodOutage:
    """Every node of a chain refuses one method for ``seconds``, and answers all others."""

    at: float
    chain: ChainName
    method: str
    seconds: float

    async def play(self, world: World) -> None:
        """Refuse it, and end that."""
        nodes = world.dependencies.clusters[self.chain].nodes
        for node in nodes:
            node.limits.unsupported.add(self.method)
        await trio.sleep(self.seconds)
        for node in nodes:
            node.limits.unsupported.discard(self.method)


@attrs.frozen
class Lag:
    """A node stays ``blocks`` behind for ``seconds``."""

    at: float
    chain: ChainName
    blocks: int
    seconds: float
    node: int = 0

    async def play(self, world: World) -> None:
        """Hold it back, then let it catch up."""
        nodes = world.dependencies.clusters[self.chain].nodes
        node = nodes[self.node % len(nodes)]
        world.invariants.note_shown()
        node.lag = self.blocks
        await trio.sleep(self.seconds)
        node.lag = 0
