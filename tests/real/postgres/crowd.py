"""Several connectors of one node over one PostgreSQL journal, among emulated dependencies in this process, in real time."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from kmsconn.config.description import LogFormat, PostgresAddress
from kmsconn.config.settings import Settings
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.model.alerts import Board
from kmsconn.model.events import Event
from kmsconn.observe.logs import LineLog
from kmsconn.operate.commands.run import until_drained
from kmsconn.testing.ground_truth import GroundTruthReport, read_ground_truth
from kmsconn.transport.ports import Ports, offload_to_threads

SOON = 20.0
"""Seconds that anything may take on a busy machine."""
LEASE = 2.0


class _Signals:
    """No signal ever comes."""

    def __aiter__(self) -> _Signals:
        return self

    async def __anext__(self) -> int:
        await trio.sleep_forever()
        raise AssertionError


@attrs.define(eq=False)
class Crowd:
    """The dependencies, and what each connector told, by its name."""

    dependencies: FhevmDependencies
    network: MemoryNetwork
    traffic: Traffic
    address: PostgresAddress
    told: dict[str, list[Event]] = attrs.field(factory=dict)

    def settings(self, name: str, **changes: Any) -> Settings:
        """Return the settings of one connector; all have the same wallet."""
        settings = self.dependencies.settings(Path("unused"), reorg_window=4.0)
        return settings.but(**{"journal": self.address, "lease": LEASE, "service_name": name, **changes})

    @asynccontextmanager
    async def connector(self, name: str, **changes: Any) -> AsyncIterator[Connector]:
        """Run a connector, and drain it as the block is left."""
        self.told.setdefault(name, [])
        ports = Ports(self.network, offload_to_threads, time.time, random.random)
        async with open_connector(
            self.settings(name, **changes), ports=ports, on_event=self.told[name].append
        ) as connector:
            yield connector

    @asynccontextmanager
    async def living(self, name: str) -> AsyncIterator[None]:
        """Run a connector while the block lasts, begun anew as ``kmsconn run`` does."""
        board = Board(self.told.setdefault(name, []).append, trio.current_time)

        async def once() -> None:
            async with self.connector(name):
                board.set("unwritable", "journal", None)
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                until_drained, once, _Signals(), board, LineLog(sys.stdout, "info", LogFormat.JSON)
            )
            yield
            nursery.cancel_scope.cancel()

    def of(self, name: str, kind: type[Any]) -> list[Any]:
        """Return the events of one kind that a connector told."""
        return [event for event in self.told[name] if isinstance(event, kind)]

    def ask(self, *forms: str) -> None:
        """Let users ask."""
        for form in forms:
            self.traffic.forms[form]()

    @property
    def truth(self) -> GroundTruthReport:
        """What the gateway says."""
        return read_ground_truth(self.dependencies)

    async def wait(self, condition: Callable[[], Any], seconds: float = SOON) -> Any:
        """Return what ``condition`` returns once it is true. Raises TooSlowError."""
        with trio.fail_after(seconds):
            while not (found := condition()):  # noqa: ASYNC110 - what is waited for is anything
                await trio.sleep(0.02)
        return found

    async def wait_answered(self, number: int) -> None:
        """Wait until so many requests are answered."""
        await self.wait(lambda: len(self.truth.answered) >= number)


@asynccontextmanager
async def open_crowd(address: PostgresAddress, **options: Any) -> AsyncIterator[Crowd]:
    """Run the dependencies while the block lasts; nothing may be answered twice."""
    dependencies = FhevmDependencies.make(time.time, **{"block_time": 0.25, **options})
    async with dependencies.run_in_memory() as network:
        crowd = Crowd(dependencies, network, Traffic(dependencies, random.Random(0)), address)
        yield crowd
    assert crowd.truth.doubled == ()
