"""Applies a group of operations to a database that a server keeps: all of it in one thread, and in as few round trips as can be.

First freely: nothing stands in a savepoint of its own, what nobody looks at is sent with what comes next, and of an operation that is one
guarded update (``operations.counted``) the count is looked at when all was committed. Mostly that is two round trips for the whole group.
A statement that fails spoils the transaction; then everything is undone and done again carefully: each operation in a savepoint, so that it
fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from kmsconn.journal.database import Database, Driver, NotWritten
from kmsconn.journal.moves import note_submitted
from kmsconn.journal.operations import is_counted


class SentResult(Protocol):
    """The result of a statement that is sent with others."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...


class Queue(Protocol):
    """Statements that wait to be sent together; see ``postgres_queue``."""

    assumes: bool
    last: SentResult | None

    @property
    def is_faulty(self) -> bool:
        """Whether a statement of the transaction failed."""
        ...

    @property
    def is_aborted(self) -> bool:
        """Whether the transaction takes nothing but its end, or a return to a savepoint."""
        ...

    @property
    def pid(self) -> int:
        """Which of the server's processes serves the connection; 0 where there is none."""
        ...

    def flush(self) -> object:
        """Send what waits."""
        ...


class RemoteDriver(Driver, Protocol):
    """A driver whose statements wait for a server."""

    @property
    def queue(self) -> Queue:
        """The statements that were not sent yet."""
        ...

    def join(self, token: int) -> None:
        """Let each transaction from now on count in the row of this member, while none is under way."""
        ...

    def leave(self) -> None:
        """Count no more: the row is deleted with the transaction that is under way."""
        ...


class Applicable(Protocol):
    """An operation with its arguments; see ``journal.Execution``."""

    operation: Callable[..., Any]
    fault: BaseException | None
    value: Any

    def apply(self, db: Database) -> None:
        """Apply the operation: its value, or its fault."""
        ...

    def blame(self, db: Database, error: Exception) -> None:
        """Make an error its fault, unless it has one."""
        ...


def apply_in_thread(db: Database, group: Sequence[Applicable], notes: Mapping[int, bool]) -> bool:
    """Apply and commit a group, and say whether it changed anything.

    Raises an error of the database or NotWritten: all is undone then; OutcomeUnknown when nobody can tell.
    """
    before = db.driver.changes
    noted, timed = db.notes.saved(), db.stage_times.saved()
    if not _freely(db, group, notes):
        db.notes.restore(noted)
        db.stage_times.restore(timed)
        _carefully(db, group, notes)
    return db.driver.changes != before


def _queue_of(db: Database) -> Queue:
    return cast("RemoteDriver", db.driver).queue


def _begin(db: Database, notes: Mapping[int, bool]) -> None:
    db.begin()
    for rid, submitted in notes.items():
        note_submitted(db, rid, submitted)


def _freely(db: Database, group: Sequence[Applicable], notes: Mapping[int, bool]) -> bool:
    """Apply and commit; False when a statement failed, and all is undone."""
    _begin(db, notes)
    queue = _queue_of(db)
    counted: list[tuple[Applicable, SentResult]] = []
    for execution in group:
        queue.assumes, queue.last = is_counted(execution.operation), None
        execution.apply(db)
        if queue.assumes and queue.last is not None:
            counted.append((execution, queue.last))
        if queue.is_faulty:
            return _undo(db, group)
    queue.assumes = False
    try:
        db.keep()
    except db.driver.error:
        if db.driver.is_begun:
            return _undo(db, group)
        raise
    for execution, result in counted:
        execution.value = result.rowcount == 1
    return True


def _undo(db: Database, group: Sequence[Applicable]) -> bool:
    db.roll_back()
    for execution in group:
        execution.fault = None
    return False


def _carefully(db: Database, group: Sequence[Applicable], notes: Mapping[int, bool]) -> None:
    _begin(db, notes)
    _queue_of(db).flush()
    for execution in group:
        _apply_alone(db, execution)
    db.keep()


def _apply_alone(db: Database, execution: Applicable) -> None:
    queue = _queue_of(db)
    db.execute("SAVEPOINT operation")
    execution.apply(db)
    try:
        queue.flush()
    except db.driver.error as error:
        if not db.driver.is_begun:
            raise NotWritten(f"the transaction is lost: {error}") from error
        execution.blame(db, error)
    if queue.is_aborted:
        db.execute("ROLLBACK TO SAVEPOINT operation")
    db.execute("RELEASE SAVEPOINT operation")
    queue.flush()
