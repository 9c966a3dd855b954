"""Opens the journal of a connector, and runs it meanwhile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from kmsconn.config.values import PostgresAddress
from kmsconn.extras import require_extra
from kmsconn.journal.damage import find_odd_rows
from kmsconn.journal.database import Binding, Database, Driver, opening
from kmsconn.journal.journal import CLOSING, Journal, Readers
from kmsconn.journal.moves import heal
from kmsconn.journal.sqlite import SqliteDriver, Synchronous
from kmsconn.transport.ports import Offload

READERS = 2
"""Connections that only read, where nobody chose a number."""


@asynccontextmanager
async def open_journal(
    where: Path | PostgresAddress,
    binding: Binding | None,
    offload: Offload,
    wall: Callable[[], float],
    *,
    synchronous: Synchronous = "FULL",
    shards: int = 1,
    readers: int = READERS,
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
    reading = _readers(where, db, offload, readers)
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
    from kmsconn.journal.postgres import PostgresDriver, connect, connect_first

    return PostgresDriver(where, shards, connect, connect_first)


def _readers(where: Path | PostgresAddress, db: Database, offload: Offload, limit: int) -> Readers | None:
    """Return what asks a server beside the connection that writes; None for a file, whose questions take their turn."""
    if isinstance(where, Path):
        return None
    from kmsconn.journal.postgres import PostgresReadingDriver

    make = partial(PostgresReadingDriver, where, db.shards)
    return Readers(lambda: Database(make(), db.wall), offload, limit)


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
