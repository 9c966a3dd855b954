"""The transaction manager: one level-triggered loop per chain that owns the inclusion of replies. No task per transaction.

Each round decides anew from the journal's rows, a look at the chain and the answers so far (``decide``), and acts (``executor``).
Restart, gap, another process's transaction and reorganisation are therefore the same code.
"""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio

from kmsconn.errors import JournalFailed, NonceTaken, Retryable
from kmsconn.journal import queries
from kmsconn.model.life import State
from kmsconn.replies.executor import Executor
from kmsconn.replies.state import TxConfig, TxEndpoint, TxManager, TxState, TxStatistics
from kmsconn.transport.waiting import Backoff, Hold

__all__ = ["TxConfig", "TxEndpoint", "TxManager", "TxStatistics", "run_txmanager"]

IDLE = 1.0  # seconds without a wake-up until the next look
EAGER = 0.25  # likewise, while something is in flight and no heads are heard
SLOWEST = 12.0  # seconds between blocks of the slowest chain to keep up with
ROUND_BACKOFF = Backoff(first=0.5, cap=2.0)  # once the chain is back every reply waits for it; few calls
PACE = 0.05  # seconds between looks under load; what is answered in between needs no look to be asked about
BREATH = 0.005  # seconds between rounds: answers of one moment are taken together
CURRENT = 0.1  # seconds for which a look at the chain is good enough for what an answer makes possible


async def run_txmanager(
    manager: TxManager, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Send the replies of a chain until ``manager.closing`` is set and no reply is answered or signed; finality is not waited for.

    Failures of the chain, and of the journal, are alerts and waited out.
    Cancellation: at any await; a signed transaction is durable before it is broadcast. Repeating: goes on from journal and chain.
    """
    task_status.started()
    state = TxState.of(manager)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_when_empty, manager, nursery.cancel_scope)
        loop = _Loop(state, Executor.of(state), Hold(ROUND_BACKOFF, manager.ports.random))
        nursery.start_soon(loop.hear)
        await loop.run(nursery)
        nursery.cancel_scope.cancel()


async def _end_when_empty(manager: TxManager, work: trio.CancelScope) -> None:
    """End the work once the manager is closing and the journal holds nothing for it: that needs no chain, which may not answer."""
    await manager.closing.wait()
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
class _Loop:
    """The rounds of one transaction manager."""

    state: TxState
    executor: Executor
    backoff: Hold
    woken: bool = True
    """Somebody notified: an answer is durable, or there is a new head."""
    heard: bool = False
    """The last rest ended by that: heads are heard."""
    owed: bool = False
    """Somebody notified, and the last look was too recent for another one."""
    looked_at: float = float("-inf")

    async def hear(self) -> None:
        """Pass on what wakes the manager, for ever."""
        while True:
            await self.state.manager.wake.wait()
            self.woken = True
            self.executor.news.notify()

    async def run(self, nursery: trio.Nursery) -> None:
        """Make rounds until one leaves nothing to do for a manager that is closing."""
        while True:
            self.state.manager.beat()
            try:
                await self._round(nursery)
            except (Retryable, NonceTaken) as error:
                await self._failed(error)
                continue
            if self.backoff.failures:
                self.backoff.worked()
                self.state.alerts.clear("rounds")
            if self._is_done():
                return
            await self._rest()

    async def _round(self, nursery: trio.Nursery) -> None:
        now, woken = trio.current_time(), self.woken
        self.woken = False
        self.owed = self.owed or woken
        self.state.backlog.woken = self.state.backlog.woken or woken
        if now - self.looked_at >= (PACE if self.owed else CURRENT):
            self.owed, self.looked_at = False, now
            await self.executor.tracking.look()
        await self.executor.round(nursery)

    async def _failed(self, error: Exception) -> None:
        self.state.loaded = False  # something may have moved that was not noted here
        self.looked_at = float("-inf")
        if not (
            isinstance(error, JournalFailed) and self.state.manager.journal.failure
        ):  # that has its alert
            self.state.alerts.raise_("rounds", str(error))
        self.backoff.failed(trio.current_time())
        await trio.sleep_until(self.backoff.until)

    def _is_done(self) -> bool:
        state = self.state
        return (
            state.manager.closing.is_set() and not state.backlog.waiting and not state.tracks.of(State.SIGNED)
        )

    async def _rest(self) -> None:
        """Wait for an answer, a wake-up, or the time of the next look."""
        state = self.state
        pace = min(state.manager.endpoint.block_time, SLOWEST)  # nothing happens between two blocks
        unpriced = self.executor.market.price is None and state.backlog.waiting
        eager = (unpriced or bool(state.tracks.of(State.SIGNED))) and not self.heard
        seconds = max(EAGER, pace / 4) if eager else max(IDLE, pace / 2)
        await trio.sleep(BREATH)
        with trio.move_on_at(self.looked_at + (PACE if self.owed else seconds)) as scope:
            await self.executor.news.wait()
        if scope.cancelled_caught:
            self.looked_at = float("-inf")
            self.heard = self.owed or self.woken
        elif self.woken:
            self.heard = True
