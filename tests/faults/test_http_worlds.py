"""Clients over HTTP in whole worlds: whatever dies, hangs or is reorganised meanwhile, each has its answer in the end."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.config.values import Secret
from kmsconn.testing.faults import (
    Ask,
    ClockStep,
    CoreRestart,
    Drain,
    Kill,
    KillAtWork,
    Outage,
    Post,
    Reorg,
)
from kmsconn.testing.strategies import Case, cases, moments
from kmsconn.testing.world import PlanStep, run_world
from tests.faults.conftest import SAMPLE

pytestmark = pytest.mark.sampled

PLANS: dict[str, Sequence[PlanStep]] = {
    "nothing happens": [],
    "killed": [Kill(1.6, 2.0), Kill(5.2, 1.0), Kill(9.0, 4.0)],
    "killed in the middle of a commit": [KillAtWork(1.0, 3, "before"), KillAtWork(5.0, 4, "after")],
    "drained": [Drain(1.7, 1.0), Drain(8.0, 3.0)],
    "the journal lost": [Kill(4.0, 2.0, lose_journal=True)],
    "the Core restarted": [CoreRestart(1.6), CoreRestart(3.1)],
    "the Core away": [Outage(1.2, "core0", "refuse", 40.0)],
    "the host chain away": [Outage(1.2, "host", "mute", 40.0)],
    "the Gateway away": [Outage(1.2, "gateway", "refuse", 20.0)],
    "the clock set back by an hour": [ClockStep(3.0, -3600.0)],
    "reorganisations": [Reorg(3.0, 3, "moved"), Reorg(8.0, 6, "swapped"), Reorg(12.0, 8, "moved")],
}


@pytest.mark.parametrize("trouble", PLANS.values(), ids=PLANS)
def test_every_client_has_its_answer(trouble: Sequence[PlanStep]) -> None:
    asking = [step for at in (1.0, 4.5, 8.5) for step in (Post(at, "any", 3), Ask(at, "any", 2))]
    report = run_world([*asking, *trouble])
    report.check()
    assert report.steps["Post"] == 3


def test_a_client_without_an_answer_would_be_seen() -> None:
    """The node of another wallet is in no context: its clients ask for ever."""
    report = run_world([Post(1.0, "public")], settle_time=60.0, private_key=Secret("0x" + "11" * 32))
    assert [text.rpartition(" has ")[2] for text in report.broken] == ["no answer"]


posts = st.builds(Post, moments(), st.just("any"), st.integers(1, 4))


@SAMPLE
@given(case=cases(), posting=st.lists(posts, min_size=1, max_size=5))
def test_every_client_has_its_answer_whatever_happens(case: Case, posting: list[PlanStep]) -> None:
    attrs.evolve(case, plan=(*case.plan, *posting)).run().check()
