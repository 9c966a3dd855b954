"""A Core's memory of requests, and the lives of its process: which ids it knows, which it forgets. Never computes an answer.

Source: kms-core-grpc.md, section 5.5.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs
import trio

from kmsconn.emulator.core_requests import Job
from kmsconn.emulator.grpc_server import CutConnection


@attrs.define(eq=False)
class Uptime:
    """Wakes those who wait when the process restarts, or when what they wait for may have changed."""

    restarts: int = attrs.field(default=0, init=False)
    _stirred: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)

    def restart(self) -> None:
        """End this life and begin the next."""
        self.restarts += 1
        self.stir()

    def stir(self) -> None:
        """Let those who wait look again at their moment."""
        stirred, self._stirred = self._stirred, trio.Event()
        stirred.set()

    async def wait(self, moment: Callable[[], float]) -> None:
        """Wait until a moment, which may move. Raises CutConnection when the process restarts meanwhile. Cancellation: harmless."""
        life = self.restarts
        while True:
            with trio.move_on_at(moment()):
                await self._stirred.wait()
            if self.restarts != life:
                raise CutConnection
            if trio.current_time() >= moment():
                return


K = TypeVar("K", bound=Hashable)
J = TypeVar("J")

CAPACITY = 10_000
KEPT = 6_000
RATE_LIMIT = 50_000


class Known(Exception):  # noqa: N818 - the id is
    """The id is in the table already."""


class Full(Exception):  # noqa: N818 - the table is
    """The table is full, and too few entries are finished to drop one."""


@attrs.define(eq=False)
class CoreTableEntry(Generic[J]):
    """One id: pending until ``ready_at``."""

    job: J
    ready_at: float
    reply: bytes | None = attrs.field(default=None, repr=False)
    failed: bool = False


class CoreTable(Generic[K, J]):
    """The entries of one kind of operation, oldest first."""

    def __init__(self, capacity: int = CAPACITY, kept: int = KEPT) -> None:
        self.capacity = capacity
        self.kept = kept
        self._entries: dict[K, CoreTableEntry[J]] = {}
        self._pending: list[float] = []

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, request_id: K) -> CoreTableEntry[J] | None:
        """Return the entry of an id."""
        return self._entries.get(request_id)

    def pending(self, now: float) -> int:
        """Return how many jobs run."""
        while self._pending and self._pending[0] <= now:
            heapq.heappop(self._pending)
        return len(self._pending)

    def check(self, request_id: K, now: float) -> None:
        """Say whether an id can be added. Raises Known or Full."""
        if request_id in self._entries:
            raise Known
        if len(self) >= self.capacity and len(self) - self.pending(now) <= self.kept:
            raise Full

    def add(self, request_id: K, entry: CoreTableEntry[J], now: float) -> None:
        """Remember an id, and forget the oldest finished one when there is no room. Raises Known or Full."""
        self.check(request_id, now)
        if len(self) >= self.capacity:
            self._forget_oldest(now)
        self._entries[request_id] = entry
        heapq.heappush(self._pending, entry.ready_at)

    def forget(self, request_id: K) -> None:
        """Free an id. Raises KeyError for one that is not there."""
        entry = self._entries.pop(request_id)
        if entry.ready_at in self._pending:
            self._pending.remove(entry.ready_at)
            heapq.heapify(self._pending)

    def _forget_oldest(self, now: float) -> None:
        oldest = next(name for name, entry in self._entries.items() if entry.ready_at <= now)
        del self._entries[oldest]


@attrs.define(eq=False)
class CoreMemory:
    """The tables of one process by operation, until it restarts; ``rate_limit`` jobs may run at once."""

    capacity: int = CAPACITY
    kept: int = KEPT
    rate_limit: int = RATE_LIMIT
    uptime: Uptime = attrs.field(factory=Uptime, init=False, repr=False)
    _tables: dict[str, CoreTable[bytes, Job]] = attrs.field(factory=dict, init=False, repr=False)

    def table(self, operation: str) -> CoreTable[bytes, Job]:
        """Return the table of an operation, by the name of its start call."""
        return self._tables.setdefault(operation, CoreTable(self.capacity, self.kept))

    def is_busy(self, now: float) -> bool:
        """Tell whether as many jobs run as may run."""
        return sum(table.pending(now) for table in self._tables.values()) >= self.rate_limit

    def restart(self) -> None:
        """Lose every request; calls that wait lose their connection."""
        self._tables.clear()
        self.uptime.restart()
