"""Pools of workers, each for kinds of work that may wait for each other.

A worker takes a row, runs it through the pipeline once, and is free again.

Each shard of the Core may hold its share of the places and no more, so a shard that hangs takes nothing from the others: without
any need to notice that it hangs, and however many requests wait for it.

Here stands the one sanctioned ``except Exception``: an error that nobody foresaw quarantines its request and the rest goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import attrs
import trio

from kmsconn.errors import JournalFailed, let_go
from kmsconn.journal.journal import DISK_PAUSE
from kmsconn.journal.pausing import PausedKind
from kmsconn.journal.values import Row, Shards
from kmsconn.model.requests import Kind, PoolName
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
    def dispatched_kinds(self) -> tuple[Kind, ...]:
        """The kinds whose rows are dispatched: all that are not paused."""
        return tuple(kind for kind in self.kinds if kind not in self.paused)

    @property
    def free(self) -> int:
        """How many places are free."""
        return self.size - len(self.busy)

    @property
    def full(self) -> Shards:
        """The shards that take no more: they hold their share of the places, or are gone."""
        share, held = max(1, self.size // self.shards), Counter(self.busy.values())
        full = frozenset(shard for shard, rows in held.items() if rows >= share)
        return Shards(self.shards, full | self.gone())

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
