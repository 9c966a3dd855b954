"""Reorganisations deeper than the reorg window: what stands above the fork is read again and judged, whatever its state was."""

from __future__ import annotations

import pytest

from kmsconn.model.events import ChainReorganised
from kmsconn.testing.faults import Ask, CoreRestart, Kill, Outage, Reorg, Wait
from kmsconn.testing.world import PlanStep, run_world

pytestmark = pytest.mark.sampled

LOST = 306  # blocks of 0.25 s: 76 s, the window is 30
KILLED_UNTIL = 180.0
COMPUTING = {
    "final replies go, their requests stay": 4.0,
    "a reply goes that was found after the journal was lost": 4.0,
}
DEEP: dict[str, list[PlanStep]] = {
    "new requests under old ids": [
        Ask(20.0, "direct", 6),
        Reorg(90.0, LOST, "vanished", place="there", shorter=LOST),
        CoreRestart(90.1),
        Ask(90.2, "direct", 6),
        Wait(200.0),
    ],
    "the same requests under other ids": [
        Ask(20.0, "direct", 6),
        Reorg(90.0, LOST, "swapped", place="there"),
        CoreRestart(90.1),
        Wait(200.0),
    ],
    "final replies go, their requests stay": [
        Ask(12.0, "public", 6),
        Reorg(90.0, LOST, "vanished"),
        Wait(200.0),
    ],
    "everything goes but what is asked again": [
        Ask(20.0, "public", 3),
        Reorg(90.0, LOST, "vanished"),
        Ask(91.0, "public", 3),
        Wait(200.0),
    ],
    "a reply goes that was found after the journal was lost": [
        Ask(12.0, "public", 3),
        Kill(40.0, 1.0, lose_journal=True),
        Reorg(100.0, 346, "vanished"),
        Wait(200.0),
    ],
    "while the process is down": [
        Ask(20.0, "direct", 6),
        Kill(89.0, 20.0),
        Reorg(95.0, LOST + 20, "swapped", place="there"),
        CoreRestart(95.1),
        Wait(200.0),
    ],
    "while the node cannot be had": [
        Ask(20.0, "direct", 6),
        Outage(85.0, "gateway", "refuse", 40.0),
        Reorg(95.0, LOST + 20, "swapped", place="there"),
        CoreRestart(95.1),
        Wait(250.0),
    ],
    "there and back again": [
        Ask(20.0, "direct", 6),
        Reorg(90.0, LOST, "swapped", 40.0, place="there"),
        CoreRestart(90.1),
        CoreRestart(130.1),
        Wait(250.0),
    ],
}


@pytest.mark.parametrize("name", DEEP)
def test_a_reorganisation_beyond_the_window_loses_and_doubles_nothing(name: str) -> None:
    run_world(
        DEEP[name], nodes=1, block_time=0.25, settle_time=300.0, computing=COMPUTING.get(name, 0.1)
    ).check()


def test_a_process_that_is_killed_each_four_seconds_gets_past_it() -> None:
    """No life of it is long enough for a second look: what was suspected before a start counts."""
    plan: list[PlanStep] = [
        Ask(20.0, "direct", 6),
        Reorg(90.0, LOST, "vanished", place="there", shorter=LOST),
        CoreRestart(90.1),
        Ask(90.2, "direct", 6),
        *(Kill(90.5 + 4.0 * life, 0.1) for life in range(1, 25)),
        Wait(190.0),
    ]
    report = run_world(plan, nodes=1, block_time=0.25, settle_time=300.0)
    report.check()
    assert min(at for at, event in report.log if isinstance(event, ChainReorganised)) < KILLED_UNTIL
