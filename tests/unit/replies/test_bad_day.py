"""The bad day: one reply, one answer, one limit of a node, one wild figure. The others are included, and an alert names it.

Each situation stopped or slowed down all replies of a chain before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.looking import NOT_FINAL, ChainObserver
from kmsconn.chain.port import Call, RpcError
from kmsconn.emulator.node_faults import NodeError
from kmsconn.emulator.pool import Submission
from kmsconn.errors import Unreachable
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.ethereum.transactions import Transaction, decode_transaction, sign_transaction
from kmsconn.model.alerts import STANDSTILL
from kmsconn.model.events import (
    AlertCleared,
    AlertRaised,
    ForeignTransaction,
    ReplyIncluded,
    ReplyReturned,
    ReplySent,
    ReplySigned,
)
from kmsconn.model.life import State
from kmsconn.protocols.deployments import NO_DATA
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.replies.wallet import Wallet
from tests.unit.replies.world import (
    CHAIN_ID,
    CONTRACT,
    HEALTHY,
    KEY,
    REORG_WINDOW,
    Fault,
    Node,
    Replied,
    Reverts,
    World,
    calldata,
    digest_of,
    running,
    set_broken,
    until,
)

REPLIES = 22
NEVER = Fault(hang=1e9)


def requested(world: World, count: int = REPLIES) -> None:
    for rid in range(1, count + 1):
        world.request(rid)


def answered(world: World, rids: Sequence[int]) -> bool:
    return all(world.answered_on_chain(rid) for rid in rids)


def alerts(world: World) -> dict[str, AlertRaised]:
    return {alert.cause: alert for alert in world.said(AlertRaised)}


def is_about(rid: int, *methods: str) -> Callable[[Call], bool]:
    data = to_hex(calldata(rid))
    return lambda call: call.method in methods and call.params[0].get("data") == data


OTHERS = [*range(1, 7), *range(8, REPLIES + 1)]


@pytest.fixture(params=["arbitrum", "geth"])
async def world(request: pytest.FixtureRequest) -> World:
    world = World(pool=request.param)
    world.node.in_order = False  # a node answers other questions while it does not answer one
    return world


async def test_a_trace_that_is_never_answered_holds_up_no_other_reply(world: World) -> None:
    """Reply 7 fails as long as the first transaction takes; its trace never comes."""
    requested(world)
    trace = "debug_traceTransaction"
    world.node.fault = lambda calls: NEVER if any(one.method == trace for one in calls) else HEALTHY
    failing = iter([True])

    def on_sent(raw: bytes) -> None:
        transaction = decode_transaction(raw).transaction
        if transaction.data == calldata(7) and next(failing, False):
            world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(None, "request", 7))

    world.node.on_sent = on_sent
    async with running(world):
        began = trio.current_time()
        await until(lambda: answered(world, OTHERS))
        assert trio.current_time() - began < 5
        await until(lambda: bool(world.said(ReplyReturned)))
        world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(digest_of(7), "request", 7))
        await until(lambda: answered(world, [7]), 120)
    assert "status 0" in world.said(ReplyReturned)[0].reason
    assert sum(call.method == "debug_traceTransaction" for call in world.node.calls) == 1


async def test_traces_go_over_a_connection_of_their_own(world: World) -> None:
    requested(world, 1)
    traces = attrs.evolve(world.node, calls=[])
    failing = iter([True])
    world.node.on_sent = lambda _raw: set_broken(world, next(failing, False))
    async with running(world, traces=traces):
        await until(lambda: bool(world.said(ReplyReturned)))
    assert {call.method for call in traces.calls} == {"eth_blockNumber", "debug_traceTransaction"}
    assert all(call.method != "debug_traceTransaction" for call in world.node.calls)


@pytest.mark.parametrize("count", [REPLIES, 150])
async def test_an_estimate_that_is_never_answered_holds_up_no_other_reply(count: int, world: World) -> None:
    requested(world, count)
    hangs = is_about(7, "eth_estimateGas")
    world.node.fault = lambda calls: NEVER if any(map(hangs, calls)) else HEALTHY
    others = [rid for rid in range(1, count + 1) if rid != 7]
    async with running(world):
        began = trio.current_time()
        await until(lambda: answered(world, others))
        assert trio.current_time() - began < 15
        await until(lambda: world.journal.rows[7].progress.deferred > 1)
        world.request(count + 1)
        world.wake.notify()
        began = trio.current_time()
        await until(lambda: answered(world, [count + 1]))
        assert trio.current_time() - began < 2
    assert "eth_estimateGas" in alerts(world)["gas-estimate-unanswered"].text
    assert f"{7:064x}" in alerts(world)["gas-estimate-unanswered"].text


async def test_bytes_that_a_node_refuses_are_named_until_one_takes_them(world: World) -> None:
    """The node says no in words that mean nothing to us: they were broadcast again and again, and no alert said so."""
    world.request(1)
    refusal = RpcError(3, "execution reverted", b"x")
    world.node.refuse = lambda call: refusal if call.method == "eth_sendRawTransaction" else None
    async with running(world):
        await until(lambda: "broadcast" in alerts(world))
        assert "execution reverted" in alerts(world)["broadcast"].text
        world.node.refuse = lambda call: None
        await until(lambda: AlertCleared("txmanager gateway", "broadcast") in world.said(AlertCleared), 60)
        await until(lambda: answered(world, [1]), 60)


async def test_one_refusal_after_failures_uses_no_nonce_up(world: World) -> None:
    world.request(1)
    said = [RpcError(3, "execution reverted"), *[RpcError(-32000, "internal error")] * 2]
    world.node.refuse = lambda call: said.pop() if said and call.method == "eth_sendRawTransaction" else None
    async with running(world):
        await until(lambda: answered(world, [1]))
    assert [one.transaction.to for one in world.ours()] == [CONTRACT]


async def test_a_receipt_that_was_asked_for_before_a_fork_includes_no_reply() -> None:
    world, late = World(pool="geth"), iter([Fault(latency=4.0)])
    world.node.finality, world.node.in_order = 400, False
    world.request(1)
    slow = "eth_getTransactionReceipt"
    world.node.fault = lambda calls: next(late, HEALTHY) if calls[-1].method == slow else HEALTHY
    async with running(world):
        await until(lambda: any(call.method == slow for call in world.node.calls))
        await trio.sleep(2.5)
        world.chain.reorg(world.chain.head.number, drop=lambda one: one.sender == KEY.address)
        world.foreign(0)
        await until(lambda: world.answered_on_chain(1), 20)


@pytest.mark.slow
async def test_a_reply_that_the_contract_loses_each_time_is_paid_ever_more_rarely(world: World) -> None:
    """There is no code at the contract's address: every transaction succeeds and answers nothing. It went out every few seconds."""
    world.request(1)
    contract = world.chain.evm.contracts.pop(CONTRACT)
    async with running(world):
        await trio.sleep(600)
        assert 5 <= len(world.ours()) <= 20
        world.chain.evm.deploy(contract)
        await until(lambda: answered(world, [1]), 120)


SILENT = RpcError(-32000, "not now")


@pytest.mark.parametrize(
    ("method", "error", "cause"),
    [
        ("eth_estimateGas", SILENT, "gas-estimate-unanswered"),
        ("eth_estimateGas", RpcError(3, "execution reverted", b"paused"), "contract-refuses"),
        ("eth_sendRawTransaction", RpcError(-32000, "internal error"), "broadcast"),
    ],
)
async def test_what_no_reply_passes_is_critical_until_one_does(
    method: str, error: RpcError, cause: str, world: World
) -> None:
    requested(world, 5)
    world.node.refuse = lambda call: error if call.method == method else None
    async with running(world):
        began = trio.current_time()
        await until(lambda: any(one.critical for one in world.said(AlertRaised)), 90)
        assert STANDSTILL <= trio.current_time() - began < 15
        assert [one.cause for one in world.said(AlertRaised) if one.critical] == [cause]
        assert "no reply passes; 5 replies wait: " in alerts(world)[cause].text
        world.node.refuse = lambda call: None
        await until(lambda: answered(world, range(1, 6)), 120)
        await until(lambda: AlertCleared("txmanager gateway", cause) in world.said(AlertCleared))


async def test_a_silence_that_the_reply_explains_is_critical_for_that_reply_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract reverts without data on a digest of a type that it does not know; nobody else waits for it."""
    explained = Revert(
        NO_DATA, (), Verdict.RETRY, explanation="the type is not known", alert="key-type-unknown"
    )
    monkeypatch.setattr(Replied, "explain_silence", lambda _self, _calldata: explained)
    requested(world, 2)
    said = RpcError(3, "execution reverted", NO_DATA.encode())
    world.node.refuse = lambda call: said if is_about(1, "eth_estimateGas")(call) else None
    async with running(world):
        await until(lambda: answered(world, [2]), 60)
        await until(lambda: "key-type-unknown" in alerts(world), 60)
        alert = alerts(world)["key-type-unknown"]
        assert (alert.critical, "the type is not known" in alert.text) == (True, True)
        assert world.journal.rows[1].progress.reason == "the type is not known"
        world.node.refuse = lambda call: None
        await until(lambda: answered(world, [1]), 120)
        cleared = AlertCleared("txmanager gateway", "key-type-unknown")
        await until(lambda: cleared in world.said(AlertCleared))


@pytest.mark.slow
@pytest.mark.parametrize("error", [SILENT, RpcError(3, "execution reverted", b"paused")])
async def test_what_others_pass_is_never_critical(error: RpcError, world: World) -> None:
    """Four replies wait for minutes; a fifth one passes every now and then."""
    requested(world, 4)
    bad = [is_about(rid, "eth_estimateGas") for rid in range(1, 5)]
    world.node.refuse = lambda call: error if any(one(call) for one in bad) else None
    async with running(world):
        for rid in range(5, 25):
            world.request(rid)
            world.wake.notify()
            await trio.sleep(10)
    assert answered(world, range(5, 25))
    assert not any(one.critical for one in world.said(AlertRaised))


async def test_receipts_that_come_as_errors_count_as_missing_and_the_contract_decides(world: World) -> None:
    requested(world)
    busy = RpcError(-32000, "transaction indexing is in progress")
    world.node.refuse = lambda call: busy if call.method == "eth_getTransactionReceipt" else None
    async with running(world):
        await until(lambda: len(world.said(ReplyIncluded)) == REPLIES, 60)
        assert not any(row.state is State.SIGNED for row in world.journal.rows.values())
        await until(lambda: all(row.state is State.FINALIZED for row in world.journal.rows.values()))
    assert len(world.ours()) == REPLIES
    assert "indexing is in progress" in alerts(world)["receipt-unanswered"].text


async def test_one_wild_base_fee_signs_nothing_at_it(world: World) -> None:
    """A node that had said what the gas price is says something wild for some looks, while replies are due."""
    world.request(1)
    async with running(world):
        await until(lambda: answered(world, [1]))
        await trio.sleep(2)
        world.node.twist = _wild_heads(iter([2**120] * 6))
        for rid in range(2, REPLIES + 1):
            world.request(rid)
        world.wake.notify()
        began = trio.current_time()
        await until(lambda: answered(world, range(1, REPLIES + 1)))
        assert trio.current_time() - began < 10
    assert max(_fees(world)) < 10_000


def _wild_heads(heads: Iterator[int]) -> Callable[[Call, Any], Any]:
    def twist(call: Call, answer: Any) -> Any:
        base_fee = next(heads, None) if call.params == ("latest", False) else None
        return answer if base_fee is None else {**answer, "baseFeePerGas": quantity(base_fee)}

    return twist


def _fees(world: World) -> list[int]:
    """Return the fees of everything that was broadcast, taken or not."""
    raws = [call.params[0] for call in world.node.calls if call.method == "eth_sendRawTransaction"]
    transactions = [decode_transaction(bytes.fromhex(raw[2:])).transaction for raw in raws]
    return [one.max_fee for one in transactions if one is not None]


@pytest.mark.slow
async def test_a_base_fee_that_stays_beyond_the_limit_is_a_critical_alert_with_figures(world: World) -> None:
    requested(world, 1)
    world.node.twist = _wild_heads(iter([2**120] * 400))
    async with running(world):
        await until(lambda: "fees" in alerts(world))
        await trio.sleep(20)
        assert world.node.arrived == []
        alert = alerts(world)["fees"]
        assert alert.critical
        assert "1329227995784915872903807060.28" in alert.text
        assert "max_fee_per_gas" in alert.text
        await until(lambda: answered(world, [1]), 600)
    assert ("txmanager gateway", "fees") in [(a.dependency, a.cause) for a in world.said(AlertCleared)]


async def test_bytes_signed_at_a_wild_fee_by_an_earlier_process_are_repriced_downwards(world: World) -> None:
    world.request(1)
    reply = Transaction(CHAIN_ID, 0, 3, 2**121, 1_000_000, CONTRACT, 0, calldata(1))
    raw, reply_hash = sign_transaction(reply, KEY)
    world.journal.change(1, state=State.SIGNED, nonce=0, raw=raw, reply_hash=reply_hash)
    world.chain.evm.set_balance(KEY.address, 10**18)
    async with running(world):
        await until(lambda: answered(world, [1]), 60)
    assert _fees(world)[-1] < 10_000
    assert [mined.transaction.nonce for mined in world.ours()] == [0]


async def test_bytes_whose_fee_no_node_takes_are_repriced_too(world: World) -> None:
    """A node has a cap of its own on what a transaction may cost."""
    world.request(1)
    reply = Transaction(CHAIN_ID, 0, 3, 2**90, 1_000_000, CONTRACT, 0, calldata(1))
    raw, reply_hash = sign_transaction(reply, KEY)
    world.journal.change(1, state=State.SIGNED, nonce=0, raw=raw, reply_hash=reply_hash)
    capped = RpcError(-32000, "tx fee (1237940039.00 ether) exceeds the configured cap (1.00 ether)")
    world.node.refuse = lambda call: capped if call.params == (to_hex(raw),) else None
    async with running(world):
        await until(lambda: answered(world, [1]), 60)
    assert [mined.transaction.nonce for mined in world.ours()] == [0]


async def test_one_wild_fee_history_costs_nothing(world: World) -> None:
    requested(world, 3)
    wild = iter([True])
    world.node.twist = lambda call, answer: (
        {"reward": [["0x16345785d8a0000"]] * 10}
        if call.method == "eth_feeHistory" and len(world.ours()) == 3 and next(wild, False)
        else answer
    )
    async with running(world):
        await until(lambda: answered(world, [1, 2, 3]))
        await trio.sleep(5)
        for rid in range(4, 34):
            world.request(rid)
        world.wake.notify()
        await until(lambda: answered(world, range(1, 34)))
    assert next(wild, "asked") == "asked"
    assert max(_fees(world)) < 10_000


async def test_one_gas_estimate_above_the_block_defers_that_reply_alone(world: World) -> None:
    requested(world)
    wild = is_about(7, "eth_estimateGas")
    lies = iter([True])
    world.node.twist = lambda call, it: quantity(2**256 - 1) if wild(call) and next(lies, False) else it
    async with running(world):
        began = trio.current_time()
        await until(lambda: answered(world, OTHERS))
        assert trio.current_time() - began < 3
        await until(lambda: answered(world, [7]))
        assert trio.current_time() - began < 5
        cleared = AlertCleared("txmanager gateway", "gas-estimate")
        await until(lambda: cleared in world.said(AlertCleared))
    assert "gas" in alerts(world)["gas-estimate"].text


async def test_a_reply_beyond_the_cost_limit_waits_alone_with_a_critical_alert() -> None:
    world = World(max_reply_cost=20_000_000)
    world.profile = Reverts()
    requested(world, 2)
    big = is_about(1, "eth_estimateGas")
    world.node.twist = lambda call, answer: quantity(1_000_000) if big(call) else answer
    async with running(world):
        await until(lambda: answered(world, [2]))
        await trio.sleep(5)
        assert not world.answered_on_chain(1)
    alert = alerts(world)["cost"]
    assert alert.critical
    assert "max_reply_cost" in alert.text


async def test_insufficient_funds_name_account_balance_and_need(world: World) -> None:
    requested(world, 1)
    world.chain.evm.set_balance(KEY.address, 12_345)
    async with running(world):
        await until(lambda: "funds" in alerts(world))
    alert = alerts(world)["funds"]
    assert alert.critical
    assert KEY.address.hex()[:6] in alert.text.lower()
    assert "0.000000000000012345 ether" in alert.text
    assert "needs" in alert.text


async def test_a_balance_that_pays_for_a_reply_is_not_called_too_small_for_it(world: World) -> None:
    requested(world, 1)
    poor = RpcError(-32000, "insufficient funds for gas * price + value")
    world.node.refuse = lambda call: poor if call.method == "eth_sendRawTransaction" else None
    async with running(world):
        await until(lambda: "funds" in alerts(world))
    alert = alerts(world)["funds"]
    assert alert.critical
    assert "a reply needs" not in alert.text
    assert "enough for this reply" in alert.text


async def test_out_of_gas_is_recognised_and_named_and_the_next_one_has_more(world: World) -> None:
    """The estimate is right for the state of its moment, and others' replies change it before the block."""
    requested(world, 1)
    heavy = iter([True])

    def on_sent(_raw: bytes) -> None:
        if next(heavy, False):
            world.chain.evm.contracts[CONTRACT] = Heavy(world.chain.evm.contracts[CONTRACT])

    world.node.on_sent = on_sent
    async with running(world):
        await until(lambda: answered(world, [1]), 60)
    returned = world.said(ReplyReturned)[0]
    first, second = (decode_transaction(raw).transaction.gas for raw in world.node.accepted)
    assert f"out of gas ({first} of {first} used)" in returned.reason
    assert second >= first * 3 // 2


async def test_estimates_that_are_far_too_low_are_not_believed_once_replies_of_their_kind_were_included(
    world: World,
) -> None:
    requested(world, 3)
    async with running(world):
        await until(lambda: answered(world, [1, 2, 3]))
        world.node.twist = lambda call, it: quantity(21_000) if call.method == "eth_estimateGas" else it
        for rid in range(4, 14):
            world.request(rid)
        world.wake.notify()
        await until(lambda: answered(world, range(4, 14)), 60)
    assert world.said(ReplyReturned) == []


async def test_a_reply_that_ran_out_of_gas_is_told_until_it_is_included(world: World) -> None:
    requested(world, 1)
    world.node.twist = lambda call, it: quantity(21_000) if call.method == "eth_estimateGas" else it
    cleared = AlertCleared("txmanager gateway", "out-of-gas")
    async with running(world):
        await until(lambda: "out-of-gas" in alerts(world), 60)
        world.node.twist = lambda _call, it: it
        await until(lambda: answered(world, [1]), 120)
        await until(lambda: cleared in world.said(AlertCleared), 60)
    alert = alerts(world)["out-of-gas"]
    assert "gas was used" in alert.text
    assert "estimate" in alert.remedy


@attrs.frozen
class Heavy:
    """The same contract, which uses more gas."""

    inner: Any

    @property
    def address(self) -> Any:
        return self.inner.address

    def execute(self, frame: Any) -> bytes:
        frame.meter.burn(60_000)
        return bytes(self.inner.execute(frame))


async def test_what_is_answered_while_earlier_replies_wait_for_their_block_goes_out_at_once() -> None:
    """A sequencer answers a broadcast with the block; nobody waits for it."""
    world = World(pool="arbitrum", block_time=2.0)
    world.node.in_order = False
    async with running(world):
        await trio.sleep(10.2)
        for rid in range(1, 6):
            world.request(rid)
            world.wake.notify()
            await trio.sleep(0.3)
        await until(lambda: answered(world, range(1, 6)))
    assert world.arrived() == list(range(5))
    assert len({mined.block_number for mined in world.ours()}) == 1


async def test_a_reply_is_final_with_its_block_and_not_before(world: World) -> None:
    world.node.finality = 400
    requested(world, 1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
        block = world.journal.rows[1].reply.included_block or 0
        await trio.sleep(80)
        assert world.journal.rows[1].state is State.INCLUDED
        await until(lambda: world.journal.rows[1].state is State.FINALIZED)
    assert world.chain.head.number >= block + 400


async def test_where_there_is_no_finalized_block_a_depth_counts(world: World) -> None:
    world.node.finality = None
    requested(world, 1)
    async with running(world, confirmations=100):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
        block = world.journal.rows[1].reply.included_block or 0
        await until(lambda: world.journal.rows[1].state is State.FINALIZED)
    assert block + 100 <= world.chain.head.number <= block + 120


async def test_the_finalized_block_falls_with_a_head_that_falls(world: World) -> None:
    """It was asked on a branch that went, and is not asked again before two seconds have passed."""
    world.follower.reorg_window = 0.0
    observer, chain = ChainObserver(world.node, world.follower, KEY.address, 0), world.chain
    chain.mine_many(50)
    assert (await observer.look()).final == 30
    chain.reorg(10, shorter=10)
    assert (await observer.look()).final == 20
    chain.reorg(30, shorter=30)
    assert (await observer.look()).final == NOT_FINAL
    chain.mine_many(60)
    assert (await observer.look()).final == 30


async def test_no_block_younger_than_the_reorg_window_is_believed_to_be_final(world: World) -> None:
    """One node alone says which block is final, and it may say so of its head."""
    observer, looked = ChainObserver(world.node, world.follower, KEY.address, 0), False
    world.node.finality = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.chain.run)
        while not looked:
            await trio.sleep(1)
            view = await observer.look()
            assert view.final == max(NOT_FINAL, view.number - view.reorg_blocks)
            looked = view.final > NOT_FINAL
        nursery.cancel_scope.cancel()
    assert trio.current_time() >= REORG_WINDOW


async def test_statistics_have_balance_nonce_flight_and_fees(world: World) -> None:
    world.chain.evm.set_balance(KEY.address, 10**18)
    requested(world, 3)
    async with running(world) as manager:
        await until(lambda: answered(world, [1, 2, 3]))
        await trio.sleep(3)
        seen = manager.statistics()
    assert (seen.next_nonce, seen.in_flight, seen.waiting) == (3, 0, 0)
    assert seen.balance is not None
    assert 10**17 < seen.balance < 10**18
    assert seen.fee == 104
    assert seen.priority == 4
    assert seen.replies_left == seen.balance // (seen.reply_cost or 0)


async def test_a_broadcast_is_told_when_the_sequencer_answers() -> None:
    world = World(pool="arbitrum", block_time=1.0)
    requested(world, 1)
    async with running(world):
        await until(lambda: bool(world.said(ReplySent)))
    assert world.answered_on_chain(1)


async def test_a_nonce_that_a_node_called_used_and_that_opens_again_is_not_waited_for(world: World) -> None:
    """A block that goes takes a foreign transaction along; nobody may believe its nonce used for ever."""
    world.chain.mine_many(10)
    requested(world, 1)
    used = iter([True])
    low, send = RpcError(-32000, "nonce too low"), "eth_sendRawTransaction"
    world.node.refuse = lambda call: low if call.method == send and next(used, False) else None
    async with running(world):
        await until(lambda: answered(world, [1]), 30)


@pytest.mark.parametrize("another", [True, False])
async def test_transactions_of_another_sender_with_the_same_key_are_told(another: bool, world: World) -> None:
    """Another connector signs the same replies at the same nonces and is a little faster, as in a migration gone wrong."""

    def overtake(call: Call) -> None:
        if another and call.method == "eth_sendRawTransaction":
            ours = decode_transaction(from_hex(call.params[0])).transaction
            theirs = Transaction(CHAIN_ID, ours.nonce, 90_000, 90_000, ours.gas, CONTRACT, 0, ours.data)
            with suppress(NodeError):
                world.chain.intake.submit(sign_transaction(theirs, KEY)[0])

    world.node.refuse = overtake
    requested(world, 3)
    async with running(world):
        await until(lambda: len(world.said(ReplyIncluded)) == 3, 120)
        await trio.sleep(2 * REORG_WINDOW)
    signed = {event.transaction_hash for event in world.said(ReplySigned)}
    carried = [mined for mined in world.ours() if mined.transaction.hash not in signed]
    assert bool(carried) is another
    told = {(event.nonce, event.transaction_hash, event.block) for event in world.said(ForeignTransaction)}
    assert told == {
        (mined.transaction.nonce, mined.transaction.hash, mined.block_number) for mined in carried
    }
    assert [event.transaction_hash for event in world.said(ReplyIncluded)].count(None) == len(carried)
    assert len(world.ours()) == 3


# --- what an alert was about has passed


def present(world: World) -> set[str]:
    told = [event for event in world.events if isinstance(event, AlertRaised | AlertCleared)]
    return {
        cause for cause, event in {one.cause: one for one in told}.items() if isinstance(event, AlertRaised)
    }


async def unreachable(_digests: Any) -> Any:
    raise Unreachable("AWS KMS: away")


@pytest.mark.parametrize("cause", ["fees", "funds", "wallet"])
async def test_an_alert_goes_with_the_last_reply_that_it_is_about(cause: str) -> None:
    """Another connector of the same node has replied."""
    world = World(block_time=2.0, base_fee=None) if cause == "fees" else World(block_time=2.0)
    world.wallet = Wallet(KEY.address, unreachable) if cause == "wallet" else world.wallet
    world.chain.evm.set_balance(KEY.address, 0 if cause == "funds" else 10**20)
    world.node.twist = lambda call, answer: hex(10**15) if call.method == "eth_gasPrice" else answer
    world.request(1)
    async with running(world):
        await until(lambda: cause in present(world))
        world.chain.evm.set_balance(KEY.address, 10**20)
        if cause == "funds":  # by another program with the same account
            world.chain.intake.submit(world.reply_of_another(1)[0])
        world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(cause != "funds", "answered", 1))
        world.chain.mine()
        await until(lambda: {*world.journal.states()} <= {State.INCLUDED, State.FINALIZED})
        world.node.twist = lambda _call, answer: answer
        await trio.sleep(300)
    assert present(world) == set()


async def test_a_late_answer_about_a_reply_in_its_block_is_no_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = Node._waited_for

    async def late(self: Node, result: Any) -> Any:
        found = await wait(self, result)
        await trio.sleep(20 * isinstance(result, Submission))
        return found

    monkeypatch.setattr(Node, "_waited_for", late)
    world = World(block_time=2.0)
    world.node.in_order, world.node.finality = False, 4000
    requested(world, 4)
    async with running(world):
        await until(lambda: {*world.journal.states()} == {State.INCLUDED})
        before = len(world.said(AlertRaised))
        await trio.sleep(180)
    assert len(world.said(AlertRaised)) == before


async def test_a_reply_whose_request_left_the_chain_waits_for_nothing() -> None:
    world = World(block_time=2.0)
    world.node.finality = 5
    world.request(1)
    async with running(world):
        await until(lambda: {*world.journal.states()} == {State.INCLUDED})
        world.journal.change(1, on_chain=False, reply_hash=bytes(32))
        await trio.sleep(900)
    assert not world.said(AlertRaised)
