"""Emulated dependencies on loopback sockets under a load, with the configuration file of their connector. Prints nothing."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from random import Random

import attrs
import trio

from kmsconn.emulator.config_file import journal_beside, write_config
from kmsconn.emulator.control import Control
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.core_requests import Job
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.generations import FHEVM_014, GENERATIONS
from kmsconn.emulator.ground_truth import GroundTruth, ground_truth_of
from kmsconn.emulator.http import serve_http
from kmsconn.emulator.key_life import KEY_STEP_TIMEOUT, QUICK, KeyLife
from kmsconn.emulator.load import Load, run_load, tidy
from kmsconn.emulator.network import serve_sockets
from kmsconn.emulator.signcryption import Randomness
from kmsconn.emulator.traffic import Traffic
from kmsconn.emulator.users import Users

LOOPBACK = "127.0.0.1"
_SEALS = (
    32  # shared secrets that all shares of an emulation are sealed with; each still has a nonce of its own
)


@attrs.frozen
class EmulationPlan:
    """What is emulated. ``computing`` in seconds for each job of a Core; ``size`` in bytes for each ciphertext.

    Without a load it ends by cancellation only. ``control`` is the port for `Control`, None for none.
    ``history``: seconds of Gateway blocks that are kept whole, None for all.
    """

    config: Path
    load: Load | None
    size: int = 1024
    seed: int = 0
    shards: int = 1
    computing: float = 0.0
    control: int | None = None
    history: float | None = None
    profile: str = FHEVM_014
    keys: bool = False
    """Whether a life of keys is led beside the load."""


@attrs.frozen
class Emulation:
    """One emulation: its dependencies, its users, and the ground_truth that judges, at any time, what became of the requests."""

    plan: EmulationPlan
    dependencies: EmulatedDependencies
    traffic: Users[EmulatedDependencies]
    ground_truth: GroundTruth
    keys: KeyLife | None = None

    @classmethod
    def of(cls, plan: EmulationPlan) -> Emulation:
        """Make everything of a plan; nothing listens yet."""
        traffic = GENERATIONS[plan.profile].settle(
            time.time, Random(plan.seed), size=plan.size,
            shards=plan.shards, computing=plan.computing, seed=plan.seed,
        )  # fmt: skip
        dependencies, ground_truth = traffic.dependencies, ground_truth_of(traffic.dependencies)
        if plan.history is not None:
            dependencies.gateway.history.kept = round(plan.history / dependencies.gateway.block_time)
        dependencies.gateway.intake.on_submit = ground_truth.note_sent
        for core in (shard.core for shard in dependencies.cores):
            core.on_start, core.on_answer = ground_truth.note_started, ground_truth.note_given
            if isinstance(core, EmulatedCore):
                core.sealing = seal_cheaply
        keys = KeyLife.beside(traffic, ground_truth) if plan.keys and isinstance(traffic, Traffic) else None
        return cls(plan, dependencies, traffic, ground_truth, keys)

    async def run(self) -> None:
        """Serve, write the configuration file and put on the load, until that is over.

        Raises ConfigError when the file cannot be written, as a group. Cancellation: at any time; ``ground_truth`` keeps what it saw.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self.dependencies.serve_on_sockets)
            monitoring = f"{LOOPBACK}:{await _free_port()}"
            if self.plan.control is not None:
                control = self._control(monitoring)
                await nursery.start(control.drills.run)
                handler = partial(serve_http, handler=control.handle)
                serve = partial(serve_sockets, handler, crashes=self.dependencies.crashes)
                await nursery.start(partial(serve, port=self.plan.control))
            journal = journal_beside(self.plan.config)
            quick = {} if self.keys is None else QUICK
            settings = self.dependencies.settings(journal, monitoring_endpoint=monitoring, **quick)
            write_config(self.plan.config, settings)
            await self._put_load_on()
            nursery.cancel_scope.cancel()

    def _control(self, monitoring: str) -> Control:
        control = Control(
            self.dependencies, self.traffic, self.ground_truth, time.time() - trio.current_time()
        )
        control.drills.scene.monitoring = monitoring
        return control

    async def _put_load_on(self) -> None:
        load = self.plan.load
        async with trio.open_nursery() as nursery:
            if self.keys is not None:
                nursery.start_soon(
                    self.keys.lead, math.inf if load is None else load.seconds + KEY_STEP_TIMEOUT
                )
            if load is not None:
                await run_load(load, self.traffic, self.ground_truth)
            else:
                nursery.start_soon(tidy, self.traffic, self.ground_truth)
                await self.ground_truth.watch()


def seal_cheaply(job: Job, place: int) -> Randomness:
    """Return the randomness of a share with one of a few encapsulations: making them is most of an emulated Core's work."""
    drawn = Randomness.from_seed(place.to_bytes(4) + job.request_id)
    return attrs.evolve(drawn, encapsulation_m=(drawn.encapsulation_m[0] % _SEALS).to_bytes(32))


async def _free_port() -> int:
    """Return a port that was free a moment ago; the connector binds it later."""
    with trio.socket.socket() as probe:
        await probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
