"""A whole world in virtual time: the neighbours, one connector process that lives and dies, and faults by name.

A world plays a plan, a list of timed acts (``testing.acts``), heals everything, waits until the connector owes nothing, and reports
what is true on chain. The same seed and plan give the same world.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol

import attrs
import trio
import trio.testing

from kmsconn.config.settings import Settings
from kmsconn.emulator.neighbourhood import Neighbourhood
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import Traffic
from kmsconn.model.events import Event
from kmsconn.service.connector import open_connector
from kmsconn.testing.mortality import Life, MortalPorts
from kmsconn.testing.truth import Truth, truth_of

EPOCH_SECONDS = 1_767_225_600.0  # where chain time and wall time begin
PATIENCE = 2 * 3600.0  # seconds of virtual time in which a healed world must have answered everything


class Act(Protocol):
    """Something that happens in a world at a moment."""

    @property
    def at(self) -> float:
        """Seconds after the beginning."""
        ...

    async def play(self, world: World) -> None:
        """Let it happen. Whatever it turns, it turns back by itself or leaves to ``World.heal``."""
        ...


@attrs.frozen
class Report:
    """What a world came to: the truth on chain, virtual seconds, how often which act and which event happened."""

    truth: Truth
    seconds: float
    acts: Counter[str]
    events: Counter[str]
    reasons: Counter[str]
    crashes: tuple[str, ...]

    def check(self) -> None:
        """Raise AssertionError unless every request on chain is answered, none twice, and no neighbour or process broke."""
        assert not self.truth.open, f"lost: {[hex(i) for i in self.truth.open]}"
        assert not self.truth.doubled, f"doubled: {[hex(i) for i in self.truth.doubled]}"
        assert not self.crashes, self.crashes


@attrs.define(eq=False)
class World:
    """One world while it runs."""

    neighbours: Neighbourhood
    network: MemoryNetwork
    traffic: Traffic
    random: Random
    journal: Path
    changes: dict[str, Any]
    wall_step: float = 0.0
    life: Life = attrs.field(factory=Life)
    acts: Counter[str] = attrs.field(factory=Counter)
    events: Counter[str] = attrs.field(factory=Counter)
    reasons: Counter[str] = attrs.field(factory=Counter)
    log: list[tuple[float, Event]] = attrs.field(factory=list)
    crashes: list[str] = attrs.field(factory=list)
    _may_live: trio.Event = attrs.field(factory=trio.Event)
    _next_life: Life = attrs.field(factory=Life)

    def wall(self) -> float:
        """Return the wall clock, which acts may step."""
        return EPOCH_SECONDS + trio.current_time() + self.wall_step

    def settings(self) -> Settings:
        """Return the connector's settings."""
        return self.neighbours.settings(self.journal, **self.changes)

    async def kill(self, down: float, *, lose_journal: bool = False) -> None:
        """Kill the connector as ``kill -9`` does and let the next one start after ``down`` seconds."""
        self._may_live = trio.Event()
        self.life.kill()
        await trio.sleep(down)
        if lose_journal:
            for path in self.journal.parent.glob(self.journal.name + "*"):
                path.unlink()
        self._may_live.set()

    def next_life(self, life: Life) -> None:
        """Let the current process be followed by one that dies where ``life`` says."""
        self._next_life = life

    async def live(self) -> None:
        """Run the connector, one process after the other, for ever."""
        self._may_live.set()
        while True:
            await self._may_live.wait()
            self.life, self._next_life = self._next_life, Life()
            await self._one_life(self.life)
            await trio.sleep(0.5)

    async def _one_life(self, life: Life) -> None:
        ports = MortalPorts(life, self.network, self.wall, self.random).ports()
        try:
            with life.scope:
                async with open_connector(self.settings(), ports=ports, on_event=self._note):
                    await trio.sleep_forever()
        except* Exception as group:  # noqa: BLE001 - whatever a living process dies of is a finding
            if not life.dead:
                self.crashes.append(repr(group))

    def _note(self, event: Event) -> None:
        name = type(event).__name__
        self.events[name] += 1
        self.log.append((trio.current_time(), event))
        if reason := getattr(event, "reason", ""):
            self.reasons[f"{name}: {reason[:60]}"] += 1

    def heal(self) -> None:
        """Turn every knob back: from here on all neighbours are honest and quick."""
        for name in self.neighbours.names:
            line = self.network.line(*self.neighbours.places[name])
            line.refuse = line.unreachable = line.mute = False
            line.there.latency = line.back.latency = 0.0
            line.there.lost = line.back.lost = False
            line.cut()
        for cluster in self.neighbours.clusters.values():
            for node in cluster.nodes:
                node.lag, node.fork = 0, None
                node.faults.heal()
        for chain in (self.neighbours.gateway, self.neighbours.ethereum, self.neighbours.host):
            chain.stalled = False
        for core in self.neighbours.cores:
            core.heal()
        for bucket in self.neighbours.buckets:
            bucket.heal()
        self._may_live.set()

    async def settle(self) -> None:
        """Wait until nothing is open on chain, then until every reply is buried."""
        with trio.move_on_after(PATIENCE):
            while truth_of(self.neighbours).open:
                await self.neighbours.gateway.wait_change()
        await trio.sleep(2 * self.settings().overlap)


async def play_world(
    plan: Sequence[Act],
    *,
    seed: int = 0,
    block_time: float = 1.0,
    pool: Literal["arbitrum", "geth"] = "arbitrum",
    nodes: int = 2,
    shards: int = 1,
    computing: float = 0.1,
    **changes: Any,
) -> Report:
    """Play one plan in a fresh world and report. Needs a virtual clock; ``changes`` are settings of the connector."""
    random = Random(seed)
    begin = trio.current_time()
    neighbours = Neighbourhood.make(
        lambda: EPOCH_SECONDS + trio.current_time(),
        block_time=block_time, pool=pool, nodes=nodes, shards=shards, computing=computing, seed=seed,
    )  # fmt: skip
    network = MemoryNetwork()
    neighbours.settle_in_memory(network)
    with tempfile.TemporaryDirectory(dir=_memory_backed()) as folder:
        traffic = Traffic(neighbours, Random(seed))
        world = World(neighbours, network, traffic, random, Path(folder) / "journal.db", changes)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            await nursery.start(neighbours.run)
            nursery.start_soon(world.live)
            await _play_all(world, plan)
            world.heal()
            await world.settle()
            nursery.cancel_scope.cancel()
    crashes = (*world.crashes, *map(repr, network.crashes))
    seconds = trio.current_time() - begin
    return Report(truth_of(neighbours), seconds, world.acts, world.events, world.reasons, crashes)


async def _play_all(world: World, plan: Sequence[Act]) -> None:
    async with trio.open_nursery() as nursery:
        for act in plan:
            nursery.start_soon(_play_at, world, act)


async def _play_at(world: World, act: Act) -> None:
    await trio.sleep(act.at)
    world.acts[type(act).__name__] += 1
    await act.play(world)


def run_world(plan: Sequence[Act], **options: Any) -> Report:
    """Play a plan under a clock of its own. Repeating: the same plan and options give the same report."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(partial(play_world, plan, **options), clock=clock)


def _memory_backed() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of its own is made in it
