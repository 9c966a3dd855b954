"""What a Core generates, as entries with the time at which each will be ready. Knows no message but ids.

Source: kms-core-grpc.md, 5.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs
import trio

from kmsconn._generated.fhevm.kms.v1 import RequestId
from kmsconn.emulator.core_requests import Invalid, read_id
from kmsconn.emulator.core_table import Uptime
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.framing import Status

SHORT_POLL = 60.0


class RefusedStart(Exception):  # noqa: N818 - the call is
    """A call ends with this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@attrs.define(eq=False)
class Running:
    """One job: pending until ``ready_at``; ``make`` gives its result, once; an aborted one has none."""

    ready_at: float
    make: Callable[[], bytes]
    aborted: bool = False
    made: bytes | Status | None = None

    def result(self) -> bytes:
        """Return the result, the same each time. Raises RefusedStart where the job failed."""
        if self.made is None:
            try:
                self.made = self.make()
            except RefusedStart as error:
                self.made = error.status
        if isinstance(self.made, Status):
            raise RefusedStart(self.made)
        return self.made


@attrs.define(eq=False)
class KeyJobs:
    """The jobs of one process by kind: ``preprocessing``, ``key``, ``crs`` and ``epoch``."""

    computing: Callable[[], float]
    """Seconds of a job where ``generating`` says nothing."""
    on_start: Callable[[bytes], None]
    """Is told the id of each start call that was understood."""
    generating: float | None = None
    """Seconds for a key, a CRS or an epoch; None: as for a decryption."""
    _jobs: dict[str, dict[bytes, Running]] = attrs.field(factory=dict, init=False, repr=False)
    _uptime: Uptime = attrs.field(factory=Uptime, init=False, repr=False)

    def restart(self) -> None:
        """Forget what a restarted process forgets: preprocessings, epoch results, and all that was not ready."""
        self.settle()
        now = trio.current_time()
        for kind, jobs in self._jobs.items():
            kept = kind in {"key", "crs"}
            self._jobs[kind] = {i: job for i, job in jobs.items() if kept and job.ready_at <= now}
        self._uptime.restart()

    def settle(self) -> None:
        """Let all that is ready be made and stored by now, whoever has fetched it: each call that asks what there is begins so."""
        now = trio.current_time()
        for jobs in self._jobs.values():
            for job in jobs.values():
                if job.made is None and not job.aborted and job.ready_at <= now:
                    with suppress(RefusedStart, Invalid):
                        job.result()

    def at_work(self, kind: str, identifier: bytes) -> bool:
        """Tell whether a preparation (``preprocessing``), ``key``, ``crs`` or ``epoch`` is being made."""
        job = self.table(kind).get(identifier)
        return job is not None and not job.aborted and job.ready_at > trio.current_time()

    def abort(self, jobs: list[Running | None]) -> bytes:
        """Abort those of the jobs that run. Raises RefusedStart where none does."""
        now = trio.current_time()
        running = [job for job in jobs if job is not None and not job.aborted and job.ready_at > now]
        if not running:
            raise RefusedStart(Status.NOT_FOUND)
        for job in running:
            job.aborted, job.ready_at = True, now
        self._uptime.stir()
        return b""

    async def result(self, kind: str, longest: float, request: bytes) -> bytes:
        """Wait for a result as long as the real Core does, and return it. Raises RefusedStart."""
        job = self.table(kind).get(read_id(decode(RequestId, request)))
        if job is None:
            raise RefusedStart(Status.NOT_FOUND)
        until = trio.current_time() + longest
        await self._uptime.wait(lambda: min(job.ready_at, until))
        if job.aborted:
            raise RefusedStart(Status.ABORTED)
        if job.ready_at > trio.current_time():
            raise RefusedStart(Status.UNAVAILABLE)
        return job.result()

    def begin(self, kind: str, identifier: bytes, make: Callable[[], bytes]) -> None:
        """Begin a job. Raises RefusedStart for an id that is known."""
        if identifier in self.table(kind):
            raise RefusedStart(Status.ALREADY_EXISTS)
        self.on_start(identifier)
        self.table(kind)[identifier] = Running(trio.current_time() + self._seconds(), make)

    def table(self, kind: str) -> dict[bytes, Running]:
        """Return the jobs of a kind by id."""
        return self._jobs.setdefault(kind, {})

    def _seconds(self) -> float:
        return self.computing() if self.generating is None else self.generating
