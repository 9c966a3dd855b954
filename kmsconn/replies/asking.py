"""Asks nodes about replies and about the price of gas, so that a question that fails concerns its own reply alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from kmsconn.chain.asking import MAX_BATCH, run_query_plan
from kmsconn.chain.logs import block_call, read_number
from kmsconn.chain.port import Call, PipelinedRpc, RpcError
from kmsconn.errors import KmsconnError, Overloaded, Retryable, StageTimeout
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.journal.values import Row
from kmsconn.model.life import State
from kmsconn.protocols.deployments import NO_DATA
from kmsconn.protocols.port import Revert
from kmsconn.protocols.profile import Profile
from kmsconn.replies.answers import (
    Finds,
    Says,
    Unclear,
    read_probe,
    read_receipt,
    read_stands,
    read_trace,
)
from kmsconn.replies.state import TxState, tell_answer, tell_market
from kmsconn.replies.table import receipt_of
from kmsconn.replies.view import ChainView, Finding, Question, Track
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
    """Ask a few questions of one node, one by one where it takes no batches; a result or an error for each.

    Raises Retryable when the first one has no answer. Repeating: reads only.
    """
    try:
        results = await rpc.batch(calls)
    except Overloaded:
        raise
    except Retryable:
        results = []
    if results and not isinstance(results[0], RpcError):
        return results
    results = []
    for call in calls:
        try:
            results.append(await rpc.call(call.method, *call.params))
        except RpcError as error:
            results.append(error)
    return results


SILENCE_BACKOFF = Backoff(first=0.5, cap=15.0)
EAGER = 0.25  # seconds until what a later look must confirm is asked again, on a fast chain


@attrs.frozen
class Questioner:
    """Asks for one transaction manager. ``tracer`` has a way of its own: a trace may take long."""

    state: TxState
    rpc: PipelinedRpc
    tracer: PipelinedRpc

    def ask(self, wanted: Sequence[tuple[Track, Question]], nursery: trio.Nursery) -> None:
        """Ask about replies; the answers are filed when they come."""
        for track, question in wanted:
            track.asked.add(question)
        traces = [one for one in wanted if one[1] is Question.TRACE]
        others = [one for one in wanted if one[1] is not Question.TRACE]
        if others:
            nursery.start_soon(self._ask_all, self.rpc, others, nursery)
        for trace in traces:  # each may take long
            nursery.start_soon(self._ask_all, self.tracer, [trace], nursery)

    async def _ask_all(
        self, rpc: PipelinedRpc, wanted: Sequence[tuple[Track, Question]], nursery: trio.Nursery
    ) -> None:
        sender, began = self.state.manager.account, trio.current_time()
        calls = [call_for(track, question, sender) for track, question in wanted]
        alone = frozenset(place for place, (track, question) in enumerate(wanted) if question in track.alone)

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
        explained: Says = said
        with trio.move_on_after(QUESTION_TIMEOUT) as scope:
            try:
                verdict = await run_query_plan(self.rpc, said.plan())
                explained = attrs.evolve(said, verdict=verdict, plan=None)
            except Retryable as error:
                explained = Unclear(f"{said}; the query for its meaning failed: {error}")
        if scope.cancelled_caught:
            explained = Unclear(
                f"{said}; the query for its meaning was not answered in {QUESTION_TIMEOUT:g} s"
            )
        self._file(track, question, explained, head, began)

    def _file(self, track: Track, question: Question, said: Finds, head: int | None, began: float) -> None:
        state, now = self.state, trio.current_time()
        number = 0 if state.chain is None else state.chain.number
        answered = number if head is None else head
        block_time = state.manager.endpoint.head.block_time
        if isinstance(said, Unclear):
            pause = SILENCE_BACKOFF.seconds(track.silences[question], state.manager.ports.random())
        elif track.row.state is State.INCLUDED:
            pause = max(1.0, block_time)
        else:
            pause = max(EAGER, block_time / 4)
        finding = Finding(said, answered, answered >= number, began, now, now + pause)
        track.file(question, finding, state.chain)
        tell_answer(state.alerts, track.row, question, said, now)
        state.news.notify()

    def ask_market(self, chain: ChainView, nursery: trio.Nursery) -> None:
        """Ask what the gas price is when something may be signed, and until its history has begun."""
        tracks = self.state.tracks
        included = len(tracks.by_state[State.INCLUDED])
        wanted = self.state.market.history.median is None or len(tracks.by_rid) > included
        question = self.state.market.question(chain.base_fee, trio.current_time()) if wanted else None
        if question is not None:
            self.state.market.asked = True
            nursery.start_soon(self._ask_price, question)

    async def _ask_price(self, question: Any) -> None:
        answers: list[Any] = []
        await ask_many(self.rpc, [question], lambda _place, result, _head: answers.append(result))
        now = trio.current_time()
        self.state.market.take(question, answers[0], now)
        if self.state.chain is not None:
            self.state.market.judge(self.state.chain.base_fee, self.state.chain.number, now)
            tell_market(self.state.alerts, self.state.market)
        self.state.news.notify()
