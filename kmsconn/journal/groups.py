"""A group of operations: applied, committed once, and each of them told what came of it. Knows no queue.

In a file a statement takes microseconds, and SQLite lets go of the interpreter's lock at each, so that in a thread every one of them would
have to win it back from the loop. They run in the loop, a few operations between two checkpoints; what waits for the disk, the commit, is
off the loop, and so is an operation that says it is long (``database.off_loop``).

Where a server keeps the journal, a whole group is applied in one thread, and mostly in two round trips: nothing stands in a savepoint of
its own, what nobody looks at is sent with what comes next, and of an operation that is one guarded update (``database.counted``) the
count is looked at when all was committed. A statement that fails spoils the transaction; then everything is undone and done again, each
operation in a savepoint and a round trip of its own, so that it fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs
import trio

from kmsconn.errors import JournalFailed, KmsconnError
from kmsconn.journal.database import COUNTED, LONG, READING, RIDE, RIDES, Database, NotWritten
from kmsconn.transport.ports import Offload

if TYPE_CHECKING:
    from kmsconn.journal.postgres import BatchResult, PostgresDriver

T = TypeVar("T")

OPERATIONS_BETWEEN_CHECKPOINTS = 32  # operations between two checkpoints: about a millisecond

# What an operation may raise, beside the database's no, without breaking the journal: our own errors, values that a column cannot hold.
_FAULTS = (KmsconnError, ArithmeticError, LookupError, TypeError, ValueError)


@attrs.define(eq=False)
class Execution(Generic[T]):
    """An operation with its arguments, and what came of it. Until its group is settled it has failed."""

    operation: Callable[..., T]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = attrs.field(factory=dict)
    done: trio.Event = attrs.field(factory=trio.Event)
    is_settled: bool = False
    error: BaseException | None = None
    """What the operation raised, or why its group was not committed."""
    value: T | None = None
    """What the operation returned."""

    def apply(self, db: Database) -> None:
        """Apply the operation, perhaps once more. Raises NotWritten only when the whole transaction is lost."""
        self.error = None
        try:
            self.value = self.operation(db, *self.args, **self.kwargs)
        except (db.driver.error, *_FAULTS) as error:
            if not db.driver.is_begun:  # else what comes next would be written by itself
                raise NotWritten(f"the transaction is lost: {error}") from error
            self.error = _ours(db, error)

    def result(self) -> T:
        """Return the value, or raise what the operation raised."""
        if not self.is_settled:
            raise JournalFailed("the journal ended before the operation was done")
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


async def apply_group(
    db: Database, group: Sequence[Execution[Any]], offload: Offload, *, may_ride: bool = False
) -> str | None:
    """Apply and commit a group; on failure of the commit all of them have failed. Raises nothing that a disk may cause.

    Where it ``may_ride`` and all of it can, the transaction stays open for what comes until ``DatabaseTransaction.until``.

    Who only asked in a file has an answer all the same: a full disk can be read. Return why it failed, empty when it was written or rides,
    None when there was nothing to write: that says nothing about the disk.

    Raises StartAgain where the journal is not what this process knows of it: see the errors.
    """
    try:
        if db.driver.is_remote:
            await offload("journal", partial(_apply_in_thread, db, group))
        else:
            await _apply_here(db, group, offload, may_ride=may_ride)
    except (db.driver.error, NotWritten) as error:
        db.roll_back()
        db.transaction.until = inf
        others = [one for one in group if db.driver.is_remote or one.operation not in READING]
        for one in others or group:  # each has an error of its own
            one.is_settled, one.error = True, _ours(db, error)
        if asking := [one for one in group if not one.is_settled]:
            await apply_group(db, asking, offload)
        return str(_ours(db, error))
    for one in group:
        one.is_settled = True
    return None if db.driver.changes == db.transaction.changes else ""


def _ours(db: Database, error: Exception) -> BaseException:
    if not isinstance(error, (db.driver.error, NotWritten)):
        return error
    failed = JournalFailed(f"the journal could not be written: {error}")
    failed.__cause__ = error
    return failed


def _seconds(one: Execution[Any]) -> float:
    """Return how long the commit of an operation may wait."""
    if one.operation in RIDES:
        return RIDES[one.operation](one.value, *one.args, **one.kwargs)
    return RIDE if one.operation in READING else 0.0


async def _apply_here(
    db: Database, group: Sequence[Execution[Any]], offload: Offload, *, may_ride: bool
) -> None:
    if not db.driver.is_begun:
        db.begin()
    for number, execution in enumerate(group, 1):
        is_long = LONG.get(execution.operation)
        if is_long is not None and is_long(*execution.args, **execution.kwargs):
            await offload("journal", partial(execution.apply, db))
        else:
            execution.apply(db)
        if number % OPERATIONS_BETWEEN_CHECKPOINTS == 0:
            await trio.lowlevel.checkpoint()
    is_changed = db.driver.changes != db.transaction.changes
    if is_changed and may_ride and (seconds := min(map(_seconds, group), default=0.0)):
        db.transaction.until = min(db.transaction.until, trio.current_time() + seconds)
        return
    if is_changed:
        # in the thread, too, each statement would have to win back the interpreter's lock
        db.driver.tally.write(db.execute)
        await offload("journal", db.commit)
    elif all(one.operation in READING for one in group):  # a full disk can be read
        db.roll_back()
    else:  # what changed the schema counts no row
        db.commit()
    db.transaction.until = inf


def _apply_in_thread(db: Database, group: Sequence[Execution[Any]]) -> None:
    """Apply and commit a group on a server. Raises an error of the database or NotWritten: all is undone then; StartAgain.

    Where it is done again, the notes in memory that the first time took are gone: they only spare work.
    """
    if _together(db, group):
        return
    db.begin()  # which undoes what failed
    for execution in group:
        _apply_alone(db, execution)
    db.commit()


def _together(db: Database, group: Sequence[Execution[Any]]) -> bool:
    """Apply and commit without a savepoint; False when a statement failed, or something that may have changed something."""
    batch = cast("PostgresDriver", db.driver).batch
    db.begin()
    db.transaction.is_whole = True
    try:
        counts: list[tuple[Execution[Any], BatchResult]] = []
        for execution in group:
            batch.assumes, batch.last = execution.operation in COUNTED, None
            execution.apply(db)
            if batch.is_faulty or (execution.error is not None and batch.last is not None):
                return False
            if batch.assumes and batch.last is not None:
                counts.append((execution, batch.last))
        batch.assumes = False
        db.commit()
    except db.driver.error:
        if db.driver.is_begun:
            return False
        raise
    finally:
        db.transaction.is_whole = False
    for execution, result in counts:
        execution.value = result.rowcount == 1
    return True


def _apply_alone(db: Database, execution: Execution[Any]) -> None:
    batch = cast("PostgresDriver", db.driver).batch
    batch.execute("SAVEPOINT operation")
    execution.apply(db)
    try:
        batch.flush()
    except db.driver.error as error:
        if not db.driver.is_begun:
            raise NotWritten(f"the transaction is lost: {error}") from error
        execution.error = execution.error or _ours(db, error)
    if batch.is_aborted:
        batch.execute("ROLLBACK TO SAVEPOINT operation")
    batch.execute("RELEASE SAVEPOINT operation")
    batch.flush()
