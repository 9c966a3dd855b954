"""Each row of the decision table beside the worlds that turn red without it.

A world returns what went wrong, in words. ``docs/transactions.md`` has the table, ``docs/testing.md`` what is red without each row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from kmsconn.chain.port import Call, RpcError
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.model.events import ReplyIncluded, ReplyReturned, RequestClosed, RequestDeferred
from kmsconn.model.life import State
from kmsconn.replies import plan, table
from tests.unit.replies.world import (
    CONTRACT,
    KEY,
    REORG_WINDOW,
    Fault,
    World,
    running,
    set_broken,
    signed_for_another_branch,
    until,
    with_a_hole,
)

Wrong = list[str]
Story = Callable[[], Awaitable[Wrong]]
PATIENCE = 60.0  # seconds of a world; each comes right within a few


async def comes_about(what: str, condition: Callable[[], bool], seconds: float = PATIENCE) -> Wrong:
    """Wait for what a healthy transaction manager brings about."""
    with trio.move_on_after(seconds):
        await until(condition, seconds + 1.0)
    return [] if condition() else [f"{what} never came about"]


def is_in(world: World, state: State, *rids: int) -> Callable[[], bool]:
    """Return the question whether these rows, or all, are in a state."""
    return lambda: all(world.journal.rows[rid].state is state for rid in rids or world.journal.rows)


def vain(world: World) -> Wrong:
    """Return the transactions that the chain took for nothing."""
    return [f"nonce {one.transaction.nonce} failed" for one in world.ours() if not one.outcome.status]


# --- the worlds


async def plain_path() -> Wrong:
    """A reply is signed, broadcast, included and final."""
    world = World(pool="geth")
    world.request(1)
    async with running(world):
        return await comes_about("finality", is_in(world, State.FINALIZED)) + vain(world)


async def answered_by_another() -> Wrong:
    """The contract has this node's reply before the first question."""
    world = World()
    world.request(1)
    world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(True, "answered", 1))
    async with running(world):
        wrong = await comes_about("finality", is_in(world, State.FINALIZED))
    found = [event.found for event in world.said(ReplyIncluded)] == [True]
    return wrong + [f"{len(raw)} bytes sent" for raw in world.node.arrived] + ([] if found else ["not found"])


def _says(world: World, text: bytes) -> None:
    world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(text, "says"))


async def others_only() -> Wrong:
    """The contract takes this reply from other nodes only, however long one waits."""
    world = World()
    world.request(1)
    _says(world, b"stranger: not a node")
    async with running(world):
        wrong = await comes_about("its end", is_in(world, State.DONE))
    said = [event.reason for event in world.said(RequestClosed)]
    return wrong + ([] if said == ["stranger: not a node()"] and not world.node.arrived else [f"said {said}"])


async def id_given_away_for_good() -> Wrong:
    """The id names another request, in a block that is settled."""
    world = World()
    world.request(1)
    world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(b"other content", "request", 1))
    async with running(world):
        return await comes_about("its rejection", is_in(world, State.REJECTED))


async def one_is_refused() -> Wrong:
    """There is room for one reply in flight, and the oldest one is refused for now."""
    world = World()
    world.request(1, on_contract=False)
    world.request(2)
    async with running(world, window=1):
        wrong = await comes_about("the other reply", lambda: world.answered_on_chain(2))
    reasons = {event.reason for event in world.said(RequestDeferred)}
    return wrong + ([] if reasons == {"notrequested()"} else [f"deferred for {reasons}"])


async def branch_back_unsent() -> Wrong:
    """Bytes were signed for a branch without the reply, nobody took them, and a start finds the reply's own branch again."""
    world = World(pool="geth")
    world.request(1)
    world.chain.mine_many(10)
    async with running(world):
        branch = await signed_for_another_branch(world)
    world.chain.evm.set_balance(KEY.address, 10**20)
    world.chain.restore(branch)
    async with running(world):
        wrong = await comes_about("finality", is_in(world, State.FINALIZED))
        await trio.sleep(30)
    return wrong + vain(world)


async def poisoned_nonce() -> Wrong:
    """Nodes refuse one reply's bytes for ever, and others wait behind them."""
    world = World(pool="geth")
    for rid in range(1, 4):
        world.request(rid)

    def refuse(call: Call) -> RpcError | None:
        if call.method != "eth_sendRawTransaction":
            return None
        one = decode_transaction(from_hex(call.params[0])).transaction
        poisoned = one.nonce == 0 and one.to == CONTRACT
        return RpcError(3, "execution reverted", b"notrequested") if poisoned else None

    world.node.refuse = refuse
    async with running(world):
        wrong = await comes_about("finality", is_in(world, State.FINALIZED))
    return wrong + filled(world)


async def spike() -> Wrong:
    """The base fee is a hundred times as high for a minute, and a hundred replies wait in the pool."""
    world = World(pool="geth")
    for rid in range(1, 101):
        world.request(rid)
    world.node.on_accepted = lambda _raw: setattr(world.chain, "base_fee", 10_000)
    async with running(world):
        return await comes_about("their inclusion", lambda: all(map(world.answered_on_chain, range(1, 101))))


async def lost_broadcast() -> Wrong:
    """The first broadcasts never arrive."""
    world = World(pool="geth")
    world.request(1)
    lost = iter([True] * 3)
    send, fault = "eth_sendRawTransaction", Fault(lost="question")
    world.node.fault = lambda calls: fault if calls[0].method == send and next(lost, False) else Fault()
    async with running(world):
        return await comes_about("finality", is_in(world, State.FINALIZED)) + vain(world)


async def nonce_taken() -> Wrong:
    """Another process's transaction takes the reply's nonce."""
    world = World(pool="geth")
    world.request(1)
    full = RpcError(-32000, "txpool is full")
    world.node.refuse = lambda call: full if call.method == "eth_sendRawTransaction" else None
    async with running(world):
        await until(is_in(world, State.SIGNED))
        world.foreign()
        world.node.refuse = lambda _call: None
        wrong = await comes_about("finality", is_in(world, State.FINALIZED)) + vain(world)
    taken = [event.nonce_taken for event in world.said(ReplyReturned)] == [True]
    return wrong + ([] if taken and world.sent() == [1] else [f"sent at {world.sent()}"])


async def mined_in_vain() -> Wrong:
    """The contract is broken for as long as the first transaction takes."""
    world = World(pool="geth")
    world.request(1)
    world.node.on_sent = lambda _raw: set_broken(world, True)
    async with running(world):
        wrong = await comes_about("its return", lambda: bool(world.said(ReplyReturned)), 20.0)
        world.node.on_sent = lambda _raw: None
        set_broken(world, False)
        wrong = wrong or await comes_about("finality", is_in(world, State.FINALIZED))
    return wrong + ([] if world.sent() == [0, 1] else [f"sent at {world.sent()}"])


async def journal_lost_then_vanished() -> Wrong:
    """After the journal was lost a reply was found on chain, without an answer here; then its block went."""
    world = World()
    world.request(1)
    world.journal.change(1, state=State.INCLUDED, calldata=None, included_block=1)
    async with running(world):
        return await comes_about("a new beginning", is_in(world, State.PENDING))


async def request_left_the_chain() -> Wrong:
    """The request of an included reply is off chain for a while."""
    world = World()
    world.request(1)
    async with running(world):
        await until(is_in(world, State.INCLUDED))
        world.journal.change(1, on_chain=False)
        wrong = await comes_about("its return", is_in(world, State.ANSWERED))
        world.journal.change(1, on_chain=True)
        return wrong + await comes_about("finality", is_in(world, State.FINALIZED)) + vain(world)


async def destroyed_hides_answer() -> Wrong:
    """A destroyed context hides what was answered under it: only the receipt tells that the reply is there."""
    world = World()
    world.request(1)
    async with running(world):
        await until(is_in(world, State.INCLUDED))
        set_broken(world, True)
        return await comes_about("finality", is_in(world, State.FINALIZED))


async def foreign_gap() -> Wrong:
    """Another process's transaction is reorganised away below replies in flight, and nothing new is to be sent."""
    world = await with_a_hole("geth")
    async with running(world):
        wrong = await comes_about("finality", is_in(world, State.FINALIZED)) + vain(world)
    return wrong + filled(world)


async def wild_nonce() -> Wrong:
    """A node says at a start that a hundred more nonces are used; the others never say so."""
    world = World(pool="geth")
    world.request(1)

    def twist(call: Call, answer: Any) -> Any:
        return hex(int(answer, 16) + 100) if call.method == "eth_getTransactionCount" else answer

    world.node.twist = twist
    async with running(world):
        await until(is_in(world, State.SIGNED))
        world.node.twist = lambda _call, answer: answer
        wrong = await comes_about("finality", is_in(world, State.FINALIZED), REORG_WINDOW + PATIENCE)
    return wrong + vain(world)


def filled(world: World) -> Wrong:
    """Return what is wrong with the first nonce, which an empty transfer is to have."""
    return [] if world.ours()[0].transaction.to == KEY.address else ["something else has the first nonce"]


async def contract_lost_it() -> Wrong:
    """There is no code at the contract's address while a transaction is mined: it succeeds, and answers nothing."""
    world = World()
    world.request(1)
    contract = world.chain.evm.contracts.pop(CONTRACT)
    world.node.on_accepted = lambda _raw: world.chain.evm.deploy(contract)
    async with running(world):
        return await comes_about("the reply", lambda: world.answered_on_chain(1))


WORLDS: dict[str, Story] = {
    story.__name__: story
    for story in (
        plain_path,
        answered_by_another,
        others_only,
        id_given_away_for_good,
        one_is_refused,
        branch_back_unsent,
        poisoned_nonce,
        spike,
        lost_broadcast,
        nonce_taken,
        mined_in_vain,
        journal_lost_then_vanished,
        request_left_the_chain,
        contract_lost_it,
        destroyed_hides_answer,
        foreign_gap,
        wild_nonce,
    )
}
TRIALS = [(row, world) for row in table.ROWS for world in row.worlds]


def test_every_world_is_named_by_a_row_and_every_row_names_one() -> None:
    assert {world for row in table.ROWS for world in row.worlds} == set(WORLDS)
    assert all(row.worlds for row in table.ROWS)


@pytest.mark.parametrize("story", WORLDS.values(), ids=list(WORLDS))
async def test_the_world_is_green(story: Story) -> None:
    assert await story() == []


@pytest.mark.parametrize(
    ("row", "world"), TRIALS, ids=[f"{table.ROWS.index(row) + 1}-{world}" for row, world in TRIALS]
)
async def test_the_world_is_red_without_the_row(
    row: table.TableRow, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "TABLE", plan.by_phase([one for one in table.ROWS if one is not row]))
    try:
        wrong = await WORLDS[world]()
    except* (LookupError, AssertionError):
        wrong = ["nothing was left to do"]
    assert wrong != []
