"""Applies a group of operations to a database that a server keeps: all of it in one thread, and in as few round trips as can be.

First freely: nothing stands in a savepoint of its own, what nobody looks at is sent with what comes next, and of an operation that is one
guarded update (``operations.counted``) the count is looked at when all was committed. Mostly that is two round trips for the whole group;
one while no other process writes: then the transaction supposes that nothing has changed since the last one, and fails where something has.
A statement that fails spoils the transaction; then everything is undone and done again carefully: each operation in a savepoint, so that it
fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from kmsconn.journal.database import Database, Driver, NotWritten, OutcomeUnknown
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
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as anybody heard."""
        ...

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

    def suppose(self, tick: int) -> bool:
        """Begin a transaction that fails unless the last commit left this tick; False, and nothing is begun, where that is unlikely."""
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
    noted, timed, damaged = db.notes.saved(), db.stage_times.saved(), frozenset(db.damaged)
    for apply in (_supposing, _freely, _carefully):
        if apply(db, group, notes):
            break
        db.notes.restore(noted)
        db.stage_times.restore(timed)
        for rid in db.damaged.keys() - damaged:  # what was set aside is undone, too
            del db.damaged[rid]
    return db.driver.changes != before


def _queue_of(db: Database) -> Queue:
    return cast("RemoteDriver", db.driver).queue


def _note(db: Database, notes: Mapping[int, bool]) -> None:
    for rid, submitted in notes.items():
        note_submitted(db, rid, submitted)


def _supposing(db: Database, group: Sequence[Applicable], notes: Mapping[int, bool]) -> bool:
    """Apply and commit as if no other process had written; False when that was wrong, or something failed, and all is undone."""
    if not db.suppose(cast("RemoteDriver", db.driver).suppose):
        return False
    try:
        return _apply_freely(db, group, notes)
    except OutcomeUnknown as unknown:
        return _was_kept(db, group, unknown)
    except (db.driver.error, NotWritten):
        return _undo(db, group)


def _was_kept(db: Database, group: Sequence[Applicable], unknown: OutcomeUnknown) -> bool:
    """Say whether a commit was kept. Raises OutcomeUnknown while nobody can tell."""
    try:
        kept = db.find_out()
    except db.driver.error:
        raise unknown from None
    return kept or _undo(db, group)


def _freely(db: Database, group: Sequence[Applicable], notes: Mapping[int, bool]) -> bool:
    """Apply and commit; False when a statement failed, and all is undone."""
    db.begin()
    return _apply_freely(db, group, notes)


def _apply_freely(db: Database, group: Sequence[Applicable], notes: Mapping[int, bool]) -> bool:
    queue = _queue_of(db)
    db.is_whole = True
    try:
        counted = _apply_each(db, queue, group, notes)
    finally:
        db.is_whole = False
    if counted is None:
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


def _apply_each(
    db: Database, queue: Queue, group: Sequence[Applicable], notes: Mapping[int, bool]
) -> list[tuple[Applicable, SentResult]] | None:
    """Apply a group; return those whose counts are to be looked at, None where something failed that may have changed something."""
    _note(db, notes)
    counted: list[tuple[Applicable, SentResult]] = []
    for execution in group:
        queue.assumes, queue.last = is_counted(execution.operation), None
        execution.apply(db)
        if queue.is_faulty or (execution.fault is not None and queue.last is not None):
            return None
        if queue.assumes and queue.last is not None:
            counted.append((execution, queue.last))
    return counted


def _undo(db: Database, group: Sequence[Applicable]) -> bool:
    db.roll_back()
    for execution in group:
        execution.fault = None
    return False


def _carefully(db: Database, group: Sequence[Applicable], notes: Mapping[int, bool]) -> bool:
    db.begin()
    _note(db, notes)
    _queue_of(db).flush()
    for execution in group:
        _apply_alone(db, execution)
    db.keep()
    return True


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
