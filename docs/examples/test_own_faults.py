"""A fault suite of one's own: named faults, a fault that is not among them, every step of a run, and drawn worlds.

Run it with ``pytest docs/examples/test_own_faults.py`` where ``kmsconn[testing]`` and ``pytest`` are installed. It opens no socket, and
minutes of virtual time take seconds.
"""

# ruff: noqa: INP001, PLR2004 - a test file of its own; expected values stand in the test

from __future__ import annotations

from functools import cache

import attrs
import pytest
import trio
from hypothesis import given, settings

from kmsconn.testing import Case, Ending, Scenario, Spoil, Spoiler, World, cases, run_scenario, run_world
from kmsconn.testing.faults import Ask, Kill, Outage, SpoiledBodies, Strike


def test_a_core_that_is_gone_for_a_minute_costs_no_request() -> None:
    """Requests before, during and after the outage; every fault stands in the plan with its moment."""
    plan = [Ask(1.0, count=3), Outage(2.0, "core0", "refuse", 60.0), Ask(30.0, count=3), Ask(65.0)]
    report = run_world(plan, seed=1)
    report.check()  # every request answered, none twice, no invariant broken
    assert len(report.ground_truth.answered) == 7


def test_a_kill_while_a_bucket_gives_wrong_bytes_costs_no_request() -> None:
    """Faults meet: the plan's order does not matter, only the moments do."""
    plan = [
        Ask(1.0, count=5),
        Strike(0.5, "bucket0", SpoiledBodies(how="wrong bytes", times=4)),
        Kill(2.5, down=10.0),
    ]
    report = run_world(plan, seed=2)
    report.check()
    assert report.events["CiphertextMismatch"] > 0


@attrs.frozen
class SlowLine:
    """A step of one's own: bytes to and from a dependency take ``latency`` seconds for ``seconds``."""

    at: float
    dependency: str
    latency: float
    seconds: float

    async def play(self, world: World) -> None:
        """Slow the line down, and let it go again."""
        line = world.network.line(*world.dependencies.places[self.dependency])
        line.there.latency = line.back.latency = self.latency
        await trio.sleep(self.seconds)
        line.there.latency = line.back.latency = 0.0


def test_a_slow_line_to_the_gateway_costs_no_request() -> None:
    """Whatever has ``at`` and ``play`` is a step."""
    report = run_world([Ask(3.0, count=4), SlowLine(1.0, "gateway", latency=2.0, seconds=60.0)], seed=3)
    report.check()


SCENARIO = Scenario(forms=("public",), later=())


@cache
def steps() -> int:
    """Return the number of task steps of an undisturbed run."""
    return run_scenario(SCENARIO).steps


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_process_killed_at_any_step_loses_and_doubles_nothing(share: float) -> None:
    """Three of the steps here; ``range(1, steps() + 1)`` tries every one."""
    run_scenario(SCENARIO, ending=Ending.KILL, at=int(share * steps())).check(SCENARIO)


def test_a_connection_that_breaks_after_a_call_loses_and_doubles_nothing() -> None:
    """The tenth call of the scenario is carried out, and its answer lost."""
    outcome = run_scenario(SCENARIO, spoiler=Spoiler(at=10, how=Spoil.CUT_AFTER))
    outcome.check(SCENARIO)
    assert outcome.struck


@settings(max_examples=3, deadline=None)
@given(cases("kill"))
def test_drawn_worlds_with_a_killed_process_keep_every_promise(case: Case) -> None:
    """Each world has a kill and other faults; Hypothesis shrinks one that fails and prints the line that plays it again."""
    case.run().check()
