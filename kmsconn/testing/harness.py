"""Two harnesses that nobody should have to write by hand: end the connector at its k-th step, spoil a dependency's n-th call.

Each plays a small scenario, a few requests of different forms, through a whole connector in virtual time; afterwards everything must
be answered, nothing twice, and nothing left behind. Hand ``run_scenario`` every step or call in turn to try them all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
import trio
import trio.testing

from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.errors import StartRefused
from kmsconn.journal.sqlite import locked
from kmsconn.model.life import State
from kmsconn.testing.endings import Ending, Steps, run_marked, seeded_scheduler
from kmsconn.testing.ground_truth import GroundTruthReport, read_ground_truth
from kmsconn.testing.invariants import kept_in
from kmsconn.testing.killable import ConnectorProcess
from kmsconn.testing.spoiling import Spoiler
from kmsconn.testing.world import World, open_world

SCENARIO_TIMEOUT = 600.0  # virtual seconds in which everything must be replied and finalized
UNWINDING = 2.0  # virtual seconds in which a cancelled connector must be gone
GRACE = 20.0  # virtual seconds in which a drained one must be
LIMITS: Mapping[Ending, float] = {
    Ending.KILL: math.inf,
    Ending.CANCEL: UNWINDING,
    Ending.DRAIN: GRACE + UNWINDING,
}


@attrs.frozen
class Scenario:
    """What is asked: ``forms`` before the connector starts, ``later`` a moment after; ``posts`` over HTTP, until they are answered."""

    forms: tuple[str, ...] = ("public", "direct")
    later: tuple[str, ...] = ("unified",)
    moment: float = 1.5
    seed: int = 0
    reorg_window: float = 4.0
    websocket: bool = True
    """Whether the chains are asked over websockets, else over HTTP."""
    posts: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many requests there are on the chain."""
        return len(self.forms) + len(self.later)

    @property
    def states(self) -> Counter[State]:
        """In which states all requests end."""
        return Counter({State.FINALIZED: self.count, State.DONE: len(self.posts)})


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
    starts: Counter[int]
    """How often the Core took the start of each request, by its id."""
    complaints: tuple[str, ...]

    def check(self, scenario: Scenario) -> None:
        """Raise AssertionError unless all is answered once, known as such, and nothing was complained of."""
        assert not self.complaints, "; ".join(self.complaints)
        assert len(self.ground_truth.requested) == scenario.count, "not everything was asked"
        assert not self.ground_truth.open, f"lost: {[hex(i) for i in self.ground_truth.open]}"
        assert not self.ground_truth.doubled, f"doubled: {[hex(i) for i in self.ground_truth.doubled]}"
        assert self.states == scenario.states, dict(self.states)


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
    changes = {"reorg_window": scenario.reorg_window, "drain_grace": GRACE}
    async with open_world(changes, scenario.seed, settle=spoiler.settle) as world:
        world.process.dial, world.websocket = spoiler.dial(world.network), scenario.websocket
        steps = Steps(at, partial(_strike, world.process, ending))
        starts = _starts(world.dependencies)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.clients.run)
            nursery.start_soon(_ask, world, scenario)
            complaints = await _live(world, scenario, steps, ending)
            if not _all_replied(world, scenario):
                complaints += await _live(world, scenario, Steps())
            nursery.cancel_scope.cancel()
        unserved = [*world.clients.violations, *world.clients.owed()]
        return ScenarioOutcome(
            ground_truth=read_ground_truth(world.dependencies),
            states=_states(world),
            steps=steps.count,
            calls=tuple(spoiler.calls),
            bursts=tuple(spoiler.bursts),
            struck=steps.fired is not None or spoiler.struck,
            seconds=trio.current_time(),
            starts=starts,
            complaints=(*complaints, *world.process.crashes, *world.invariants.violations, *unserved),
        )


def _starts(dependencies: EmulatedDependencies) -> Counter[int]:
    """Count the starts that the Core takes from now on."""
    starts: Counter[int] = Counter()
    dependencies.cores[0].core.on_start = lambda request_id: starts.update([int.from_bytes(request_id)])
    return starts


async def _ask(world: World, scenario: Scenario) -> None:
    for form in scenario.forms:
        world.traffic.forms[form]()
    for form in scenario.posts:
        world.clients.post(world.traffic.prepare(form))
    await trio.sleep(scenario.moment)
    for form in scenario.later:
        world.traffic.forms[form]()


def _strike(process: ConnectorProcess, ending: Ending | None) -> None:
    match ending:
        case Ending.KILL:
            process.kill()
        case Ending.CANCEL:
            process.life.scope.cancel()
        case _:
            process.drain()


async def _live(world: World, scenario: Scenario, steps: Steps, ending: Ending | None = None) -> list[str]:
    """Let one process live until everything is replied or its ending struck, and return what it leaves behind."""
    await run_marked(partial(_stay, world, scenario), steps)
    late = trio.current_time() - steps.fired > LIMITS[ending] if steps.fired is not None and ending else False
    await trio.testing.wait_all_tasks_blocked()
    places = world.dependencies.places.items()
    return [
        *([f"was there for too long after its {ending}"] if late else []),
        *_left_of(world.journal),
        *(f"open connection to {name}" for name, place in places if world.network.line(*place).open),
        *(f"task left: {task.name}" for task in steps.alive),
    ]


async def _stay(world: World, scenario: Scenario) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_when_replied, world, scenario)
        await world.live_once()
        nursery.cancel_scope.cancel()


async def _end_when_replied(world: World, scenario: Scenario) -> None:
    with trio.move_on_after(SCENARIO_TIMEOUT):
        while not _all_replied(world, scenario):  # noqa: ASYNC110 - the file is looked at from outside
            await trio.sleep(0.5)
    world.process.life.scope.cancel()


def _all_replied(world: World, scenario: Scenario) -> bool:
    return _states(world) == scenario.states


def _states(world: World) -> Counter[State]:
    return Counter(row.state for row in kept_in(world.journal))


def _left_of(journal: Path) -> Iterator[str]:
    """Yield what a process that is gone still holds of its journal."""
    try:
        with locked(journal):
            pass
    except StartRefused:
        yield "the journal is still locked"
    yield from (f"open file: {name}" for name in _open_files() if name.startswith(str(journal)))


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
