"""Dependencies in memory with ports for one connector, for tests that need a whole tree and one thing wrong in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.config.working import Pools
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.model.events import Event
from kmsconn.transport.ports import Ports, offload_inline

EPOCH = 1_767_225_600.0
PLACES = Pools(8, 8, 8, 8)
"""A start begins a task for each."""


def wall() -> float:
    return EPOCH + trio.current_time()


@attrs.frozen
class FewComponents:
    """What a test gives to ``open_connector``, and the dependencies to spoil."""

    dependencies: FhevmDependencies
    network: MemoryNetwork
    traffic: Traffic
    ports: Ports
    journal: Path

    def settings(self, **changes: Any) -> Settings:
        return self.dependencies.settings(self.journal, **{"pools": PLACES, **changes})

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[tuple[Connector, list[Event]]]:
        """Run a connector with these settings while the block lasts, and give it once it is ready, with what it tells."""
        told: list[Event] = []
        async with open_connector(
            self.settings(**changes), ports=self.ports, on_event=told.append
        ) as connector:
            with trio.fail_after(60):
                await connector.wait_ready()
            yield connector, told


@asynccontextmanager
async def few_components(
    folder: Path, *, block_time: float = 1.0, **options: Any
) -> AsyncIterator[FewComponents]:
    """Run the dependencies while the block lasts; each block of the gateway costs some milliseconds of CPU."""
    dependencies = FhevmDependencies.make(wall, block_time=block_time, **options)
    async with dependencies.run_in_memory() as network:
        ports = Ports(network, offload_inline, wall, lambda: 0.5)
        yield FewComponents(dependencies, network, Traffic(dependencies), ports, folder / "journal.db")
