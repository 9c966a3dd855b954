"""Carries out what ``decide`` says: asks, signs, broadcasts, and moves rows in the journal. Decides nothing.

Questions and broadcasts run beside the rounds: each answer is filed when it comes, wakes the next round and holds nobody up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import attrs
import trio

from kmsconn.errors import Retryable, StageTimeout
from kmsconn.journal import queries
from kmsconn.journal.values import Row
from kmsconn.model.life import State
from kmsconn.protocols.port import Revert
from kmsconn.rpc.asking import inquire
from kmsconn.transport.backoff import Backoff
from kmsconn.transport.together import together
from kmsconn.transport.wake_up import WakeUp
from kmsconn.txmanager import nonces
from kmsconn.txmanager.alerts import funds_of, tell_answer, tell_deferred, tell_market, tell_sent
from kmsconn.txmanager.asking import QUESTION_TIMEOUT, Asker
from kmsconn.txmanager.assess import out_of_gas
from kmsconn.txmanager.decide import ActionPlan, Signature, Step, decide
from kmsconn.txmanager.evidence import Finds, Receipt, Says, Sent, Unclear, read_gas, read_sent
from kmsconn.txmanager.fees import TransactionRequest, gas_limit, highest_cost
from kmsconn.txmanager.looking import ChainObserver
from kmsconn.txmanager.market import Market
from kmsconn.txmanager.questions import broadcast_call, call_for, read_finding, transfer_estimate
from kmsconn.txmanager.state import TxState, limits_of
from kmsconn.txmanager.table import Action
from kmsconn.txmanager.view import ChainView, Finding, Question, Track, View, nonce_of
from kmsconn.txmanager.wallet import Signed

BROADCAST_TIMEOUT = (
    8.0  # seconds for the answer to a broadcast; shorter than a connection waits before it counts as dead
)
REPLIES_AT_ONCE = 256  # replies that are asked about and signed at once
NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS = (
    300.0,
    60,
)  # seconds, and blocks at least, until a reply in flight is named
NAMED_AT_ONCE = 16  # replies that an alert is about, the oldest ones
INCLUDED_AT_ONCE = 512  # included replies that are looked at for each head
SILENCE_BACKOFF = Backoff(first=0.5, cap=15.0)
EAGER = 0.25  # seconds until what a later look must confirm is asked again, on a fast chain
FILLER = b"filler"  # stands for the hash: any empty transfer of a nonce will do
STEPS_AT_ONCE = 8  # decisions that follow from each other before the chain is looked at again


@attrs.define
class Executor:
    """A transaction manager's hands."""

    state: TxState
    observer: ChainObserver
    market: Market
    asker: Asker
    tracer: Asker
    news: WakeUp = attrs.field(factory=WakeUp)
    """Notified when an answer came."""
    _ripe: frozenset[int] = frozenset()
    _included_from: int = 0
    """Below this block every included reply was looked at once."""
    _in_flight_since: dict[int, float] = attrs.field(factory=dict)
    """When each signed reply was first seen, whatever bytes it has had since."""

    @classmethod
    def of(cls, state: TxState) -> Executor:
        """Return the executor of a transaction manager that begins."""
        manager = state.manager
        asker = Asker(manager.rpc)
        tracer = asker if manager.traces is None else Asker(manager.traces)
        return cls(state, ChainObserver(manager), Market(limits_of(manager.settings)), asker, tracer)

    # --- seeing

    async def look(self) -> None:
        """Look at the chain, and at the journal for what it makes due. Raises Retryable. Repeating: reads only."""
        state = self.state
        await state.load()
        chain = await self.observer.look()
        state.chain = chain
        self._see_strangers(chain)
        state.high = max(state.high, chain.nonce)
        state.stale = True
        self._see_gaps(chain)
        self.market.judge(chain, trio.current_time())
        tell_market(self.state.alerts, self.market)
        await self._load_included(chain)
        self._forget()
        self._name_late()

    def _see_strangers(self, chain: ChainView) -> None:
        """Note that the account has sent what this journal does not know: the reply of a lost one, or of another process."""
        state = self.state
        if chain.nonce > nonces.top(0, state.nonces(), state.high):
            state.stranger_block = chain.number

    def _see_gaps(self, chain: ChainView) -> None:
        state, window = self.state, self.state.manager.window
        found = nonces.gaps(chain.nonce, state.nonces(), state.high, window) if chain.fresh else ()
        state.gaps.keep(found)
        self._ripe = frozenset(
            gap for gap in found if state.gaps.confirms(gap, chain.number, trio.current_time())
        )

    async def _load_included(self, chain: ChainView) -> None:
        """Track the included replies that are to be looked at: once when the reorg window is over, and again when they may be final."""
        state = self.state
        if self.observer.reorganised:
            self.observer.reorganised, self._included_from = False, 0
        await self._load_open_again(chain)
        if not chain.fresh:
            return
        young = await state.journal.run(
            queries.included, state.chain_id, chain.settled, INCLUDED_AT_ONCE, from_block=self._included_from
        )
        full = len(young) == INCLUDED_AT_ONCE
        self._included_from = (
            (young[-1].included_block or 0) if full else max(self._included_from, chain.settled + 1)
        )
        tracked = len(state.in_state(State.INCLUDED))
        deep = await state.journal.run(
            queries.included, state.chain_id, chain.final, INCLUDED_AT_ONCE + tracked
        )
        for row in (*young, *deep[: INCLUDED_AT_ONCE + tracked]):
            state.track(row)

    async def _load_open_again(self, chain: ChainView) -> None:
        """Track included replies whose nonce is open again: a reorganisation took their block."""
        state = self.state
        if not self._ripe or not (state.in_state(State.ANSWERED) or state.in_state(State.SIGNED)):
            return
        for row in await state.journal.run(
            queries.included_from_nonce, state.chain_id, chain.nonce, INCLUDED_AT_ONCE
        ):
            if row.nonce in self._ripe:
                state.track(row)

    async def _load_answered(self) -> None:
        """Track what is answered and due, as much as there is room in flight."""
        state = self.state
        if not state.stale:
            return
        room = min(REPLIES_AT_ONCE, state.room)
        if not room:
            return
        state.stale = False
        due = await state.journal.run(queries.answered, state.chain_id, state.manager.ports.wall(), room)
        state.waiting = bool(due.rows) or due.next_due is not None
        wanted = {row.rid for row in due.rows}
        for track in state.in_state(State.ANSWERED):
            if track.row.rid not in wanted:
                state.drop(track)
        for row in due.rows:
            if row.rid not in state.tracks or state.tracks[row.rid].row.state is State.ANSWERED:
                state.track(row)

    def _forget(self) -> None:
        """Drop what was remembered about replies and nonces that are not in question any more."""
        state = self.state
        signed = state.signed_rows
        state.broadcasts.keep(signed.keys())
        state.fillers.keep(self._ripe | state.nonces())
        state.alerts.forget(trio.current_time())

    def _name_late(self) -> None:
        """Say which replies no block has taken for long, whatever nodes say to their bytes."""
        state, now = self.state, trio.current_time()
        known, signed = self._in_flight_since, state.signed_rows
        self._in_flight_since = {rid: known.get(rid, now) for rid in signed}
        late = max(NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS * state.block_time)
        named = (one for one in self._in_flight_since.items() if now - one[1] >= late)
        for rid, since in islice(named, NAMED_AT_ONCE):
            text = (
                f"no block has taken it for {(now - since) / 60:.0f} minutes, with nonce {signed[rid].nonce}"
            )
            state.alerts.raise_for(signed[rid], "not-included", text, now)

    def view(self, chain: ChainView) -> View:
        """Return everything that a decision depends on."""
        state, manager = self.state, self.state.manager
        now = trio.current_time()
        in_flight = state.nonces()
        missing = nonces.gaps(chain.nonce, in_flight, state.high, manager.window)
        open_gaps = missing if chain.fresh else ()
        operations = manager.profile.operations
        return View(
            chain=chain,
            tracks=state.tracks,
            broadcasts=state.broadcasts,
            high=state.high,
            stranger_block=state.stranger_block,
            missing=missing,
            gaps=open_gaps,
            ripe=self._ripe.intersection(open_gaps),
            price=self.market.price,
            limits=self.market.limits,
            gas_percent=manager.settings.gas_multiplier_percent,
            spare_gas=lambda kind, estimate: operations[kind].spare(estimate),
            now=now,
            block_time=state.block_time,
            window=manager.window,
            sends_held=state.sends.holds(now),
            may_sign=not state.signings.holds(now),
            tracing=manager.settings.trace_reverted_tx,
            replace_after=manager.replace_after,
            absence_seconds=manager.settings.reorg_window,
        )

    # --- a round

    async def round(self, nursery: trio.Nursery) -> None:
        """Decide and act until nothing more follows at once; questions and broadcasts go on in ``nursery``.

        Raises Retryable and NonceTaken. Cancellation: what was signed is durable or was never sent.
        """
        for _ in range(STEPS_AT_ONCE):
            await self._load_answered()
            chain = self.state.chain
            assert chain is not None
            self._ask_market(chain, nursery)
            plan = decide(self.view(chain))
            if not await self._perform(plan, nursery):
                break
        self._remember()

    async def _perform(self, plan: ActionPlan, nursery: trio.Nursery) -> bool:
        """Carry out a plan; say whether that changed something at once."""
        self._ask(list(plan.questions()), nursery)
        self._broadcast([step.row for step in plan.of(Action.BROADCAST)], nursery)
        moved = await self._move(plan)
        signed = await self._sign([*plan.sign, *plan.reprice, *([plan.move_down] if plan.move_down else [])])
        if plan.fill:
            await self._fill(plan.fill, nursery)
        return moved or signed

    async def _move(self, plan: ActionPlan) -> bool:
        state = self.state
        confirmed = plan.of(Action.CONFIRM)
        await state.confirm(
            [(step.track, step.found.block) for step in confirmed if step.row.state is State.SIGNED]
        )
        found = [step for step in confirmed if step.row.state is State.ANSWERED]
        await together([partial(state.found, step.track, step.found.block) for step in found])
        await state.finalize([(step.track, step.found.block) for step in plan.of(Action.FINALIZE)])
        others = [step for step in plan.steps if step.action in _MOVES]
        for step in others:
            tell_deferred(state.alerts, step.row, step.found, trio.current_time(), funds=self._funds())
        await together([partial(self._move_one, step) for step in others])
        self._drop_young(plan)
        return bool(confirmed or others)

    async def _move_one(self, step: Step) -> None:
        state, track, reason = self.state, step.track, step.found.reason
        match step.action:
            case Action.DEFER:
                await state.defer(track, reason)
            case Action.RESEND:
                await state.resend(track, reason)
            case Action.RESTART:
                await state.restart(track, reason)
            case Action.RELEASE:
                self._note_gas(step)
                await state.release(track, reason)
            case Action.REJECT | Action.FINISH:
                await self._end(step)
            case _:
                raise AssertionError(step.action)

    async def _end(self, step: Step) -> None:
        """End a reply that can never be taken."""
        end = self.state.finish if step.action is Action.FINISH else self.state.reject
        await end(step.track, step.found.reason)

    def _note_gas(self, step: Step) -> None:
        """Let the next transaction of a reply that ran out of gas have half as much again."""
        finding = step.track.findings.get(Question.RECEIPT)
        if finding is not None and isinstance(finding.value, Receipt):
            limit = out_of_gas(step.row, finding.value)
            if limit is not None:
                self.state.least_gas[step.row.rid] = limit * 3 // 2

    def _drop_young(self, plan: ActionPlan) -> None:
        """Let included replies be that were looked at and wait for finality."""
        chain = self.state.chain
        assert chain is not None
        for track in plan.young:
            if (track.row.included_block or 0) > chain.final:
                self.state.drop(track)

    # --- asking

    def _ask(self, wanted: Sequence[tuple[Track, Question]], nursery: trio.Nursery) -> None:
        for track, question in wanted:
            track.asked.add(question)
        traces = [one for one in wanted if one[1] is Question.TRACE]
        others = [one for one in wanted if one[1] is not Question.TRACE]
        if others:
            nursery.start_soon(self._ask_all, self.asker, others)
        for trace in traces:  # each may take long
            nursery.start_soon(self._ask_all, self.tracer, [trace])

    async def _ask_all(self, asker: Asker, wanted: Sequence[tuple[Track, Question]]) -> None:
        sender = self.state.manager.wallet.address
        calls = [call_for(track, question, sender) for track, question in wanted]
        alone = frozenset(place for place, (track, question) in enumerate(wanted) if question in track.alone)
        async with trio.open_nursery() as nursery:

            def take(place: int, result: Any, head: int | None) -> None:
                track, question = wanted[place]
                said = read_finding(self.state.manager.profile, track, question, result)
                if isinstance(said, Revert) and said.plan is not None:
                    nursery.start_soon(self._explain, track, question, said, head)
                else:
                    self._file(track, question, said, head)

            await asker.ask(calls, take, alone=alone)

    async def _explain(self, track: Track, question: Question, said: Revert, head: int | None) -> None:
        """Ask the contract's state what a revert means that its name alone does not tell."""
        assert said.plan is not None
        explained: Says = said
        with trio.move_on_after(QUESTION_TIMEOUT) as scope:
            try:
                verdict = await inquire(self.state.manager.rpc, said.plan())
                explained = attrs.evolve(said, verdict=verdict, plan=None)
            except Retryable as error:
                explained = Unclear(f"{said}; what it means could not be asked: {error}")
        if scope.cancelled_caught:
            explained = Unclear(f"{said}; what it means was not answered in {QUESTION_TIMEOUT:g} s")
        self._file(track, question, explained, head)

    def _file(self, track: Track, question: Question, said: Finds, head: int | None) -> None:
        chain, now = self.state.chain, trio.current_time()
        number = 0 if chain is None else chain.number
        answered = number if head is None else head
        again = now + self._until_again(track, question, said)
        track.file(question, Finding(said, answered, answered >= number, now, again), chain)
        tell_answer(self.state.alerts, track.row, question, said, now)
        self.news.notify()

    def _until_again(self, track: Track, question: Question, said: Finds) -> float:
        """Return the seconds until a question may be put again."""
        state = self.state
        if isinstance(said, Unclear):
            random = state.manager.ports.random()
            return SILENCE_BACKOFF.seconds(track.silences[question], random)
        if track.row.state is State.INCLUDED:
            return max(1.0, state.block_time)
        return max(EAGER, state.block_time / 4)

    # --- the market

    def _ask_market(self, chain: ChainView, nursery: trio.Nursery) -> None:
        """Ask what a unit of gas costs when something may be signed, and until its history has begun."""
        wanted = self.market.history.median is None or any(
            track.row.state is not State.INCLUDED for track in self.state.tracks.values()
        )
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

    # --- signing

    async def _signed(self, transactions: Sequence[Any]) -> list[Signed]:
        """Have transactions signed in their order, as many as the wallet can now; an alert says when it can sign none.

        Nothing else of a round waits for a wallet that is out of reach: what has its bytes is broadcast and confirmed meanwhile.
        """
        state = self.state
        if not transactions or state.signings.holds(trio.current_time()):
            return []
        try:
            signed = await state.manager.wallet.sign(transactions)
        except Retryable as error:
            state.alerts.raise_("wallet", str(error), critical=True)
            state.signings.failed(trio.current_time())
            return []
        state.alerts.clear("wallet")
        state.signings.worked()
        return signed

    async def _sign(self, signatures: Sequence[Signature]) -> bool:
        """Sign and make durable, up to the first that the wallet could not sign now: a gap would hold up what follows."""
        new = [one.transaction for one in signatures if one.transaction is not None]
        made = iter(await self._signed(new))
        signed: list[tuple[Track, int, Signed]] = []
        for one in signatures:
            found = _earlier(one) if one.transaction is None else next(made, None)
            if found is None:
                break
            signed.append((one.track, one.nonce, found))
        if not signed:
            return False
        if new:
            self.state.manager.memory.reply_cost = highest_cost(new[-1])
        self.state.stale = True
        await self.state.sign(signed)
        return True

    # --- broadcasting

    def _broadcast(self, rows: Iterable[Row], nursery: trio.Nursery) -> None:
        now = trio.current_time()
        if self.state.sends.holds(now):
            return
        ordered = sorted(rows, key=nonce_of)
        for row in ordered:
            self.state.broadcasts.begin(row.rid, row.reply_hash or b"", now)
        if ordered:
            nursery.start_soon(
                self._hand_over, [row.raw or b"" for row in ordered], partial(self._sent, ordered)
            )

    async def _hand_over(self, raws: Sequence[bytes], sent: Any) -> None:
        """Broadcast in this order; ``sent`` gets what came of each when it comes.

        They are calls of their own on one connection, all on their way at once: a sequencer answers only when the transaction is in a
        block, and nodes work through a batch one by one, which would cost a block for each.
        Cancellation: each may have been taken. Repeating: the same bytes again are known to the node.
        """
        unanswered = set(range(len(raws)))
        broken = False

        def take(place: int, result: Any) -> None:
            nonlocal broken
            unanswered.discard(place)
            broken = sent(place, result, first=not broken) or broken

        with trio.move_on_after(BROADCAST_TIMEOUT):
            await self.state.manager.rpc.each([broadcast_call(raw) for raw in raws], take)
        for place in sorted(unanswered):
            take(place, StageTimeout("eth_sendRawTransaction", BROADCAST_TIMEOUT))
        if not broken:
            self.state.sends.worked()

    def _sent(self, rows: Sequence[Row], place: int, result: Any, *, first: bool) -> bool:
        """Note an answer to a broadcast; say whether it holds others back."""
        row, said, now = rows[place], read_sent(result), trio.current_time()
        self.state.note_sent(row, said, now)
        tell_sent(self.state.alerts, row, said, result, now, funds=self._funds())
        self.news.notify()
        if said not in {Sent.FAILED, Sent.FUNDS}:
            return False
        if first:
            self.state.sends.failed(now)
        return True

    # --- gaps

    async def _fill(self, gaps: Sequence[int], nursery: trio.Nursery) -> None:
        """Use nonces up by empty transfers to ourselves."""
        state, now = self.state, trio.current_time()
        due = [gap for gap in gaps if state.fillers.due(gap, FILLER, now, state.block_time)]
        price = self.market.price
        if not due or price is None:
            return
        sender = state.manager.wallet.address
        answers: list[Any] = []
        await self.asker.ask([transfer_estimate(sender)], lambda _p, result, _h: answers.append(result))
        gas = gas_limit(read_gas(answers[0]), state.manager.settings.gas_multiplier_percent)
        within = self.market.limits.for_gas(price, gas)
        if within is None:
            return
        request = TransactionRequest(state.chain_id, sender, b"", gas)
        signed = await self._signed([request.at(gap, within) for gap in due])
        for gap in due[: len(signed)]:
            state.fillers.begin(gap, FILLER, now)
        nursery.start_soon(self._hand_over, [raw for raw, _ in signed], partial(self._filled, due))

    def _filled(self, gaps: Sequence[int], place: int, result: Any, *, first: bool) -> bool:
        del first
        self.state.fillers.note(gaps[place], FILLER, read_sent(result), trio.current_time())
        self.news.notify()
        return False

    # --- figures

    def _funds(self) -> str:
        chain = self.state.chain
        return funds_of(self.state.manager.wallet.address, None if chain is None else chain.balance)

    def _remember(self) -> None:
        state, memory = self.state, self.state.manager.memory
        chain = state.chain
        memory.in_flight, memory.waiting = len(state.signed_rows), len(state.in_state(State.ANSWERED))
        memory.included, memory.price = len(state.in_state(State.INCLUDED)), self.market.price
        if chain is not None:
            memory.balance = chain.balance
            memory.next_nonce = nonces.top(chain.nonce, state.nonces(), state.high)


_MOVES = frozenset(
    {Action.DEFER, Action.RESEND, Action.RESTART, Action.RELEASE, Action.REJECT, Action.FINISH}
)


def _earlier(one: Signature) -> Signed | None:
    earlier = one.track.earlier
    if earlier is None or earlier.raw is None or earlier.reply_hash is None:
        return None
    return earlier.raw, earlier.reply_hash
