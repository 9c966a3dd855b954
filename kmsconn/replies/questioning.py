"""Asks nodes about single replies and about the price of gas. Questions run beside the rounds, and each answer wakes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from kmsconn.chain.asking import run_query_plan
from kmsconn.errors import Retryable
from kmsconn.model.life import State
from kmsconn.protocols.port import Revert
from kmsconn.replies.alerts import tell_answer, tell_market
from kmsconn.replies.answers import Finds, Says, Unclear
from kmsconn.replies.asking import QUESTION_TIMEOUT, Asker
from kmsconn.replies.chain_view import ChainView
from kmsconn.replies.fees import Market
from kmsconn.replies.questions import call_for, read_finding
from kmsconn.replies.state import TxState
from kmsconn.replies.view import Finding, Question, Track
from kmsconn.transport.waiting import Backoff, WakeUp

SILENCE_BACKOFF = Backoff(first=0.5, cap=15.0)
EAGER = 0.25  # seconds until what a later look must confirm is asked again, on a fast chain


@attrs.frozen
class Questioner:
    """Asks for one transaction manager. ``tracer`` has a way of its own: a trace may take long. ``news`` is notified of each answer."""

    state: TxState
    market: Market
    asker: Asker
    tracer: Asker
    news: WakeUp

    def ask(self, wanted: Sequence[tuple[Track, Question]], nursery: trio.Nursery) -> None:
        """Ask about replies; the answers are filed when they come."""
        for track, question in wanted:
            track.asked.add(question)
        traces = [one for one in wanted if one[1] is Question.TRACE]
        others = [one for one in wanted if one[1] is not Question.TRACE]
        if others:
            nursery.start_soon(self._ask_all, self.asker, others)
        for trace in traces:  # each may take long
            nursery.start_soon(self._ask_all, self.tracer, [trace])

    async def _ask_all(self, asker: Asker, wanted: Sequence[tuple[Track, Question]]) -> None:
        sender, began = self.state.manager.wallet.address, trio.current_time()
        calls = [call_for(track, question, sender) for track, question in wanted]
        alone = frozenset(place for place, (track, question) in enumerate(wanted) if question in track.alone)
        async with trio.open_nursery() as nursery:

            def take(place: int, result: Any, head: int | None) -> None:
                track, question = wanted[place]
                said = read_finding(self.state.manager.profile, track, question, result)
                if isinstance(said, Revert) and said.plan is not None:
                    nursery.start_soon(self._explain, track, question, said, head, began)
                else:
                    self._file(track, question, said, head, began)

            await asker.ask(calls, take, alone=alone)

    async def _explain(
        self, track: Track, question: Question, said: Revert, head: int | None, began: float
    ) -> None:
        """Ask the contract's state what a revert means that its name alone does not tell."""
        assert said.plan is not None
        explained: Says = said
        with trio.move_on_after(QUESTION_TIMEOUT) as scope:
            try:
                verdict = await run_query_plan(self.state.manager.endpoint.rpc, said.plan())
                explained = attrs.evolve(said, verdict=verdict, plan=None)
            except Retryable as error:
                explained = Unclear(f"{said}; the query for its meaning failed: {error}")
        if scope.cancelled_caught:
            explained = Unclear(
                f"{said}; the query for its meaning was not answered in {QUESTION_TIMEOUT:g} s"
            )
        self._file(track, question, explained, head, began)

    def _file(self, track: Track, question: Question, said: Finds, head: int | None, began: float) -> None:
        chain, now = self.state.chain, trio.current_time()
        number = 0 if chain is None else chain.number
        answered = number if head is None else head
        again = now + self._until_again(track, question, said)
        track.file(question, Finding(said, answered, answered >= number, began, now, again), chain)
        tell_answer(self.state.alerts, track.row, question, said, now)
        self.news.notify()

    def _until_again(self, track: Track, question: Question, said: Finds) -> float:
        """Return the seconds until a question may be put again."""
        state = self.state
        if isinstance(said, Unclear):
            random = state.manager.ports.random()
            return SILENCE_BACKOFF.seconds(track.silences[question], random)
        if track.row.state is State.INCLUDED:
            return max(1.0, state.manager.endpoint.block_time)
        return max(EAGER, state.manager.endpoint.block_time / 4)

    def ask_market(self, chain: ChainView, nursery: trio.Nursery) -> None:
        """Ask what the gas price is when something may be signed, and until its history has begun."""
        tracks = self.state.tracks
        wanted = self.market.history.median is None or len(tracks.by_rid) > len(tracks.of(State.INCLUDED))
        question = self.market.question(chain, trio.current_time()) if wanted else None
        if question is not None:
            self.market.asked = True
            nursery.start_soon(self._ask_price, question)

    async def _ask_price(self, question: Any) -> None:
        answers: list[Any] = []
        await self.asker.ask([question], lambda _place, result, _head: answers.append(result))
        now = trio.current_time()
        self.market.take(question, answers[0], now)
        if self.state.chain is not None:
            self.market.judge(self.state.chain, now)
            tell_market(self.state.alerts, self.market)
        self.news.notify()
