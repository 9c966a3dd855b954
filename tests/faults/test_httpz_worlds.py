"""Worlds of the first generation: what goes wrong around its contracts and its Core loses nothing and doubles nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from kmsconn.model.requests import HTTPZ_RC7
from kmsconn.testing.endings import watchdog
from kmsconn.testing.faults import (
    Ask,
    CoreRestart,
    Drain,
    FailingCore,
    Foreign,
    Kill,
    KillAtWork,
    LaggingNodes,
    Misbehaviour,
    Outage,
    RefusingBucket,
    Reorg,
    ShortEstimate,
    SpoiledBodies,
    SpoiledCore,
    StrangeLog,
    Strike,
)
from kmsconn.testing.strategies import FAULTS, Case, cases
from kmsconn.testing.world import PlanStep, run_world
from tests.faults.conftest import FEW, MANY, WORLDS

ASKED = [Ask(1.0, "public", 4), Ask(2.0, "user", 4), Ask(12.0, "delegated", 2), Ask(25.0, "any", 5)]
WORST: dict[str, Sequence[PlanStep]] = {
    "killed again and again": [Kill(at, 1.5) for at in (2.3, 7.1, 13.2, 26.4)],
    "killed with its journal": [Kill(3.2, 2.0, lose_journal=True), Kill(27.0, 1.0, lose_journal=True)],
    "killed at its work": [
        act
        for n in (1, 2, 3, 4)
        for act in (KillAtWork(2.0 * n + 2, n, "before"), KillAtWork(2.0 * n + 3, n, "after"))
    ],
    "drained": [Drain(3.5), Drain(26.0)],
    "a core that forgets": [CoreRestart(at) for at in (2.5, 4.5, 13.0, 26.0, 30.0)],
    "a core that is away": [Outage(2.0, "core0", "refuse", 40.0)],
    "a core that fails": [
        Strike(0.5, "core0", FailingCore(method=method, code="UNAVAILABLE", times=3))
        for method in ("Decrypt", "GetDecryptResult", "Reencrypt", "GetReencryptResult")
    ],
    "replies of the core lost": [
        Strike(0.5, "core0", SpoiledCore(method=m, how="cut after", times=3))
        for m in ("Decrypt", "Reencrypt")
    ],
    "blocks replaced": [Reorg(8.0, 5, "moved"), Reorg(16.0, 6, "moved", back=3.0, stale=4.0)],
    "requests in another order": [Reorg(8.0, 7, "swapped"), Reorg(28.0, 5, "swapped", back=4.0)],
    "requests gone": [Reorg(9.0, 8, "vanished"), Ask(10.0, "any", 3)],
    "nodes that lie": [
        Strike(0.5, "gateway", Misbehaviour(fault, times=3, node=node))
        for node, fault in enumerate(("duplicate_logs", "lost_reply", "hang_up", "slow"))
    ]
    + [Strike(0.5, "gateway", ShortEstimate(times=3))],
    "a node behind": [Strike(1.0, "gateway", LaggingNodes(4, node=0), 40.0)],
    "the gateway away": [Outage(3.0, "gateway", "unreachable", 30.0)],
    "a gateway that is mute": [Outage(3.0, "gateway", "mute", 30.0)],
    "both buckets away": [Outage(0.5, f"bucket{n}", "refuse", 60.0) for n in (0, 1)],
    "wrong bytes": [Strike(0.5, f"bucket{n}", SpoiledBodies(how="wrong bytes", times=6)) for n in (0, 1)],
    "buckets that forbid": [Strike(0.5, f"bucket{n}", RefusingBucket(code=403, times=8)) for n in (0, 1)],
    "foreign nonces and logs": [Foreign(3.0), StrangeLog(4.0), Foreign(26.0)],
}


MUST_HAPPEN = {
    "killed again and again": "killed while something is included",
    "killed with its journal": "killed while something is included",
    "killed at its work": "killed while something is pending",
    "a core that forgets": "core: GetDecryptResult NOT_FOUND",
    "a core that fails": "core: Reencrypt UNAVAILABLE",
    "replies of the core lost": "core: Decrypt spoil cut after",
    "blocks replaced": "a reorganisation took an included reply",
    "requests in another order": "a request moved",
    "requests gone": "a request left the chain",
    "nodes that lie": "gateway node: lost_reply",
    "wrong bytes": "bucket: spoil wrong bytes",
    "buckets that forbid": "bucket: status 403",
    "foreign nonces and logs": "a log was quarantined",
}
"""What must have happened in some of these worlds, so that they prove something."""


@pytest.mark.long
@pytest.mark.parametrize("what", WORST)
def test_a_world_with_one_thing_wrong_keeps_every_promise(what: str) -> None:
    wrong = WORST[what]
    with watchdog(120):
        report = run_world([*ASKED, *wrong], profile=HTTPZ_RC7, seed=3, computing=1.5)
    report.check()
    assert len(report.ground_truth.requested) >= sum(step.count for step in ASKED) or what == "requests gone"
    assert what not in MUST_HAPPEN or (report.sometimes + report.faults)[MUST_HAPPEN[what]]


def play(case: Case) -> None:
    note(f"to play it again: {case!r}")
    with watchdog(300):
        case.run().check()


if WORLDS:

    @MANY
    @given(cases(profile=HTTPZ_RC7))
    def test_new_worlds_keep_every_promise(case: Case) -> None:
        play(case)

else:

    @pytest.mark.sampled
    @pytest.mark.parametrize("fault", FAULTS)
    @FEW
    @given(data=st.data())
    def test_a_sample_of_worlds_with_each_fault_keeps_every_promise(fault: str, data: st.DataObject) -> None:
        play(data.draw(cases(fault, HTTPZ_RC7)))
