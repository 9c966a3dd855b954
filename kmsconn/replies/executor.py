"""Carries out the plans of ``decide``: asks, signs, broadcasts, and moves rows in the journal. Decides nothing."""

from __future__ import annotations

from functools import partial

import attrs
import trio

from kmsconn.model.life import State
from kmsconn.replies import nonces
from kmsconn.replies.alerts import tell_deferred
from kmsconn.replies.asking import Asker
from kmsconn.replies.assess import out_of_gas
from kmsconn.replies.decide import NOTHING, ActionPlan, Step, decide
from kmsconn.replies.evidence import Receipt
from kmsconn.replies.fees import Market
from kmsconn.replies.moving import ReplyMoves
from kmsconn.replies.questioning import Questioner
from kmsconn.replies.sending import Sender
from kmsconn.replies.state import TxState, policy_of
from kmsconn.replies.table import Action, Evidence
from kmsconn.replies.tracking import ChainObserver, Tracking
from kmsconn.replies.view import Question, Track
from kmsconn.transport.waiting import WakeUp, together

STEPS_AT_ONCE = 8  # decisions that follow from each other before the chain is looked at again


@attrs.frozen
class Executor:
    """Carries out the plans of one transaction manager. ``news`` is notified when an answer came."""

    state: TxState
    market: Market
    moves: ReplyMoves
    tracking: Tracking
    questioner: Questioner
    sender: Sender
    news: WakeUp

    @classmethod
    def of(cls, state: TxState) -> Executor:
        """Return the executor of a transaction manager that begins."""
        manager, news, moves = state.manager, WakeUp(), ReplyMoves(state)
        endpoint, policy = manager.endpoint, policy_of(manager)
        market, asker = Market(policy.limits), Asker(endpoint.rpc)
        tracer = asker if endpoint.traces is None else Asker(endpoint.traces)
        return cls(
            state,
            market,
            moves,
            Tracking(state, ChainObserver(manager), market, policy),
            Questioner(state, market, asker, tracer, news),
            Sender(state, moves, market, asker, news),
            news,
        )

    async def round(self, nursery: trio.Nursery) -> None:
        """Decide and act until nothing more follows at once; questions and broadcasts go on in ``nursery``.

        Raises Retryable and NonceTaken. Cancellation: what was signed is durable or was never sent.
        """
        for _ in range(STEPS_AT_ONCE):
            await self.tracking.load_answered()
            chain = self.state.chain
            assert chain is not None
            self.questioner.ask_market(chain, nursery)
            if not self.state.tracks.by_rid:
                break
            plan = decide(self.tracking.view(chain))
            if plan == NOTHING or not await self._perform(plan, nursery):
                break
        self._remember()

    async def _perform(self, plan: ActionPlan, nursery: trio.Nursery) -> bool:
        """Carry out a plan; say whether that changed something at once."""
        self.questioner.ask(list(plan.questions()), nursery)
        self.sender.broadcast([step.row for step in plan.of(Action.BROADCAST)], nursery)
        moved = await self._move(plan)
        signed = await self.sender.sign(
            [*plan.sign, *plan.reprice, *([plan.move_down] if plan.move_down else [])]
        )
        if plan.fill:
            await self.sender.fill(plan.fill, nursery)
        return moved or signed

    async def _move(self, plan: ActionPlan) -> bool:
        state = self.state
        confirmed = plan.of(Action.CONFIRM)
        await self.moves.confirm(
            [(step.track, step.found.block) for step in confirmed if step.row.state is State.SIGNED]
        )
        found = [step for step in confirmed if step.row.state is State.ANSWERED]
        if found:
            await together([partial(self.moves.found, step.track, step.found.block) for step in found])
        await self.moves.finalize([(step.track, step.found.block) for step in plan.of(Action.FINALIZE)])
        others = [step for step in plan.steps if step.action in _MOVES]
        for step in others:
            tell_deferred(state.alerts, step.row, step.found, trio.current_time(), funds=self.sender.funds())
        if others:
            await together([partial(self._move_one, step) for step in others])
        self._drop_young(plan)
        return bool(confirmed or others)

    async def _move_one(self, step: Step) -> None:
        track, reason = step.track, step.found.reason
        match step.action:
            case Action.DEFER:
                await self.moves.defer(track, reason)
            case Action.RESEND:
                gone = step.found.evidence is Evidence.GONE
                await self.moves.unland(track, "resend", reason, gone=gone)
            case Action.RESTART:
                await self.moves.unland(track, "restart", reason)
            case Action.RELEASE:
                _note_gas(track)
                taken = step.found.evidence is Evidence.NONCE_LOST
                await self.moves.release(track, reason, nonce_taken=taken)
            case Action.REJECT:
                await self.moves.close(track, "reject", reason)
            case Action.FINISH:
                await self.moves.close(track, "finish", reason)
            case _:
                raise AssertionError(step.action)

    def _drop_young(self, plan: ActionPlan) -> None:
        """Let included replies be that were looked at and wait for finality."""
        chain = self.state.chain
        assert chain is not None
        for track in plan.young:
            if (track.row.reply.included_block or 0) > chain.final:
                self.state.tracks.drop(track)

    def _remember(self) -> None:
        state, memory = self.state, self.state.manager.memory
        chain, tracks = state.chain, state.tracks
        memory.in_flight, memory.waiting, memory.included = tracks.counts()
        memory.price = self.market.price
        if chain is not None:
            memory.balance = chain.balance
            memory.next_nonce = nonces.top(chain.nonce, tracks.nonces, state.nonces.high)


def _note_gas(track: Track) -> None:
    """Let the next transaction of a reply that ran out of gas have half as much again."""
    finding = track.findings.get(Question.RECEIPT)
    if finding is not None and isinstance(finding.value, Receipt):
        limit = out_of_gas(track.row, finding.value)
        if limit is not None:
            track.history.least_gas = limit * 3 // 2


_MOVES = frozenset(
    {Action.DEFER, Action.RESEND, Action.RESTART, Action.RELEASE, Action.REJECT, Action.FINISH}
)
