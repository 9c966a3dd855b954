"""Dispatches due rows to the pool of their kind, best first or in order: the journal is the queue, this is its only reader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.values import Row
from kmsconn.protocols.profile import Profile
from kmsconn.requests.membership import LOOK_AGAIN, Membership
from kmsconn.requests.pools import WorkerPool
from kmsconn.requests.rows import Entry, ended, free_to_begin, order_of

SOONEST = 0.01  # seconds; rows that become due within it are dispatched together
LINE = 1024  # rows that are looked at in order: contracts allow one change of contexts at a time, so open ones are few


async def run_dispatcher(
    pool: WorkerPool,
    membership: Membership,
    wall: Callable[[], float],
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Dispatch rows for ever: at once when notified, else when the next row becomes due.

    Cancellation: nothing is lost, rows that were not dispatched stay due. Repeating: ``busy`` keeps a row from going out twice.
    """
    while True:
        beat()
        wait = membership.look_again
        pool.backlogged = True  # until it is known that all that is due has a place
        if pool.free:
            due = await until_kept(
                lambda: membership.pick(
                    pool.dispatched_kinds, wall(), pool.free, frozenset(pool.busy), without=pool.full
                )
            )
            if not _dispatch(pool, due.rows):
                continue
            pool.backlogged = bool(pool.full.chosen)
            if due.next_due is not None:
                wait = min(wait, max(SOONEST, due.next_due - wall()))
        with trio.move_on_after(wait):
            await pool.wake_up.wait()


def _dispatch(pool: WorkerPool, rows: Sequence[Row]) -> bool:
    """Dispatch what has a place; False when a shard became full meanwhile, so that others may come before the rest of its rows."""
    for row in rows:
        if row.id % pool.shards in pool.full.chosen:
            return False
        pool.dispatch(row)
    return True


@attrs.define
class OrderedDispatcher:
    """Dispatches what is asked of contexts and epochs, each once those are done that it waits for; ends what a later one destroys.

    ``end`` rejects a row with a reason.
    """

    pool: WorkerPool
    journal: Journal
    profile: Profile
    wall: Callable[[], float]
    end: Callable[[Row, str], Awaitable[None]]
    beat: Callable[[], None] = lambda: None
    look_again: float = LOOK_AGAIN

    async def run(self) -> None:
        """Dispatch rows for ever. Cancellation and repeating as ``run_dispatcher``; a row is ended once, whoever is asked again."""
        self.pool.backlogged = True  # whatever ends may be what another waits for
        while True:
            self.beat()
            wait = self.look_again
            if self.pool.free:
                wait = await self._look()
            with trio.move_on_after(wait):
                await self.pool.wake_up.wait()

    async def _look(self) -> float:
        """Dispatch what may begin and is due; return the seconds until something else is."""
        queued = await until_kept(
            lambda: self.journal.run(queries.in_order, self.pool.kinds, self.wall(), LINE)
        )
        line = [Entry(one, order_of(self.profile, one.row)) for one in queued]
        for entry, identifier in ended(line):
            if entry.rid not in self.pool.busy:
                await self._end(entry, identifier)
        free = free_to_begin(line, self.pool.busy)
        free = [entry for entry in free if entry.queued.row.kind not in self.pool.paused]
        for entry in [entry for entry in free if entry.queued.due][: max(0, self.pool.free)]:
            self.pool.dispatch(entry.queued.row)
        later = [
            entry.queued.row.progress.next_attempt - self.wall() for entry in free if not entry.queued.due
        ]
        return max(SOONEST, min([self.look_again, *later]))

    async def _end(self, entry: Entry, identifier: int) -> None:
        reason = f"{id_name(identifier)} was destroyed"
        await until_kept(lambda: self.end(entry.queued.row, reason))
