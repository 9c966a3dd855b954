"""Worlds that once failed, as small as they could be made, each with its cause. A new one comes first, then the fix."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.testing.faults import (
    Ask,
    Balance,
    CoreRestart,
    Drain,
    Foreign,
    Grant,
    Kill,
    Lying,
    Misbehaviour,
    Outage,
    RefusedCalls,
    Reorg,
    StalledChain,
    Strike,
    Upgrade,
    Wait,
)
from kmsconn.testing.world import PlanStep, run_world
from tests.faults import mutations

pytestmark = pytest.mark.rotating


@pytest.mark.parametrize("at", [29.0, 59.0])
def test_one_empty_answer_at_the_end_of_the_reorg_window_loses_nothing(at: float) -> None:
    """A node with the right head left a request out, once, in the last read before its block left the reorg window.

    Off chain for ever: nobody read that block again. Blocks of missing requests are now looked at again for a quarter of an hour.
    """
    plan: list[PlanStep] = [
        Ask(1.0, "public", granted=False),
        Strike(at, "gateway", Misbehaviour("empty_logs", times=1, node=0)),
        Grant(90.0),
    ]
    run_world(plan, nodes=1, settle_time=200.0).check()


def test_a_reply_that_a_reorganisation_put_into_a_later_block_is_not_finalized_by_its_old_one() -> None:
    """The block where it was first seen included was older than the reorg window; the one where it stood was ten seconds old (S15)."""
    run_world([Ask(1.0, "public"), Reorg(20.0, 20, "moved"), Ask(60.0, "public")], settle_time=200.0).check()


def test_a_head_of_years_ahead_makes_no_pace_that_a_reply_waits_by() -> None:
    """A block seemed to take a year, so that the next question about a reply that had no receipt was due after 114 days."""
    plan: list[PlanStep] = [
        Ask(0.0, "public"),
        Lying(9.0, "head +10 y", 70.0),
        Lying(15.7, "nonce -100", 20.0),
        Ask(23.6, "public"),
    ]
    run_world(plan, nodes=1, seed=2277, pool="geth", shards=2, block_time=3.0, reorg_window=10.0).check()


def test_requests_of_a_chain_that_went_back_and_grew_again_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A → B → A ended ten blocks lower, and six requests came in numbers that the reader had passed, with a silent node beside it.

    The reorg window was as deep as the usual pace; now all is read again that is not settled. The counting of ids would find them too, so
    it is off here.
    """
    mutations.ids_not_counted(monkeypatch)
    plan: list[PlanStep] = [
        Ask(18.1, "unified_delegated", 5),
        Reorg(25.7, 10, "swapped", 6.1),
        Reorg(28.0, 9, "vanished"),
        Ask(30.1, "unified", 6),
        Reorg(35.0, 1, "moved", None, 29.4),
    ]
    run_world(plan, nodes=1, settle_time=200.0).check()


def test_a_node_that_shows_removed_logs_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was believed that nothing was in the rest of a back-fill, which nobody reads twice."""
    mutations.ids_not_counted(monkeypatch)
    plan: list[PlanStep] = [
        Kill(0.1, 240.0),
        Ask(1.0, "public", 3),
        Strike(239.0, "gateway", Misbehaviour("removed_logs", times=1, node=0)),
        Wait(250.0),
    ]
    run_world(plan, nodes=1, settle_time=200.0).check()


def test_a_burst_in_one_second_makes_nothing_old() -> None:
    """Twenty blocks of one timestamp counted as one, so that replies of fourteen seconds ago were finalized (S15)."""
    run_world(
        [Ask(14.5, "direct", 5), Strike(22.2, "gateway", StalledChain(20), 7.1), Wait(40.0)],
        nodes=1,
        settle_time=200.0,
    ).check()


def test_a_node_that_stayed_on_a_branch_calls_it_final_and_nothing_is_lost() -> None:
    """A process starts at a node of the old branch, whose finalized block is of that branch; the reply is final until the fork is found.

    The invariants asked for more than a chain that breaks its own finality can give.
    """
    plan: list[PlanStep] = [
        Ask(20.0, "direct", 3),
        Drain(36.3, 29.5),
        Reorg(64.6, 195, "swapped", 8.7, 10.1, shorter=478),
        Wait(120.0),
    ]
    run_world(plan, seed=347, nodes=2, block_time=0.25).check()


AGAIN_FINAL: dict[str, tuple[list[PlanStep], dict[str, Any]]] = {
    "a fork below the reply's new block": (
        [Ask(1.0, "public"), Reorg(30.5, 14, "moved"), Reorg(97.5, 72, "vanished"), Wait(100.0)],
        {"computing": 20.0},
    ),
    "the same fork again": (
        [
            Ask(0.2, "public"),
            Reorg(30.1, 100, "moved", stale=23.1, place="there"),
            Reorg(68.0, 5, "moved", back=81.4),
            Reorg(79.2, 3, "moved", back=7.4, place="there", shorter=2),
            Reorg(94.5, 468, "moved", stale=23.4, place="there", shorter=432),
        ],
        {},
    ),
}


@pytest.mark.parametrize("name", AGAIN_FINAL)
def test_a_reply_that_became_final_after_one_fork_is_asked_for_after_the_next(name: str) -> None:
    """Nobody asked for a final reply again that a second reorganisation took, and its request was lost in silence.

    The first fork had lowered the block that is noted for the reply, so that it was asked for again, and the reply became final
    under that block: the second fork found nothing above it. Now a final reply has the block where it stands.
    """
    plan, options = AGAIN_FINAL[name]
    run_world(plan, nodes=1, settle_time=300.0, **options).check()


@pytest.mark.parametrize("back", [4.0, 12.0])
def test_what_a_branch_refuses_for_good_is_sent_on_the_one_that_comes_back(back: float) -> None:
    """For 4 or 12 s the ids name other content, so that the contract takes the kept answers from no signer (S8).

    The request was older than the window, so the first such no was believed. Now the node that says it must show the request's block.
    """
    plan: list[PlanStep] = [
        Ask(72.0, "direct", 4),
        Reorg(90.0, 306, "swapped", back, place="there"),
        Wait(120.0),
    ]
    run_world(plan, nodes=1, block_time=0.25, computing=20.0, reorg_window=10.0, settle_time=200.0).check()


def test_final_replies_of_ids_that_another_branch_gives_away_are_there_when_theirs_comes_back() -> None:
    """Replies were final; their requests went with the branch, others got their ids, and the old branch came back (S8), as above."""
    plan: list[PlanStep] = [
        Ask(20.0, "direct", 2),
        Reorg(90.0, 306, "vanished", 30.0),
        Ask(91.0, "direct", 2),
        Wait(150.0),
    ]
    run_world(plan, nodes=1, block_time=0.25, reorg_window=10.0, settle_time=200.0).check()


def test_a_reply_that_was_signed_for_a_branch_that_goes_again_is_not_doubled() -> None:
    """The judge was wrong. Replies went with their blocks, a foreign transaction used their nonces, and they were signed again.

    Then the old branch came back, and the new bytes were included behind the old ones: no connector can recall what it has sent.
    """
    plan: list[PlanStep] = [
        Ask(0.1, "direct", 2),
        Reorg(90.0, 400, "vanished", 30.0),
        Foreign(90.3),
        Foreign(90.6),
        Wait(150.0),
    ]
    options: dict[str, Any] = {"nodes": 1, "block_time": 0.25, "reorg_window": 10.0, "settle_time": 200.0}
    report = run_world(plan, pool="geth", **options)
    report.check()
    assert report.sometimes["a reply was signed anew under another nonce"]


def test_a_reply_is_not_moved_into_the_gap_of_a_branch_that_came_back_with_it() -> None:
    """Its block had gone, two foreign transactions used nonces, and it was signed again, while the node refused to send it.

    The old branch came back: there the contract had the reply, one nonce fewer was used, and a node refused the new bytes for the gap.
    They were signed for the gap without a question to the contract, and mined with status 0.
    """
    plan: list[PlanStep] = [
        Ask(0.1, "direct"),
        Reorg(90.0, 400, "vanished", 30.0),
        Foreign(90.3),
        Foreign(90.6),
        Strike(90.5, "gateway", RefusedCalls("eth_sendRawTransaction", code=-32601), 31.0),
        Wait(150.0),
    ]
    run_world(plan, nodes=1, block_time=0.25, reorg_window=10.0, settle_time=200.0).check()


def test_a_reply_of_a_branch_that_came_back_is_final_although_its_last_nonce_is_open() -> None:
    """It had been signed again, and included, under a higher nonce; on the old branch the contract has it by the first bytes.

    Its nonce was open again, so it was taken for gone, found in the contract, and taken for gone again at each look, without end.
    """
    plan: list[PlanStep] = [
        Ask(0.1, "direct"),
        Reorg(90.0, 400, "vanished", 30.0),
        Foreign(90.3),
        Foreign(90.6),
        Wait(150.0),
    ]
    run_world(plan, nodes=1, block_time=0.25, reorg_window=10.0, settle_time=200.0).check()


def test_a_core_is_restarted_once_the_connector_knows_which_content_an_id_has() -> None:
    """The world was wrong. The old branch came back, and the Core restarted before a node had shown that branch.

    So the Core was given the other content once more, and held it for ever: an operator would restart it again.
    """
    plan: list[PlanStep] = [
        Ask(75.0, "direct", 4),
        Reorg(90.0, 306, "swapped", 12.0, place="there"),
        CoreRestart(90.1),
    ]
    run_world(plan, nodes=1, block_time=0.25, computing=20.0, reorg_window=10.0, settle_time=300.0).check()


def test_the_finalized_block_of_a_longer_branch_finalizes_nothing_on_a_shorter_one() -> None:
    """The number of a branch that had gone was still in use, up to two seconds old, and the old branch came back 31 blocks shorter.

    A reply of 19 s and 45 blocks, where finality takes 64, was below that number (S15). The reorganisations before make heads pass for
    those of a node that lags, so that the row stands in the journal as it was on the old branch.
    """
    plan: list[PlanStep] = [
        Reorg(16.0, 95, "vanished", 7.4, place="there"),
        Ask(25.6, "public"),
        Reorg(28.2, 7, "moved", 47.9, stale=26.9, shorter=393),
        Reorg(39.2, 251, "vanished", 2.7, shorter=96),
        Ask(44.2, "direct"),
        Reorg(58.5, 349, "moved", 12.4, stale=19.9, shorter=166),
        Reorg(87.3, 403, "vanished", 7.7),
    ]
    run_world(plan, seed=6978, pool="geth", nodes=2, block_time=0.25, computing=20.0).check()


def test_a_reply_is_as_old_as_on_the_branch_that_its_only_node_shows() -> None:
    """The judge was wrong. The node stayed on a branch where replies were 24 s old and final; the chain had put them into its newest block.

    They had been final, and the fork that was found made them included only: so they were asked about, of that node.
    """
    plan: list[PlanStep] = [
        Ask(5.8, "unified_delegated", 5),
        Reorg(30.1, 100, "moved", stale=23.1, place="there"),
        Reorg(30.8, 453, "moved", 4.7, stale=12.0),
    ]
    run_world(plan, seed=1176, pool="arbitrum at once", nodes=1, shards=2, block_time=0.25).check()


def test_a_reply_whose_block_nobody_knows_is_not_final_by_the_block_of_the_fork() -> None:
    """The journal was lost while the reply lay in the pool, so that no receipt tells its block, and a reorganisation moved it.

    The fork's block was noted for it so that the contract was asked again, and the contract's yes made it final at once (S15).
    """
    plan: list[PlanStep] = [
        Ask(1.0, "public"),
        Kill(9.2, 0.1, lose_journal=True),
        CoreRestart(9.3),
        Reorg(391.0, 64, "moved"),
        Wait(460.0),
    ]
    run_world(plan, nodes=1, computing=2.5, block_time=6.0, pool="geth", settle_time=800.0).check()


def test_an_estimate_of_before_the_reply_of_a_lost_journal_came_in_is_not_believed() -> None:
    """The contract would take the reply while the bytes of the process before lay in the pool; a block later it was signed again (S5)."""
    plan: list[PlanStep] = [Ask(1.0, "public"), Kill(4.0, 0.1, lose_journal=True), Wait(60.0)]
    run_world(plan, nodes=1, computing=0.5, block_time=3.0, pool="geth", settle_time=200.0).check()


def test_a_reply_below_a_fork_is_as_old_as_under_the_head_that_its_only_node_shows() -> None:
    """The judge was wrong. The reply stands below the fork, 17 s and 65 blocks deep where the node stayed, where finality takes 64.

    The chain had become fourteen blocks shorter, and only what stood in the replaced blocks was judged by the old branch.
    """
    plan: list[PlanStep] = [Ask(1.0, "public"), Reorg(18.1, 15, "moved", stale=7.0, shorter=14), Wait(40.0)]
    run_world(plan, nodes=1, block_time=0.25).check()


def test_the_nonce_of_a_reply_that_may_go_out_again_is_left_to_it() -> None:
    """Four replies had left their nonces with their blocks, and the contract was being asked whether it takes them on the new branch.

    Meanwhile the last reply in flight was signed anew for the first of these nonces. So the first reply was signed for another one,
    its branch came back, and it was moved down to a third nonce without a question: the contract had it, and reverted it.
    """
    plan: list[PlanStep] = [
        Upgrade(32.0, only=True),
        Ask(39.9, "direct", 4),
        Outage(46.3, "bucket0", "unreachable", 56.0),
        Ask(53.0, "direct", 4),
        Ask(55.2, "direct", 4),
        Reorg(59.0, 185, "moved", 63.8, 11.0, shorter=78),
        Reorg(66.0, 6, "vanished", 12.0),
        Outage(113.0, "host", "unreachable", 73.0),
    ]
    run_world(plan, seed=10301, nodes=3, computing=0.0, reorg_window=10.0).check()


def test_a_reply_that_nobody_took_does_not_follow_the_one_that_came_back_with_its_branch() -> None:
    """A reply failed on a branch that gave its id away, and was signed again; the account could not pay until the old branch was back.

    Then it went out without a question, and the contract had it. The judge held a third signature of that reply against it, too.
    """
    plan: list[PlanStep] = [
        Drain(5.5, 11.0),
        Ask(6.0, "direct", 2),
        Drain(17.0, 5.0),
        Reorg(18.0, 357, "vanished", 8.0, shorter=112),
        Ask(22.0, "direct", 2),
        Ask(29.0, "direct"),
        Strike(29.0, "gateway", Balance(), 16.0),
        Reorg(32.0, 103, "swapped", 12.0, 23.0, place="there"),
        Reorg(35.7, 9, "vanished", 8.3),
        Reorg(48.0, 324, "swapped", 14.0, 7.0, place="there"),
        Strike(53.0, "gateway", Balance(), 8.0),
    ]
    run_world(
        plan, pool="arbitrum at once", nodes=2, block_time=0.25, computing=0.0, reorg_window=10.0
    ).check()
