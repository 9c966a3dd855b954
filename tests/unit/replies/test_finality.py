"""Replies become final by the header of their block, together; one that it does not prove is asked about by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio

from kmsconn.chain.logs import block_call
from kmsconn.chain.port import Call
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.events import ReplyFinalized, ReplyReturned
from kmsconn.model.life import State
from kmsconn.replies import manager
from tests.unit.replies.world import CONTRACT, KEY, Fault, World, all_in, lose_broadcasts, running, until

Story = Callable[[], Any]


def speaking(count: int = 1) -> World:
    """Return a world whose contract emits something for each reply."""
    world = World(pool="geth")
    world.contract.emits = True
    for rid in range(1, count + 1):
        world.request(rid)
    return world


async def finalized(world: World) -> bool:
    """Say whether each reply became final, and is in the chain."""
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    return all(world.answered_on_chain(rid) for rid in world.journal.rows)


def calls(world: World) -> int:
    return sum(call.method == "eth_call" for call in world.node.calls)


async def test_the_replies_of_a_block_are_final_by_its_header_alone() -> None:
    world = speaking(50)
    assert await finalized(world)
    assert calls(world) == 0
    numbers = {quantity(one.block_number) for one in world.ours()}
    headers = [call.params[0] for call in world.node.calls if call.method == "eth_getBlockByNumber"]
    assert all(headers.count(number) <= 10 for number in numbers)


@pytest.mark.parametrize("content", [{"transactions": []}, {"transactions": 7}, {"hash": to_hex(bytes(32))}])
async def test_a_header_that_proves_nothing_has_the_contract_asked(content: Any) -> None:
    world = speaking()

    def twist(call: Call, answer: Any) -> Any:
        of_ours = call.method == "eth_getBlockByNumber" and answer and answer["transactions"]
        return {**answer, **content} if of_ours and call.params[0] not in {"latest", "finalized"} else answer

    world.node.twist = twist
    assert await finalized(world)
    assert calls(world) > 0


async def test_a_header_that_never_comes_costs_one_look() -> None:
    world = speaking()
    world.node.in_order = False

    def fault(calls: Sequence[Call]) -> Fault:
        old = [one.block_number for one in world.ours() if one.block_number < world.chain.head.number - 10]
        return Fault(hang=1000 * any(block_call(number) in calls for number in old))

    world.node.fault = fault
    assert await finalized(world)


async def a_node_shows_receipts_of_what_it_swallows() -> bool:
    """Of success, in a block of the chain, with what the contract emits."""
    world, swallowed = speaking(), dict[str, int]()

    def twist(call: Call, answer: Any) -> Any:
        if call.method == "eth_getTransactionCount" and swallowed:
            return "0x1"
        if call.method == "eth_getTransactionReceipt" and call.params[0] in swallowed:
            number = swallowed[call.params[0]]
            block = world.chain.block(number)
            assert block is not None
            return {
                "blockNumber": quantity(number),
                "blockHash": to_hex(block.hash),
                "status": "0x1",
                "logs": [{"address": to_hex(CONTRACT)}],
            }
        return answer

    honest = type(world.node)._answer

    def answer(node: Any, call: Call, fault: Any) -> Any:
        if call.method == "eth_sendRawTransaction" and not swallowed:
            sent = to_hex(keccak256(from_hex(call.params[0])))
            swallowed[sent] = world.chain.head.number
            return sent
        return honest(node, call, fault)

    world.node.twist = twist
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(world.node), "_answer", answer)
        async with running(world):
            await until(lambda: all_in(world, State.FINALIZED) or bool(world.said(ReplyReturned)))
    return world.journal.rows[1].state is State.FINALIZED


async def the_contract_is_away_while_a_reply_is_mined() -> bool:
    """The transaction succeeds, and nobody emits anything."""
    world = speaking()
    contract = world.chain.evm.contracts.pop(CONTRACT)
    world.node.on_accepted = lambda _raw: world.chain.evm.deploy(contract)
    return not await finalized(world)


async def test_a_block_that_goes_takes_its_replies_back() -> None:
    world = speaking(3)
    world.chain.mine_many(10)
    async with running(world):
        await until(lambda: all_in(world, State.INCLUDED))
        world.chain.reorg(5, drop=lambda one: one.sender == KEY.address)
        await trio.sleep(1)
        await until(lambda: all_in(world, State.FINALIZED))
    assert all(world.answered_on_chain(rid) for rid in (1, 2, 3))


async def test_a_reply_that_is_back_in_its_block_is_said_to_be_final_once() -> None:
    world = speaking(2)
    world.chain.mine_many(10)
    async with running(world):
        await until(lambda: all_in(world, State.INCLUDED))
        world.node.fault = lose_broadcasts
        branch = world.chain.reorg(5, drop=lambda one: one.sender == KEY.address)
        await until(lambda: all_in(world, State.SIGNED))
        world.chain.restore(branch)
        await until(lambda: all_in(world, State.FINALIZED))
    assert sorted(one.rid for one in world.said(ReplyFinalized)) == [1, 2]


@pytest.mark.parametrize(
    "story", [a_node_shows_receipts_of_what_it_swallows, the_contract_is_away_while_a_reply_is_mined]
)
async def test_nothing_is_final_that_is_not_there(story: Story) -> None:
    assert not await story()


async def test_a_receipt_alone_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation: whatever a final block lists."""
    monkeypatch.setattr(manager, "is_listed", lambda *_: True)
    assert await a_node_shows_receipts_of_what_it_swallows()
