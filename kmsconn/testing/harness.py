"""Two harnesses that nobody should have to write by hand: end the connector at its k-th step, spoil a dependency's n-th call.

Each plays a small scenario, a few requests of different forms, through a whole connector in virtual time; afterwards everything must
be answered, nothing twice, and nothing left behind. Hand ``run_scenario`` every step or call in turn to try them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio
import trio.testing

from kmsconn.config.settings import Settings
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import Traffic
from kmsconn.errors import StartRefused
from kmsconn.journal.sqlite import locked
from kmsconn.model.life import State
from kmsconn.testing.endings import Ending, Steps, seeded_scheduler
from kmsconn.testing.ground_truth import GroundTruthReport, read_ground_truth
from kmsconn.testing.killable import KillablePorts, Life
from kmsconn.testing.spoiling import Spoiler
from kmsconn.testing.world import EPOCH_SECONDS, memory_backed, over_http
from kmsconn.transport.ports import Dial, Ports

SCENARIO_TIMEOUT = 600.0  # virtual seconds in which everything must be replied and finalized
UNWINDING = 2.0  # virtual seconds in which a cancelled connector must be gone
GRACE = 20.0  # virtual seconds in which a drained one must be


@attrs.frozen
class Scenario:
    """What is asked: ``forms`` before the connector starts, ``later`` a moment after."""

    forms: tuple[str, ...] = ("public", "direct")
    later: tuple[str, ...] = ("unified",)
    moment: float = 1.5
    seed: int = 0
    reorg_window: float = 4.0
    websocket: bool = True
    """Whether the chains are asked over websockets, else over HTTP."""

    @property
    def count(self) -> int:
        """How many requests there are."""
        return len(self.forms) + len(self.later)


@attrs.frozen
class ScenarioOutcome:
    """What came of a scenario: the ground truth on chain, the journal's states, steps and calls counted, and what should not have been."""

    ground_truth: GroundTruthReport
    states: Counter[State]
    steps: int
    calls: tuple[str, ...]
    bursts: tuple[str, ...]
    struck: bool
    """Whether the step or call was reached."""
    seconds: float
    complaints: tuple[str, ...]

    def check(self, scenario: Scenario) -> None:
        """Raise AssertionError unless all is answered once, known as such, and nothing was complained of."""
        assert not self.complaints, "; ".join(self.complaints)
        assert len(self.ground_truth.requested) == scenario.count, "not everything was asked"
        assert not self.ground_truth.open, f"lost: {[hex(i) for i in self.ground_truth.open]}"
        assert not self.ground_truth.doubled, f"doubled: {[hex(i) for i in self.ground_truth.doubled]}"
        assert self.states == Counter({State.FINALIZED: scenario.count}), dict(self.states)


def run_scenario(
    scenario: Scenario, *, ending: Ending | None = None, at: int = 0, spoiler: Spoiler | None = None
) -> ScenarioOutcome:
    """Play a scenario under a clock of its own. Repeating: the same arguments, with a fresh spoiler, do the same.

    ``ending`` strikes at the connector's step number ``at``, counted from 1; another process goes on with its journal.
    """
    play = partial(_play, scenario, ending=ending, at=at, spoiler=spoiler or Spoiler())
    with seeded_scheduler(scenario.seed):
        return trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


async def _play(scenario: Scenario, *, ending: Ending | None, at: int, spoiler: Spoiler) -> ScenarioOutcome:
    async with _open_surroundings(scenario, spoiler) as there:
        first = _Process(there, scenario, spoiler.dial(there.network), ending, at)
        await first.run()
        processes = [first]
        if not first.finished:
            processes.append(_Process(there, scenario, spoiler.dial(there.network)))
            await processes[-1].run()
        last = processes[-1]
        complaints = [text for process in processes for text in process.complaints]
        return ScenarioOutcome(
            ground_truth=read_ground_truth(there.dependencies),
            states=last.states,
            steps=first.steps.count,
            calls=tuple(spoiler.calls),
            bursts=tuple(spoiler.bursts),
            struck=first.steps.fired is not None or spoiler.struck,
            seconds=trio.current_time(),
            complaints=tuple(complaints),
        )


@asynccontextmanager
async def _open_surroundings(scenario: Scenario, spoiler: Spoiler) -> AsyncIterator[_Surroundings]:
    dependencies = FhevmDependencies.make(
        lambda: EPOCH_SECONDS + trio.current_time(), block_time=1.0, computing=0.1, seed=scenario.seed
    )
    settle = partial(spoiler.settle, dependencies)
    with memory_backed() as folder:
        async with dependencies.run_in_memory(settle) as network, trio.open_nursery() as nursery:
            nursery.start_soon(_ask, Traffic(dependencies, Random(scenario.seed)), scenario)
            settings = _settings(dependencies, folder / "journal.db", scenario)
            yield _Surroundings(dependencies, network, Random(scenario.seed), settings)
            nursery.cancel_scope.cancel()


def _settings(dependencies: FhevmDependencies, journal: Path, scenario: Scenario) -> Settings:
    settings = dependencies.settings(journal, reorg_window=scenario.reorg_window, drain_grace=GRACE)
    return settings if scenario.websocket else over_http(settings)


async def _ask(traffic: Traffic, scenario: Scenario) -> None:
    for form in scenario.forms:
        traffic.forms[form]()
    await trio.sleep(scenario.moment)
    for form in scenario.later:
        traffic.forms[form]()


@attrs.frozen(eq=False)
class _Surroundings:
    """What a process lives among."""

    dependencies: FhevmDependencies
    network: MemoryNetwork
    random: Random
    settings: Settings

    def ports(self, life: Life, dial: Dial) -> Ports:
        """Return the ports of one process."""
        return KillablePorts(life, dial, lambda: EPOCH_SECONDS + trio.current_time(), self.random).ports()


class _Process:
    """One process with a connector, from its start until everything is replied or its ending struck."""

    def __init__(
        self, there: _Surroundings, scenario: Scenario, dial: Dial, ending: Ending | None = None, at: int = 0
    ) -> None:
        self.complaints: list[str] = []
        self.finished = False
        self.states: Counter[State] = Counter()
        self.steps = Steps(at, self._strike)
        self._there, self._scenario, self._dial, self._ending = there, scenario, dial, ending
        self._life = Life()
        self._connector: Connector | None = None
        self._drain = False

    async def run(self) -> None:
        """Live, then look at what is left behind."""
        trio.lowlevel.add_instrument(self.steps)
        try:
            async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - a task of its own, whose context is marked
                nursery.start_soon(self._main)
        finally:
            trio.lowlevel.remove_instrument(self.steps)
        self._look_at_time()
        self._look_at_files()
        await self._look_at_connections()
        self.complaints += [f"task left: {task.name}" for task in self.steps.alive]

    def _strike(self) -> None:
        match self._ending:
            case Ending.KILL:
                self._life.kill()
            case Ending.CANCEL:
                self._life.scope.cancel()
            case Ending.DRAIN if self._connector is not None:
                self._connector.drain()
            case _:
                self._drain = True

    async def _main(self) -> None:
        self.steps.mark()
        ports = self._there.ports(self._life, self._dial)
        try:
            with self._life.scope:
                async with open_connector(self._there.settings, ports=ports) as connector:
                    await self._stay(connector)
        except* Exception as group:  # noqa: BLE001 - whatever a living process dies of is a finding
            if not self._life.dead:
                self.complaints.append(f"crashed: {group!r}")

    async def _stay(self, connector: Connector) -> None:
        self._connector = connector
        if self._drain:
            connector.drain()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_first_of, nursery.cancel_scope, connector.wait_drained)
            nursery.start_soon(_first_of, nursery.cancel_scope, partial(self._wait_replied, connector))

    async def _wait_replied(self, connector: Connector) -> None:
        with trio.move_on_after(SCENARIO_TIMEOUT):
            while not self._all_replied(connector):  # noqa: ASYNC110 - statistics are a snapshot
                await trio.sleep(0.5)
            self.finished = True
            return
        self.complaints.append(f"after {SCENARIO_TIMEOUT:g} s not all is replied: {dict(self.states)}")
        self.finished = True

    def _all_replied(self, connector: Connector) -> bool:
        counts = connector.statistics().queue.counts
        if counts is not None:
            self.states = Counter()
            for (_, state), number in counts.states.items():
                self.states[state] += number
        return self.states == Counter({State.FINALIZED: self._scenario.count})

    def _look_at_time(self) -> None:
        limits = {Ending.CANCEL: UNWINDING, Ending.DRAIN: GRACE + UNWINDING}
        if self.steps.fired is None or self._ending not in limits:
            return
        took = trio.current_time() - self.steps.fired
        if took > limits[self._ending]:
            self.complaints.append(f"was there for {took:g} s after its {self._ending}")

    def _look_at_files(self) -> None:
        journal = self._there.settings.storage.journal
        if not isinstance(journal, Path):
            return
        try:
            with locked(journal):
                pass
        except StartRefused:
            self.complaints.append("the journal is still locked")
        self.complaints += [f"open file: {name}" for name in _open_files() if name.startswith(str(journal))]

    async def _look_at_connections(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        network, dependencies = self._there.network, self._there.dependencies
        for name, place in dependencies.places.items():
            if network.line(*place).open:
                self.complaints.append(f"open connection to {name}")


async def _first_of(scope: trio.CancelScope, wait: Callable[[], Any]) -> None:
    await wait()
    scope.cancel()


def _open_files() -> Sequence[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return ()
    found = []
    for entry in folder.iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:  # the one for the folder itself
            continue
    return found
