"""A whole world in virtual time: the dependencies, one connector process that lives and dies, and faults by name.

A world plays a plan, a list of timed steps (``testing.faults``), heals everything, waits until the connector owes nothing, and reports
what is true on chain and which invariants were broken. The same seed and plan give the same world.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

import attrs
import trio
import trio.testing

from kmsconn.config.parties import Chain
from kmsconn.config.settings import Settings
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.drills.drill import DrillScene
from kmsconn.emulator.fhevm_dependencies import GENERATIONS, FhevmDependencies
from kmsconn.emulator.key_life import KeyVerdict, read_keys
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.pool import PoolKind
from kmsconn.emulator.users import Users
from kmsconn.model.events import Event
from kmsconn.model.requests import FHEVM, profile_named
from kmsconn.testing.endings import seeded_scheduler
from kmsconn.testing.ground_truth import GroundTruthReport, read_ground_truth
from kmsconn.testing.http_clients import HttpClients
from kmsconn.testing.invariants import Invariants
from kmsconn.testing.killable import ConnectorProcess

EPOCH_SECONDS = 1_767_225_600.0  # where chain time and wall time begin
HEALED_TIMEOUT = 1800.0  # seconds of virtual time in which a healed world must have answered everything
ASKING_KEYS: Final = "AskKey"
"""The step that asks for keys."""
NO_KEYS: Final = KeyVerdict((), (), frozenset(), 0)
LOOK = 5.0  # seconds of virtual time between looks at whether it has
REBIRTH = 0.5  # seconds from the end of one process to the start of the next


class PlanStep(Protocol):
    """Something that happens in a world at a moment."""

    @property
    def at(self) -> float:
        """Seconds after the beginning."""
        ...

    async def play(self, world: World) -> None:
        """Let it happen. Whatever it turns, it turns back by itself or leaves to ``World.heal``."""
        ...


@attrs.frozen
class WorldReport:
    """What a world came to: the ground truth on chain, broken invariants, crashes, virtual seconds; how often what happened."""

    ground_truth: GroundTruthReport
    broken: tuple[str, ...]
    crashes: tuple[str, ...]
    seconds: float
    steps: Counter[str]
    faults: Counter[str]
    sometimes: Counter[str]
    events: Counter[str]
    reasons: Counter[str]
    log: tuple[tuple[float, Event], ...] = attrs.field(repr=False)
    keys: KeyVerdict = NO_KEYS

    def check(self) -> None:
        """Raise AssertionError unless every request on chain is answered, none twice, and nothing broke."""
        assert not self.crashes, "\n".join(self.crashes)
        assert not self.ground_truth.open, f"lost: {[hex(i) for i in self.ground_truth.open]} {self.broken}"
        assert not self.ground_truth.doubled, f"doubled: {[hex(i) for i in self.ground_truth.doubled]}"
        assert not self.keys.open, f"without a reply: {[(name, hex(i)) for name, i in self.keys.open]}"
        assert not self.keys.doubled, f"{self.keys.doubled} replies about keys were too many"
        assert not self.broken, "\n".join(self.broken)


@attrs.define
class WorldRecord:
    """What happened in a world: how often which step, event and reason, and every event with its time."""

    steps: Counter[str] = attrs.field(factory=Counter)
    events: Counter[str] = attrs.field(factory=Counter)
    reasons: Counter[str] = attrs.field(factory=Counter)
    log: list[tuple[float, Event]] = attrs.field(factory=list)

    def note(self, event: Event) -> None:
        """Count an event of the connector, and its reason."""
        name = type(event).__name__
        self.events[name] += 1
        self.log.append((trio.current_time(), event))
        if reason := getattr(event, "reason", ""):
            self.reasons[f"{name}: {reason[:60]}"] += 1


@attrs.define(eq=False)
class World:
    """One world while it runs."""

    dependencies: EmulatedDependencies
    network: MemoryNetwork
    scene: DrillScene
    journal: Path
    process: ConnectorProcess
    changes: Mapping[str, Any]
    websocket: bool = True
    """Whether the chains are asked over websockets, else over HTTP."""
    invariants: Invariants = attrs.field(init=False)
    wall_step: float = 0.0
    ids_reused: bool = False
    """A reorganisation gave ids to other content: a Core that holds the old one says so until it restarts.

    It is restarted once the connector knows what stands on the chain: as long as it does not, it may hand over what is gone.
    """
    clients: HttpClients = attrs.field(
        default=attrs.Factory(lambda self: HttpClients(self.process), takes_self=True)
    )
    record: WorldRecord = attrs.field(factory=WorldRecord)

    def __attrs_post_init__(self) -> None:
        self.invariants = Invariants(self.dependencies, self.journal, self.settings().reading.reorg_window)

    @property
    def traffic(self) -> Users[EmulatedDependencies]:
        """What users ask."""
        return self.scene.users

    def wall(self) -> float:
        """Return the wall clock, which faults may step."""
        return EPOCH_SECONDS + trio.current_time() + self.wall_step

    def settings(self) -> Settings:
        """Return the connector's settings."""
        settings = self.dependencies.settings(self.journal, **self.changes)
        return settings if self.websocket else _over_http(settings)

    async def kill(self, down: float, *, lose_journal: bool = False) -> None:
        """Kill the connector as ``kill -9`` does and let the next one start after ``down`` seconds."""
        with self.process.held():
            self.process.life.kill()
            await trio.sleep(down)
            if lose_journal:
                self.invariants.killed()
                for path in self.journal.parent.glob(self.journal.name + "*"):
                    path.unlink()

    async def drain(self, down: float) -> None:
        """Let the connector end well, as at SIGTERM, and let the next one start ``down`` seconds later."""
        life = self.process.life
        if self.process.connector is None or life.dead:
            return
        limit = self.settings().work.drain_grace + DRAIN_SLACK
        with self.process.held():
            self.process.drain()
            with trio.move_on_after(limit) as scope:
                await life.ended.wait()
            if scope.cancelled_caught:
                self.process.crashes.append(f"L6: a drain took longer than {limit:g} s")
            await trio.sleep(down)

    async def live(self) -> None:
        """Run the connector, one process after the other, for ever."""
        while True:
            await self.process.wait_free()
            await self.live_once()
            await trio.sleep(REBIRTH)

    async def live_once(self) -> None:
        """Run one process until its end."""
        self.invariants.born()
        await self.process.run(self.settings(), self.wall, self._note)
        if self.process.life.dead:
            self.invariants.killed()

    def _note(self, event: Event) -> None:
        self.record.note(event)
        self.invariants.hear(event)

    def cut(self) -> None:
        """Break every connection to a dependency."""
        for place in self.dependencies.places.values():
            self.network.line(*place).cut()

    def heal(self) -> None:
        """Turn every knob back: from here on all dependencies are honest and quick."""
        for name in self.dependencies.names:
            line = self.network.line(*self.dependencies.places[name])
            line.refuse = line.unreachable = line.mute = False
            line.there.latency = line.back.latency = 0.0
            line.there.lost = line.back.lost = False
        self.cut()
        for cluster in self.dependencies.clusters.values():
            for node in cluster.nodes:
                node.lag, node.fork, node.log_fork = 0, None, None
                node.limits.unsupported.clear()
                node.faults.heal()
        for chain in self.dependencies.chains:
            chain.stalled = False
        for core in self.dependencies.cores:
            core.heal()
        for bucket in self.dependencies.buckets:
            bucket.heal()

    async def settle(self, settle_time: float) -> None:
        """Wait until nothing is open on chain and nothing in the journal, for ``settle_time`` seconds."""
        await trio.sleep(LOOK)  # what was asked last must be in a block to be owed
        with trio.move_on_after(settle_time):
            # the file is looked at from outside, as another process would
            while read_ground_truth(self.dependencies).open or self.owed() or self.keys().open:
                self._free_reused_ids()
                await trio.sleep(LOOK)

    def owed(self) -> list[str]:
        """Say what the connector has not brought to its end yet, and which client has no answer."""
        return [*self.invariants.owed(), *self.clients.owed()]

    def _free_reused_ids(self) -> None:
        if self.ids_reused and self.invariants.knows_the_chain():
            self.ids_reused = False
            for core in self.dependencies.cores:
                core.core.restart()

    def keys(self) -> KeyVerdict:
        """Return what Ethereum says of this node's part in keys; of a world that asks for none: nothing."""
        if isinstance(self.dependencies, FhevmDependencies) and self.record.steps[ASKING_KEYS]:
            return read_keys(self.dependencies, self.dependencies.sender.address)
        return NO_KEYS


def _faults_of(dependencies: EmulatedDependencies) -> Counter[str]:
    """Count what the dependencies did wrong."""
    counts: Counter[str] = Counter()
    for name, cluster in dependencies.clusters.items():
        for node in cluster.nodes:
            counts.update({f"{name} node: {fault}": n for fault, n in node.faults.counts.items()})
    for core in dependencies.cores:
        counts.update(
            {f"core: {method} {said}": n for (method, said), n in core.counts.items() if said != "OK"}
        )
    for bucket in dependencies.buckets:
        counts.update({f"bucket: {fault}": n for fault, n in bucket.counts.items()})
    return counts


DRAIN_SLACK = 15.0  # seconds beside the grace: the journal and connections close after it


async def play_world(
    plan: Sequence[PlanStep],
    *,
    seed: int = 0,
    profile: str = FHEVM,
    block_time: float = 1.0,
    pool: PoolKind = "arbitrum",
    nodes: int = 2,
    shards: int = 1,
    computing: float = 0.1,
    settle_time: float = HEALED_TIMEOUT,
    **changes: Any,
) -> WorldReport:
    """Play one plan in a fresh world and report. Needs a virtual clock; ``changes`` are settings of the connector."""
    begin = trio.current_time()
    opened = open_world(
        changes, seed, profile, block_time=block_time, pool=pool, nodes=nodes, shards=shards, computing=computing
    )  # fmt: skip
    async with opened as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.live)
        nursery.start_soon(world.clients.run)
        await _play_all(world, plan)
        world.heal()
        await world.settle(settle_time)
        report = _report(world, trio.current_time() - begin)
        nursery.cancel_scope.cancel()
    return report


@asynccontextmanager
async def open_world(
    changes: Mapping[str, Any],
    seed: int = 0,
    profile: str = FHEVM,
    *,
    settle: Callable[[Any, MemoryNetwork], None] = EmulatedDependencies.settle_in_memory,
    block_time: float = 1.0,
    computing: float = 0.1,
    **made: Any,
) -> AsyncIterator[World]:
    """Give a world in which no connector runs yet; ``changes`` are settings of it, ``made`` says how the dependencies are."""
    traffic = GENERATIONS[profile_named(profile)].settle(
        lambda: EPOCH_SECONDS + trio.current_time(), Random(seed), block_time=block_time, computing=computing, seed=seed, **made
    )  # fmt: skip
    dependencies = traffic.dependencies
    with memory_backed() as folder:
        async with dependencies.run_in_memory(partial(settle, dependencies)) as network:
            process = ConnectorProcess(network, Random(seed))
            scene = DrillScene(dependencies, traffic)
            yield World(dependencies, network, scene, folder / "journal.db", process, changes)


def _report(world: World, seconds: float) -> WorldReport:
    invariants = world.invariants
    return WorldReport(
        ground_truth=read_ground_truth(world.dependencies, invariants.replies.excuse),
        broken=(*invariants.violations, *world.clients.violations, *world.owed(), *invariants.strangers()),
        crashes=tuple(world.process.crashes),
        seconds=seconds,
        steps=world.record.steps,
        faults=_faults_of(world.dependencies),
        sometimes=+invariants.sometimes,
        events=world.record.events,
        reasons=world.record.reasons,
        log=tuple(world.record.log),
        keys=world.keys(),
    )


async def _play_all(world: World, plan: Sequence[PlanStep]) -> None:
    async with trio.open_nursery() as nursery:
        for step in plan:
            nursery.start_soon(_play_at, world, step)


async def _play_at(world: World, step: PlanStep) -> None:
    await trio.sleep(step.at)
    world.record.steps[type(getattr(step, "fault", step)).__name__] += 1
    await step.play(world)


def run_world(plan: Sequence[PlanStep], *, seed: int = 0, **options: Any) -> WorldReport:
    """Play a plan under a clock of its own. Repeating: the same plan and options give the same report."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with seeded_scheduler(seed):
        return trio.run(partial(play_world, plan, seed=seed, **options), clock=clock)


def _over_http(settings: Settings) -> Settings:
    """Return settings with which the chains are asked over HTTP and not over websockets."""

    def changed(chain: Chain) -> Chain:
        return attrs.evolve(chain, urls=tuple(url.replace("ws://", "http://") for url in chain.urls))

    chains = settings.chains
    hosts = tuple(attrs.evolve(host, chain=changed(host.chain)) for host in chains.host_chains)
    return settings.but(gateway=changed(chains.gateway), ethereum=changed(chains.ethereum), host_chains=hosts)


@contextmanager
def memory_backed() -> Iterator[Path]:
    """Give a folder while the block lasts, with no disk behind it where the machine has such a place."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)
