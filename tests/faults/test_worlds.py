"""Whole worlds with random plans: nothing lost, nothing doubled, every invariant kept that can be seen from outside.

A failing example prints one line, ``run_world([...], ...)``; paste it into ``tests/faults/test_found.py`` (``docs/testing.md``).
"""

from __future__ import annotations

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from kmsconn.testing.endings import watchdog
from kmsconn.testing.faults import Ask, Kill, LaggingNodes, Reorg, StrangeLog, Strike
from kmsconn.testing.strategies import FAULTS, Case, cases
from kmsconn.testing.world import PlanStep, run_world
from tests.faults.conftest import MANY, SAMPLE, WORLDS
from tests.faults.tally import TALLY

ENOUGH = 50  # worlds after which every one of these must have happened
SOMETIMES = (
    "a reorganisation took an answered request",
    "a reorganisation took an open request",
    "killed while something is pending",
    "killed while something is signed",
    "killed while something is included",
    "a request moved",
    "a request left the chain",
    "a log was quarantined",
)


def play(case: Case) -> None:
    note(f"to play it again: {case!r}")
    with watchdog(300):
        report = case.run()
    TALLY.add(report)
    report.check()


if WORLDS:

    @MANY
    @given(cases())
    def test_new_worlds_keep_every_promise(case: Case) -> None:
        play(case)

else:

    @pytest.mark.sampled
    @pytest.mark.parametrize("fault", FAULTS)
    @SAMPLE
    @given(data=st.data())
    def test_a_sample_of_worlds_with_each_fault_keeps_every_promise(fault: str, data: st.DataObject) -> None:
        play(data.draw(cases(fault)))


RARE: dict[str, list[PlanStep]] = {
    "a reorganisation took an answered request": [Ask(1.0, "public", 5), Reorg(6.0, 20, "vanished"), Ask(8.0, "public", 2)],
    "killed while something is signed": [Ask(1.0, "public", 5), Kill(2.5, 1.0)],
    "a log was quarantined": [Ask(1.0, "public", 5), StrangeLog(2.0)],
    "a reorganisation took an open request": [Ask(1.0, "public", 3, granted=False), Reorg(3.0, 10, "vanished")],
    "a request moved": [Ask(1.0, "public", 2), Reorg(6.0, 20, "moved")],
}  # fmt: skip
"""FaultInjection brings these about too seldom to rely on."""


@pytest.mark.parametrize("what", RARE)
def test_what_seldom_happens_keeps_every_promise(what: str) -> None:
    report = run_world(RARE[what], seed=1)
    report.check()
    TALLY.add(report)
    assert report.sometimes[what]


@pytest.mark.once  # a smaller sample need not bring everything about
def test_the_worlds_were_not_empty() -> None:
    """What should happen now and then did happen, so that the other test proves something."""
    if TALLY.worlds < ENOUGH:
        pytest.skip("too few worlds were played")
    assert [name for name in SOMETIMES if not TALLY.sometimes[name]] == []


def test_a_world_is_a_function_of_its_plan_and_seed() -> None:
    """A line that replays a failure is worth nothing otherwise: every event at the same moment."""
    plan: list[PlanStep] = [
        Ask(1.0, "any", 5),
        Strike(2.0, "gateway", LaggingNodes(3, node=0), 9.0),
        Kill(4.3, 2.0),
        Reorg(9.0, 5, "moved"),
        Ask(9.5, "any", 5),
    ]
    first, second = (run_world(plan, seed=5) for _ in range(2))
    assert first.log == second.log
