"""Asks nodes: how the chain stands, about replies, and for the price of gas, so that a question that fails concerns its own reply alone.

Each look asks one node for head, nonce, balance and finality, and asks nobody about a single reply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import attrs
import trio

from kmsconn.chain.asking import MAX_BATCH, run_query_plan
from kmsconn.chain.follower import UNREAD, Anchor, HeadTracker
from kmsconn.chain.logs import BlockHead, block_call, read_block, read_found, read_number
from kmsconn.chain.port import Call, PipelinedRpc, RpcError
from kmsconn.errors import KmsconnError, Overloaded, Retryable, StageTimeout
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity, quantity, to_hex
from kmsconn.journal.rows import Row
from kmsconn.model.life import State
from kmsconn.protocols.deployments import NO_DATA
from kmsconn.protocols.port import Revert
from kmsconn.protocols.profile import Profile
from kmsconn.replies.answers import (
    Finds,
    Question,
    Says,
    Unclear,
    read_probe,
    read_receipt,
    read_stands,
    read_trace,
)
from kmsconn.replies.state import TxManager, TxState, tell_answer, tell_market
from kmsconn.replies.view import NOT_FINAL, ChainView, Finding, Track, receipt_of
from kmsconn.transport.waiting import Backoff, together

HEAD = Call("eth_blockNumber")


def call_for(track: Track, question: Question, sender: Address) -> Call:
    """Return the call that puts a question about a reply."""
    row = track.row
    match question:
        case Question.ESTIMATE:
            return Call("eth_estimateGas", (_message(row, sender),))
        case Question.CALL:
            return Call("eth_call", (_message(row, sender), "latest"))
        case Question.CALL_AT_BLOCK:
            receipt = receipt_of(track)
            block = 0 if receipt is None else receipt.block
            return Call("eth_call", (_message(row, sender), quantity(block)))
        case Question.RECEIPT:
            return Call("eth_getTransactionReceipt", (to_hex(row.reply.hash or b""),))
        case Question.TRACE:
            return Call("debug_traceTransaction", (to_hex(row.reply.hash or b""), {"tracer": "callTracer"}))
        case Question.BLOCK:
            return block_call(row.event.log.block_number)


def _message(row: Row, sender: Address) -> dict[str, str]:
    assert row.answer is not None, "a row that is sent always has one"
    return {"from": to_hex(sender), "to": to_hex(row.event.contract), "data": to_hex(row.answer.calldata)}


def read_finding(profile: Profile, track: Track, question: Question, result: Any) -> Finds:
    """Return what a node's answer to a question says."""
    kind = track.row.kind
    match question:
        case Question.ESTIMATE | Question.CALL | Question.CALL_AT_BLOCK:
            said = read_probe(profile, kind, result, is_estimate=question is Question.ESTIMATE)
            return _explained(profile, track.row, said)
        case Question.RECEIPT:
            return read_receipt(track.row.event.contract, result)
        case Question.TRACE:
            return read_trace(profile, kind, result)
        case Question.BLOCK:
            return read_stands(track.row.event.log.block_hash, result)


def _explained(profile: Profile, row: Row, said: Says) -> Says:
    """Return what a contract says, with what its silence means for this very reply."""
    if not isinstance(said, Revert) or said.name != NO_DATA or row.answer is None:
        return said
    return profile.operations[row.kind].explain_silence(row.answer.calldata) or said


QUESTION_TIMEOUT = 5.0
"""Seconds for one batch, or for its calls one by one; shorter than a connection waits before it counts as dead."""

Take = Callable[[int, Any, int | None], None]
"""Takes the outcome of a question by its place: a result or a KmsconnError, and the head of the node; None: no node answered."""


async def ask_many(
    rpc: PipelinedRpc, calls: Sequence[Call], take: Take, *, alone: frozenset[int] = frozenset()
) -> None:
    """Ask about many replies at once; ``take`` gets each answer as it comes. The places in ``alone`` go into no batch with others.

    Cancellation: at any time. Repeating: reads only.
    """
    others = [place for place in range(len(calls)) if place not in alone]
    batches = [others[at : at + MAX_BATCH] for at in range(0, len(others), MAX_BATCH)]
    every = [*batches, *([place] for place in alone)]
    await together([partial(_ask_batch, rpc, calls, places, take) for places in every])


async def _ask_batch(rpc: PipelinedRpc, calls: Sequence[Call], places: Sequence[int], take: Take) -> None:
    """Ask in one batch behind the node's head, or one by one where that has no answer."""
    asked = [HEAD, *(calls[place] for place in places)]
    error: Retryable | None = None
    with trio.move_on_after(QUESTION_TIMEOUT):
        try:
            head, *results = await rpc.batch(asked)
            number = read_number(head)
        except Retryable as failed:
            error = failed
        else:
            for place, result in zip(places, results, strict=True):
                take(place, result, number)
            return
    if error is None and len(places) == 1:
        error = StageTimeout(asked[-1].method, QUESTION_TIMEOUT)
    if isinstance(error, (StageTimeout, Overloaded)):  # more calls would make it worse
        for place in places:
            take(place, error, None)
    else:
        await _ask_each(rpc, calls, places, take)


async def _ask_each(rpc: PipelinedRpc, calls: Sequence[Call], places: Sequence[int], take: Take) -> None:
    """Ask each for itself, all on their way at once: the node may take no batches, or one question may spoil them."""
    unanswered = dict.fromkeys(places)
    error: KmsconnError = StageTimeout(calls[places[0]].method, QUESTION_TIMEOUT)
    with trio.move_on_after(QUESTION_TIMEOUT):
        try:
            number = read_number(await rpc.call(HEAD.method))
        except (Retryable, RpcError) as failed:
            error = failed
        else:

            def note(at: int, result: Any) -> None:
                unanswered.pop(places[at], None)
                take(places[at], result, None if isinstance(result, Retryable) else number)

            await rpc.each([calls[place] for place in places], note)
    for place in unanswered:
        take(place, error, None)


async def ask_one_node(rpc: PipelinedRpc, calls: Sequence[Call]) -> list[Any]:
    """Ask a few questions of one node, each for itself where it takes no such batch; a result or an error for each.

    Raises Overloaded, or Retryable when the first one has no answer. Repeating: reads only.
    """
    results: list[Any] = []
    try:
        results = await rpc.batch(calls)
    except Overloaded:
        raise
    except Retryable:
        pass
    if not results or isinstance(results[0], RpcError):
        results = [None] * len(calls)
        await rpc.each(calls, results.__setitem__)
        if isinstance(results[0], Retryable):
            raise results[0]
    return results


LATEST = Call("eth_getBlockByNumber", ("latest", False))
FINALIZED = Call("eth_getBlockByNumber", ("finalized", False))
LOOK_TIMEOUT = 15.0  # seconds; longer than a connection waits, so that a dead one is noticed
DETAILS_EVERY = 2.0  # seconds; balance and finality change slowly


@cache
def nonce_call(sender: Address, block: str = "latest") -> Call:
    """Return the question for the sender's nonce at a block; at ``pending`` what waits in the node's pool counts, too."""
    return Call("eth_getTransactionCount", (to_hex(sender), block))


@attrs.define
class ChainObserver:
    """Looks at one chain, and remembers what only later looks can compare. Which branch it is, the chain's follower says."""

    manager: TxManager
    _heads: HeadTracker = attrs.field(factory=HeadTracker)
    _details_at: float = float("-inf")
    _finalized: int | None = None
    _young: int = 0
    """So many of the newest blocks were not final when finality was asked."""
    _balance: int | None = None
    _suspicious: bool = False
    _last: tuple[int, int, int] = (-1, -1, UNREAD)
    """The head's number, the nonce and the chain's generation of the look before."""
    _forked_at: float = attrs.field(factory=trio.current_time)

    async def look(self, final: Sequence[int] = ()) -> ChainView:
        """Look at the chain, now and then with blocks that are said to be final. Raises Unreachable, Overloaded, StageTimeout.

        Repeating: reads only.
        """
        now, follower = trio.current_time(), self.manager.endpoint.follower
        details = now - self._details_at >= DETAILS_EVERY
        count_call = nonce_call(self.manager.account)
        anchor = follower.anchor()
        if details and (anchor.block is None or anchor.block.number < self._last[0]):
            await follower.load()  # no reader of this process feeds it
            anchor = follower.anchor()
        calls = [LATEST, count_call, *anchor.calls]
        if details:
            calls += [Call("eth_getBalance", count_call.params), FINALIZED, *map(block_call, final)]
        try:
            with trio.fail_after(LOOK_TIMEOUT):
                block, count, *more = await ask_one_node(self.manager.endpoint.rpc, calls)
                head, nonce = read_block(block), read_number(count, count_call.method)
                found = None if anchor.block is None else read_found(more.pop(0))
                await self._compare(head, nonce, anchor, None if found is None else found.hash)
        except trio.TooSlowError as error:
            raise StageTimeout("a look at the chain", LOOK_TIMEOUT) from error
        blocks = dict(zip(final, more[2:], strict=True)) if details else {}
        if details:
            self._details_at = now
            self._take_details(head, *more[:2])
        return self._view(head, nonce, blocks)

    async def _compare(self, head: BlockHead, nonce: int, anchor: Anchor, found: bytes | None) -> None:
        """Take a head, and compare a look with those before: another branch or generation, or a lower head or nonce, is another epoch."""
        follower, last = self.manager.endpoint.follower, self._last
        lags = anchor.block is not None and found is None
        self._suspicious = not (lags or await follower.judge(anchor, found))
        follower.head.note(head.number, head.timestamp)
        self._last = head.number, nonce, follower.generation
        if self._suspicious or head.number < last[0] or nonce < last[1] or follower.generation != last[2]:
            self._forked_at = trio.current_time()

    def _take_details(self, head: BlockHead, balance: Any, finalized: Any) -> None:
        try:
            self._balance = from_quantity(balance)
        except (TypeError, ValueError):
            self._balance = None
        found = read_found(finalized)
        self._finalized = None if found is None else found.number
        self._young = 0 if found is None else max(0, head.number - found.number)

    def _view(self, head: BlockHead, nonce: int, blocks: Mapping[int, Any]) -> ChainView:
        tracker, window = self.manager.endpoint.follower.head, self.manager.settings.reading.reorg_window
        self._heads.note(head.number, head.timestamp)
        # a burst of before this process would pass for old; nothing is old until as much was seen of the chain
        reorg_blocks = tracker.blocks_in(window) if tracker.has_watched(window) else head.number + 1
        # the finalized one was asked some looks ago, perhaps on a longer branch that went since: so it falls with the head
        final = head.number - (
            self.manager.endpoint.confirmations if self._finalized is None else self._young
        )
        return ChainView(
            number=head.number,
            base_fee=head.base_fee,
            gas_limit=head.gas_limit,
            nonce=nonce,
            fresh=self._heads.number == head.number,
            reorg_blocks=reorg_blocks,
            final=max(NOT_FINAL, final if self._finalized is None else min(self._finalized, final)),
            balance=self._balance,
            at=trio.current_time(),
            forked_at=self._forked_at,
            suspicious=self._suspicious,
            blocks=blocks,
        )


SILENCE_BACKOFF = Backoff(first=0.5, cap=15.0)
EAGER = 0.25  # seconds until what a later look must confirm is asked again, on a fast chain


def _had_no_answer(track: Track, question: Question) -> bool:
    """Say whether a question had no answer at all: it is asked alone the next time, so that it spoils no batch."""
    before = track.findings.get(question)
    return before is not None and isinstance(before.value, Unclear) and before.value.silent


@attrs.frozen
class Questioner:
    """Asks for one transaction manager."""

    state: TxState

    def ask(self, wanted: Sequence[tuple[Track, Question]], nursery: trio.Nursery) -> None:
        """Ask about replies; the answers are filed when they come. A trace may take long, and goes a way of its own."""
        endpoint = self.state.manager.endpoint
        for track, question in wanted:
            track.asked.add(question)
            if question is Question.TRACE:
                nursery.start_soon(
                    self._ask_all, endpoint.traces or endpoint.rpc, [(track, question)], nursery
                )
        if others := [one for one in wanted if one[1] is not Question.TRACE]:
            nursery.start_soon(self._ask_all, endpoint.rpc, others, nursery)

    async def _ask_all(
        self, rpc: PipelinedRpc, wanted: Sequence[tuple[Track, Question]], nursery: trio.Nursery
    ) -> None:
        sender, began = self.state.manager.account, trio.current_time()
        calls = [call_for(track, question, sender) for track, question in wanted]
        alone = frozenset(place for place, one in enumerate(wanted) if _had_no_answer(*one))

        def take(place: int, result: Any, head: int | None) -> None:
            track, question = wanted[place]
            said = read_finding(self.state.manager.profile, track, question, result)
            if isinstance(said, Revert) and said.plan is not None:
                nursery.start_soon(self._explain, track, question, said, head, began)
            else:
                self._file(track, question, said, head, began)

        await ask_many(rpc, calls, take, alone=alone)

    async def _explain(
        self, track: Track, question: Question, said: Revert, head: int | None, began: float
    ) -> None:
        """Ask the contract's state what a revert means that its name alone does not tell."""
        assert said.plan is not None
        explained: Says = Unclear(
            f"{said}; the query for its meaning was not answered in {QUESTION_TIMEOUT:g} s"
        )
        with trio.move_on_after(QUESTION_TIMEOUT):
            try:
                verdict = await run_query_plan(self.state.manager.endpoint.rpc, said.plan())
                explained = attrs.evolve(said, verdict=verdict, plan=None)
            except Retryable as error:
                explained = Unclear(f"{said}; the query for its meaning failed: {error}")
        self._file(track, question, explained, head, began)

    def _file(self, track: Track, question: Question, said: Finds, head: int | None, began: float) -> None:
        state, now = self.state, trio.current_time()
        number = 0 if state.chain is None else state.chain.number
        answered = number if head is None else head
        block_time = state.manager.endpoint.follower.head.block_time
        if isinstance(said, Unclear):
            pause = SILENCE_BACKOFF.seconds(track.silences[question], state.manager.ports.random())
        elif track.row.state is State.INCLUDED:
            pause = max(1.0, block_time)
        else:
            pause = max(EAGER, block_time / 4)
        finding = Finding(said, answered, answered >= number, began, now, now + pause)
        track.file(question, finding, state.chain)
        tell_answer(state.alerts, track.row, question, said, now)
        state.manager.wake.go_on()

    def ask_market(self, chain: ChainView, nursery: trio.Nursery) -> None:
        """Ask what the gas price is when something may be signed, and until its history has begun."""
        tracks, market = self.state.tracks, self.state.market
        is_over = all(track.row.state is State.INCLUDED for track in tracks.by_rid.values())
        if is_over and market.history.median is not None:
            return
        question = market.question(chain.base_fee, trio.current_time())
        if question is not None:
            nursery.start_soon(self._ask_price, question)

    async def _ask_price(self, question: Call) -> None:
        def take(_place: int, result: Any, _head: int | None) -> None:
            self.state.market.take(question, result, trio.current_time())

        await ask_many(self.state.manager.endpoint.rpc, [question], take)
        if self.state.chain is not None:
            judge_market(self.state, self.state.chain)
        self.state.manager.wake.go_on()


def judge_market(state: TxState, chain: ChainView) -> None:
    """Find the price for a look at the chain, and tell why there is none."""
    state.market.judge(chain.base_fee, chain.number, trio.current_time())
    tell_market(state.alerts, state.market)
