"""What one Core works on: jobs as entries with the time at which each will be ready, and the lives of its process. Computes no answer.

Source: kms-core-grpc.md, section 5, above all 5.5.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import attrs
import trio

from kmsconn.emulator.core_requests import Invalid
from kmsconn.emulator.grpc_server import CutConnection
from kmsconn.transport.grpc.framing import Status

CAPACITY = 10_000
KEPT = 6_000
RATE_LIMIT = 50_000
SHORT_POLL = 60.0
GENERATED = ("preprocessing", "key", "crs", "epoch")
"""The kinds of jobs whose results are stored by the time they are ready, whoever fetches them."""
_SURVIVING = {"key", "crs"}


class RefusedCall(Exception):  # noqa: N818 - the call is
    """A call ends with this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


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


@attrs.define(eq=False)
class CoreJob:
    """One id: pending until ``ready_at``; ``make`` gives its result, once; an aborted one has none. ``asked``: what it is about."""

    ready_at: float
    make: Callable[[], bytes]
    asked: Any = None
    failed: bool = False
    aborted: bool = False
    made: bytes | RefusedCall | None = attrs.field(default=None, repr=False)

    def result(self) -> bytes:
        """Return the result, the same each time. Raises RefusedCall where the job failed."""
        if self.made is None:
            try:
                self.made = self.make()
            except RefusedCall as error:
                self.made, self.failed = error, True
        if isinstance(self.made, RefusedCall):
            raise self.made
        return self.made


class JobTable:
    """The jobs of one kind, oldest first."""

    def __init__(self, capacity: int = CAPACITY, kept: int = KEPT) -> None:
        self.capacity = capacity
        self.kept = kept
        self._jobs: dict[bytes, CoreJob] = {}
        self._pending: list[float] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def items(self) -> list[tuple[bytes, CoreJob]]:
        """Return all ids and jobs."""
        return list(self._jobs.items())

    def get(self, identifier: bytes) -> CoreJob | None:
        """Return the job of an id."""
        return self._jobs.get(identifier)

    def pending(self, now: float) -> int:
        """Return how many jobs run."""
        while self._pending and self._pending[0] <= now:
            heapq.heappop(self._pending)
        return len(self._pending)

    def is_full(self, now: float) -> bool:
        """Tell whether there is no room, and too few jobs are finished to forget one."""
        return len(self) >= self.capacity and len(self) - self.pending(now) <= self.kept

    def check(self, identifier: bytes, now: float) -> None:
        """See that an id can be added. Raises RefusedCall."""
        if identifier in self._jobs:
            raise RefusedCall(Status.ALREADY_EXISTS)
        if self.is_full(now):
            raise RefusedCall(Status.ABORTED)

    def add(self, identifier: bytes, job: CoreJob, now: float) -> None:
        """Remember an id, and forget the oldest finished one when there is no room. Raises RefusedCall."""
        self.check(identifier, now)
        if len(self) >= self.capacity:
            del self._jobs[next(name for name, one in self._jobs.items() if one.ready_at <= now)]
        self._jobs[identifier] = job
        heapq.heappush(self._pending, job.ready_at)

    def forget(self, identifier: bytes) -> None:
        """Free an id. Raises KeyError for one that is not there."""
        job = self._jobs.pop(identifier)
        if job.ready_at in self._pending:
            self._pending.remove(job.ready_at)
            heapq.heapify(self._pending)


@attrs.define(eq=False)
class CoreJobs:
    """The jobs of one process by kind: of decryptions by the name of their start call, and what is ``GENERATED``."""

    capacity: int = CAPACITY
    kept: int = KEPT
    rate_limit: int = RATE_LIMIT
    """How many may run at once."""
    generating: float | None = None
    """Seconds for a key, a CRS or an epoch; None: as for a decryption."""
    computing: Callable[[], float] = lambda: 0.0
    """Seconds of a job where ``generating`` says nothing."""
    on_start: Callable[[bytes], None] = lambda _: None
    """Is told the id of each start call that was understood."""
    uptime: Uptime = attrs.field(factory=Uptime, init=False, repr=False)
    _tables: dict[str, JobTable] = attrs.field(factory=dict, init=False, repr=False)

    def table(self, kind: str) -> JobTable:
        """Return the jobs of a kind by id."""
        return self._tables.setdefault(kind, JobTable(self.capacity, self.kept))

    def is_busy(self, now: float) -> bool:
        """Tell whether as many jobs run as may run."""
        return sum(table.pending(now) for table in self._tables.values()) >= self.rate_limit

    def restart(self) -> None:
        """Forget what a restarted process forgets, all but keys and CRS that are ready; calls that wait lose their connection."""
        self.settle()
        now = trio.current_time()
        surviving = {kind: self.table(kind).items() for kind in _SURVIVING}
        self._tables.clear()
        for kind, jobs in surviving.items():
            for identifier, job in jobs:
                if job.ready_at <= now:
                    self.table(kind).add(identifier, job, now)
        self.uptime.restart()

    def settle(self) -> None:
        """Let all that is generated and ready be made and stored by now: each call that asks what there is begins so."""
        now = trio.current_time()
        for _, job in (one for kind in GENERATED for one in self.table(kind).items()):
            if job.made is None and not job.aborted and job.ready_at <= now:
                with suppress(RefusedCall, Invalid):
                    job.result()

    def at_work(self, kind: str, identifier: bytes) -> bool:
        """Tell whether a preparation (``preprocessing``), ``key``, ``crs`` or ``epoch`` is being made."""
        return _runs(self.table(kind).get(identifier))

    def abort(self, jobs: Iterable[CoreJob | None]) -> bytes:
        """Abort those of the jobs that run. Raises RefusedCall where none does."""
        running = [job for job in jobs if job is not None and _runs(job)]
        if not running:
            raise RefusedCall(Status.NOT_FOUND)
        for job in running:
            job.aborted, job.ready_at = True, trio.current_time()
        self.uptime.stir()
        return b""

    async def result(self, kind: str, longest: float, identifier: bytes) -> bytes:
        """Wait for a result as long as the real Core does, and return it. Raises RefusedCall."""
        job = self.table(kind).get(identifier)
        if job is None:
            raise RefusedCall(Status.NOT_FOUND)
        until = trio.current_time() + longest
        await self.uptime.wait(lambda: min(job.ready_at, until))
        if job.aborted:
            raise RefusedCall(Status.ABORTED)
        if job.ready_at > trio.current_time():
            raise RefusedCall(Status.UNAVAILABLE)
        return job.result()

    def begin(self, kind: str, identifier: bytes, make: Callable[[], bytes]) -> None:
        """Begin a job that generates something. Raises RefusedCall for an id that is known."""
        now = trio.current_time()
        self.table(kind).check(identifier, now)
        self.on_start(identifier)
        seconds = self.computing() if self.generating is None else self.generating
        self.table(kind).add(identifier, CoreJob(now + seconds, make), now)

    def renew(self, kind: str, identifier: bytes, make: Callable[[], bytes]) -> None:
        """Give an id another result, which is there at once."""
        now, table = trio.current_time(), self.table(kind)
        if table.get(identifier) is not None:
            table.forget(identifier)
        table.add(identifier, CoreJob(now, make), now)


def _runs(job: CoreJob | None) -> bool:
    return job is not None and not job.aborted and job.ready_at > trio.current_time()
