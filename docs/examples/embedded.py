"""A Trio program with a connector inside: emulated dependencies in memory, three requests, every event printed, then the drain.

Run it with ``python docs/examples/embedded.py``. It opens no socket. Every clock in it is Trio's, so it runs as it is under a
virtual one (``trio.testing.MockClock``) too.
"""

# ruff: noqa: ARG001, INP001, T201 - a program of its own, which prints; a port has its arguments whether they are used or not

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

import kmsconn
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.model.events import ReplyIncluded

T = TypeVar("T")
REQUESTS = 3


def wall() -> float:
    """Return Unix seconds that follow Trio's clock."""
    return 1_767_225_600.0 + trio.current_time()


async def inline(use: str, work: Callable[[], T]) -> T:
    """Do blocking work at once: an ``Offload`` for a small journal, and the only kind that fits a virtual clock."""
    await trio.lowlevel.checkpoint()
    return work()


class Watcher:
    """Prints every event and knows when the replies are included."""

    def __init__(self) -> None:
        self.included = 0
        self.done = trio.Event()

    def on_event(self, event: kmsconn.Event) -> None:
        """Take an event. Called by the connector in the middle of its work: must not block and must not raise."""
        print(event)
        if isinstance(event, ReplyIncluded):
            self.included += 1
            if self.included == REQUESTS:
                self.done.set()


async def embed(config: kmsconn.Config, network: MemoryNetwork, traffic: Traffic) -> kmsconn.Statistics:
    """Run a connector in a nursery of our own until the replies are included, drain it, and return its last statistics."""
    watcher = Watcher()
    ports = kmsconn.Ports(dial=network, offload=inline, wall=wall, random=random.random)
    run = partial(kmsconn.serve, config, ports=ports, on_event=watcher.on_event)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):  # how long a start may take is for us to say
            connector: kmsconn.Connector = await nursery.start(run)
        for _ in range(REQUESTS):
            traffic.any()
        await watcher.done.wait()
        connector.drain()
    return connector.statistics()


async def main() -> None:
    """Build the world around the connector; a program with real dependencies would only call ``kmsconn.load_config``."""
    dependencies = FhevmDependencies.make(wall)
    with tempfile.TemporaryDirectory() as folder:
        async with dependencies.run_in_memory() as network:
            config = dependencies.settings(Path(folder) / "journal.db")
            statistics = await embed(config, network, Traffic(dependencies))
    print(statistics)


if __name__ == "__main__":
    trio.run(main)
