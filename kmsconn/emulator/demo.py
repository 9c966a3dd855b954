"""A whole run in one process and without a socket: dependencies over memory streams, and a real connector among them. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import attrs
import trio

from kmsconn.connector.connector import serve
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.generations import GENERATIONS
from kmsconn.emulator.ground_truth import ChainVerdict, GroundTruth, ground_truth_of
from kmsconn.emulator.key_life import QUICK, KeyLife, KeyResult
from kmsconn.emulator.load import LAST_REPLY_TIMEOUT, Ledger, Load, run_load
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.progress_table import ProgressTable, Totals
from kmsconn.emulator.traffic import Traffic
from kmsconn.emulator.users import Users
from kmsconn.model.profiles import FHEVM, profile_named
from kmsconn.transport.ports import Offload, Ports

COMPUTING = (0.02, 0.12)
"""Seconds that the emulated Core takes for an answer, drawn between these."""


@attrs.frozen
class DemoPlan:
    """What is shown: how many requests, how many per second; the seed draws forms, values and the Core's times."""

    requests: int = 40
    rate: float = 10.0
    seed: int = 0
    profile: str = FHEVM
    reply_timeout: float = LAST_REPLY_TIMEOUT
    keys: bool = False
    """Whether a life of keys is led beside the requests."""

    @property
    def load(self) -> Load:
        """The load that makes these requests."""
        return Load(self.rate, self.requests / self.rate)


@attrs.frozen
class DemoResult:
    """What came of it."""

    requests: int
    totals: Totals
    verdict: ChainVerdict
    keys: KeyResult | None = None

    @property
    def failed(self) -> int:
        """Requests without a reply on the chain."""
        return self.requests - self.totals.included

    @property
    def well(self) -> bool:
        """Every request was answered and included, and none twice; and so it was with keys."""
        decrypted = self.totals.answered == self.totals.included == self.requests and self.verdict.well
        return decrypted and (self.keys is None or self.keys.well)


@attrs.frozen
class Demo:
    """One demonstration; ``progress`` may be looked at from other tasks while it runs."""

    plan: DemoPlan
    dependencies: EmulatedDependencies
    traffic: Users[EmulatedDependencies]
    ground_truth: GroundTruth
    ledger: Ledger
    progress: ProgressTable
    keys: KeyLife | None = None

    @classmethod
    def of(cls, plan: DemoPlan, wall: Callable[[], float]) -> Demo:
        """Make everything of a plan; nothing runs yet. ``wall`` gives Unix seconds."""
        random = Random(plan.seed)
        traffic = GENERATIONS[profile_named(plan.profile)].settle(
            wall, Random(plan.seed), seed=plan.seed, computing=lambda: random.uniform(*COMPUTING)
        )
        dependencies, ledger = traffic.dependencies, Ledger()
        ground_truth = ground_truth_of(dependencies)
        keys = KeyLife.beside(traffic, ground_truth) if plan.keys and isinstance(traffic, Traffic) else None
        return cls(
            plan, dependencies, traffic, ground_truth, ledger, ProgressTable(ground_truth, ledger), keys
        )

    def result(self) -> DemoResult:
        """Return what came of it so far."""
        keys = None if self.keys is None else self.keys.result()
        return DemoResult(self.plan.requests, self.progress.totals(), self.ground_truth.verdict(), keys)


async def _settle(demo: Demo) -> None:
    """Wait until all rows of key management are through, or reply_timeout is over: an abort counts once a later head says the same."""
    keys = [] if demo.keys is None else demo.progress.rows.values()
    with trio.move_on_after(demo.plan.reply_timeout):
        while any(row.is_at_work and not row.is_decryption for row in keys):  # noqa: ASYNC110 - the progress is read from outside
            await trio.sleep(0.5)


async def run_demo(demo: Demo, journal: Path, *, offload: Offload, wall: Callable[[], float]) -> DemoResult:
    """Start the connector, make the requests, and wait until they have been included or reply_timeout is over; drain the connector.

    Raises what ends a connector, and faults of the emulator itself, as a group. Cancellation: at any time.
    """
    network = MemoryNetwork()
    demo.dependencies.settle_in_memory(network)
    ports = Ports(network, offload, wall, Random(demo.plan.seed).random)
    settings = demo.dependencies.settings(journal, **({} if demo.keys is None else QUICK))
    async with trio.open_nursery() as dependencies:
        await dependencies.start(network.run)
        await dependencies.start(demo.dependencies.run)
        async with trio.open_nursery() as nursery:
            start = partial(serve, settings, ports=ports, on_event=demo.progress.on_event)
            connector = await nursery.start(start)
            async with trio.open_nursery() as work:
                if demo.keys is not None:
                    work.start_soon(demo.keys.lead)
                await run_load(
                    demo.plan.load,
                    demo.traffic,
                    demo.ground_truth,
                    ledger=demo.ledger,
                    reply_timeout=demo.plan.reply_timeout,
                )
            await _settle(demo)
            connector.drain()
        dependencies.cancel_scope.cancel()
    if network.crashes:
        raise ExceptionGroup("the emulator itself failed", network.crashes)
    return demo.result()
