"""The journal in use: takes all operations that are queued, has them applied and committed once, then wakes the callers.

Group commit: one fsync serves everybody who asked meanwhile. One operation that fails undoes only itself: a single statement does so
in any case, and an operation that changes something with several of them stands in a savepoint (``Database.savepoint``). The serving
task ends when its input is closed, never by cancellation; what is queued then is still committed.

Where a server keeps the journal, operations that only read have connections of their own: they wait for no group, and no writer waits for
them. Whoever awaited a change sees it here. A row that cannot be read is for the writer to set aside, so such a question is told to take
its turn after all. In a file questions take their turn among the changes.

``open_journal`` chooses the driver, opens the database or makes it, and runs the task.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

import attrs
import trio

from kmsconn.config.description import PostgresAddress
from kmsconn.errors import JournalFailed
from kmsconn.extras import require_extra
from kmsconn.journal.database import READING, RIDES, Binding, Database, Driver, opening
from kmsconn.journal.groups import Execution, apply_group
from kmsconn.journal.moves import heal
from kmsconn.journal.rows import find_odd_rows
from kmsconn.journal.sqlite import SqliteDriver, Synchronous
from kmsconn.transport.ports import Offload

if TYPE_CHECKING:
    from kmsconn.journal.postgres import PostgresDriver

T = TypeVar("T")

TOLD: Final = 5.0
"""Seconds for which it is told that an operation failed alone: who needs it repeats it each second."""


@attrs.define
class JournalFailures:
    """``unwritten``: why the last group could not be written, empty when it was.

    An operation may fail alone, within a group that is written: a table without room for a row takes others.
    """

    unwritten: str = ""
    _alone: str = ""
    _alone_at: float = -math.inf
    _unclaimed: str = ""

    @property
    def text(self) -> str:
        """Say why the journal cannot be used; empty when it can."""
        alone = self._alone if trio.current_time() - self._alone_at < TOLD else ""
        return self.unwritten or alone or self._unclaimed

    def note_alone(self, error: JournalFailed) -> None:
        """Note what an operation failed with whose group was written otherwise."""
        self._alone, self._alone_at = str(error), trio.current_time()

    async def noting(self, claiming: Awaitable[T]) -> T:
        """Wait for what is claimed beside the journal; that it failed is told until it is answered. Raises JournalFailed."""
        try:
            answer = await claiming
        except JournalFailed as error:
            self._unclaimed = str(error)
            raise
        self._unclaimed = ""
        return answer


P = ParamSpec("P")

QUEUE = 1024  # more than all workers, readers and transaction managers have tasks: beyond it callers wait; a group stays some 50 ms long
DISK_PAUSE = 1.0  # seconds until the journal is asked again after it could not be used
CLOCK_STEP = 1.0  # seconds by which a clock is set back, and not only slow
CLOSING = 10.0  # seconds for what is queued when the input closes: many times the slowest commit, short of any supervisor's patience


async def until_kept(step: Callable[[], Awaitable[T]]) -> T:
    """Run a step of the journal until the disk takes it: a full disk must not end the tree.

    Cancellation: between tries and inside them. Repeating: ``step`` was not done when it failed.
    """
    while True:
        try:
            return await step()
        except JournalFailed:
            await trio.sleep(DISK_PAUSE)


class Journal:
    """The memory of one connector: operations queue here, and one task, ``commit_groups``, applies them.

    Questions take their turn in the same queue as changes, so they see all that was asked before. ``answers_tick`` grows with each durable
    move that may change which replies can be signed; ``failures`` say why the last group could not be written, and are empty when the last
    one that changed anything was; ``is_closed``: nothing is taken any more. ``warnings``: what an operator should know about where the
    journal is kept. With ``readers`` operations that only read wait for no group.
    """

    def __init__(self, db: Database, offload: Offload, readers: Readers | None = None) -> None:
        self.answers_tick = db.answers_tick
        self.warnings = db.driver.warnings
        self.damaged: Mapping[int, str] = db.damaged
        """The rows that could not be read in this run, with the reasons: each is quarantined, and the rest goes on."""
        self.failures = JournalFailures()
        self.is_closed = False
        self._readers, self._db, self._offload = readers, db, offload
        self._input, self._output = trio.open_memory_channel[Sequence[Execution[Any]]](QUEUE)
        self._scope = trio.CancelScope(shield=True)
        self._ahead = -math.inf

    async def run(
        self, operation: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Have an operation applied and committed, and return its value.

        Its arguments are read when its turn comes: a collection that goes on changing is handed over as a copy.

        Raises what the operation raises; JournalFailed when it could not be committed or the journal is closed.
        Cancellation: at any time; the operation may or may not be done then.
        """
        if self._readers is not None and operation in READING and not self.is_closed:
            with suppress(MustWrite):
                return cast("T", await self._readers.run(operation, args, kwargs))
        execution = Execution(operation, args, kwargs)
        await self._queue((execution,))
        await execution.done.wait()
        return execution.result()

    async def run_each(
        self, operation: Callable[..., T], each: Iterable[dict[str, Any]], **common: Any
    ) -> list[T]:
        """Have an operation applied with each of these arguments and the common ones, in turn, and all of it committed together.

        Raises the first fault, when the others are done; JournalFailed when the journal is closed.
        Cancellation: at any time; all of them may or may not be done then.
        """
        done = trio.Event()
        executions = [Execution(operation, kwargs={**common, **one}, done=done) for one in each]
        if executions:
            await self._queue(executions)
            await done.wait()
        else:
            await trio.lowlevel.checkpoint()
        return [execution.result() for execution in executions]

    async def _queue(self, executions: Sequence[Execution[Any]]) -> None:
        try:
            try:  # there is nearly always room, and a step less; whoever queues waits behind it
                self._input.send_nowait(executions)
            except trio.WouldBlock:
                await self._input.send(executions)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            await trio.lowlevel.checkpoint()  # noqa: ASYNC120 - who is cancelled needs to hear no more
            raise JournalFailed("the journal is closed") from error

    def join(self, token: int) -> Callable[[], int]:
        """Let everything from now on be written as this member of several processes, or not at all; before anything was written.

        Return what says which of the server's processes serves this journal: what that one tells others need not be heard here.
        """
        driver = cast("PostgresDriver", self._db.driver)
        driver.join(token)
        return lambda: driver.batch.pid

    def note_tick(self, tick: int) -> None:
        """Note that another process has made moves durable up to this tick."""
        self.answers_tick = max(self.answers_tick, tick)

    def note_submitted(self, rid: int, submitted: bool) -> None:
        """Remember that the Core has the request of a row, or has forgotten it; becomes durable as the row is deferred.

        Mostly it is answered before, and the note worth nothing; one that is lost costs a repeated start, of keys an alert
        besides: theirs are written at once (``moves.note_submitted``).
        """
        self._db.notes[rid] = submitted

    def note_stage(self, rid: int, stage: str, seconds: float) -> None:
        """Remember how long a stage of a row took; becomes durable with the row's next move or deferral."""
        self._db.stage_times.setdefault(rid, {})[stage] = seconds

    def close(self) -> None:
        """Take nothing more; what is queued has ``CLOSING`` seconds."""
        self.is_closed = True
        self._input.close()
        self._scope.deadline = trio.current_time() + CLOSING

    async def commit_groups(self) -> None:
        """Serve the queue until it is closed and empty.

        Cancellation: not heard, except through ``close``; callers that cannot be served any more get JournalFailed.
        """
        riders: list[Execution[Any]] = []
        with self._output, self._scope:
            try:
                while True:
                    riders = await self._serve(await self._asked(), riders)
            except trio.EndOfChannel:
                if riders:
                    await self._serve((), riders)
            finally:
                self.is_closed = True
                for execution in self._queued():
                    execution.done.set()

    async def _asked(self) -> Sequence[Execution[Any]]:
        """Wait for what is queued, but no longer than what rides may wait for its commit."""
        if self._db.transaction.until == math.inf:  # most of the time, and a scope less
            return [*await self._output.receive(), *self._queued()]
        with trio.move_on_at(self._db.transaction.until):
            return [*await self._output.receive(), *self._queued()]
        return ()

    async def _serve(
        self, asked: Sequence[Execution[Any]], riders: list[Execution[Any]]
    ) -> list[Execution[Any]]:
        """Have what is asked applied, after the ``riders`` whose commit failed; return what rides then."""
        driver = self._db.driver
        group = asked if driver.is_begun else [*riders, *asked]
        ahead = self._db.wall() - trio.current_time()
        # Set back: rows of before, and those of this group, would wait for longer than they may.
        if ahead < self._ahead - CLOCK_STEP:
            group = [Execution(heal), *group, Execution(heal)]
        self._ahead = ahead
        try:
            failed = await apply_group(self._db, group, self._offload, may_ride=not self.failures.unwritten)
            if driver.is_begun:
                riders += [one for one in asked if one.operation in RIDES and one.error is None]
            elif not failed:
                riders = [one for one in riders if isinstance(one.error, JournalFailed)]
            if failed is not None:
                self.failures.unwritten = failed
            for execution in () if failed else group:
                if isinstance(execution.error, JournalFailed):
                    self.failures.note_alone(execution.error)
            self.answers_tick = self.answers_tick if failed else self._db.answers_tick
        finally:
            for execution in group:
                execution.done.set()
        return riders

    def _queued(self) -> list[Execution[Any]]:
        queued: list[Execution[Any]] = []
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            for _ in range(QUEUE):
                queued += self._output.receive_nowait()
        return queued


REFUSED: Final = 1.0  # seconds for which a server that refused a connection is not asked for one


class MustWrite(Exception):  # noqa: N818 - says what becomes of a question
    """A connection that only reads cannot answer: the question takes its turn among the changes."""


class Readers:
    """Connections that only read, at most ``limit``, each made when it is first needed.

    What they cannot answer is for the connection that writes: where one is lost or refused, or a row is to be set aside. While the server
    refuses further ones, those that are there are used.
    """

    def __init__(self, make: Callable[[], Database], offload: Offload, limit: int) -> None:
        self._make, self._offload = make, offload
        self._limit = trio.CapacityLimiter(limit)
        self._idle: list[Database] = []
        self._refused_until = -math.inf

    async def run(self, operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply an operation in a thread and return its value.

        Raises what the operation raises; JournalFailed where the server refuses it; MustWrite. Cancellation: before it begins.
        """
        async with self._limit:
            db = self._idle.pop() if self._idle else self._make()
            try:
                if trio.current_time() < self._refused_until and not _is_connected(db):
                    raise MustWrite
                try:
                    return await self._offload("journal reads", partial(_answer, db, operation, args, kwargs))
                finally:
                    if not _is_connected(db):
                        self._refused_until = trio.current_time() + REFUSED
            finally:
                self._idle.insert(len(self._idle) if _is_connected(db) else 0, db)

    def close(self) -> None:
        """End all connections that are not in use. Repeating: does nothing."""
        while self._idle:
            self._idle.pop().close()


def _answer(
    db: Database, operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    db.damaged = {}
    try:
        db.begin()
        value = operation(db, *args, **kwargs)
    except db.driver.error as error:
        if db.damaged or not _is_connected(db):
            raise MustWrite from error
        raise JournalFailed(f"the journal could not be read: {error}") from error
    finally:
        db.roll_back()
    if db.damaged:  # nothing is set aside over a connection that only reads
        raise MustWrite
    return value


def _is_connected(db: Database) -> bool:
    return cast("PostgresDriver", db.driver).batch.is_connected


@asynccontextmanager
async def open_journal(
    where: Path | PostgresAddress,
    binding: Binding | None,
    offload: Offload,
    wall: Callable[[], float],
    *,
    synchronous: Synchronous = "FULL",
    shards: int = 1,
    readers: int = 2,
) -> AsyncGenerator[Journal]:
    """Open the journal in a file or in a database of PostgreSQL, make it if there is none, and run it meanwhile.

    Without a ``binding`` it must be there, whoever it belongs to: for an operator who looks into it.
    ``shards``: among how many parts due rows are shared by their ids; another number than the last time makes two indices anew.
    ``readers``: how many connections that only read there may be to a server.
    ``synchronous="OFF"`` gives durability up for speed: for tests under a virtual disk only.

    Raises StartRefused when the file is in use, when the journal belongs to another connector, is newer than this program or cannot be
    opened, and where the extra of PostgreSQL is missing; JournalUnreachable where it may pass by itself.
    Cancellation: what was queued before is still committed, within ``CLOSING`` seconds, and the lock is given back.
    """
    db = Database(driver_of(where, shards, synchronous), wall)
    reading: Readers | None = None
    if db.driver.is_remote:
        driver = cast("PostgresDriver", db.driver)
        reading = Readers(lambda: Database(driver.reading(), wall), offload, readers)
    try:
        await offload("journal", partial(_open, db, binding))
        async with trio.open_nursery() as nursery:
            journal = Journal(db, offload, reading)
            nursery.start_soon(journal.commit_groups)
            try:
                yield journal
            finally:
                journal.close()
    finally:
        if reading is not None:
            reading.close()
        await _close(db, offload)  # noqa: ASYNC102 - shields itself, with a deadline


def driver_of(where: Path | PostgresAddress, shards: int, synchronous: Synchronous = "FULL") -> Driver:
    """Return the driver of a journal, not opened. Raises ExtraMissing where the packages for PostgreSQL are not installed."""
    if isinstance(where, Path):
        return SqliteDriver(where, shards, synchronous)
    require_extra("postgres", "a journal in PostgreSQL")
    from kmsconn.journal.postgres import PostgresDriver

    return PostgresDriver(where, shards)


def _open(db: Database, binding: Binding | None) -> None:
    db.open(binding)
    with opening(db.driver):
        db.begin()
        find_odd_rows(db)
        if binding is not None:
            heal(db)
        db.commit()


async def _close(db: Database, offload: Offload) -> None:
    try:
        with trio.move_on_after(CLOSING, shield=True):
            await offload("journal", db.close)  # the last checkpoint of the log may take a while
    finally:
        db.close()  # does nothing, unless the offload could not do it
