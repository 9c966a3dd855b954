"""What keeps nonces and bytes safe, switched off one at a time: the world that shows it must turn red, and is green otherwise.

The names are those of the list of mutations in docs/testing.md.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.looking import ChainObserver
from kmsconn.chain.port import Call, RpcError
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.journal import moves, retention
from kmsconn.model.events import ReplyReturned, ReplySigned
from kmsconn.model.life import State
from kmsconn.replies import asking, plan, state, table, view
from kmsconn.replies.answers import Belief, Question
from kmsconn.replies.view import Finding, Found, NonceTracker
from tests.unit.replies.world import HEALTHY, KEY, Fault, World, running, until, wall

Patch = Callable[[Any], None]


# --- the worlds: each returns whether a promise was broken


async def a_node_lags_behind_included_replies() -> bool:
    """Five replies are included; then only nodes answer that are behind them, and a new reply is due."""
    world = World(pool="arbitrum at once")
    for rid in range(1, 6):
        world.request(rid)
    async with running(world):
        await until(lambda: all(row.state is State.INCLUDED for row in world.journal.rows.values()))
        world.node.fault = lambda calls: (
            Fault(lag=world.chain.head.number - 1) if calls[0].method == "eth_getBlockByNumber" else HEALTHY
        )
        await trio.sleep(5)
        world.request(6, block=world.chain.head.number)
        world.wake.notify()
        await until(lambda: len(world.said(ReplySigned)) > 5)
    last: int = world.said(ReplySigned)[-1].nonce
    return last != 5


async def a_journal_is_lost_and_a_node_lags() -> bool:
    """A reply is included; a process that has lost the journal sees that once, then only nodes answer that are behind it."""
    world = World(pool="geth")
    world.request(1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
    world.journal.db.execute("DELETE FROM request")
    world.request(1)
    lag, whole = world.chain.head.number, world.node.batches
    world.node.fault = lambda calls: Fault(lag=lag) if world.node.batches > whole else HEALTHY
    async with running(world):
        await trio.sleep(5)
    return len(world.said(ReplySigned)) > 1


async def a_journal_is_lost_while_replies_wait_in_a_pool() -> bool:
    """The chain stands still; a process that has lost the journal has one more to reply to, before the others."""
    world = World(pool="geth")
    for rid in (2, 3):
        world.request(rid)
    world.chain.stalled = True
    async with running(world):
        await until(lambda: len(world.node.accepted) == 2)
    world.journal.db.execute("DELETE FROM request")
    for rid in (1, 2, 3):
        world.request(rid)
    async with running(world):
        await trio.sleep(20)
        world.chain.stalled = False
        await until(lambda: all(world.answered_on_chain(rid) for rid in (1, 2, 3)), 60)
        await trio.sleep(10)
    return any(mined.outcome.revert_data == b"answered" for mined in world.ours())


async def two_replies_have_bytes_for_one_nonce() -> bool:
    """A pool holds the second one's bytes for the nonce; whoever signs it for another nonce sends it twice."""
    world = World(pool="geth")
    for rid in (1, 2):
        world.sign_behind(rid)
        world.journal.change(rid, state=State.ANSWERED)
    raw = world.journal.rows[2].reply.raw
    assert raw is not None
    world.chain.intake.submit(raw)
    world.chain.stalled = True
    async with running(world):
        await until(lambda: bool(world.said(ReplySigned)))
        await trio.sleep(5)
        world.chain.stalled = False
        await until(lambda: all(world.answered_on_chain(rid) for rid in (1, 2)), 60)
        await trio.sleep(10)
    return any(mined.outcome.revert_data == b"answered" for mined in world.ours())


async def receipts_come_from_a_node_that_lags() -> bool:
    """The look at the chain is of a fresh node; receipts and the contract's state come from one behind it for ten seconds."""
    world = World(pool="arbitrum at once")
    world.chain.mine_many(30)
    world.request(1)
    behind = {"eth_getTransactionReceipt", "eth_call", "eth_estimateGas"}

    def fault(calls: Sequence[Call]) -> Fault:
        late = (
            trio.current_time() < 20 and world.node.accepted and any(call.method in behind for call in calls)
        )
        return Fault(lag=world.chain.head.number - 30) if late else HEALTHY

    world.node.fault = fault
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED, 60)
    return bool(world.said(ReplyReturned))


async def a_nonce_that_another_took_opens_again() -> bool:
    """A reply gave its nonce up to another process's transaction, whose block then goes: the same bytes are due."""
    world = World(pool="geth")
    world.chain.mine_many(10)
    world.request(1)
    full = RpcError(-32000, "txpool is full")
    world.node.refuse = lambda call: full if call.method == "eth_sendRawTransaction" else None
    world.random = lambda: 1.0
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.SIGNED)
        world.foreign()
        await until(lambda: bool(world.said(ReplyReturned)), 60)
        world.journal.change(1, next_attempt=wall() + 10)
        world.chain.reorg(world.chain.head.number - 5, drop=lambda t: t.sender == KEY.address)
        world.chain.base_fee = 200
        world.node.refuse = lambda call: None
        await until(lambda: world.answered_on_chain(1), 60)
    return len({event.transaction_hash for event in world.said(ReplySigned)}) != 1


async def a_block_goes_with_a_reply() -> bool:
    """An included reply goes back to answered: its bytes may still wait somewhere, so they go out as they were."""
    world = World(pool="geth")
    world.chain.mine_many(10)
    world.request(1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
        world.chain.base_fee = 200
        world.chain.reorg(5, drop=lambda t: t.sender == KEY.address)
        await until(lambda: world.journal.rows[1].state is State.FINALIZED)
    return len({decode_transaction(raw).hash for raw in world.node.accepted}) != 1


async def more_is_answered_than_the_window_holds() -> bool:
    world = World(pool="geth")
    for rid in range(1, 41):
        world.request(rid)
    world.chain.stalled = True
    async with running(world, window=16):
        await trio.sleep(30)
        most = world.journal.states().count(State.SIGNED)
    return most > 16


async def a_block_goes_and_others_take_its_nonces() -> bool:
    """While no process runs, and no hash is kept of before: only the contract tells of it."""
    world = World(pool="arbitrum at once")
    world.node.finality = 400
    world.chain.mine_many(10)
    world.request(1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
        await trio.sleep(8)
    world.chain.reorg(40, drop=lambda t: t.sender == KEY.address)
    world.foreign()
    world.follower.kept = ()
    world.journal.db.execute("DELETE FROM checkpoint")
    async with running(world):
        await trio.sleep(120)
    return not world.answered_on_chain(1)


async def a_reply_moves_to_a_later_block() -> bool:
    world = World(pool="arbitrum at once")
    world.chain.mine_many(10)
    world.request(1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
        included = world.journal.rows[1].reply.included_block or 0
        await until(lambda: world.chain.head.number == included + 15)
        world.chain.reorg(16)
        await until(lambda: world.journal.rows[1].state is State.FINALIZED)
    return world.chain.head.number < world.ours()[0].block_number + 20


async def a_reply_moves_to_a_later_block_while_nobody_looks() -> bool:
    """No process runs when its block is replaced, and no hash is kept of before: only the new receipt tells where it stands."""
    world = World(pool="arbitrum at once")
    # so many that they take longer than the reorg window, which a process watches before it believes that a block is final
    world.node.finality = 60
    world.chain.mine_many(10)
    world.request(1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
    included = world.journal.rows[1].reply.included_block or 0
    world.chain.mine_many(included + 62 - world.chain.head.number)
    world.chain.reorg(63)
    world.follower.kept = ()
    world.journal.db.execute("DELETE FROM checkpoint")
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.FINALIZED, 60)
    return world.chain.head.number < world.ours()[0].block_number + 60


async def a_node_lags_below_a_reply_in_flight() -> bool:
    """Five replies are included and one waits for its block; then only nodes answer that are behind, and a new reply is due."""
    world = World(pool="geth")
    for rid in range(1, 6):
        world.request(rid)
    async with running(world):
        await until(lambda: all(row.state is State.INCLUDED for row in world.journal.rows.values()))
        world.chain.stalled = True
        world.request(6)
        world.wake.notify()
        await until(lambda: world.journal.rows[6].state is State.SIGNED)
        world.node.fault = lambda calls: (
            Fault(lag=world.chain.head.number - 1) if calls[0].method == "eth_getBlockByNumber" else HEALTHY
        )
        await trio.sleep(5)
        world.request(7, block=world.chain.head.number)
        world.wake.notify()
        await trio.sleep(5)
    return world.journal.rows[7].state is not State.SIGNED


async def a_nonce_was_lost_and_receipts_trail() -> bool:
    """A reply lost its nonce to another process and has a second one; the node that tells of its block has no receipt yet."""
    world = World(pool="geth")
    world.request(1)
    full = RpcError(-32000, "txpool is full")
    world.node.refuse = lambda call: full if call.method == "eth_sendRawTransaction" else None
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.SIGNED)
        world.foreign()
        await until(lambda: bool(world.said(ReplyReturned)), 60)
        world.node.refuse = lambda call: None
        world.node.fault = lambda _calls: Fault(trail=1)
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
    return len(world.said(ReplyReturned)) > 1


async def a_start_meets_state_that_trails() -> bool:
    """A reply's earlier bytes are in the newest block, and the node that tells of it estimates as of the block before."""
    world = World(pool="geth")
    world.sign_behind(1)
    raw = world.journal.rows[1].reply.raw
    assert raw is not None
    world.journal.change(1, state=State.ANSWERED)
    world.chain.intake.submit(raw)
    world.chain.mine_many(1)
    world.node.fault = lambda _calls: Fault(trail=1)
    async with running(world):
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
    return bool(world.said(ReplySigned))


async def a_stranger_replies_during_an_estimate() -> bool:
    """Another process with the same key sends the reply between an estimate and its answer."""
    world = World(pool="geth")
    world.node.in_order = False
    world.request(1)
    world.node.fault = lambda calls: Fault(latency=1.0) if calls[-1].method == "eth_estimateGas" else HEALTHY
    async with running(world):
        await trio.sleep(0.55)
        world.chain.intake.submit(world.reply_of_another(1)[0])
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
    return bool(world.said(ReplySigned))


async def a_block_goes_after_an_estimate() -> bool:
    """An estimate finds the reply that another process sent; the look that follows finds its block gone."""
    world = World(pool="geth")
    world.node.in_order = False
    world.chain.mine_many(10)
    world.request(1)
    world.chain.intake.submit(world.reply_of_another(1)[0])
    world.chain.mine_many(1)
    world.node.fault = lambda calls: Fault(latency=0.4) if calls[-1].method == "eth_estimateGas" else HEALTHY
    async with running(world):
        await trio.sleep(0.3)
        world.chain.reorg(5, drop=lambda t: t.sender == KEY.address)
        await until(lambda: world.journal.rows[1].state is State.INCLUDED)
        return not world.answered_on_chain(1)


# --- the mutations


def finalized_unasked(monkeypatch: Any) -> None:
    """What was included once is believed for good."""
    final = [attrs.evolve(row, when=lambda *_: Found()) for row in table.ROWS if row.when is table._final]
    monkeypatch.setitem(plan.TABLE, view.Phase.INCLUDED, tuple(final))


def old_block_finalizes(monkeypatch: Any) -> None:
    """The block where a reply was first seen decides how old it is, whatever forked since and a receipt shows."""

    def without_receipt(view: Any, track: Any, call: Any) -> Any:
        shown = track.findings.get(Question.RECEIPT)
        hidden = {} if shown is None else {Question.RECEIPT: attrs.evolve(shown, value=None)}
        return table._final(view, attrs.evolve(track, findings=track.findings | hidden), call)

    rows = [
        attrs.evolve(row, when=without_receipt) if row.when is table._final else row
        for row in plan.TABLE[view.Phase.INCLUDED]
    ]
    monkeypatch.setattr(retention, "_take_back", lambda *_: None)
    monkeypatch.setitem(plan.TABLE, view.Phase.INCLUDED, tuple(rows))


def finality_not_awaited(monkeypatch: Any) -> None:
    """A reply that the contract has is final, in whichever block."""

    def in_any_block(seen: view.View, track: Any, call: Any) -> Any:
        return table._final(
            attrs.evolve(seen, chain=attrs.evolve(seen.chain, final=seen.chain.number)), track, call
        )

    rows = [
        attrs.evolve(row, when=in_any_block) if row.when is table._final else row
        for row in plan.TABLE[view.Phase.INCLUDED]
    ]
    monkeypatch.setitem(plan.TABLE, view.Phase.INCLUDED, tuple(rows))


def l1_a_gap_believed_from_a_lagging_node(monkeypatch: Any) -> None:
    honest = ChainObserver._view
    monkeypatch.setattr(ChainObserver, "_view", lambda *a: attrs.evolve(honest(*a), fresh=True))


def l2_two_replies_claim_one_kept_nonce(monkeypatch: Any) -> None:
    def every(view: Any, ready: Any) -> Any:
        nonces = [plan._open_nonce(view, step) for step in ready]
        held = view.in_flight
        firsts = [None if one in {*held, *nonces[:at]} else one for at, one in enumerate(nonces)]
        return list(zip(ready, firsts, strict=True))

    monkeypatch.setattr(plan, "_first_claims", every)


def l5_a_missing_receipt_of_a_lagging_node_believed(monkeypatch: Any) -> None:
    honest = Finding
    monkeypatch.setattr(
        asking, "Finding", lambda said, head, _trusted, *times: honest(said, head, True, *times)
    )


def l12_bytes_of_a_released_reply_forgotten(monkeypatch: Any) -> None:
    for transition in ("release", "resend"):
        kept = moves.STATEMENTS[transition]
        forgotten = kept.replace("reason = :reason", f"{moves._UNSIGNED}, reason = :reason")
        monkeypatch.setitem(moves.STATEMENTS, transition, forgotten)


def l18_bytes_of_a_returned_reply_forgotten(monkeypatch: Any) -> None:
    l12_bytes_of_a_released_reply_forgotten(monkeypatch)


def l19_the_full_window_ignored(monkeypatch: Any) -> None:
    monkeypatch.setattr(state.TxEndpoint, "window", property(lambda _self: 1000, lambda *_: None))


def gaps_of_a_lagging_node_awaited(monkeypatch: Any) -> None:
    """New replies wait while a node that lags shows nonces as open that are used."""
    honest = plan._plan_nonces

    def planned(view: Any, *rest: Any) -> Any:
        if not view.chain.fresh:
            nonces, chain = attrs.evolve(view.nonces, ripe=frozenset()), attrs.evolve(view.chain, fresh=True)
            view = attrs.evolve(view, nonces=nonces, chain=chain)
        return honest(view, *rest)

    monkeypatch.setattr(plan, "_plan_nonces", planned)


def remember(monkeypatch: Any, **values: Any) -> None:
    """Let the account's nonces have these values after each look."""
    honest = NonceTracker.look

    def look(self: NonceTracker, *seen: Any) -> None:
        honest(self, *seen)
        for name, value in values.items():
            setattr(self, name, value)

    monkeypatch.setattr(NonceTracker, "look", look)


def looks_of_before_known_nonces_believed(monkeypatch: Any) -> None:
    """A reply is signed after a look that lacks transactions of the account, of which one may be that reply."""
    remember(monkeypatch, first_block=-1)


def pools_not_looked_at(monkeypatch: Any) -> None:
    """Nobody asks what a process before this one left in a node's pool."""
    honest = NonceTracker.look
    monkeypatch.setattr(NonceTracker, "look", lambda *looked: honest(*looked[:4]))


def an_absence_outlives_its_bytes(monkeypatch: Any) -> None:
    """What was suspected of a nonce that was lost counts against the next one."""
    honest = view.Track.moved

    def moved(self: view.Track, row: Any) -> None:
        absent = self._suspicions.get(Belief.ABSENT)
        honest(self, row)
        if absent is not None:
            self._suspicions[Belief.ABSENT] = absent

    monkeypatch.setattr(view.Track, "moved", moved)


def earlier_bytes_believed_gone(monkeypatch: Any) -> None:
    """A reply whose earlier bytes had a nonce that is used is signed anew at once."""
    monkeypatch.setattr(table, "_may_be_included", lambda *_: False)


def estimates_of_before_a_stranger_believed(monkeypatch: Any) -> None:
    remember(monkeypatch, stranger_at=-math.inf)


def estimates_of_before_a_fork_believed(monkeypatch: Any) -> None:
    honest = ChainObserver._view
    monkeypatch.setattr(ChainObserver, "_view", lambda *a: attrs.evolve(honest(*a), forked_at=-math.inf))


TRIALS: list[tuple[Patch, Callable[[], Awaitable[bool]]]] = [
    (l1_a_gap_believed_from_a_lagging_node, a_node_lags_behind_included_replies),
    (l2_two_replies_claim_one_kept_nonce, two_replies_have_bytes_for_one_nonce),
    (l5_a_missing_receipt_of_a_lagging_node_believed, receipts_come_from_a_node_that_lags),
    (l12_bytes_of_a_released_reply_forgotten, a_nonce_that_another_took_opens_again),
    (l18_bytes_of_a_returned_reply_forgotten, a_block_goes_with_a_reply),
    (l19_the_full_window_ignored, more_is_answered_than_the_window_holds),
    (finalized_unasked, a_block_goes_and_others_take_its_nonces),
    (old_block_finalizes, a_reply_moves_to_a_later_block),
    (finality_not_awaited, a_reply_moves_to_a_later_block_while_nobody_looks),
    (gaps_of_a_lagging_node_awaited, a_node_lags_below_a_reply_in_flight),
    (looks_of_before_known_nonces_believed, a_journal_is_lost_and_a_node_lags),
    (pools_not_looked_at, a_journal_is_lost_while_replies_wait_in_a_pool),
    (an_absence_outlives_its_bytes, a_nonce_was_lost_and_receipts_trail),
    (earlier_bytes_believed_gone, a_start_meets_state_that_trails),
    (estimates_of_before_a_stranger_believed, a_stranger_replies_during_an_estimate),
    (estimates_of_before_a_fork_believed, a_block_goes_after_an_estimate),
]
NAMES = [mutation.__name__ for mutation, _ in TRIALS]


@pytest.mark.slow
@pytest.mark.parametrize("story", [story for _, story in TRIALS], ids=NAMES)
async def test_the_world_is_green(story: Callable[[], Awaitable[bool]]) -> None:
    assert not await story()


@pytest.mark.parametrize(("mutation", "story"), TRIALS, ids=NAMES)
async def test_the_mutation_turns_it_red(
    mutation: Patch, story: Callable[[], Awaitable[bool]], monkeypatch: Any
) -> None:
    mutation(monkeypatch)
    assert await story()
