"""Pools of workers, each for kinds of work that may wait for each other, and what dispatches due rows to them: the journal is the queue.

A worker takes a row, runs it through the pipeline once, and is free again. Each shard of the Core may hold its share of the places and no
more, so a shard that hangs takes nothing from the others: without any need to notice that it hangs, and however many requests wait for it.

Here stands the one sanctioned ``except Exception``: an error that nobody foresaw quarantines its request and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio

from kmsconn.errors import JournalFailed, let_go
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.inspecting import PausedKind
from kmsconn.journal.journal import DISK_PAUSE, Journal, until_kept
from kmsconn.journal.rows import Row
from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.profile import Profile
from kmsconn.requests.membership import LOOK_AGAIN, Membership
from kmsconn.requests.rows import Entry, ended, free_to_begin, order_of
from kmsconn.transport.waiting import WakeUp

Work = Callable[[Row], Awaitable[bool]]
"""Works on a row once and says whether it is done: not due again by itself."""

Unexpected = Callable[[Row, Exception], Awaitable[None]]
"""Takes a row with the error of its work that nobody foresaw."""


@attrs.define
class WorkerPool:
    """``size`` places; ``busy`` holds the rows being worked on with their shards, so that nobody is handed one twice."""

    name: PoolName
    kinds: tuple[Kind, ...]
    size: int
    wake_up: WakeUp  # notified when a row may have become due, or got a place
    shards: int = 1
    busy: dict[int, int] = attrs.field(factory=dict)
    backlogged: bool = True
    """Whether rows may be due that have no place: then every place that becomes free notifies."""
    paused: dict[Kind, PausedKind] = attrs.field(factory=dict)
    """Kinds of this pool that an operator has paused, as the journal says: their rows wait undispatched."""
    gone: Callable[[], frozenset[int]] = frozenset
    """Returns the shards to which there is no link: their rows stay in the journal, and no place is taken by them."""
    staffed: trio.Event = attrs.field(factory=trio.Event)
    """Set once there are workers."""
    _send: trio.MemorySendChannel[Row] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[Row] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # as many slots as places: a row is handed over only when a place is free, so sending never waits
        self._send, self._receive = trio.open_memory_channel[Row](self.size)

    @property
    def free(self) -> int:
        """How many places are free."""
        return self.size - len(self.busy)

    @property
    def full(self) -> frozenset[int]:
        """The shards that take no more: they hold their share of the places, or are gone."""
        share, held = max(1, self.size // self.shards), [*self.busy.values()]
        return self.gone().union([shard for shard in {*held} if held.count(shard) >= share])

    def dispatch(self, row: Row) -> None:
        """Give a row to a worker; only while ``free`` is positive."""
        self.busy[row.rid] = row.id % self.shards
        self._send.send_nowait(row)

    async def run(self, work: Work, unexpected: Unexpected) -> None:
        """Run the workers for ever. Cancellation: each row is left as its last durable step says; the next start goes on."""
        self.staffed.set()
        async with trio.open_nursery() as nursery:
            for _ in range(self.size):
                nursery.start_soon(self._worker, work, unexpected)

    async def _worker(self, work: Work, unexpected: Unexpected) -> None:
        async for row in self._receive.clone():
            done = False
            try:
                done = await work(row)
            except JournalFailed:
                await trio.sleep(DISK_PAUSE)
            except Exception as error:  # noqa: BLE001 - the one boundary: a bug must cost one request, not the service
                let_go(error)
                await unexpected(row, error)
            finally:
                del self.busy[row.rid]
                if self.backlogged or not done:
                    self.wake_up.notify()


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
                    tuple(kind for kind in pool.kinds if kind not in pool.paused),
                    wall(),
                    pool.free,
                    frozenset(pool.busy),
                    without=pool.full,
                )
            )
            for row in due.rows:
                if row.id % pool.shards in pool.full:
                    wait = 0.0  # since now: others may come before the rest of its rows
                    break
                pool.dispatch(row)
            else:
                pool.backlogged = bool(pool.full)
                if due.next_due is not None:
                    wait = min(wait, max(SOONEST, due.next_due - wall()))
        with trio.move_on_after(wait):
            await pool.wake_up.wait()


@attrs.define
class OrderedDispatcher:
    """Dispatches what is asked of contexts and epochs, each once those are done that it waits for; ends what a later one destroys.

    ``end`` rejects a row with a reason; ``is_destroyed`` says whether the end of an id has been checked, since its log alone is one
    node's word. Until then what makes that id waits.
    """

    pool: WorkerPool
    journal: Journal
    profile: Profile
    wall: Callable[[], float]
    end: Callable[[Row, str], Awaitable[None]]
    is_destroyed: Callable[[int], bool]
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
        busy = frozenset(self.pool.busy)  # who ends meanwhile is in the line as it was
        queued = await until_kept(lambda: self.journal.run(queries.in_order, self.pool.kinds, LINE))
        line = [Entry(row, order_of(self.profile, row)) for row in queued]
        for entry, identifier in ended(line):
            if entry.row.rid not in busy and self.is_destroyed(identifier):
                end = partial(self.end, entry.row, f"{id_name(identifier)} was destroyed")
                await until_kept(end)
        free = free_to_begin(line, busy)
        free = [entry for entry in free if entry.row.kind not in self.pool.paused]
        now = self.wall()
        for entry in [one for one in free if one.row.progress.next_attempt <= now][: max(0, self.pool.free)]:
            self.pool.dispatch(entry.row)
        later = [wait for one in free if (wait := one.row.progress.next_attempt - now) > 0.0]
        return max(SOONEST, min([self.look_again, *later]))
