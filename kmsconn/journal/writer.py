"""The one task that touches the database: takes all that is queued, applies it, commits once, then wakes the callers.

Group commit: one fsync serves everybody who asked meanwhile. One operation that fails undoes only itself: a single statement does so
in any case, and an operation that changes something with several of them stands in a savepoint (``Book.savepoint``). The task ends when
its input is closed, never by cancellation; what is queued then is still committed.

Where the work is done: a statement takes microseconds, and SQLite lets go of the interpreter's lock at each, so that in a thread every
one of them would have to win it back from the loop. They run in the loop, a few operations between two checkpoints; what waits for the
disk, the commit, is off the loop, and so is an operation that says it is long.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, cast

import attrs
import trio

from kmsconn.errors import JournalFailed, KmsconnError
from kmsconn.journal.book import Book
from kmsconn.journal.moves import note_submitted
from kmsconn.net.ports import Offload

T = TypeVar("T")

QUEUE = 1024  # more than all workers, readers and lanes have tasks: beyond it callers wait, and a group stays some 50 ms long
AT_ONCE = 32  # operations between two checkpoints: about a millisecond
NOTING = 1.0  # seconds that a note waits for the end of its row's turn, which mostly makes it worthless
CLOSING = 10.0  # seconds for what is queued when the input closes: many times the slowest commit, short of any supervisor's patience

# What an operation may raise without breaking the writer: the database's no, our own errors, values that a column cannot hold.
_FAULTS = (sqlite3.Error, KmsconnError, ArithmeticError, LookupError, TypeError, ValueError)


@attrs.define(eq=False)
class Operation(Generic[T]):
    """Something to do to the book, and what came of it. Until its group is committed it has failed."""

    apply: Callable[[Book], T]
    long: bool = False
    error: BaseException | None = attrs.field(
        factory=lambda: JournalFailed("the journal ended before the operation was done")
    )
    _value: T | None = None
    _fault: BaseException | None = None

    def run(self, book: Book) -> None:
        """Apply it. Raises sqlite3.Error only when the whole transaction is lost."""
        try:
            self._value = self.apply(book)
        except _FAULTS as error:
            if not book.is_begun:  # else what comes next would be written by itself
                raise sqlite3.OperationalError(f"the transaction is lost: {error}") from error
            self._fault = _ours(error)

    def committed(self) -> None:
        """Let what came of it count."""
        self.error = self._fault

    def result(self) -> T:
        """Return the value, or raise what the operation raised."""
        if self.error is not None:
            raise self.error
        return cast("T", self._value)


async def apply_group(
    book: Book, group: Sequence[Operation[Any]], notes: Mapping[int, bool], offload: Offload
) -> str | None:
    """Apply and commit a group; on failure of the commit all of them have failed. Raises nothing that a disk may cause.

    Return why it failed, empty when it was written, None when there was nothing to write: that says nothing about the disk.
    """
    before = book.changes
    try:
        book.begin()
        for rid, submitted in notes.items():
            note_submitted(book, rid, submitted)
        await _run_all(book, group, offload)
        changed = book.changes != before
        if changed:
            await offload("journal", book.keep)
        else:
            book.commit()
    except sqlite3.Error as error:
        book.roll_back()
        for operation in group:
            operation.error = _ours(error)
        return str(_ours(error))
    for operation in group:
        operation.committed()
    return "" if changed else None


async def _run_all(book: Book, group: Sequence[Operation[Any]], offload: Offload) -> None:
    for number, operation in enumerate(group, 1):
        if operation.long:
            await offload("journal", partial(operation.run, book))
        else:
            operation.run(book)
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()


def _ours(error: Exception) -> BaseException:
    if not isinstance(error, sqlite3.Error):
        return error
    failed = JournalFailed(f"the journal could not be written: {error}")
    failed.__cause__ = error
    return failed


class Writer:
    """The queue of the book and the task behind it."""

    def __init__(self, book: Book, offload: Offload) -> None:
        self.tick = book.tick
        self.failure = ""
        self._book = book
        self._offload = offload
        self._notes: dict[int, tuple[float, bool]] = {}  # with the time when each was made, the oldest first
        self._input, self._output = trio.open_memory_channel[tuple[Sequence[Operation[Any]], trio.Event]](
            QUEUE
        )
        self._scope = trio.CancelScope(shield=True)

    async def do(self, apply: Callable[[Book], T], *, long: bool = False) -> T:
        """Have an operation applied and committed, and return its value; one that is ``long`` is applied off the loop.

        Raises what the operation raises; JournalFailed when it could not be committed or the journal is closed.
        Cancellation: at any time; the operation may or may not be done then.
        """
        operation = Operation(apply, long)
        await self._queue([operation])
        return operation.result()

    async def do_all(self, applies: Iterable[Callable[[Book], T]]) -> list[Operation[T]]:
        """Have operations applied one after the other and committed together; each has a result, or a fault, of its own.

        Raises JournalFailed when the journal is closed. Cancellation: at any time; all of them may or may not be done then.
        """
        operations = [Operation(apply) for apply in applies]
        if operations:
            await self._queue(operations)
        else:
            await trio.lowlevel.checkpoint()
        return operations

    async def _queue(self, operations: Sequence[Operation[Any]]) -> None:
        done = trio.Event()
        try:
            try:  # there is nearly always room, and a step less; below is a checkpoint in any case
                self._input.send_nowait((operations, done))
            except trio.WouldBlock:
                await self._input.send((operations, done))
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise JournalFailed("the journal is closed") from error
        await done.wait()

    def note(self, rid: int, submitted: bool) -> None:
        """Have a ``submitted`` flag written with the first group after ``NOTING`` seconds, unless ``noted`` takes it before."""
        self._notes.pop(rid, None)
        self._notes[rid] = trio.current_time(), submitted

    def noted(self, rid: int) -> bool | None:
        """Take the note on a row, if there is one: it is written no more."""
        _since, submitted = self._notes.pop(rid, (0.0, None))
        return submitted

    def close(self) -> None:
        """Take nothing more; what is queued has ``CLOSING`` seconds."""
        self._input.close()
        self._scope.deadline = trio.current_time() + CLOSING

    async def run(self) -> None:
        """Serve the queue until it is closed and empty.

        Cancellation: not heard, except through ``close``; callers that cannot be served any more get JournalFailed.
        """
        with self._output, self._scope:
            try:
                async for first in self._output:
                    await self._serve([first, *self._queued()])
            finally:
                for _, done in self._queued():
                    done.set()

    async def _serve(self, group: Sequence[tuple[Sequence[Operation[Any]], trio.Event]]) -> None:
        notes = self._old_notes()
        operations = [operation for together, _ in group for operation in together]
        try:
            failure = await apply_group(self._book, operations, notes, self._offload)
            self.failure = self.failure if failure is None else failure
            self.tick = self._book.tick
        finally:
            for _, done in group:
                done.set()

    def _old_notes(self) -> Mapping[int, bool]:
        oldest, _ = next(iter(self._notes.values()), (math.inf, False))
        if trio.current_time() < oldest + NOTING:
            return {}
        notes, self._notes = self._notes, {}
        return {rid: submitted for rid, (_since, submitted) in notes.items()}

    def _queued(self) -> list[tuple[Sequence[Operation[Any]], trio.Event]]:
        queued: list[tuple[Sequence[Operation[Any]], trio.Event]] = []
        while len(queued) < QUEUE:
            try:
                queued.append(self._output.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return queued
