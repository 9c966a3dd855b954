"""The transaction manager when its wallet is far away: out of reach, slow, throttled. One fact a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Overloaded, Unreachable
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.model.events import AlertCleared, AlertRaised, ReplyIncluded, ReplySigned
from kmsconn.model.life import State
from kmsconn.replies.wallet import SIGNING, Wallet, sign_here
from tests.unit.replies.world import CONTRACT, KEY, World, all_in, running, until


@attrs.define
class FarSigner:
    """A key behind a service that takes its time, signs ``most`` digests of a call, and may be out of reach or hang."""

    most: int = 1000
    seconds: float = 0.05
    out: Callable[[], bool] = lambda: False
    hangs: Callable[[], bool] = lambda: False
    calls: list[int] = attrs.field(factory=list)

    async def sign(self, digests: Sequence[bytes]) -> list[bytes]:
        self.calls.append(len(digests))
        await trio.sleep(SIGNING if self.hangs() else self.seconds)
        if self.out() or self.hangs():
            raise Unreachable("AWS KMS: refused")
        if not self.most:
            raise Overloaded("AWS KMS: ThrottlingException")
        return [KEY.sign(digest) for digest in digests[: self.most]]


@pytest.fixture(params=["arbitrum", "geth"])
async def world(request: pytest.FixtureRequest) -> World:
    return World(pool=request.param)


def far(world: World, **knobs: Any) -> FarSigner:
    signer = FarSigner(**knobs)
    world.wallet = Wallet(KEY.address, signer.sign)
    return signer


async def test_a_wallet_out_of_reach_is_told_once_and_loses_no_reply(world: World) -> None:
    until_then = trio.current_time() + 60
    far(world, out=lambda: trio.current_time() < until_then)
    for rid in range(1, 6):
        world.request(rid)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert [(t.dependency, t.cause, t.critical) for t in world.said(AlertRaised)] == [
        ("txmanager gateway", "wallet", True)
    ]
    assert [(r.dependency, r.cause) for r in world.said(AlertCleared)] == [("txmanager gateway", "wallet")]
    assert len(world.ours()) == 5


@pytest.mark.slow
async def test_a_wallet_out_of_reach_is_asked_less_and_less_often(world: World) -> None:
    signer = far(world, out=lambda: True)
    world.request(1)
    async with running(world):
        await trio.sleep(300)
    assert 20 < len(signer.calls) < 40


async def test_a_throttled_wallet_that_signs_a_few_at_a_time_is_included_all_in_nonce_order(
    world: World,
) -> None:
    far(world, most=3)
    for rid in range(1, 21):
        world.request(rid)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert world.arrived() == list(range(20))
    assert world.said(AlertRaised) == []


async def test_a_slow_wallet_signs_what_is_due_in_one_go(world: World) -> None:
    signer = far(world, seconds=2.0)
    for rid in range(1, 101):
        world.request(rid)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert signer.calls == [100]


async def test_what_is_signed_is_sent_while_the_wallet_is_out_of_reach(world: World) -> None:
    busy = True

    def refuse(call: Call) -> RpcError | None:
        return RpcError(-32000, "busy") if busy and call.method == "eth_sendRawTransaction" else None

    signer = far(world)
    world.node.refuse = refuse
    world.request(1)
    async with running(world):
        await until(lambda: bool(world.said(ReplySigned)))
        signer.out = lambda: True
        world.request(2)
        await until(lambda: bool(world.said(AlertRaised)))
        busy = False
        await until(lambda: world.answered_on_chain(1), 60)
        assert not world.answered_on_chain(2)


async def test_a_wallet_that_hangs_delays_no_confirmation_of_other_replies(world: World) -> None:
    """The key service takes the call and does not answer."""
    signer = far(world)
    world.request(1)
    async with running(world):
        await until(lambda: bool(world.said(ReplySigned)))
        signer.hangs = lambda: True
        world.request(2)
        world.wake.notify()
        await until(lambda: len(signer.calls) == 2)
        await until(lambda: bool(world.said(ReplyIncluded)), 1)
        signer.hangs = lambda: False
        await until(lambda: all_in(world, State.FINALIZED))
    assert world.arrived() == [0, 1]


async def test_a_reply_that_another_sends_while_the_wallet_hangs_is_not_sent_again(world: World) -> None:
    """The signature comes late, and what it is for is decided by then."""
    far(world, seconds=SIGNING - 1)
    world.request(1)
    async with running(world):
        await trio.sleep(2)
        world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(True, "answered", 1))
        await until(lambda: all_in(world, State.FINALIZED))
        await trio.sleep(SIGNING)
    assert not world.said(ReplySigned)
    assert not world.arrived()


async def test_a_wallet_slower_than_any_probe_counts_has_each_reply_signed_once(world: World) -> None:
    signer = far(world, seconds=SIGNING - 1)
    for rid in range(1, 6):
        world.request(rid)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert signer.calls == [5]


async def test_a_process_that_ends_while_the_wallet_hangs_has_signed_nothing(world: World) -> None:
    signer = far(world, hangs=lambda: True)
    world.request(1)
    async with running(world):
        await until(lambda: bool(signer.calls))
        await trio.sleep(1)
    assert world.journal.states() == [State.ANSWERED]
    signer.hangs = lambda: False
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert world.arrived() == [0]


@pytest.mark.slow
async def test_a_reply_whose_fee_is_too_low_waits_for_the_wallet_and_is_included_once() -> None:
    world = World(pool="geth")
    until_then = trio.current_time() + 120
    signer = far(world)
    world.request(1)
    async with running(world):
        await until(lambda: bool(world.said(ReplySigned)))
        world.chain.base_fee = 5_000
        signer.out = lambda: trio.current_time() < until_then
        await until(lambda: all_in(world, State.FINALIZED), 600)
    assert trio.current_time() > until_then
    assert len(world.ours()) == 1
    assert [(t.dependency, t.cause) for t in world.said(AlertRaised)] == [("txmanager gateway", "wallet")]


@pytest.mark.slow
async def test_bytes_that_no_node_takes_wait_for_a_wallet_that_can_sign_the_empty_transfer(
    world: World,
) -> None:
    def refuse(call: Call) -> RpcError | None:
        if call.method != "eth_sendRawTransaction":
            return None
        transaction = decode_transaction(bytes.fromhex(call.params[0][2:])).transaction
        first = transaction.nonce == 0 and transaction.to == CONTRACT
        return RpcError(3, "execution reverted", b"notrequested") if first else None

    world.node.refuse = refuse
    signer = far(world)
    until_then = trio.current_time() + 120
    world.request(1)
    async with running(world):
        await until(lambda: bool(world.said(ReplySigned)))
        signer.out = lambda: trio.current_time() < until_then
        await until(lambda: all_in(world, State.FINALIZED))
    assert [m.transaction.to for m in world.ours()] == [KEY.address, CONTRACT]
    raised = [(t.dependency, t.cause) for t in world.said(AlertRaised)]
    assert raised == [("txmanager gateway", "broadcast"), ("txmanager gateway", "wallet")]


async def test_a_key_in_memory_lets_others_run_while_it_signs_many() -> None:
    digests = [bytes([number]) * 32 for number in range(130)]
    steps = 0

    async def others() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        signatures = await sign_here(KEY, digests)
        nursery.cancel_scope.cancel()
    assert signatures == [KEY.sign(digest) for digest in digests]
    assert steps >= 2
