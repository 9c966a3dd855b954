"""The transaction manager: one level-triggered loop per chain that owns the inclusion of replies. No task per transaction.

A shadow is run by the same loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import attrs
import trio

from kmsconn.errors import JournalFailed, NonceTaken, Retryable
from kmsconn.journal import queries
from kmsconn.model.life import State
from kmsconn.replies.asking import Questioner
from kmsconn.replies.plan import ActionPlan, decide
from kmsconn.replies.sending import ReplyMoves, Sender
from kmsconn.replies.shadow import TABLE as SHADOW_TABLE
from kmsconn.replies.shadow import Shadow
from kmsconn.replies.state import TxEndpoint, TxManager, TxState, TxStatistics
from kmsconn.replies.table import Action
from kmsconn.replies.tracking import ChainObserver, Tracking
from kmsconn.replies.view import IncludedReply, TxConfig, top
from kmsconn.replies.wallet import Wallet
from kmsconn.transport.waiting import Backoff, Hold, together

__all__ = ["TxConfig", "TxEndpoint", "TxManager", "TxStatistics", "run_txmanager"]

IDLE = 1.0  # seconds without a wake-up until the next look
EAGER = 0.25  # likewise, while something is in flight and no heads are heard
SLOWEST = 12.0  # seconds between blocks of the slowest chain to keep up with
ROUND_BACKOFF = Backoff(first=0.5, cap=2.0)  # once the chain is back every reply waits for it; few calls
PACE = 0.05  # seconds between looks under load; what is answered in between needs no look to be asked about
BREATH = 0.005  # seconds between rounds: answers of one moment are taken together
CURRENT = 0.1  # seconds for which a look at the chain is good enough for what an answer makes possible
STEPS_AT_ONCE = 8  # decisions that follow from each other before the chain is looked at again


async def run_txmanager(
    manager: TxManager, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Send the replies of a chain until ``manager.closing`` is set and no reply is answered or signed; finality is not waited for.

    A shadow ends at once, for nothing of it waits for anybody.

    Failures of the chain, and of the journal, are alerts and waited out.
    Cancellation: at any await; a signed transaction is durable before it is broadcast. Repeating: goes on from journal and chain.
    """
    task_status.started()
    rounds = _Rounds.of(manager)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_when_empty, manager, nursery.cancel_scope)
        nursery.start_soon(rounds.hear)
        await rounds.run(nursery)
        nursery.cancel_scope.cancel()


async def _end_when_empty(manager: TxManager, work: trio.CancelScope) -> None:
    """End the work once the manager is closing and the journal holds nothing for it: that needs no chain, which may not answer."""
    await manager.closing.wait()
    if not isinstance(manager.wallet, Wallet):
        work.cancel()
    with suppress(JournalFailed):
        due = await manager.journal.run(
            queries.answered, manager.endpoint.rpc.chain_id, manager.ports.wall(), 1
        )
        if (
            not due.rows
            and due.next_due is None
            and not await manager.journal.run(queries.signed, manager.endpoint.rpc.chain_id)
        ):
            work.cancel()


@attrs.define
class _Rounds:
    """The rounds of one transaction manager: each looks, decides, acts, and rests until there may be something to do."""

    state: TxState
    reply_moves: ReplyMoves
    tracking: Tracking
    questioner: Questioner
    sender: Sender | None
    """None for a shadow, whose moves read what another connector sent."""
    backoff: Hold
    woken: bool = True
    """Somebody notified: an answer is durable, or there is a new head."""
    heard: bool = False
    """The last rest ended by that: heads are heard."""
    owed: bool = False
    """Somebody notified, and the last look was too recent for another one."""
    looked_at: float = float("-inf")

    @classmethod
    def of(cls, manager: TxManager) -> _Rounds:
        """Return the rounds of a transaction manager that begins."""
        endpoint, wallet, state = manager.endpoint, manager.wallet, TxState.of(manager)
        reply_moves = ReplyMoves(state) if isinstance(wallet, Wallet) else Shadow.of(state)
        return cls(
            state,
            reply_moves,
            Tracking(state, ChainObserver(manager), reply_moves),
            Questioner(state, endpoint.rpc, endpoint.traces or endpoint.rpc),
            Sender(state, wallet, reply_moves) if isinstance(wallet, Wallet) else None,
            Hold(ROUND_BACKOFF, manager.ports.random),
        )

    async def hear(self) -> None:
        """Pass on what wakes the manager, for ever."""
        while True:
            await self.state.manager.wake.wait()
            self.woken = True
            self.state.news.notify()

    async def run(self, nursery: trio.Nursery) -> None:
        """Make rounds until one leaves nothing to do for a manager that is closing; questions and broadcasts go on in ``nursery``."""
        state = self.state
        while True:
            state.manager.beat()
            try:
                await self._look()
                await self._act(nursery)
            except (Retryable, NonceTaken) as error:
                await self._failed(error)
                continue
            if self.backoff.failures:
                self.backoff.worked()
                state.alerts.set("rounds", None)
            is_idle = not state.backlog.waiting and not state.tracks.by_state[State.SIGNED]
            if state.manager.closing.is_set() and is_idle:
                return
            await self._rest()

    async def _look(self) -> None:
        """Look at the chain, unless that was done just now."""
        now, woken = trio.current_time(), self.woken
        self.woken = False
        self.owed = self.owed or woken
        self.state.backlog.woken = self.state.backlog.woken or woken
        if now - self.looked_at >= (PACE if self.owed else CURRENT):
            self.owed, self.looked_at = False, now
            await self.tracking.look()

    async def _act(self, nursery: trio.Nursery) -> None:
        """Decide and act until nothing more follows at once.

        Raises Retryable and NonceTaken. Cancellation: what was signed is durable or was never sent.
        """
        chain, reply_moves = self.state.chain, self.reply_moves
        assert chain is not None
        shadow = reply_moves if isinstance(reply_moves, Shadow) else None
        for _ in range(STEPS_AT_ONCE):
            if shadow is None:
                await self.tracking.load_answered()
                self.questioner.ask_market(chain, nursery)
            if not self.state.tracks.by_rid:
                break
            plan = decide(self.tracking.view(chain), None if shadow is None else SHADOW_TABLE)
            if not await self._perform(plan, nursery):
                break
        if shadow is not None:
            await shadow.step(chain)
        self._remember()

    async def _perform(self, plan: ActionPlan, nursery: trio.Nursery) -> bool:
        """Carry out a plan; say whether that changed something at once."""
        if asks := plan.steps[Action.ASK]:
            wanted = [(step.track, question) for step in asks for question in step.found.questions]
            self.questioner.ask(wanted, nursery)
        if self.sender is not None:
            self.sender.broadcast(plan.steps[Action.BROADCAST], nursery)
        confirms = plan.steps[Action.CONFIRM]
        confirmed = [step for step in confirms if step.track.row.state is State.SIGNED]
        others: list[Callable[[], Awaitable[None]]] = [
            partial(self.reply_moves.found, step.track, step.found)
            for step in confirms
            if step.track.row.state is State.ANSWERED
        ]
        others += [
            partial(move, step.track, step.found)
            for action, move in self.reply_moves.by_action.items()
            for step in plan.steps[action]
        ]
        if confirmed:
            await self.reply_moves.confirm(confirmed)
        if final := [(step.track.row, step.found.block) for step in plan.steps[Action.FINALIZE]]:
            await self.reply_moves.finalize(
                [IncludedReply(row.rid, row.kind, row.id, block) for row, block in final]
            )
        if others:
            await together(others)
        signed = self.sender is not None and await self.sender.sign(plan.sign)
        if plan.fill and self.sender is not None:
            await self.sender.fill(plan.fill, nursery)
        return bool(confirmed or others or signed)

    def _remember(self) -> None:
        state, chain, price = self.state, self.state.chain, self.state.market.price
        in_flight, waiting, included = (
            len(state.tracks.by_state[one]) for one in (State.SIGNED, State.ANSWERED, State.INCLUDED)
        )
        state.manager.statistics = TxStatistics(
            balance=None if chain is None else chain.balance,
            next_nonce=None if chain is None else top(chain.nonce, state.tracks.nonces, state.nonces.high),
            in_flight=in_flight,
            waiting=waiting,
            included=included,
            fee=None if price is None else price.needed,
            priority=None if price is None else price.priority,
            reply_cost=state.market.reply_cost,
        )

    async def _failed(self, error: Exception) -> None:
        self.state.backlog.loaded = False  # something may have moved that was not noted here
        self.looked_at = float("-inf")
        if not (
            isinstance(error, JournalFailed) and self.state.manager.journal.failure
        ):  # that has its alert
            self.state.alerts.set("rounds", str(error))
        self.backoff.failed(trio.current_time())
        await trio.sleep_until(self.backoff.until)

    async def _rest(self) -> None:
        """Wait for an answer, a wake-up, or the time of the next look."""
        state = self.state
        pace = min(state.manager.endpoint.head.block_time, SLOWEST)  # nothing happens between two blocks
        unpriced = state.market.price is None and state.backlog.waiting
        eager = (unpriced or bool(state.tracks.by_state[State.SIGNED])) and not self.heard
        seconds = max(EAGER, pace / 4) if eager else max(IDLE, pace / 2)
        await trio.sleep(BREATH)
        with trio.move_on_at(self.looked_at + (PACE if self.owed else seconds)) as scope:
            await self.state.news.wait()
        if scope.cancelled_caught:
            self.looked_at = float("-inf")
            self.heard = self.owed or self.woken
        elif self.woken:
            self.heard = True
