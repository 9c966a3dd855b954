"""How Arbitrum's sequencer answers ``eth_sendRawTransaction``: with the block, and what it does with nonces that are too high."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from kmsconn.emulator.pool import HELD_AT_MOST
from kmsconn.ethereum.hexes import to_hex
from tests.unit.emulator.small_world import SENDER, STRANGER, World, signed, world
from tests.unit.emulator.test_chain_push import connected

MockClock = trio.testing.MockClock


@attrs.define
class Said:
    """What was answered to one send, and when."""

    at: float
    content: Any

    @property
    def words(self) -> str:
        """The node's refusal up to its colon, or nothing when it took the transaction."""
        words: str = self.content.get("error", {}).get("message", "").split(":")[0]
        return words


def sending(raw: bytes, number: int = 1) -> dict[str, Any]:
    return {"id": number, "method": "eth_sendRawTransaction", "params": [to_hex(raw)]}


async def ask(made: World, content: Any) -> Any:
    return json.loads(await made.node.answer(json.dumps(content).encode()))


async def hand_in(made: World, raws: Sequence[bytes], delays: Sequence[float] = ()) -> list[Said]:
    """Send each over a call of its own, ``delays`` seconds after the start, and return what was answered."""
    said: dict[int, Said] = {}

    async def one(place: int, raw: bytes, delay: float) -> None:
        await trio.sleep(delay)
        content = await ask(made, sending(raw))
        said[place] = Said(trio.current_time(), content)

    start = [*delays, *([0.0] * (len(raws) - len(delays)))]
    async with trio.open_nursery() as nursery:
        for place, (raw, delay) in enumerate(zip(raws, start, strict=True)):
            nursery.start_soon(one, place, raw, delay)
            await trio.testing.wait_all_tasks_blocked()
    return [said[place] for place in range(len(raws))]


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[World]:
    """Give a world whose chain makes blocks."""
    made = world(**options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.chain.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_send_is_answered_with_its_block() -> None:
    async with running() as made:
        (said,) = await hand_in(made, [signed(0)])
        assert said.at == 0.25
        assert made.mined(bytes.fromhex(said.content["result"][2:])).block_number == 1


async def test_a_batch_of_sends_takes_a_block_for_each() -> None:
    async with running() as made:
        answers = await ask(made, [sending(signed(nonce), nonce) for nonce in range(3)])
        assert trio.current_time() == 0.75
        assert [made.mined(bytes.fromhex(one["result"][2:])).block_number for one in answers] == [1, 2, 3]


async def test_held_ones_follow_in_the_block_of_the_missing_nonce() -> None:
    async with running() as made:
        said = await hand_in(made, [signed(2), signed(1), signed(0)], delays=[0.0, 0.0, 0.6])
        assert [(one.at, one.words) for one in said] == [(0.75, "")] * 3
        assert [mined.transaction.nonce for mined in made.chain.head.mined] == [0, 1, 2]


@pytest.mark.parametrize(
    ("raws", "said"),
    [
        ([signed(1), signed(1, b"other")], [(1.0, "nonce too high"), (0.25, "nonce too high")]),
        ([signed(0), signed(0, max_fee=10**10)], [(0.25, ""), (0.25, "nonce too low")]),
    ],
    ids=["a second one of a held nonce", "a replacement"],
)
async def test_what_has_no_place_is_refused_with_the_block(
    raws: list[bytes], said: list[tuple[float, str]]
) -> None:
    async with running() as made:
        assert [(one.at, one.words) for one in await hand_in(made, raws)] == said


async def test_a_block_that_cannot_pay_for_a_second_refuses_it() -> None:
    async with running(base_fee=100) as made:
        made.chain.evm.set_balance(SENDER.address, 100_000 * 10**9 + 1)
        said = await hand_in(made, [signed(nonce, gas=100_000) for nonce in (0, 1)])
        assert [(one.at, one.words) for one in said] == [
            (0.25, ""),
            (0.25, "insufficient funds for gas * price + value"),
        ]


async def test_no_node_tells_of_what_the_sequencer_has(nursery: trio.Nursery) -> None:
    made = world()
    raw = signed(0)
    nursery.start_soon(hand_in, made, [raw])
    await trio.testing.wait_all_tasks_blocked()
    assert made.chain.intake.pool.find(made.chain.intake.check(raw).hash) is not None
    looks = [
        {
            "id": 1,
            "method": "eth_getTransactionByHash",
            "params": [to_hex(made.chain.intake.check(raw).hash)],
        },
        {"id": 2, "method": "eth_getTransactionCount", "params": [to_hex(SENDER.address), "pending"]},
    ]
    assert [one["result"] for one in await ask(made, looks)] == [None, "0x0"]
    nursery.cancel_scope.cancel()


async def test_one_more_than_are_held_puts_the_oldest_out() -> None:
    made = world()
    raws = [signed(nonce) for nonce in range(1, HELD_AT_MOST + 2)]
    submissions = [made.chain.intake.enter(raw) for raw in raws]
    made.chain.mine()
    assert [one.over for one in submissions] == [True, *[False] * HELD_AT_MOST]


async def test_what_the_head_forbids_is_refused_at_once() -> None:
    made = world(base_fee=100)
    made.chain.intake.submit(signed(0))
    made.chain.mine()
    made.chain.evm.set_balance(STRANGER.address, 1)
    said = await hand_in(made, [signed(0), signed(1, max_fee=99), signed(0, key=STRANGER)])
    assert [(one.at, one.words) for one in said] == [
        (0.0, "nonce too low"),
        (0.0, "max fee per gas less than block base fee"),
        (0.0, "insufficient funds for gas * price + value"),
    ]


@pytest.mark.parametrize(("mined_at", "told_at"), [(12.5, 12.5), (99.0, 24.0)])
async def test_what_waited_for_twelve_seconds_is_left_out_and_after_twenty_four_its_caller_is_let_go(
    mined_at: float, told_at: float
) -> None:
    made = world()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_mine_at, made, mined_at)
        (said,) = await hand_in(made, [signed(0)])
    assert (said.at, said.words) == (told_at, "context deadline exceeded")
    assert made.chain.evm.account(SENDER.address).nonce == 0


async def _mine_at(made: World, moment: float) -> None:
    await trio.sleep_until(moment)
    made.chain.mine()


async def test_a_caller_who_hangs_up_takes_the_transaction_with_it() -> None:
    made = world()
    async with connected(made) as client:
        await client.send("eth_sendRawTransaction", to_hex(signed(0)))
        await trio.testing.wait_all_tasks_blocked()
        assert made.chain.intake.pending_nonce(SENDER.address) == 1
        await client.socket.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert made.chain.mine().mined == ()


async def test_the_pool_that_answers_at_once_takes_the_next_nonce_or_none() -> None:
    made = world(pool="arbitrum at once")
    said = await hand_in(made, [signed(0), signed(2), signed(1)])
    assert [(one.at, one.words) for one in said] == [(0.0, ""), (0.0, "nonce too high"), (0.0, "")]
    assert len(made.chain.mine().mined) == 2


async def test_the_pool_that_answers_at_once_holds_nothing_back() -> None:
    """Found by a world: what a reorganisation left behind a gap came into a block half a minute later."""
    made = world(pool="arbitrum at once")
    await hand_in(made, [signed(0)])
    made.chain.mine()
    await hand_in(made, [signed(1)])
    made.chain.reorg(1, drop=lambda _: True)
    assert made.chain.mine().mined == ()
    await hand_in(made, [signed(0)])
    assert len(made.chain.mine().mined) == 1
