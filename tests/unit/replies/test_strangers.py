"""Transactions of the account that this process did not sign are told, and nothing else is, whatever a node says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from kmsconn.chain.port import Call, RpcError
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction, sign_transaction
from kmsconn.model.events import ForeignTransaction, ReplyReturned
from kmsconn.model.life import State
from kmsconn.replies.strangers import read_signed
from tests.unit.replies.world import (
    CHAIN_ID,
    ELSEWHERE,
    KEY,
    REORG_WINDOW,
    Fault,
    World,
    calldata,
    running,
    until,
)

SETTLED = 3 * REORG_WINDOW
RECEIPT = "eth_getTransactionReceipt"


def told(world: World) -> list[bytes]:
    return [event.transaction_hash for event in world.said(ForeignTransaction)]


def full_blocks(world: World) -> list[Any]:
    """Return the numbers of the blocks that were read with their transactions."""
    return [
        call.params[0]
        for call in world.node.calls
        if call.method == "eth_getBlockByNumber" and call.params[1]
    ]


def is_over(world: World) -> bool:
    return {*world.journal.states()} <= {State.INCLUDED, State.FINALIZED}


async def test_a_stranger_that_uses_a_free_nonce_is_told() -> None:
    world = World()
    async with running(world):
        await trio.sleep(SETTLED)
        world.foreign()
        await trio.sleep(SETTLED)
    [mined] = world.ours()
    assert world.said(ForeignTransaction) == [
        ForeignTransaction("gateway", 0, mined.transaction.hash, mined.block_number)
    ]


async def test_a_stranger_is_told_only_once_its_block_is_older_than_the_window() -> None:
    world = World()
    async with running(world):
        await trio.sleep(SETTLED)
        world.foreign()
        await trio.sleep(REORG_WINDOW - 1)
        assert not told(world)


async def test_a_legacy_transaction_is_told_too() -> None:
    world = World()
    theirs = Transaction(CHAIN_ID, 0, None, 10_000, 30_000, ELSEWHERE, 0, b"")
    async with running(world):
        await trio.sleep(SETTLED)
        world.chain.intake.submit(sign_transaction(theirs, KEY)[0])
        await trio.sleep(SETTLED)
    assert told(world) == [sign_transaction(theirs, KEY)[1]]


async def test_on_a_good_day_no_block_is_read() -> None:
    world = World()
    for rid in range(1, 9):
        world.request(rid)
    async with running(world):
        await until(lambda: is_over(world))
        await trio.sleep(SETTLED)
    assert not full_blocks(world)
    assert not told(world)


async def test_an_empty_transfer_of_ours_is_no_strangers() -> None:
    world = World(pool="geth")

    def refuse(call: Call) -> RpcError | None:
        is_reply = call.method == "eth_sendRawTransaction" and calldata(1).hex() in call.params[0]
        return RpcError(3, "execution reverted", b"notrequested") if is_reply and not world.nonce else None

    world.node.refuse = refuse
    world.request(1)
    async with running(world):
        await until(lambda: is_over(world))
        await trio.sleep(SETTLED)
    assert [len(mined.transaction.data) for mined in world.ours()][:1] == [0]
    assert not told(world)


@pytest.mark.parametrize("seconds", [2.0, 20.0, 300.0])
async def test_receipts_that_are_missing_make_nobody_a_stranger(seconds: float) -> None:
    world = World()
    ends = seconds
    world.node.twist = lambda call, answer: (
        None if call.method == RECEIPT and trio.current_time() < ends else answer
    )
    for rid in range(1, 5):
        world.request(rid)
    async with running(world):
        await until(lambda: is_over(world))
        await trio.sleep(SETTLED)
    assert any(event.nonce_taken for event in world.said(ReplyReturned)) or seconds < 3
    assert not told(world)


async def test_what_was_sent_before_the_start_is_no_strangers() -> None:
    """The first looks are those of a node that lags."""
    world = World()
    world.foreign()
    world.chain.mine()
    await trio.sleep(30)
    world.node.fault = lambda _calls: Fault(lag=world.chain.head.number)
    async with running(world):
        await trio.sleep(SETTLED)
        world.node.fault = lambda _calls: Fault()
        await trio.sleep(SETTLED)
    assert full_blocks(world)
    assert not told(world)


def nonce_lies(up: int) -> Callable[[Call, Any], Any]:
    return lambda call, answer: (
        hex(int(answer, 16) + up) if call.method == "eth_getTransactionCount" else answer
    )


@pytest.mark.parametrize("up", [1, 5])
async def test_a_nonce_that_no_transaction_used_makes_nobody_a_stranger(up: int) -> None:
    world = World()
    async with running(world):
        await trio.sleep(SETTLED)
        world.node.twist = nonce_lies(up)
        await trio.sleep(SETTLED)
    assert full_blocks(world)
    assert not told(world)


async def test_a_forged_transaction_in_a_block_is_not_believed() -> None:
    world = World()
    _, forged_hash = sign_transaction(
        Transaction(CHAIN_ID, 0, 1, 10_000, 30_000, ELSEWHERE, 0, b""), PrivateKey.parse("22" * 32)
    )

    def forge(call: Call, answer: Any) -> Any:
        if call.method == "eth_getBlockByNumber" and call.params[1] and answer:
            forged = {
                "hash": to_hex(forged_hash), "from": to_hex(KEY.address), "to": to_hex(ELSEWHERE), "nonce": "0x0",
                "gas": "0x7530", "value": "0x0", "input": "0x", "type": "0x2", "maxFeePerGas": "0x2710",
                "maxPriorityFeePerGas": "0x1", "r": "0x1", "s": "0x1", "v": "0x1", "accessList": [],
            }  # fmt: skip
            return {**answer, "transactions": [forged]}
        return nonce_lies(1)(call, answer)

    async with running(world):
        await trio.sleep(SETTLED)
        world.node.twist = forge
        await trio.sleep(SETTLED)
    assert full_blocks(world)
    assert not told(world)


@pytest.mark.parametrize("shown", [None, {"number": "0x1"}, "nonsense"])
async def test_blocks_that_a_node_does_not_show_are_asked_for_again(shown: Any) -> None:
    world = World()
    hides = [True]
    world.node.twist = lambda call, answer: (
        shown if call.method == "eth_getBlockByNumber" and call.params[1] and hides else answer
    )
    async with running(world):
        await trio.sleep(SETTLED)
        world.foreign()
        await trio.sleep(SETTLED)
        assert not told(world)
        hides.clear()
        await trio.sleep(SETTLED)
    assert len(told(world)) == 1


async def test_while_another_process_may_send_nobody_is_a_stranger() -> None:
    world = World()
    async with running(world, may_send=lambda: trio.current_time() < SETTLED):
        await trio.sleep(SETTLED)
        world.foreign()
        await trio.sleep(SETTLED)
    assert not told(world)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"type": "0x3"},
        {"type": "0x2", "accessList": [{}]},
        {"to": None},
        {"r": "0x0"},
        {"v": "0x9"},
        {"nonce": "0x" + "f" * 64},
        "nonsense",
    ],
)
def test_what_cannot_be_verified_is_nobodys(sent: Any) -> None:
    whole = {
        "nonce": "0x0", "gas": "0x7530", "value": "0x0", "input": "0x", "to": to_hex(ELSEWHERE), "type": "0x2",
        "maxFeePerGas": "0x1", "r": "0x1", "s": "0x1", "v": "0x1",
    }  # fmt: skip
    content = {**whole, **sent} if isinstance(sent, dict) and sent else sent
    assert read_signed(content, CHAIN_ID) is None
