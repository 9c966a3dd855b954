"""Blocks, reorganisations and what a node sees of them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.pool import PoolKind
from tests.unit.emulator.small_world import (
    DECRYPTION_ADDRESS,
    NOW,
    SENDER,
    handle,
    signed,
    world,
)


def test_a_block_time_never_goes_backward() -> None:
    made = world()
    made.chain.mine()
    made.chain._clock = lambda: NOW - 100
    assert made.chain.mine().timestamp == NOW


def test_a_signed_reply_is_executed_and_paid_for() -> None:
    made = world(base_fee=100)
    made.ask()
    made.chain.mine()
    before = made.chain.evm.account(SENDER.address).balance
    reply = made.chain.intake.submit(signed(0, made.reply(1)))
    made.chain.mine()
    mined = made.mined(reply)
    assert mined.outcome.status == 1
    assert before - made.chain.evm.account(SENDER.address).balance == 100 * mined.outcome.gas_used


def test_a_failed_transaction_uses_its_nonce_and_leaves_no_other_trace() -> None:
    made = world()
    reply = made.chain.intake.submit(signed(0, made.reply(1)))
    made.chain.mine()
    mined = made.mined(reply)
    assert (mined.outcome.status, mined.logs) == (0, ())
    assert made.chain.evm.account(SENDER.address).nonce == 1


def test_a_short_gas_limit_ends_out_of_gas_and_costs_the_whole_limit() -> None:
    made = world()
    made.ask()
    made.chain.mine()
    reply = made.chain.intake.submit(signed(0, made.reply(1), gas=100_000))
    made.chain.mine()
    outcome = made.mined(reply).outcome
    assert (outcome.status, outcome.gas_used, outcome.error) == (0, 100_000, "out of gas")
    assert made.chain.view().state().get((DECRYPTION_ADDRESS, "signatures")) is None


def test_what_is_set_up_was_always_so() -> None:
    made = world()
    made.chain.mine_many(3)
    made.commit(handle(77))
    assert made.chain.view(lag=3).state().get((DECRYPTION_ADDRESS, "material", handle(77))) is not None


def test_the_emulators_own_action_runs_in_the_next_block() -> None:
    made = world()
    made.chain.actors.act(DECRYPTION_ADDRESS, made.decryption.pause)
    made.chain.mine()
    asked = made.ask()
    made.chain.mine()
    assert made.mined(asked).outcome.status == 0


def test_a_price_is_the_base_fee_and_the_tip_up_to_the_highest() -> None:
    made = world(base_fee=100)
    first, second = (
        made.chain.intake.submit(signed(n, tip=tip, max_fee=150)) for n, tip in ((0, 20), (1, 60))
    )
    made.chain.mine()
    assert (made.mined(first).price, made.mined(second).price) == (120, 150)


def test_a_reorganisation_keeps_the_height_and_changes_the_hashes() -> None:
    chain = world().chain
    chain.mine_many(5)
    old = chain.head
    branch = chain.reorg(2)
    assert chain.head.number == old.number
    assert chain.head.hash != old.hash
    assert branch.blocks[-1] == old


def test_what_only_the_replaced_blocks_held_waits_again() -> None:
    made = world()
    made.chain.mine()
    branch = made.chain.reorg(1)
    asked = made.ask()
    made.chain.mine()
    made.chain.restore(branch)
    assert made.chain.history.find(asked) is None
    made.chain.mine()
    assert made.mined(asked).outcome.status == 1


def test_what_comes_back_with_a_branch_waits_no_more() -> None:
    """Found by a world: a request that waited while its old block came back stood on the chain twice."""
    made = world()
    asked = made.ask()
    made.chain.mine_many(2)
    branch = made.chain.reorg(2)
    made.chain.reorg(1, shorter=1)
    made.chain.restore(branch)
    assert made.mined(asked).outcome.status == 1
    assert made.chain.mine().mined == ()


def test_a_branch_whose_root_is_gone_cannot_come_back() -> None:
    chain = world().chain
    chain.mine_many(4)
    branch = chain.reorg(1)
    chain.reorg(3)
    with pytest.raises(ValueError, match="does not stand"):
        chain.restore(branch)


@pytest.mark.parametrize(("pool", "kept"), [("arbitrum", 0), ("geth", 1)])
def test_transactions_behind_a_dropped_nonce_are_lost_or_kept(pool: PoolKind, kept: int) -> None:
    made = world(pool=pool)
    first, _ = (made.chain.intake.submit(signed(nonce)) for nonce in (0, 1))
    made.chain.mine()
    made.chain.reorg(1, drop=lambda transaction: transaction.hash == first)
    made.chain.intake.submit(signed(0))
    assert len(made.chain.mine().mined) == 1 + kept


@pytest.mark.parametrize("depth", [0, 6])
def test_a_depth_out_of_range_is_refused(depth: int) -> None:
    chain = world().chain
    chain.mine_many(5)
    with pytest.raises(ValueError, match="cannot take"):
        chain.reorg(depth)


def test_a_lagging_state_is_that_of_its_head() -> None:
    made = world()
    made.chain.intake.submit(signed(0))
    made.chain.mine_many(2)
    states = [made.chain.view(lag).state() for lag in (0, 1, 2)]
    assert [made.chain.evm.account(SENDER.address, state).nonce for state in states] == [1, 1, 0]


def test_a_stale_fork_shows_its_own_blocks_and_state() -> None:
    made = world()
    reply = made.chain.intake.submit(signed(0))
    made.chain.mine()
    branch = made.chain.reorg(1, drop=lambda transaction: transaction.hash == reply)
    stale = made.chain.view(branch=branch)
    assert stale.head == branch.blocks[0]
    assert stale.find(reply) is not None
    assert made.chain.evm.account(SENDER.address, stale.state()).nonce == 1
    assert made.chain.evm.account(SENDER.address).nonce == 0


def test_a_lag_reaches_below_the_root_of_a_stale_fork_and_one_whose_root_was_replaced_is_left() -> None:
    chain = world().chain
    chain.mine_many(5)
    branch = chain.reorg(2)
    assert [chain.view(lag, branch).head.number for lag in range(5)] == [5, 4, 3, 2, 1]
    chain.reorg(3)
    assert chain.view(branch=branch).head == chain.head


def test_a_call_leaves_no_trace() -> None:
    made = world()
    made.ask()
    made.chain.mine()
    for _ in range(2):  # the second would meet "already signed" if the first had been kept
        made.chain.view().call(DECRYPTION_ADDRESS, made.reply(1), sender=SENDER.address, gas=10**7)


async def test_a_stalled_chain_makes_none() -> None:
    made = world()
    made.chain.stalled = True
    with trio.move_on_after(60):
        await made.chain.run()
    assert made.chain.head.number == 0


async def test_the_gateway_makes_forty_blocks_in_ten_seconds(nursery: trio.Nursery) -> None:
    """The block time that an emulated set of dependencies has when nobody says otherwise."""
    gateway = FhevmDependencies.make(lambda: 1e9 + trio.current_time()).gateway
    await nursery.start(gateway.run)
    await trio.sleep(5.1)
    before = gateway.head.number
    await trio.sleep(10)
    assert abs(gateway.head.number - before - 40) <= 4
    nursery.cancel_scope.cancel()
