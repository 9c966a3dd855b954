"""Carries out the plans of ``plan``: asks, signs, broadcasts, and moves rows in the journal. Decides nothing."""

from __future__ import annotations

from functools import partial

import attrs
import trio

from kmsconn.model.life import State
from kmsconn.replies.alerts import tell_deferred
from kmsconn.replies.asking import Asker
from kmsconn.replies.chain_view import top
from kmsconn.replies.fees import Market
from kmsconn.replies.moving import ReplyMoves
from kmsconn.replies.plan import NOTHING, ActionPlan, Step, decide
from kmsconn.replies.questioning import Questioner
from kmsconn.replies.sending import Sender
from kmsconn.replies.state import TxState, policy_of
from kmsconn.replies.table import Action
from kmsconn.replies.tracking import ChainObserver, Tracking
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
            Tracking(state, ChainObserver(manager), market, policy, moves),
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
        signed = await self.sender.sign(plan.sign)
        if plan.fill:
            await self.sender.fill(plan.fill, nursery)
        return moved or signed

    async def _move(self, plan: ActionPlan) -> bool:
        confirmed = plan.of(Action.CONFIRM)
        await self.moves.confirm(
            [(step.track, step.found.block) for step in confirmed if step.row.state is State.SIGNED]
        )
        await self.moves.finalize([(step.track, step.found.block) for step in plan.of(Action.FINALIZE)])
        others = [step for step in confirmed if step.row.state is State.ANSWERED] + plan.of(*_MOVES)
        if others:
            await together([partial(self._move_one, step) for step in others])
        return bool(confirmed or others)

    async def _move_one(self, step: Step) -> None:
        track, found = step.track, step.found
        match step.action:
            case Action.CONFIRM:
                await self.moves.found(track, found.block)
            case Action.DEFER:
                tell_deferred(self.state.alerts, step.row, found, trio.current_time())
                await self.moves.defer(track, found.reason)
            case Action.TAKE_BACK:
                await self.moves.take_back(track, found)
            case Action.RELEASE:
                await self.moves.release(track, found)
            case Action.REJECT:
                await self.moves.close(track, "reject", found.reason)
            case _:
                await self.moves.close(track, "finish", found.reason)

    def _remember(self) -> None:
        state, memory = self.state, self.state.manager.memory
        chain, tracks = state.chain, state.tracks
        memory.in_flight, memory.waiting, memory.included = tracks.counts()
        memory.price = self.market.price
        if chain is not None:
            memory.balance = chain.balance
            memory.next_nonce = top(chain.nonce, tracks.nonces, state.nonces.high)


_MOVES = (Action.DEFER, Action.TAKE_BACK, Action.RELEASE, Action.REJECT, Action.FINISH)
