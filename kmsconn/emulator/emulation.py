"""Emulated dependencies on loopback sockets under a load, with the configuration file of their connector. Prints nothing."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random

import attrs
import trio

from kmsconn.emulator.committee_ground_truth import CommitteeGroundTruth, CommitteeVerdict
from kmsconn.emulator.config_file import journal_beside, member_config, write_config
from kmsconn.emulator.control import Control
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.core_requests import Job
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.generations import FHEVM_014, GENERATIONS
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.http import serve_http
from kmsconn.emulator.key_life import KEY_STEP_TIMEOUT, QUICK, KeyLife, KeyResult
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
    members: int = 1
    """How many nodes the committee has, each with a configuration file and a connector of its own."""


@attrs.frozen
class EmulationResult:
    """What came of an emulation; ``keys`` of each node where a life of keys was led, else empty."""

    verdict: CommitteeVerdict
    keys: tuple[KeyResult, ...] = ()

    @property
    def keys_well(self) -> bool:
        """Every step of the life of keys was taken; a node on its own has given every reply, and none has given one twice."""
        if len(self.keys) == 1:
            return self.keys[0].well
        return all(len(keys.done) == keys.steps and not keys.verdict.doubled for keys in self.keys)

    @property
    def well(self) -> bool:
        """Requests and keys went well."""
        return self.verdict.well and self.keys_well


@attrs.frozen
class Emulation:
    """One emulation: its dependencies, its users, and the ground truth that judges, at any time, what became of the requests."""

    plan: EmulationPlan
    dependencies: EmulatedDependencies
    traffic: Users[EmulatedDependencies]
    committee: CommitteeGroundTruth
    keys: KeyLife | None = None

    @classmethod
    def of(cls, plan: EmulationPlan) -> Emulation:
        """Make everything of a plan; nothing listens yet."""
        traffic = GENERATIONS[plan.profile].settle(
            time.time, Random(plan.seed), size=plan.size,
            shards=plan.shards, computing=plan.computing, seed=plan.seed, members=plan.members,
        )  # fmt: skip
        dependencies, committee = (
            traffic.dependencies,
            CommitteeGroundTruth.of(traffic.dependencies, plan.members),
        )
        if plan.history is not None:
            dependencies.gateway.history.kept = round(plan.history / dependencies.gateway.block_time)
        _let_note(dependencies, committee.nodes[0])
        for core in (faults.core for faults in dependencies.cores_by_name.values()):
            if isinstance(core, EmulatedCore):
                core.sealing = seal_cheaply
        keys = (
            KeyLife.beside(traffic, *committee.nodes) if plan.keys and isinstance(traffic, Traffic) else None
        )
        return cls(plan, dependencies, traffic, committee, keys)

    @property
    def ground_truth(self) -> GroundTruth:
        """The ground truth of the first node."""
        return self.committee.nodes[0]

    def result(self) -> EmulationResult:
        """Return what came of it so far."""
        members = range(self.plan.members)
        keys = () if self.keys is None else tuple(self.keys.result(member) for member in members)
        return EmulationResult(self.committee.verdict(), keys)

    async def run(self) -> None:
        """Serve, write the configuration files and put on the load, until that is over.

        Raises ConfigError when a file cannot be written, as a group. Cancellation: at any time; ``ground_truth`` keeps what it saw.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self.dependencies.serve_on_sockets)
            monitoring = [f"{LOOPBACK}:{port}" for port in await _free_ports(self.plan.members)]
            if self.plan.control is not None:
                control = self._control(monitoring[0])
                await nursery.start(control.drills.run)
                handler = partial(serve_http, handler=control.handle)
                serve = partial(serve_sockets, handler, crashes=self.dependencies.crashes)
                await nursery.start(partial(serve, port=self.plan.control))
            for member, endpoint in enumerate(monitoring):
                self._write_config(member, endpoint)
            await self._put_load_on()
            nursery.cancel_scope.cancel()

    def _write_config(self, member: int, monitoring: str) -> None:
        config = member_config(self.plan.config, member, self.plan.members)
        quick = {} if self.keys is None else QUICK
        settings = self.dependencies.settings(
            journal_beside(config), member, monitoring_endpoint=monitoring, **quick
        )
        write_config(config, settings)

    def _control(self, monitoring: str) -> Control:
        control = Control(self.dependencies, self.traffic, self.committee, time.time() - trio.current_time())
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
                await run_load(load, self.traffic, self.committee)
            else:
                nursery.start_soon(tidy, self.traffic, self.committee)
                await self.committee.watch()


def _let_note(dependencies: EmulatedDependencies, ground_truth: GroundTruth) -> None:
    """Let a ground truth be told of the moments on the way to an answer."""
    dependencies.gateway.intake.on_submit = ground_truth.note_sent
    for core in (shard.core for shard in dependencies.cores):
        core.on_start, core.on_answer = ground_truth.note_started, ground_truth.note_given


def seal_cheaply(job: Job, place: int) -> Randomness:
    """Return the randomness of a share with one of a few encapsulations: making them is most of an emulated Core's work."""
    drawn = Randomness.from_seed(place.to_bytes(4) + job.request_id)
    return attrs.evolve(drawn, encapsulation_m=(drawn.encapsulation_m[0] % _SEALS).to_bytes(32))


async def _free_ports(count: int) -> list[int]:
    """Return different ports that were free a moment ago; the connectors bind them later."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(trio.socket.socket()) for _ in range(count)]
        for probe in sockets:
            await probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in sockets]
