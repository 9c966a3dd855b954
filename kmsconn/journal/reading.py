"""Operations that only read, on connections of their own: they wait for no group, and no writer waits for them.

Only where a server keeps the journal; in a file questions take their turn among the changes. Whoever awaited a change sees it here. A row
that cannot be read is for the writer to set aside, so such a question is told to take its turn after all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from kmsconn.errors import JournalFailed
from kmsconn.journal.database import Database
from kmsconn.journal.postgres_refusals import is_crowded
from kmsconn.transport.ports import Offload

if TYPE_CHECKING:
    from kmsconn.journal.postgres import PostgresDriver

TRIES: Final = (
    2  # a connection that stood idle may be gone without anybody having heard; a second one then is fresh
)
CROWDED: Final = 1.0  # seconds for which a server that has no place for a connection is not asked for one


class MustWrite(Exception):  # noqa: N818 - says what becomes of a question
    """The operation met a row that is to be set aside: it takes its turn among the changes."""


class _Crowded(MustWrite):
    """The server has no place for a further connection: the question takes its turn on the one that writes."""


class Readers:
    """Connections that only read, at most ``limit``, each made when it is first needed.

    Where the server has no place for one more, questions take their turn among the changes while none of those that are there is free.
    ``damaged`` are the rows that the writer has set aside: they are left out here too.
    """

    def __init__(
        self, make: Callable[[], Database], damaged: Mapping[int, str], offload: Offload, limit: int
    ) -> None:
        self._make, self._damaged, self._offload = make, damaged, offload
        self._limit = trio.CapacityLimiter(limit)
        self._idle: list[Database] = []
        self._crowded_until = -math.inf

    async def run(self, operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply an operation in a thread and return its value.

        Raises what the operation raises; JournalFailed when the database cannot be asked; MustWrite. Cancellation: before it begins.
        """
        async with self._limit:
            db = self._idle.pop() if self._idle else self._make()
            try:
                if trio.current_time() < self._crowded_until and not _is_connected(db):
                    raise MustWrite
                return await self._offload("journal reads", partial(self._apply, db, operation, args, kwargs))
            except _Crowded:
                self._crowded_until = trio.current_time() + CROWDED
                raise
            finally:
                self._idle.insert(len(self._idle) if _is_connected(db) else 0, db)

    def close(self) -> None:
        """End all connections that are not in use. Repeating: does nothing."""
        while self._idle:
            self._idle.pop().close()

    def _apply(
        self, db: Database, operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        for _ in range(TRIES - 1):
            with suppress(db.driver.error):
                return self._apply_once(db, operation, args, kwargs)
        try:
            return self._apply_once(db, operation, args, kwargs)
        except db.driver.error as error:
            if is_crowded(str(error)):
                raise _Crowded from error
            raise JournalFailed(f"the journal could not be read: {error}") from error

    def _apply_once(
        self, db: Database, operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        known = dict(self._damaged)
        db.damaged = known.copy()
        try:
            db.begin()
            value = operation(db, *args, **kwargs)
        except db.driver.error as error:  # nothing is set aside over a connection that only reads
            if db.damaged != known:
                raise MustWrite from error
            raise
        finally:
            db.roll_back()
        if db.damaged != known:
            raise MustWrite
        return value


def _is_connected(db: Database) -> bool:
    return cast("PostgresDriver", db.driver).batch.is_connected
