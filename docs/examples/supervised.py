"""A supervisor in a Trio program: it runs a connector, starts it again after a crash, and knows its health.

Run it with ``python docs/examples/supervised.py``. It opens no socket: emulated dependencies in memory make three requests, and a
planted error ends the first connector in the middle of its work. Under a virtual clock (``trio.testing.MockClock``) it runs as it is.
"""

# ruff: noqa: ARG001, INP001, T201 - a program of its own, which prints; a port has its arguments whether they are used or not

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

import kmsconn
from kmsconn.emulator import FhevmDependencies, Traffic
from kmsconn.model.events import AnswerKept, ReplyIncluded
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.status import HealthReport

T = TypeVar("T")
REQUESTS = 3
FIRST_DELAY = 1.0  # seconds between a crash and the next start
LONGEST_DELAY = 60.0  # seconds, after many crashes in a row
CALM = 600.0  # seconds of work after which a crash counts as the first one again


class Supervisor:
    """Runs one connector at a time, each on the journal of the one before."""

    def __init__(
        self, config: kmsconn.Config, ports: kmsconn.Ports | None, on_event: kmsconn.OnEvent
    ) -> None:
        self.crashes: list[ExceptionGroup] = []
        self.monitor = Monitor()
        """Of the present connector: health, and metrics as Prometheus text."""
        self._config, self._ports, self._on_event = config, ports, on_event
        self._stopping = trio.Event()

    def stop(self) -> None:
        """Let the present connector drain; ``run`` returns then."""
        self._stopping.set()

    def health(self) -> HealthReport:
        """Return the health of the present connector."""
        return self.monitor.health()

    async def run(self) -> None:
        """Run connectors until one has drained. Raises StartRefused: running would be unsafe, and a restart does not change that."""
        delay = FIRST_DELAY
        while not self._stopping.is_set():
            begun = trio.current_time()
            try:
                await self._run_once()
            except BaseExceptionGroup as group:
                crash, rest = group.split(Exception)
                if rest is not None or crash is None or crash.subgroup(kmsconn.StartRefused) is not None:
                    raise
                self.crashes.append(crash)
                delay = FIRST_DELAY if trio.current_time() - begun > CALM else min(2 * delay, LONGEST_DELAY)
                with trio.move_on_after(delay):
                    await self._stopping.wait()

    async def _run_once(self) -> None:
        self.monitor = monitor = Monitor()  # alerts of a connector that has ended mean nothing

        def on_event(event: kmsconn.Event) -> None:
            monitor.on_event(event)
            self._on_event(event)

        async with kmsconn.open_connector(self._config, ports=self._ports, on_event=on_event) as connector:
            monitor.watch(connector.statistics)
            await self._stopping.wait()  # leaving the block drains


class Watcher:
    """Knows when the replies are included; breaks the first connector."""

    def __init__(self) -> None:
        self.included = 0
        self.done = trio.Event()
        self._broken = False

    def on_event(self, event: kmsconn.Event) -> None:
        """Take an event. What it raises ends the connector, which no ``on_event`` of a real program does."""
        if isinstance(event, AnswerKept) and not self._broken:
            self._broken = True
            raise RuntimeError("a planted error")
        if isinstance(event, ReplyIncluded):
            self.included += 1
            if self.included == REQUESTS:
                self.done.set()


async def supervise(config: kmsconn.Config, ports: kmsconn.Ports, traffic: Traffic) -> Supervisor:
    """Run a supervisor until the replies are included, then stop it."""
    watcher = Watcher()
    supervisor = Supervisor(config, ports, watcher.on_event)
    for _ in range(REQUESTS):
        traffic.any()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await watcher.done.wait()
        print(f"healthy: {supervisor.health().healthy}; crashes: {len(supervisor.crashes)}")
        supervisor.stop()
    return supervisor


def wall() -> float:
    """Return Unix seconds that follow Trio's clock."""
    return 1_767_225_600.0 + trio.current_time()


async def inline(use: str, work: Callable[[], T]) -> T:
    """Do blocking work at once."""
    await trio.lowlevel.checkpoint()
    return work()


async def main() -> None:
    """Build the world around the supervisor; with real dependencies ``kmsconn.load_config`` is enough."""
    dependencies = FhevmDependencies.make(wall)
    with tempfile.TemporaryDirectory() as folder:
        async with dependencies.run_in_memory() as network:
            ports = kmsconn.Ports(dial=network, offload=inline, wall=wall, random=random.random)
            config = dependencies.settings(Path(folder) / "journal.db")
            await supervise(config, ports, Traffic(dependencies))


if __name__ == "__main__":
    trio.run(main)
