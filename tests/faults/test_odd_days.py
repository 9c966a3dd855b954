"""Odd but honest days end in progress or in a named alert: wrong clocks, chains that halt, nodes that lag, machines that sleep."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio

from kmsconn.config.parties import Chain
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.dependencies import GATEWAY_ID
from kmsconn.model.events import AlertRaised, RequestClosed
from kmsconn.testing.faults import Ask, ClockStep, Kill, LaggingNodes, Outage, Strike
from kmsconn.testing.world import PlanStep, World, WorldReport, run_world

pytestmark = pytest.mark.once

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


# --- what happens on such days


def change_clock(chain: EmulatedChain, shift: Callable[[], float]) -> None:
    """Have new blocks of a chain carry a time that is ``shift`` seconds off what they would carry."""
    own = chain._clock
    chain._clock = lambda: own() + shift()


@attrs.frozen
class Halt:
    """All chains make no block for ``seconds``; then they go on with the present time."""

    at: float
    seconds: float

    async def play(self, world: World) -> None:
        for chain in world.dependencies.chains:
            chain.stalled = True
        await trio.sleep(self.seconds)
        for chain in world.dependencies.chains:
            chain.stalled = False


@attrs.frozen
class CatchUp:
    """The sequencer of the Gateway chain halts for ``seconds``; its blocks go on with the old time, and gain a minute in each second."""

    at: float
    seconds: float

    async def play(self, world: World) -> None:
        chain = world.dependencies.gateway
        chain.stalled = True
        await trio.sleep(self.seconds)
        goes_on = trio.current_time()
        change_clock(chain, lambda: min(0.0, -self.seconds + MINUTE * (trio.current_time() - goes_on)))
        chain.stalled = False


@attrs.frozen
class Past:
    """The Gateway chain has made a block every 30 s for so many ``seconds`` before."""

    at: float
    seconds: float

    async def play(self, world: World) -> None:
        await trio.lowlevel.checkpoint()
        chain = world.dependencies.gateway
        for _ in range(round(self.seconds / 30)):
            change_clock(chain, lambda: 30.0)
            chain.mine()
        for other in world.dependencies.chains:
            if other is not chain:
                change_clock(other, lambda: self.seconds)
        world.wall_step += self.seconds


@attrs.frozen
class Suspend:
    """The machine sleeps for ``seconds``: chains and the wall clock go on, the monotonic clock does not, and no connection survives."""

    at: float
    seconds: float

    async def play(self, world: World) -> None:
        await trio.lowlevel.checkpoint()
        world.wall_step += self.seconds
        for chain in world.dependencies.chains:
            change_clock(chain, lambda: self.seconds)
            chain.mine_many(50)
        world.cut()


@attrs.frozen
class NoMoreConnections:
    """The nodes of the Gateway chain keep the connections that they have, and take no other."""

    at: float

    async def play(self, world: World) -> None:
        await trio.lowlevel.checkpoint()
        world.network.line(*world.dependencies.places["gateway"]).refuse = True


# --- how one is played


def play(*day: PlanStep, ends: float = 5 * MINUTE, **options: object) -> WorldReport:
    """Play a day between two minutes of quiet ones, with requests before, during and after it. Raises AssertionError for what is lost."""
    asking = [Ask(at, "public", 2) for at in (10.0, 55.0, 70.0, ends, ends + MINUTE)]
    report = run_world([*asking, *day], seed=5, **options)
    report.check()
    return report


def critical(report: WorldReport) -> set[tuple[str, str]]:
    """Return the critical alerts of a day: dependency and cause."""
    return {
        (event.dependency, event.cause)
        for _, event in report.log
        if isinstance(event, AlertRaised) and event.critical
    }


def causes(report: WorldReport) -> set[str]:
    """Return the causes of all alerts of a day."""
    return {event.cause for _, event in report.log if isinstance(event, AlertRaised)}


def ended(report: WorldReport) -> list[str]:
    """Return why requests were closed by us."""
    return [event.reason for _, event in report.log if isinstance(event, RequestClosed)]


# --- the days


CORE_AWAY = Outage(50.0, "core0", "refuse", 120.0)


@pytest.mark.parametrize(
    "wrong", [HOUR, -HOUR, DAY, -DAY, -50 * 365 * DAY], ids=lambda wrong: f"{wrong:+.0f} s"
)
def test_a_clock_that_is_wrong_from_the_start(wrong: float) -> None:
    report = play(ClockStep(0.0, wrong), Kill(1.0, 1.0), CORE_AWAY)
    assert ended(report) == []
    assert "clock" in causes(report)


@pytest.mark.parametrize("step", [2 * DAY, -2 * DAY], ids=lambda step: f"{step:+.0f} s")
@pytest.mark.parametrize("away", [(), (CORE_AWAY,)], ids=["Core there", "Core away"])
def test_a_clock_that_steps_while_requests_wait(step: float, away: tuple[Outage, ...]) -> None:
    report = play(ClockStep(60.0, step), *away)
    assert ended(report) == []
    assert "clock" in causes(report)


@pytest.mark.rotating
@pytest.mark.parametrize(
    "away", [(), (Outage(50.0, "core0", "refuse", HOUR + 60),)], ids=["Core there", "Core away"]
)
def test_a_chain_that_halts_for_an_hour(away: tuple[Outage, ...]) -> None:
    report = play(Halt(60.0, HOUR), *away, ends=60 + HOUR + MINUTE)
    assert ended(report) == []
    assert critical(report)


@pytest.mark.rotating
def test_a_sequencer_that_catches_up_with_old_timestamps() -> None:
    away = Outage(60 + HOUR, "core0", "refuse", 120.0)
    report = play(CatchUp(60.0, HOUR), away, ends=60 + HOUR + 3 * MINUTE)
    assert ended(report) == []


@pytest.mark.parametrize("node", [None, 0], ids=["all", "one of two"])
def test_a_node_that_is_hours_behind(node: int | None) -> None:
    """It shows what was two hours ago."""
    behind = Strike(60.0, "gateway", LaggingNodes(blocks=240, node=node), 3 * MINUTE)
    report = play(Past(0.0, 2 * HOUR), Kill(1.0, 1.0), behind, nodes=2)
    assert ended(report) == []


@pytest.mark.parametrize("slept", [2 * HOUR, 20 * HOUR], ids=["two hours", "a night"])
def test_a_machine_that_slept(slept: float) -> None:
    report = play(Suspend(60.0, slept), CORE_AWAY)
    assert ended(report) == []


def test_a_second_url_that_is_dead_costs_nothing() -> None:
    gateway = Chain(GATEWAY_ID, ("ws://gateway:80", "ws://nobody:80"))
    report = play(CORE_AWAY, gateway=gateway)
    assert ended(report) == []
    assert causes(report) <= {"unreachable"}


def test_no_second_connection_is_ever_accepted() -> None:
    """Replies go on. What a chain ends would wait."""
    report = play(NoMoreConnections(30.0))
    assert ended(report) == []
