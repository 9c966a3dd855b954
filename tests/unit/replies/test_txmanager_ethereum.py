"""The transaction manager on Ethereum: confirmations, receipts that are late, reverts that state explains, replies of others."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from kmsconn.chain.port import Call, RpcError
from kmsconn.emulator.node_faults import NodeError
from kmsconn.emulator.pool import pool_of
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.model.events import AlertCleared, AlertRaised, ReplyIncluded, ReplySigned, RequestDeferred
from kmsconn.model.life import State
from tests.unit.replies.world import CONTRACT, KEY, World, all_in, calldata, running, until


def slow() -> World:
    return World(pool="geth", block_time=12.0)


def says(world: World, text: bytes) -> None:
    """Let the contract answer every reply with this revert; nothing to let it work."""
    world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(text, "says"))


def state_is(world: World, state: int) -> None:
    world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(state, 1))


async def test_a_reply_without_a_receipt_is_replaced_only_after_its_patience() -> None:
    """The node takes the bytes, and nobody includes them."""
    world = slow()
    world.request(1)
    world.chain.stalled = True
    async with running(world, replace_after=240.0):
        await trio.sleep(220)
        assert len({decode_transaction(raw).transaction for raw in world.node.accepted}) == 1
        await trio.sleep(60)
        fees = {decode_transaction(raw).transaction.max_fee for raw in world.node.accepted}
        assert len(fees) > 1
    assert {decode_transaction(raw).transaction.nonce for raw in world.node.accepted} == {0}


@pytest.mark.parametrize("restarts", [False, True])
async def test_the_transaction_of_a_replaced_reply_is_the_one_that_was_mined(restarts: bool) -> None:
    """The bytes at the first price are included although others were signed since, by this process or by the one before it."""
    world = slow()
    world.request(1)
    world.chain.stalled = True
    async with running(world, replace_after=30.0):
        await until(lambda: len(world.said(ReplySigned)) == 2)
        if not restarts:
            include_first(world)
            await until(lambda: all_in(world, State.FINALIZED))
    if restarts:
        include_first(world)
        world.chain.mine()
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    [mined] = world.ours()
    first, second = (event.transaction_hash for event in world.said(ReplySigned))
    assert mined.transaction.hash == first != second
    assert world.journal.rows[1].reply.hash == first
    assert [event.transaction_hash for event in world.said(ReplyIncluded)] == [first]


def include_first(world: World) -> None:
    """Let the first bytes of all be all that the pool has, and blocks be made again."""
    world.chain.intake.pool = pool_of("geth")
    with suppress(NodeError):
        world.chain.intake.submit(world.node.arrived[0])
    world.chain.stalled = False


async def test_what_is_not_pending_is_done_when_the_state_says_so() -> None:
    world = slow()
    world.request(1)
    says(world, b"not pending")
    state_is(world, 1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
    assert world.said(ReplyIncluded)[0].found
    assert world.node.accepted == []


async def test_what_is_not_pending_yet_is_waited_for_without_a_nonce() -> None:
    world = slow()
    world.request(1)
    says(world, b"not pending")
    async with running(world):
        await until(lambda: len(world.said(RequestDeferred)) > 2)
        assert world.node.accepted == []
        says(world, b"")
        await until(lambda: world.journal.rows[1].state is State.INCLUDED, 600)
    assert world.sent() == [0]


async def test_a_reply_whose_state_cannot_be_asked_holds_up_no_other() -> None:
    world = slow()
    world.request(1)
    world.request(2)
    first = to_hex(calldata(1))

    def refuse(call: Call) -> RpcError | None:
        if call.method == "eth_getStorageAt":
            return RpcError(-32000, "missing trie node")
        message = call.params[0] if call.method in {"eth_call", "eth_estimateGas"} else {}
        return RpcError(3, "execution reverted", b"not pending") if message.get("data") == first else None

    world.node.refuse = refuse
    async with running(world):
        await until(lambda: world.journal.rows[2].state is State.INCLUDED, 600)
    assert world.journal.rows[1].state is State.ANSWERED
    assert "missing trie node" in world.journal.rows[1].progress.reason


async def test_each_transaction_manager_tells_and_takes_back_its_own_troubles() -> None:
    """The account needs funds on both chains: those of one do not end the want of the other."""
    world = slow()
    world.request(1)
    world.chain.evm.set_balance(KEY.address, 5)
    async with running(world, name="ethereum"):
        await until(lambda: bool(world.said(AlertRaised)), 600)
        world.chain.evm.set_balance(KEY.address, 10**20)
        await until(lambda: bool(world.said(AlertCleared)), 600)
    assert [(t.dependency, t.cause) for t in world.said(AlertRaised)] == [("txmanager ethereum", "funds")]
    assert [(r.dependency, r.cause) for r in world.said(AlertCleared)] == [("txmanager ethereum", "funds")]


@pytest.mark.slow
async def test_a_included_reply_is_finalized_when_the_contract_has_moved_on() -> None:
    """After the quorum the contract no longer tells who confirmed; that the context lives is as good."""
    world = slow()
    world.request(1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED, 600)
        says(world, b"not pending")
        state_is(world, 1)
        await until(lambda: world.journal.rows[1].state is State.FINALIZED, 600)


@pytest.mark.slow
async def test_an_idle_transaction_manager_asks_a_slow_chain_no_more_than_its_blocks_are_worth() -> None:
    """Two questions each half block, not each second."""
    world = slow()
    async with running(world):
        await trio.sleep(300)  # until its pace is known
        before = world.node.batches
        await trio.sleep(600)
    assert world.node.batches - before <= 600 / 5
