"""The journal in use: takes all operations that are queued, applies them, commits once, then wakes the callers.

Group commit: one fsync serves everybody who asked meanwhile. One operation that fails undoes only itself: a single statement does so
in any case, and an operation that changes something with several of them stands in a savepoint (``Database.savepoint``). The serving
task ends when its input is closed, never by cancellation; what is queued then is still committed.

Where the work is done: a statement takes microseconds, and SQLite lets go of the interpreter's lock at each, so that in a thread every
one of them would have to win it back from the loop. They run in the loop, a few operations between two checkpoints; what waits for the
disk, the commit, is off the loop, and so is an operation that says it is long (``operations.off_loop``). Where a server keeps the journal,
a whole group is applied in one thread (``journal.remote``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

import attrs
import trio

from kmsconn.errors import JournalFailed, KmsconnError
from kmsconn.journal.database import Database, NotWritten, OutcomeUnknown
from kmsconn.journal.failures import JournalFailures
from kmsconn.journal.moves import note_submitted
from kmsconn.journal.operations import is_off_loop, is_reading
from kmsconn.journal.reading import MustWrite, Readers
from kmsconn.journal.remote import RemoteDriver, apply_in_thread
from kmsconn.transport.ports import Offload

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")

QUEUE = 1024  # more than all workers, readers and transaction managers have tasks: beyond it callers wait; a group stays some 50 ms long
OPERATIONS_BETWEEN_CHECKPOINTS = 32  # operations between two checkpoints: about a millisecond
FIND_OUT_AGAIN = (
    0.5  # seconds between questions to a database that cannot be reached, for what became of a commit
)
DISK_PAUSE = 1.0  # seconds until the journal is asked again after it could not be used
CLOSING = 10.0  # seconds for what is queued when the input closes: many times the slowest commit, short of any supervisor's patience

# What an operation may raise, beside the database's no, without breaking the journal: our own errors, values that a column cannot hold.
_FAULTS = (KmsconnError, ArithmeticError, LookupError, TypeError, ValueError)


@attrs.define(eq=False)
class Execution(Generic[T]):
    """An operation with its arguments, and what came of it. Until its group is committed it has failed."""

    operation: Callable[..., T]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = attrs.field(factory=dict)
    done: trio.Event = attrs.field(factory=trio.Event)
    error: BaseException | None = attrs.field(
        factory=lambda: JournalFailed("the journal ended before the operation was done")
    )
    is_long: bool = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: is_off_loop(self.operation, self.args, self.kwargs), takes_self=True
        ),
    )
    fault: BaseException | None = None
    """What the operation raised; becomes ``error`` once the group is committed."""
    value: T | None = None
    """What the operation returned."""

    def apply(self, db: Database) -> None:
        """Apply the operation. Raises NotWritten only when the whole transaction is lost."""
        try:
            self.value = self.operation(db, *self.args, **self.kwargs)
        except (db.driver.error, *_FAULTS) as error:
            if not db.driver.is_begun:  # else what comes next would be written by itself
                raise NotWritten(f"the transaction is lost: {error}") from error
            self.fault = _ours(db, error)

    def blame(self, db: Database, error: Exception) -> None:
        """Make an error of the database the operation's fault, unless it has one."""
        if self.fault is None:
            self.fault = _ours(db, error)

    def result(self) -> T:
        """Return the value, or raise what the operation raised."""
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


async def apply_group(
    db: Database, group: Sequence[Execution[Any]], notes: Mapping[int, bool], offload: Offload
) -> str | None:
    """Apply and commit a group; on failure of the commit all of them have failed. Raises nothing that a disk may cause.

    Who only asked in a file has an answer all the same: a full disk can be read. Return why it failed, empty when it was written, None
    when there was nothing to write: that says nothing about the disk.

    Raises OutcomeUnknown when it was perhaps written: ``settle`` is to be called once that is known. StartAgain: see the errors.
    """
    apply = _apply_remotely if db.driver.is_remote else _apply_here
    try:
        changed = await apply(db, group, notes, offload)
    except (db.driver.error, NotWritten) as error:
        db.roll_back()
        failure = settle(db, group, error)
        if not db.driver.is_remote:
            await _answer(db, [one for one in group if is_reading(one.operation)], offload)
        return failure
    settle(db, group)
    return "" if changed else None


async def _answer(db: Database, questions: Sequence[Execution[Any]], offload: Offload) -> None:
    """Answer those who only ask in a group that could not be written; if that fails too, they have failed."""
    with suppress(db.driver.error, NotWritten):
        for question in questions:
            question.fault = None
        db.begin()
        await _apply_all(db, questions, offload)
        settle(db, questions)
    db.roll_back()


def settle(db: Database, group: Sequence[Execution[Any]], error: Exception | None = None) -> str:
    """Say to a group what became of it: written, or all of it failed; return why, empty when it was written."""
    for execution in group:
        execution.error = execution.fault if error is None else _ours(db, error)
    return "" if error is None else str(_ours(db, error))


async def _found_out(db: Database, unknown: OutcomeUnknown, offload: Offload) -> OutcomeUnknown | None:
    """Wait until the database says what became of a commit: None when it was kept. Nothing else is to be applied before."""
    while True:
        try:
            kept = await offload("journal", db.find_out)
        except db.driver.error:
            await trio.sleep(FIND_OUT_AGAIN)
        else:
            return None if kept else unknown


async def _apply_remotely(
    db: Database, group: Sequence[Execution[Any]], notes: Mapping[int, bool], offload: Offload
) -> bool:
    return await offload("journal", partial(apply_in_thread, db, group, notes))


async def _apply_here(
    db: Database, group: Sequence[Execution[Any]], notes: Mapping[int, bool], offload: Offload
) -> bool:
    before = db.driver.changes
    db.begin()
    for rid, submitted in notes.items():
        note_submitted(db, rid, submitted)
    await _apply_all(db, group, offload)
    changed = db.driver.changes != before
    if changed:
        await offload("journal", db.keep)
    else:
        db.commit()
    return changed


async def _apply_all(db: Database, group: Sequence[Execution[Any]], offload: Offload) -> None:
    for number, execution in enumerate(group, 1):
        if execution.is_long:
            await offload("journal", partial(execution.apply, db))
        else:
            execution.apply(db)
        if number % OPERATIONS_BETWEEN_CHECKPOINTS == 0:
            await trio.lowlevel.checkpoint()


def _ours(db: Database, error: Exception) -> BaseException:
    if not isinstance(error, (db.driver.error, NotWritten, OutcomeUnknown)):
        return error
    failed = JournalFailed(f"the journal could not be written: {error}")
    failed.__cause__ = error
    return failed


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

    Questions take their turn in the same queue as changes, so they see all that was asked before. ``tick`` is that of the last durable
    move, a move under way counts as later; ``failure`` says why the last group could not be written, and is empty when the last one
    that changed anything was. With ``readers`` operations that only read wait for no group.
    """

    def __init__(self, db: Database, offload: Offload, readers: Readers | None = None) -> None:
        self.tick = db.tick
        self.failures = JournalFailures()
        self._is_closed = False
        self._readers = readers
        self._db = db
        self._offload = offload
        self._input, self._output = trio.open_memory_channel[Sequence[Execution[Any]]](QUEUE)
        self._scope = trio.CancelScope(shield=True)

    @property
    def failure(self) -> str:
        """Why the journal cannot be used at present; empty when it can."""
        return self.failures.text

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know about where the journal is kept, one sentence each."""
        return self._db.warnings

    @property
    def damaged(self) -> Mapping[int, str]:
        """The rows that could not be read in this run, with the reasons: each is quarantined, and the rest goes on."""
        return self._db.damaged

    async def run(
        self, operation: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Have an operation applied and committed, and return its value.

        Its arguments are read when its turn comes: a collection that goes on changing is handed over as a copy.

        Raises what the operation raises; JournalFailed when it could not be committed or the journal is closed.
        Cancellation: at any time; the operation may or may not be done then.
        """
        if self._readers is not None and is_reading(operation) and not self._is_closed:
            with suppress(MustWrite):
                reading = self._readers.run(operation, args, kwargs)
                return cast("T", await self.failures.noting("reads", reading))
        execution = Execution(operation, args, kwargs)
        try:  # there is nearly always room, and a step less; below is a checkpoint in any case
            self._input.send_nowait((execution,))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            await self._queue((execution,))
        await execution.done.wait()
        return execution.result()

    async def run_each(self, operation: Callable[[Database, A], T], values: Iterable[A]) -> list[T]:
        """Have an operation applied to each of these values, one after the other, and all of it committed together.

        Raises the first fault, when the others are done; JournalFailed when the journal is closed.
        Cancellation: at any time; all of them may or may not be done then.
        """
        done = trio.Event()
        executions = [Execution(operation, (value,), done=done) for value in values]
        if executions:
            await self._queue(executions)
            await done.wait()
        else:
            await trio.lowlevel.checkpoint()
        return [execution.result() for execution in executions]

    async def _queue(self, executions: Sequence[Execution[Any]]) -> None:
        try:
            await self._input.send(executions)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise JournalFailed("the journal is closed") from error

    def join(self, token: int) -> Callable[[], int]:
        """Let everything from now on be written as this member of several processes, or not at all; before anything was written.

        Return what says which of the server's processes serves this journal: what that one tells others need not be heard here.
        """
        driver = cast("RemoteDriver", self._db.driver)
        driver.join(token)
        return lambda: driver.queue.pid

    def note_tick(self, tick: int) -> None:
        """Note that another process has made moves durable up to this tick."""
        self.tick = max(self.tick, tick)

    def note_submitted(self, rid: int, submitted: bool) -> None:
        """Remember that the Core has the request of a row, or has forgotten it.

        Becomes durable as the row is deferred, or with the first group after a second: before that it is mostly answered, and the note
        worth nothing.
        """
        self._db.notes.put(rid, submitted, trio.current_time())

    def note_stage(self, rid: int, stage: str, seconds: float) -> None:
        """Remember how long a stage of a row took; becomes durable with the row's next move or deferral."""
        self._db.stage_times.put(rid, stage, seconds)

    def close(self) -> None:
        """Take nothing more; what is queued has ``CLOSING`` seconds."""
        self._is_closed = True
        self._input.close()
        self._scope.deadline = trio.current_time() + CLOSING

    async def commit_groups(self) -> None:
        """Serve the queue until it is closed and empty.

        Cancellation: not heard, except through ``close``; callers that cannot be served any more get JournalFailed.
        """
        with self._output, self._scope:
            try:
                async for first in self._output:
                    await self._serve([*first, *self._queued()])
            finally:
                for execution in self._queued():
                    execution.done.set()

    async def _serve(self, group: Sequence[Execution[Any]]) -> None:
        notes = self._db.notes.take_all_once_old(trio.current_time())
        try:
            try:
                failure = await apply_group(self._db, group, notes, self._offload)
            except OutcomeUnknown as unknown:
                self.failures.unwritten = str(unknown)
                failure = settle(self._db, group, await _found_out(self._db, unknown, self._offload))
            if failure is not None:
                self.failures.unwritten = failure
            if not failure:
                self.failures.note_alone(execution.error for execution in group)
            self.tick = self._db.tick
        finally:
            for execution in group:
                execution.done.set()

    def _queued(self) -> list[Execution[Any]]:
        queued: list[Execution[Any]] = []
        for _ in range(QUEUE):
            try:
                queued += self._output.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return queued
