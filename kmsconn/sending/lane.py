"""The lane: one level-triggered loop per chain that owns the landing of replies. No task per transaction, no state of its own.

Each round reads nonce and head together, settles what is in the chain, signs what is answered, sends what is signed and looks once more
at what landed long ago. Restart, gap, another process's transaction and reorganisation are therefore the same code.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from kmsconn.errors import JournalFailed, NonceTaken, Retryable
from kmsconn.sending.burying import bury
from kmsconn.sending.desk import Desk, Lane
from kmsconn.sending.filling import fill
from kmsconn.sending.pauses import Brake
from kmsconn.sending.publishing import publish
from kmsconn.sending.replacing import replace
from kmsconn.sending.sealing import seal
from kmsconn.sending.settling import settle

__all__ = ["Lane", "run_lane"]

IDLE = 1.0  # seconds without a ring until the next round
EAGER = 0.25  # likewise, while something flies and nobody rings
SLOWEST = 12.0  # seconds between blocks of the slowest chain to keep up with
PACE = 0.02  # seconds between the beginnings of rounds under load: they carry more replies then


async def run_lane(lane: Lane, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Land what is answered, until ``lane.closing`` is set and nothing is answered or signed; what landed is not waited for.

    A dependency that fails, and the journal, raises an alert and is waited for.
    Cancellation: at any await; what is signed is durable before it is sent. Repeating: goes on from journal and chain.
    """
    task_status.started()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_when_empty, lane, nursery.cancel_scope)
        await _work(lane)
        nursery.cancel_scope.cancel()


async def _end_when_empty(lane: Lane, work: trio.CancelScope) -> None:
    """End the work once the lane is closing and the journal holds nothing for it: that needs no chain, which may not answer."""
    await lane.closing.wait()
    with suppress(JournalFailed):
        due = await lane.journal.answered(lane.rpc.chain_id, lane.ports.wall(), 1)
        if not due.rows and due.next_due is None and not await lane.journal.signed(lane.rpc.chain_id):
            work.cancel()


async def _work(lane: Lane) -> None:
    """Make rounds until one leaves nothing to do for a lane that is closing."""
    desk = Desk.of(lane)
    brake = Brake(lane.ports.random, first=0.5, cap=8.0)
    while True:
        began = trio.current_time()
        try:
            await _round(desk)
        except (Retryable, NonceTaken) as error:
            desk.loaded = False  # something may have moved that was not noted here
            desk.alert("rounds", str(error))
            brake.failed(trio.current_time())
            await trio.sleep_until(brake.until)
            continue
        brake.worked()
        desk.clear("rounds")
        if lane.closing.is_set() and not desk.flying and not desk.waiting:
            return
        await _rest(desk, began)


async def _round(desk: Desk) -> None:
    await desk.load()
    sight = desk.see(await desk.node.head())
    await settle(desk, sight)
    await replace(desk, sight)
    fillers = await fill(desk, sight, await seal(desk, sight))
    await publish(desk, sight, fillers)
    await bury(desk, sight)


async def _rest(desk: Desk, began: float) -> None:
    """Wait for a ring, or for the time of the next look."""
    await trio.sleep_until(began + PACE)
    if desk.more:
        return
    pace = min(desk.block_time, SLOWEST)  # nothing happens between two blocks
    seconds = max(EAGER, pace / 4) if desk.flying and not desk.rang else max(IDLE, pace / 2)
    with trio.move_on_after(seconds) as scope:
        await desk.lane.wake.wait()
    desk.rang = not scope.cancelled_caught
