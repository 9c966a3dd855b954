"""Asks nodes about replies, and for the price of gas, so that a question that fails concerns its own reply alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from kmsconn.chain.asking import QUESTION_TIMEOUT, ask_many, run_query_plan
from kmsconn.chain.logs import block_call
from kmsconn.chain.looking import ChainView
from kmsconn.chain.port import Call, PipelinedRpc
from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity, to_hex
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
from kmsconn.replies.state import TxState, tell_answer, tell_market
from kmsconn.replies.view import Finding, Track, receipt_of
from kmsconn.transport.waiting import Backoff


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


SILENCE_BACKOFF = Backoff(first=0.5, cap=15.0)
EAGER = 0.25  # seconds until what a later look must confirm is asked again, on a fast chain


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
                rpc = endpoint.traces or endpoint.rpc
                nursery.start_soon(self._ask_all, rpc, [(track, question)], nursery)
        if others := [one for one in wanted if one[1] is not Question.TRACE]:
            nursery.start_soon(self._ask_all, endpoint.rpc, others, nursery)

    async def _ask_all(
        self, rpc: PipelinedRpc, wanted: Sequence[tuple[Track, Question]], nursery: trio.Nursery
    ) -> None:
        sender, began = self.state.manager.account, trio.current_time()
        calls = [call_for(track, question, sender) for track, question in wanted]
        # what had no answer at all is asked alone the next time, so that it spoils no batch
        before = [track.findings.get(question) for track, question in wanted]
        silent = [one is not None and isinstance(one.value, Unclear) and one.value.silent for one in before]
        alone = frozenset(place for place, is_silent in enumerate(silent) if is_silent)

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
        if state.tracks.by_rid.get(track.row.rid) is track:
            tell_answer(state.alerts, track.row, question, said, now)
        state.manager.wake.go_on()

    def ask_market(self, chain: ChainView, nursery: trio.Nursery) -> None:
        """Ask what the gas price is when something may be signed, and until its history has begun."""
        tracks, market = self.state.tracks, self.state.market
        is_over = all(track.row.state is State.INCLUDED for track in tracks.by_rid.values())
        if is_over and market.history.median is not None and not (market.failure or market.refusal):
            return
        if (question := market.question(chain.base_fee, trio.current_time())) is not None:
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
