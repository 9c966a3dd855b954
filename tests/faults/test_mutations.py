"""Each thing the connector does against a fault is switched off, and a world must notice: the suites are not green by themselves.

The same worlds are green with everything switched on. ``docs/testing.md`` holds the table, and what no world proves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kmsconn.config.working import Pools
from kmsconn.model.events import AnswerKept, ChainReorganised
from kmsconn.testing.faults import (
    Ask,
    ClockStep,
    CoreRestart,
    FailingCore,
    Grant,
    Kill,
    Lying,
    Misbehaviour,
    Outage,
    RefusedCalls,
    RefusingBucket,
    Reorg,
    SpoiledBodies,
    SpoiledCore,
    StrangeLog,
    Strike,
    Wait,
)
from kmsconn.testing.world import PlanStep, WorldReport, run_world
from tests.faults import mutations

pytestmark = [pytest.mark.once, pytest.mark.long]

UNHEALED = 45.0  # seconds for which the dependencies stay as the plan left them


def broken(report: WorldReport) -> bool:
    """Say whether a promise was broken."""
    try:
        report.check()
    except AssertionError:
        return True
    return False


def last_is_late(report: WorldReport) -> bool:
    """Say whether the request that came last waited for something that was none of its business."""
    return report.ground_truth.blocks.get(report.ground_truth.requested[-1], 1000) > 5


def asks_in_vain(report: WorldReport) -> bool:
    """Say whether the contract was asked again about a reply to a request that is not there: once is between two reads of a fork."""
    return sum(times for reason, times in report.reasons.items() if "DecryptionNotRequested" in reason) > 1


def answers_again(report: WorldReport) -> bool:
    """Say whether the Core was asked for more answers than there are requests."""
    return report.events["AnswerKept"] > len(report.ground_truth.requested)


def left_the_chain(report: WorldReport) -> bool:
    """Say whether a request was held for off chain; no block was replaced."""
    return report.sometimes["a request left the chain"] > 0


def came_back(report: WorldReport) -> bool:
    """Say whether a request is on chain again; it left with its block, for ever."""
    return report.sometimes["a request came back"] > 0


def comes_back_slowly(report: WorldReport) -> bool:
    """Say whether the answer to a request that came back was kept more than three seconds after that."""
    back = max(at for at, event in report.log if isinstance(event, ChainReorganised))
    kept = next(at for at, event in report.log if isinstance(event, AnswerKept) and at > back)
    return kept > back + 3.0


def works(report: WorldReport) -> bool:
    """Say whether the connector ran and wrote all the same: a patch that is broken itself turns every world red."""
    return not report.crashes and not any("could not be written" in reason for reason in report.reasons)


@attrs.frozen
class Trial:
    """A mutation and the world that notices it."""

    mutation: mutations.Patch
    plan: list[PlanStep]
    options: dict[str, Any] = attrs.field(factory=dict)
    red: Callable[[WorldReport], bool] = broken

    def play(self) -> WorldReport:
        return run_world([*self.plan, Wait(UNHEALED)], **{"nodes": 1, "settle_time": 150.0, **self.options})


def _trial(
    mutation: mutations.Patch, plan: list[Any], red: Callable[[WorldReport], bool] = broken, **options: Any
) -> Any:
    return pytest.param(Trial(mutation, plan, options, red), id=mutation.__name__)


HIDDEN_LATER: list[PlanStep] = [
    Ask(1.0, "public", granted=False),
    Strike(59.0, "gateway", Misbehaviour("empty_logs", times=1, node=0)),
    Grant(90.0),
]

TRIALS = [
    _trial(
        mutations.no_reorg_window,
        [Strike(0.5, "gateway", Misbehaviour("empty_logs", times=4, node=0)), Ask(1.0, "public")],
    ),
    _trial(mutations.absence_is_believed, HIDDEN_LATER, left_the_chain),
    _trial(mutations.identity_without_content, [Ask(1.0, "direct", 2), Reorg(8.0, 8, "swapped")]),
    _trial(
        mutations.absence_ignored,
        [Ask(1.0, "public"), Reorg(8.0, 8, "vanished"), Ask(60.0, "direct")],
        asks_in_vain,
    ),
    _trial(  # its reply is in no block when it moves, else that is found first; the last one wakes the pool
        mutations.a_move_begins_anew,
        [
            Strike(0.5, "gateway", Misbehaviour("swallowed", times=3, node=0)),
            Ask(1.0, "public"),
            Reorg(8.0, 8, "moved"),
            Ask(8.5, "public"),
        ],
        computing=2.0,
    ),
    _trial(
        mutations.restart_at_the_head,
        [Ask(1.0, "public"), Kill(5.0, 20.0), Ask(10.0, "direct", 2), Ask(40.0, "public")],
    ),
    _trial(
        mutations.removed_logs_are_an_answer,
        [
            Kill(0.1, 240.0),
            Ask(1.0, "public", 3),
            Strike(239.0, "gateway", Misbehaviour("removed_logs", node=0), 120.0),
            Wait(420.0),
        ],
    ),
    _trial(
        mutations.deaf_without_pushes,
        [Strike(0.5, "gateway", Misbehaviour("lost_push", times=60, node=0)), Ask(1.0, "public")],
        last_is_late,
    ),
    _trial(mutations.one_bad_log_stops_everything, [StrangeLog(1.0), Ask(2.0, "public")], last_is_late),
    _trial(
        mutations.forks_not_found,
        [Ask(20.0, "direct", 4), Reorg(90.0, 306, "swapped", place="there"), CoreRestart(90.1), Wait(130.0)],
        block_time=0.25,
    ),
    _trial(  # no log is read when the fork is found; then only the node that stays on the old branch can be had
        mutations.the_proof_of_a_fork_forgotten,
        [
            Ask(20.0, "direct", 4),
            Reorg(90.0, 306, "vanished", stale=40.0, place="there"),
            CoreRestart(90.1),
            Strike(90.0, "gateway", Misbehaviour("hang_up", times=1000, node=1), 9.0),
            Strike(90.0, "gateway", RefusedCalls("eth_getLogs", code=-32601, times=1000), 10.0),
            Strike(99.0, "gateway", Misbehaviour("hang_up", times=1000, node=0), 9.0),
            Wait(130.0),
        ],
        came_back,
        nodes=2,
        block_time=0.25,
    ),
    _trial(  # a cache hides under the new headers that the ids name other content
        mutations.headers_not_compared,
        [
            Ask(5.0, "direct", 4),
            Reorg(12.0, 10, "swapped", place="there", cached=100.0),
            CoreRestart(12.1),
            Wait(240.0),
        ],
    ),
    _trial(  # the requests stay, the replies go with their blocks
        mutations.final_whatever_becomes_of_the_block,
        [Ask(12.0, "public", 3), Reorg(90.0, 306, "vanished"), Wait(130.0)],
        block_time=0.25,
        computing=4.0,
    ),
    _trial(  # hidden, right after the window was read; then the connection is lost
        mutations.the_window_waits_for_its_turn,
        [
            Strike(30.0, "gateway", Misbehaviour("empty_logs", times=2, node=0)),
            Ask(30.0, "public"),
            Outage(31.8, "gateway", "refuse", 0.5),
        ],
        last_is_late,
    ),
    _trial(
        mutations.settled_by_the_clock,
        [
            Strike(22.5, "gateway", Misbehaviour("empty_logs", times=1, node=0)),
            Ask(22.5, "public"),
            Strike(23.3, "gateway", RefusedCalls("eth_getLogs", code=-32601), 120.0),
        ],
    ),
    _trial(
        mutations.the_core_is_believed,
        [
            Strike(0.0, "core0", FailingCore(method="PublicDecrypt", code="INTERNAL", times=2)),
            Ask(1.0, "public", 3),
        ],
    ),
    _trial(
        mutations.who_came_back_wakes_nobody,
        [Ask(5.0, "public", granted=False), Grant(8.3), Reorg(8.4, 4, "vanished", 40.0)],
        comes_back_slowly,
    ),
    _trial(mutations.signed_whatever_the_estimate_says, [Ask(1.0, "public", 2), Reorg(6.0, 20, "moved")]),
    _trial(
        mutations.nonces_from_the_chain_alone,
        [
            Strike(0.0, "core0", FailingCore(method="GetUserDecryptionResult", code="UNAVAILABLE", times=5)),
            Ask(1.0, "direct", 9),
        ],
        block_time=3.0,
        pool="arbitrum at once",
    ),
    _trial(mutations.done_is_a_failure, [Ask(1.0, "public", 2), Reorg(6.0, 20, "moved")]),
    _trial(
        mutations.deadline_by_the_wall,
        [Ask(1.0, "public", granted=False), ClockStep(5.0, 3600.0), Grant(20.0)],
        decryption_expiry=1800.0,
    ),
    _trial(
        mutations.stranded_by_the_clock,
        [Ask(1.0, "public", granted=False), ClockStep(5.0, -3600.0), Grant(20.0)],
    ),
    _trial(
        mutations.already_exists_is_a_failure,
        [
            Strike(0.0, "core0", SpoiledCore(method="PublicDecrypt", how="cut after", times=1)),
            Ask(1.0, "public"),
        ],
    ),
    _trial(
        mutations.unavailable_is_a_failure,
        [
            Strike(0.0, "core0", FailingCore(method="PublicDecrypt", code="UNAVAILABLE", times=1)),
            Ask(1.0, "public"),
        ],
    ),
    _trial(
        mutations.waiting_holds_the_worker,
        [Ask(1.0, "public", 20, granted=False), Ask(30.0, "public", 1), Grant(90.0)],
        last_is_late,
        pools=Pools(public_decryption=4, user_decryption=4),
    ),
    _trial(
        mutations.any_bytes_taken,
        [
            *[Strike(0.0, f"bucket{bucket}", SpoiledBodies(how="wrong bytes", times=9)) for bucket in (0, 1)],
            Ask(1.0, "public", 2),
        ],
    ),
    _trial(
        mutations.some_ciphertexts_are_enough,
        [
            *[Strike(0.0, f"bucket{bucket}", RefusingBucket(code=404, times=7)) for bucket in (0, 1)],
            Ask(1.0, "public", 8),
        ],
    ),
    _trial(mutations.no_version_byte, [Ask(1.0, "any", 8)]),
    _trial(
        mutations.answered_is_not_asked,
        [Ask(1.0, "any", 4), Kill(20.0, 1.0, lose_journal=True), Ask(60.0, "public")],
        answers_again,
    ),
    _trial(
        mutations.nobody_else_is_asked,
        [
            Ask(1.0, "public", 3),
            Outage(0.5, "core0", "refuse", 20.0),
            Lying(15.0, "never taken", 300.0, node=1),
            Wait(300.0),
        ],
        nodes=2,
    ),
    _trial(
        mutations.expired_by_the_chain_alone,
        [
            Lying(9.0, "head -2 d", 3.0),
            Ask(10.0, "public", 3),
            Outage(9.0, "core0", "refuse", 60.0),
            Wait(120.0),
        ],
    ),
]


@pytest.mark.parametrize("trial", TRIALS)
def test_a_world_notices_when_it_is_switched_off(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.mutation(monkeypatch)
    report = trial.play()
    assert trial.red(report)
    assert works(report)


@pytest.mark.parametrize("trial", TRIALS)
def test_the_same_world_is_green_otherwise(trial: Trial) -> None:
    report = trial.play()
    report.check()
    assert not trial.red(report)
