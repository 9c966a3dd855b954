"""Blocks, reorganisations, what a node sees and forgets of them; and what it says to a transaction: Arbitrum, or a pool."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.node_faults import NodeError
from kmsconn.emulator.pool import PoolKind
from tests.unit.emulator.small_world import (
    DECRYPTION_ADDRESS,
    NOW,
    SENDER,
    STRANGER,
    World,
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


def refusal(made: World, raw: bytes) -> str:
    with pytest.raises(NodeError) as caught:
        made.chain.intake.submit(raw)
    return caught.value.message


def submit(made: World, *raws: bytes) -> list[bytes]:
    return [made.chain.intake.submit(raw) for raw in raws]


BOTH = pytest.mark.parametrize("pool", ["arbitrum", "geth"])


@BOTH
@pytest.mark.parametrize(
    ("before", "raw", "words"),
    [
        ([signed(0)], signed(0), "already known"),
        ([], signed(0, key=STRANGER), "insufficient funds for gas * price + value"),
        ([], signed(0, chain_id=1), "invalid chain id for signer: have 1 want 54321"),
        ([], signed(0, gas=20_999), "intrinsic gas too low: have 20999, want 21000"),
        ([], signed(0, max_fee=200, tip=201), "max priority fee per gas higher than max fee per gas"),
        ([], b"\x02\xc0", "failed to decode transaction"),
    ],
)
def test_what_no_node_takes_is_refused_in_its_words(
    pool: PoolKind, before: list[bytes], raw: bytes, words: str
) -> None:
    made = world(pool=pool)
    made.chain.evm.set_balance(STRANGER.address, 1)
    submit(made, *before)
    assert refusal(made, raw).startswith(words)


@BOTH
def test_a_bit_more_in_the_data_makes_another_sender_or_none(pool: PoolKind) -> None:
    """The signature is really checked: changed bytes belong to somebody else."""
    made = world(pool=pool)
    raw = bytearray(signed(0, b"\x01"))
    raw[raw.index(b"\xde" * 20)] ^= 1
    submit(made, bytes(raw))
    assert made.chain.intake.pending_nonce(SENDER.address) == 0


def test_geth_keeps_a_later_nonce_until_the_gap_is_filled_and_counts_without_a_gap() -> None:
    made = world(pool="geth")
    (later,) = submit(made, signed(1))
    made.chain.mine()
    assert made.chain.history.find(later) is None
    assert made.chain.intake.pending_nonce(SENDER.address) == 0
    submit(made, signed(0), signed(3))
    assert made.chain.intake.pending_nonce(SENDER.address) == 2
    assert [m.transaction.nonce for m in made.chain.mine().mined] == [0, 1]


@pytest.mark.parametrize(
    ("fee", "tip", "taken"), [(1_099, 110, False), (1_100, 109, False), (1_100, 110, True)]
)
def test_geth_takes_a_replacement_only_if_it_pays_a_tenth_more(fee: int, tip: int, taken: bool) -> None:
    made = world(pool="geth")
    [old], new = submit(made, signed(0, max_fee=1_000, tip=100)), signed(0, max_fee=fee, tip=tip)
    if not taken:
        assert refusal(made, new) == "replacement transaction underpriced"
        return
    [replacement] = submit(made, new)
    made.chain.mine()
    assert made.chain.history.find(old) is None
    assert made.chain.history.find(replacement) is not None


def test_geth_keeps_what_pays_less_than_the_base_fee_until_it_falls() -> None:
    made = world(pool="geth", base_fee=100)
    (cheap,) = submit(made, signed(0, max_fee=50))
    made.chain.mine()
    assert made.chain.history.find(cheap) is None
    made.chain.base_fee = 50
    made.chain.mine()
    assert made.chain.history.find(cheap) is not None


def test_geth_fills_a_block_up_to_its_gas_limit() -> None:
    made = world(pool="geth")
    made.chain.intake.gas_limit = 900_000
    submit(made, signed(0), signed(1))
    assert [len(made.chain.mine().mined), len(made.chain.mine().mined)] == [1, 1]


def aged(history: int | None, blocks: int = 6) -> tuple[World, list[bytes]]:
    """Return a world with one request in each of its blocks, and their transactions."""
    made = world()
    made.commit(handle(0))
    made.chain.history.kept = history
    sent = []
    for _ in range(blocks):
        sent.append(made.ask())
        made.chain.mine()
    return made, sent


async def asked(made: World, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return msgspec.json.decode(await made.node.answer(msgspec.json.encode(body)))


@pytest.mark.parametrize("set_late", [False, True])
def test_transactions_of_old_blocks_are_forgotten_also_where_the_history_is_set_late(set_late: bool) -> None:
    made, sent = aged(None if set_late else 3)
    if set_late:
        made.chain.history.kept = 2
        made.chain.mine()
    kept = [made.chain.history.find(each) is not None for each in sent]
    assert kept == ([False] * 4 + [True] * 2 if set_late else [False] * 2 + [True] * 4)


def test_headers_of_old_blocks_stay() -> None:
    made, _ = aged(3)
    blocks = [made.chain.block(number) for number in range(7)]
    assert all(block is not None for block in blocks)
    assert [after.parent for after in blocks[1:] if after] == [
        before.hash for before in blocks[:-1] if before
    ]


def test_what_is_true_now_stays_true() -> None:
    """The state is that of the head, whatever of its history is gone."""
    whole, pruned = aged(None)[0], aged(3)[0]
    assert pruned.chain.head.hash == whole.chain.head.hash
    view, kept = pruned.chain.view().state(), whole.chain.view().state()
    assert all(view.get(key) == kept.get(key) for key in whole.chain.evm.state._values)


async def test_the_state_of_a_block_that_is_gone_is_refused() -> None:
    made, _ = aged(3)
    told = await asked(made, "eth_getBalance", f"0x{SENDER.address.hex()}", "0x1")
    assert "not available" in told["error"]["message"]


def test_a_reorganisation_goes_no_deeper_than_the_history() -> None:
    made, _ = aged(3)
    made.chain.reorg(3)
    with pytest.raises(ValueError, match="cannot take"):
        made.chain.reorg(made.chain.head.number)


def test_what_was_read_is_not_lost_for_the_ground_truth() -> None:
    made = world()
    made.commit(handle(0))
    made.chain.history.kept = 2
    ground_truth = GroundTruth(made.chain, DECRYPTION_ADDRESS, SENDER.address, clock=lambda: 0.0)
    for _ in range(6):
        made.ask()
        made.chain.mine()
        ground_truth.read()
    assert ground_truth.verdict().emitted == 6
