"""The transaction manager against the emulated chain: one fact a test."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Never

import attrs
import pytest
import trio

from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import JournalFailed
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.model.events import (
    AlertCleared,
    AlertRaised,
    ReplyFinalized,
    ReplyIncluded,
    ReplyReturned,
    ReplySent,
    ReplySigned,
    RequestClosed,
    RequestDeferred,
    RequestsMoved,
)
from kmsconn.model.life import State
from kmsconn.replies.manager import run_txmanager
from tests.unit.replies.world import (
    CONTRACT,
    HEALTHY,
    KEY,
    Fault,
    Reverts,
    World,
    all_in,
    calldata,
    lose_broadcasts,
    no_delay,
    running,
    set_broken,
    signed_for_another_branch,
    until,
    with_a_hole,
)


@pytest.fixture(params=["arbitrum", "arbitrum at once", "geth"])
async def world(request: pytest.FixtureRequest) -> World:
    return World(pool=request.param)


async def test_an_answer_is_signed_sent_included_and_finalized(world: World) -> None:
    world.request(1)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert world.journal.steps(1) == ["sign", "confirm", "finalize"]
    assert [type(event) for event in world.events] == [ReplySigned, ReplySent, ReplyIncluded, ReplyFinalized]
    assert {getattr(event, "id", None) for event in world.events} == {1}


async def test_an_isolated_answer_is_in_the_next_block(world: World) -> None:
    async with running(world):
        await trio.sleep(5)
        world.request(1)
        head = world.chain.head.number
        world.wake.notify()
        await until(lambda: world.answered_on_chain(1))
    assert world.chain.head.number <= head + 2


async def test_heads_alone_are_looked_at_only_while_a_reply_waits_for_them(world: World) -> None:
    async def hear() -> Never:
        while True:
            await trio.sleep(0.25)
            world.wake.head_came()

    async with running(world) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        await trio.sleep(10)
        rounds = list[None]()
        manager.beat = lambda: rounds.append(None)
        await trio.sleep(10.3)
        assert len(rounds) <= 20
        asked = len(world.node.calls)
        world.request(1)
        world.wake.go_on()
        await until(lambda: all_in(world, State.INCLUDED), 0.8)
        methods = [call.method for call in world.node.calls[asked:]]
        assert methods.index("eth_estimateGas") < methods.index("eth_getBlockByNumber"), (
            "an answer waits for it"
        )
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_thousand_answers_need_no_round_trip_and_no_block_each(world: World) -> None:
    for rid in range(1, 1001):
        world.request(rid)
    async with running(world):
        start = trio.current_time()
        await until(lambda: all(world.answered_on_chain(rid) for rid in range(1, 1001)))
        assert trio.current_time() - start < 6
    assert sorted(world.sent()) == list(range(1000))
    assert len(world.node.calls) < 4 * 1000
    assert world.node.batches - len(world.node.accepted) < 150


async def test_nonces_are_handed_to_the_node_in_order(world: World) -> None:
    for rid in range(1, 201):
        world.request(rid)
    async with running(world):
        await until(lambda: len(world.node.accepted) == 200)
    assert world.arrived() == list(range(200))


async def test_a_nonce_that_another_reply_holds_spoils_one_signature_and_no_other(world: World) -> None:
    """What flies is remembered; here somebody signed a reply beside the transaction manager, which learns it from the refusal."""
    async with running(world):
        await trio.sleep(5)
        world.sign_behind(1)
        for rid in (2, 3):
            world.request(rid)
        world.wake.notify()
        await until(lambda: all_in(world, State.FINALIZED))
    assert world.journal.conflicts == 1
    assert [event.nonce for event in world.said(ReplySigned)] == [1, 2]
    assert sorted(mined.transaction.nonce for mined in world.ours()) == [0, 1, 2]


async def test_no_more_replies_fly_than_the_window_holds(world: World) -> None:
    for rid in range(1, 41):
        world.request(rid)
    world.chain.stalled = True
    async with running(world, window=16):
        await trio.sleep(30)
        assert world.journal.states().count(State.SIGNED) == 16
        world.chain.stalled = False
        await until(lambda: all_in(world, State.FINALIZED))


async def test_the_gas_limit_is_the_estimate_times_the_multiplier_rounded_down(world: World) -> None:
    world.request(1)
    async with running(world):
        await until(lambda: bool(world.node.accepted))
    transaction = decode_transaction(world.node.accepted[0]).transaction
    assert (transaction.max_fee, transaction.max_priority_fee) == (204, 4)
    assert transaction.gas == _estimate(transaction.data) * 115 // 100


async def test_a_reply_that_may_complete_its_request_has_gas_for_it(world: World) -> None:
    """Its estimate does not tell: others' replies may be mined before it."""
    world.profile = Reverts(spare_gas=500_000, spare_percent=50)
    world.request(1)
    async with running(world):
        await until(lambda: bool(world.node.accepted))
    transaction = decode_transaction(world.node.accepted[0]).transaction
    estimate = _estimate(transaction.data)
    assert transaction.gas == estimate * 115 // 100 + 500_000 + estimate * 50 // 100


def _estimate(data: bytes) -> int:
    """Return what an emulated node estimates for a reply: a little more than it uses."""
    return (71_000 + sum(16 if byte else 4 for byte in data)) * 1_015 // 1_000


async def test_a_chain_without_base_fee_gets_legacy_transactions() -> None:
    world = World(base_fee=None)
    world.request(1)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    transaction = decode_transaction(world.node.accepted[0]).transaction
    assert transaction.is_legacy
    assert transaction.max_fee == 10**9


async def test_a_final_no_counts_only_when_the_request_is_older_than_the_reorg_window(world: World) -> None:
    world.chain.mine_many(8)
    world.request(1, block=8)
    world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(b"other content", "request", 1))
    async with running(world):
        await trio.sleep(3)
        assert world.journal.rows[1].state is State.ANSWERED
        assert world.said(RequestDeferred)  # it holds no place meanwhile
        await until(lambda: world.journal.rows[1].state is State.REJECTED)
    assert world.chain.head.number >= 8 + 20
    assert world.said(RequestClosed)[0].reason == "wrong: other content()"
    assert world.node.accepted == []


def not_before(world: World, block: int, *first: bytes) -> None:
    """Let nodes say that nobody asked, until a block; then what ``first`` says, one estimate each; then the truth."""
    said = iter(first)

    def twist(call: Call, answer: Any) -> Any:
        if call.method != "eth_estimateGas":
            return answer
        data = b"notrequested" if world.chain.head.number < block else next(said, None)
        return answer if data is None else RpcError(3, "execution reverted", data)

    world.node.twist = twist


@pytest.mark.parametrize("said", [b"wrong: a lie", b"stranger: a lie"])
async def test_one_final_no_ends_no_reply(said: bytes, world: World) -> None:
    world.request(1, block=0)
    not_before(world, 40, said)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert world.said(RequestClosed) == []


async def test_a_final_no_about_status_0_is_asked_for_once_more(world: World) -> None:
    world.request(1, block=0)
    not_before(world, 40)
    world.node.on_sent = lambda raw: set_broken(world, True)
    async with running(world):
        await until(lambda: bool(world.said(ReplyReturned) or world.said(RequestClosed)))
        set_broken(world, False)
        world.node.on_sent = lambda raw: None
        await until(lambda: all_in(world, State.FINALIZED))
    assert "status 0: wrong: broken()" in world.said(ReplyReturned)[0].reason
    assert not world.said(ReplyReturned)[0].nonce_taken


async def test_a_final_no_counts_only_on_a_chain_with_the_block_of_the_request(world: World) -> None:
    """On another branch the id may name something else; the one with the request may come back."""
    world.chain.mine_many(8)
    world.request(1, block=8)
    world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(b"other content", "request", 1))
    gone = world.chain.reorg(4)
    async with running(world):
        await until(lambda: world.chain.head.number >= 60)
        row = world.journal.rows[1]
        assert (row.state, row.progress.reason) == (State.ANSWERED, "wrong: other content()")
        world.chain.restore(gone)
        world.chain.mine_many(60)
        await until(lambda: bool(world.said(RequestsMoved)))
        world.journal.change(1, on_chain=True)  # read again on the branch that came back
        await until(lambda: world.journal.rows[1].state is State.REJECTED)
    assert world.node.accepted == []


async def test_the_reason_of_status_0_comes_from_a_call_where_the_node_does_not_trace(world: World) -> None:
    world.request(1, block=0)
    unknown = RpcError(-32601, "method not found")
    world.node.refuse = lambda call: unknown if call.method == "debug_traceTransaction" else None
    world.node.on_sent = lambda raw: set_broken(world, True)
    async with running(world):
        await until(lambda: bool(world.said(ReplyReturned)))
    assert "status 0: wrong: broken()" in world.said(ReplyReturned)[0].reason


async def test_a_reply_that_included_while_its_send_was_lost_is_not_sent_twice(world: World) -> None:
    world.request(1)
    lost = iter([True])
    send, fault = "eth_sendRawTransaction", Fault(lost="answer")
    world.node.fault = lambda calls: fault if calls[0].method == send and next(lost, False) else HEALTHY
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert world.sent() == [0]
    assert len(world.ours()) == 1


@pytest.mark.parametrize("known", [True, False])
async def test_a_final_reply_has_a_block_that_is_not_below_its_own(known: bool, world: World) -> None:
    """A reorganisation moves it; by that block a later one finds it again, also where no bytes are known and no receipt tells."""
    world.chain.mine_many(10)
    world.request(1)
    async with running(world):
        await until(lambda: all_in(world, State.INCLUDED))
        world.chain.reorg(8)
        if not known:
            world.journal.change(1, raw=None, reply_hash=None)
        await until(lambda: all_in(world, State.FINALIZED))
    assert (world.journal.rows[1].reply.included_block or 0) >= world.ours()[0].block_number


async def test_a_restart_sends_the_same_bytes_again(world: World) -> None:
    world.request(1)
    world.node.fault = lose_broadcasts
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.SIGNED)
    signed = world.journal.rows[1].reply.raw
    world.node.fault = lambda calls: HEALTHY
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert world.node.accepted == [signed]


async def test_a_superseded_reply_that_is_signed_is_sent_all_the_same(world: World) -> None:
    world.request(1)
    world.node.fault = lose_broadcasts
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.SIGNED)
        world.journal.change(1, on_chain=False)
        world.node.fault = lambda calls: HEALTHY
        await until(lambda: bool(world.node.accepted))


async def test_an_answer_off_chain_is_not_signed(world: World) -> None:
    world.request(1)
    world.journal.change(1, on_chain=False)
    async with running(world):
        await trio.sleep(10)
    assert world.journal.steps(1) == []


async def test_a_reply_whose_block_is_gone_goes_out_again_with_the_same_bytes(world: World) -> None:
    world.request(1)
    world.request(2)
    world.chain.mine_many(10)
    async with running(world):
        await until(lambda: all_in(world, State.INCLUDED))
        world.chain.reorg(5, drop=lambda t: t.sender == KEY.address)
        await until(lambda: all_in(world, State.FINALIZED))
    assert len(world.ours()) == 2
    assert len(set(world.node.accepted)) == 2
    assert all(mined.outcome.status == 1 for mined in world.ours())


async def test_a_gap_waits_for_the_answer_about_the_reply_that_left_it(world: World) -> None:
    """With something else at its nonce the reply was signed under another one, and the branch that took it may come back."""
    world.request(1)
    world.chain.mine_many(10)
    async with running(world):
        await until(lambda: all_in(world, State.INCLUDED))
        world.chain.reorg(5, drop=lambda t: t.sender == KEY.address)
        world.request(2)
        await until(lambda: all_in(world, State.FINALIZED))
    ours = [(m.transaction.nonce, m.transaction.data) for m in world.ours()]
    assert ours == [(0, calldata(1)), (1, calldata(2))]


async def test_bytes_that_nobody_took_are_kept_back_once_the_branch_with_the_reply_is_there_again(
    world: World,
) -> None:
    """They were signed for a branch without it, and the account could not pay until its own branch came back."""
    world.request(1)
    world.chain.mine_many(10)
    async with running(world):
        branch = await signed_for_another_branch(world)
        world.chain.evm.set_balance(KEY.address, 10**20)
        world.chain.restore(branch)
        await until(lambda: all_in(world, State.FINALIZED))
        await trio.sleep(30)
    assert [m.outcome.status for m in world.ours()] == [1]
    assert world.journal.steps(1).count("sign") == 2


@attrs.define
class Rate:
    """Lets so many calls pass in a second, and refuses the others of a batch."""

    calls: float
    left: float = 0.0
    at: float = 0.0

    def refuse(self, call: Call) -> RpcError | None:
        now = trio.current_time()
        self.left = min(self.calls, self.left + (now - self.at) * self.calls)
        self.at = now
        if self.left < 1:
            return RpcError(-32005, "rate limit exceeded")
        self.left -= 1
        return None


@pytest.mark.sampled
@pytest.mark.slow
@pytest.mark.parametrize("calls", [150])
async def test_a_backlog_gets_through_a_node_that_takes_few_calls_a_second(calls: int, world: World) -> None:
    world.node.refuse = Rate(calls).refuse
    for rid in range(1, 501):
        world.request(rid)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED), 120)
    assert world.journal.steps(500).count("finalize") == 1


async def test_a_reply_that_was_found_counts_from_the_head_of_the_node_that_found_it(world: World) -> None:
    """Behind one URL a node that lags answers one of several batches: its head says nothing of what another has found."""
    for rid in range(1, 151):
        world.request(rid)
    async with running(world):
        await until(lambda: all(world.answered_on_chain(rid) for rid in range(1, 151)))
    head = world.chain.head.number
    for rid in range(1, 151):
        world.journal.change(rid, state=State.ANSWERED, nonce=None, raw=None, reply_hash=None)
    last = to_hex(calldata(150))
    world.node.fault = lambda calls: (
        Fault(lag=2)
        if any(one.method == "eth_estimateGas" and one.params[0]["data"] == last for one in calls)
        else HEALTHY
    )
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
        assert (world.journal.rows[1].reply.included_block or 0) >= head


async def test_a_reply_without_receipt_is_replaced_at_its_nonce_and_is_included_once() -> None:
    world = World(pool="geth")
    world.request(1)
    async with running(world):
        await until(lambda: bool(world.node.accepted))
        world.chain.base_fee = 5_000
        await until(lambda: all_in(world, State.FINALIZED), 600)
    assert set(world.sent()) == {0}
    assert len(world.node.accepted) > 1
    assert len(world.ours()) == 1


async def test_nonces_above_the_chains_wait_for_the_gap_on_arbitrum() -> None:
    """A failed send in the middle stops those behind it for a moment only."""
    world = World(pool="arbitrum")
    for rid in range(1, 11):
        world.request(rid)
    lost = iter([True, True])

    def refuse(call: Any) -> RpcError | None:
        if call.method != "eth_sendRawTransaction":
            return None
        nonce = decode_transaction(bytes.fromhex(call.params[0][2:])).transaction.nonce
        return RpcError(-32000, "busy") if nonce == 4 and next(lost, False) else None

    world.node.refuse = refuse
    async with running(world):
        start = trio.current_time()
        await until(lambda: all(world.answered_on_chain(rid) for rid in range(1, 11)))
        assert trio.current_time() - start < 4
    assert sorted(world.sent()) == list(range(10))


async def test_a_reply_above_a_hole_that_the_contract_has_by_other_bytes_is_not_sent() -> None:
    """A branch came back with its earlier bytes. It becomes final, although the nonce of its last ones stays open."""
    world = await with_a_hole("arbitrum", has=2)
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED))
    assert [(m.transaction.nonce, m.outcome.status) for m in world.ours()] == [(0, 1), (1, 1)]
    assert not world.said(ReplyReturned)


async def test_an_included_reply_with_an_open_nonce_that_nobody_can_tell_of_holds_nobody_up() -> None:
    world = await with_a_hole("arbitrum", has=2)
    async with running(world):
        await until(lambda: world.journal.rows[2].state is State.INCLUDED)
        busy, second = RpcError(-32000, "busy"), calldata(2, 0).hex()
        world.node.refuse = lambda it: busy if it.method == "eth_call" and second in str(it.params) else None
        await trio.sleep(30)
        assert world.journal.rows[2].state is State.INCLUDED
        world.request(3)
        world.wake.notify()
        await until(lambda: world.answered_on_chain(3), 10)


async def test_an_outage_is_said_once_of_each_severity_and_waited_out(world: World) -> None:
    world.request(1)
    world.node.fault = lambda calls: Fault(lost="question")
    async with running(world):
        await trio.sleep(60)
        world.node.fault = lambda calls: HEALTHY
        await until(lambda: all_in(world, State.FINALIZED))
    assert [(one.cause, one.critical) for one in world.said(AlertRaised)] == [
        ("rounds", False),
        ("rounds", True),
    ]
    assert [(r.dependency, r.cause) for r in world.said(AlertCleared)] == [("txmanager gateway", "rounds")]


async def test_a_chain_that_is_back_is_looked_at_within_two_seconds(world: World) -> None:
    """However long it was gone: every reply waits for that look."""
    asked: list[float] = []

    def fault(calls: Any) -> Fault:
        asked.append(trio.current_time())
        return Fault(lost="question")

    world.request(1)
    world.node.fault = fault
    async with running(world):
        await trio.sleep(120)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert len(asked) >= 120 / 2
    assert max(pauses) <= 2


@pytest.mark.parametrize("failure", ["disk is full", ""])
async def test_a_journal_that_fails_is_left_to_its_own_alert(failure: str, world: World) -> None:
    """It has none where one operation fails and others are written."""

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise JournalFailed("the journal could not be written")

    world.request(1)
    world.journal.delay, world.journal.failures.unwritten = fail, failure
    async with running(world):
        await trio.sleep(60)
        world.journal.delay, world.journal.failures.unwritten = no_delay, ""
        await until(lambda: all_in(world, State.FINALIZED))
    assert [one.cause for one in world.said(AlertRaised)] == ([] if failure else ["rounds"])


async def test_a_node_that_hangs_does_not_hang_the_transaction_manager(world: World) -> None:
    world.request(1)
    hangs = iter([3600.0])
    world.node.fault = lambda calls: Fault(hang=next(hangs, 0.0))
    async with running(world):
        await until(lambda: all_in(world, State.FINALIZED), 60)


async def test_closing_ends_the_transaction_manager_when_nothing_is_answered_or_signed(world: World) -> None:
    world.request(1)
    manager = world.manager()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.chain.run)
        manager.closing.set()
        await run_txmanager(manager)
        nursery.cancel_scope.cancel()
    assert all_in(world, State.INCLUDED)


async def test_closing_with_nothing_to_are_included_asks_no_chain(world: World) -> None:
    world.node.fault = lambda calls: Fault(hang=3600.0)
    async with trio.open_nursery() as nursery:
        manager = world.manager()
        nursery.start_soon(run_txmanager, manager)
        await trio.sleep(1)
        start = trio.current_time()
        manager.closing.set()
    assert trio.current_time() == start


async def test_closing_waits_for_an_unreachable_chain_while_something_is_answered(world: World) -> None:
    world.request(1)
    down = [True]
    world.node.fault = lambda calls: Fault(lost="question" if down[0] else "")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.chain.run)
        manager = world.manager()
        manager.closing.set()
        with trio.move_on_after(10) as scope:
            await run_txmanager(manager)
        assert scope.cancelled_caught
        down[0] = False
        await run_txmanager(manager)
        nursery.cancel_scope.cancel()
    assert all_in(world, State.INCLUDED)


async def test_closing_does_not_wait_for_answers_off_chain(world: World) -> None:
    world.request(1)
    world.journal.change(1, on_chain=False)
    manager = world.manager()
    manager.closing.set()
    with trio.fail_after(5):
        await run_txmanager(manager)
