"""The open database file: made with mode 0600, locked, migrated and bound to its owner. Never knows what a request is.

A ``Database`` is used by one thread at a time: its writer sees to that. Nothing here waits for anything but the disk.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from kmsconn.errors import StartRefused
from kmsconn.journal.binding import Binding, differences
from kmsconn.journal.locking import lock_path, locked
from kmsconn.journal.notes import Notes
from kmsconn.journal.rows import shard
from kmsconn.journal.schema import APPLICATION_ID, MIGRATIONS, VERSION, shard_indices

Synchronous = Literal["FULL", "OFF"]

CACHE = 16 * 1024  # KiB: some thousand open rows with their indices, so that statements need no disk

LOG_SIZE = 64 << 20  # bytes to which the write-ahead log is cut after something large went through it

_TICK = "tick"


class Database:
    """One journal file, its only connection, and the tick of the last row that moved.

    ``shards``: among how many parts due rows are shared by their ids. ``wall`` is the time at which rows end.
    ``damaged`` are rows that cannot be read, with the reasons; ``notes`` say of which rows the Core has the request.
    """

    def __init__(self, path: Path, wall: Callable[[], float], shards: int = 1) -> None:
        self.path = path
        self.wall = wall
        self.shards = shards
        self.tick = 0
        self.damaged: dict[int, str] = {}
        self.notes = Notes()
        self._files: dict[Path, tuple[int, int] | None] = {}
        self.warnings: tuple[str, ...] = ()
        self._kept_tick = 0
        self._resources = ExitStack()
        self._connection: sqlite3.Connection | None = None

    def open(self, binding: Binding | None, synchronous: Synchronous) -> None:
        """Lock, make or open, migrate and bind the file; ``close`` is to be called whether this succeeds or not.

        Without a binding the file is not made, and may belong to anybody.

        Raises StartRefused when the file is in use, foreign, newer than this program, or cannot be opened.
        """
        with _refusals(self.path):
            if binding is None:
                self.path.stat()
            self.path = self.path.resolve()  # one lock for one file, whatever links lead to it
            self._resources.enter_context(locked(self.path))
            self.warnings = _prepare(self.path)
            self._connect(synchronous)
            self._migrate()
            self._index_shards()
            self._bind({} if binding is None else binding.as_text())
            self._files = {file: _identity(file) for file in _files_of(self.path)}

    def close(self) -> None:
        """Close the file and give the lock back; what was not committed is rolled back. Repeating: does nothing."""
        self._resources.close()
        self._connection = None

    def execute(self, statement: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        assert self._connection is not None, "the journal is not open"
        return self._connection.execute(statement, values)

    def begin(self) -> None:
        """Begin a transaction; one that a failure left open is rolled back before."""
        self.roll_back()
        self.execute("BEGIN")

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """Undo all that the body changed when it raises."""
        self.execute("SAVEPOINT body")
        try:
            yield
        except BaseException:
            if self.is_begun:
                self._undo_body()
            raise
        self.execute("RELEASE body")

    def _undo_body(self) -> None:
        try:
            self.execute("ROLLBACK TO body")
            self.execute("RELEASE body")
        except sqlite3.Error:  # then all of the transaction, rather than a half of the body
            self.roll_back()

    @property
    def is_begun(self) -> bool:
        """Whether there is a transaction: after some errors SQLite rolls the whole of it back by itself."""
        return self._connection is not None and self._connection.in_transaction

    def commit(self) -> None:
        """Make everything since ``begin`` durable, the tick included."""
        if self.tick != self._kept_tick:
            self.execute("UPDATE meta SET value = ? WHERE key = ?", (str(self.tick), _TICK))
        self.execute("COMMIT")
        self._kept_tick = self.tick

    def keep(self) -> None:
        """Commit, unless the file is not where it was: what is written to a file without a name is gone with the process."""
        if misplaced := self.misplaced():
            raise sqlite3.OperationalError(misplaced)
        self.commit()

    def misplaced(self) -> str:
        """Say which of the journal's files was removed or replaced since it was opened; empty when none was.

        While one is, nothing is recorded: every operation that changes something raises JournalFailed.
        """
        for file, identity in self._files.items():
            if (now := _identity(file)) != identity:
                return f"{file} was {'removed' if now is None else 'replaced'} while the journal is in use; nothing is recorded meanwhile"
        return ""

    @property
    def changes(self) -> int:
        """How many rows this connection has changed; grows with everything that is written."""
        assert self._connection is not None, "the journal is not open"
        return self._connection.total_changes

    def roll_back(self) -> None:
        """Undo everything since ``begin``, if there is anything."""
        if self.is_begun:
            with suppress(sqlite3.Error):  # the next BEGIN would tell
                self.execute("ROLLBACK")

    def _connect(self, synchronous: Synchronous) -> None:
        # Another thread may serve each call; the writer lets only one run at a time. Nobody else writes, so nobody is waited for.
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        self._resources.callback(connection.close)
        connection.create_function("shard", 2, shard, deterministic=True)
        self._connection = connection
        self.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file only, and only before anything else
        self.execute("PRAGMA journal_mode = WAL")
        self.execute(f"PRAGMA journal_size_limit = {LOG_SIZE}")
        self.execute(f"PRAGMA synchronous = {synchronous}")
        self.execute(f"PRAGMA cache_size = -{CACHE}")

    def _migrate(self) -> None:
        version = self._known_version()
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            self.begin()
            for statement in (*statements, f"PRAGMA user_version = {number}"):
                self.execute(statement)
            self.execute("COMMIT")

    def _index_shards(self) -> None:
        """Make the indices of due rows for our number of shards; drop those of another number or an older layout."""
        wanted = shard_indices(self.shards)
        known = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND (name GLOB ? OR name GLOB ?)"
        there = dict(self.execute(known, ("request_due_*", "request_stranded_*")).fetchall())
        self.begin()
        for name in {name for name, _ in there.items() - wanted.items()}:
            self.execute(f"DROP INDEX {name}")
        for name in {name for name, _ in wanted.items() - there.items()}:
            self.execute(wanted[name])
        self.execute("COMMIT")

    def _known_version(self) -> int:
        version, owner, tables = (
            int(self.execute(question).fetchone()[0])
            for question in (
                "PRAGMA user_version",
                "PRAGMA application_id",
                "SELECT count(*) FROM sqlite_master",
            )
        )
        if tables and owner != APPLICATION_ID:
            raise StartRefused(f"{self.path} is a database of something else; name another journal path")
        if version > VERSION:
            raise StartRefused(
                f"the journal {self.path} was written by a newer version (its layout is {version}, ours {VERSION}); "
                "run that version or name another journal path"
            )
        return version

    def _bind(self, ours: Mapping[str, str]) -> None:
        self.begin()
        for key, value in {**ours, _TICK: "0"}.items():
            self.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
        self.execute("COMMIT")
        stored = dict(self.execute("SELECT key, value FROM meta").fetchall())
        if others := differences(stored, ours):
            raise StartRefused(
                f"the journal {self.path} belongs to another connector ({'; '.join(others)}); name another journal path"
            )
        self.tick = self._kept_tick = int(stored[_TICK])


def _files_of(journal: Path) -> tuple[Path, ...]:
    """Return the files without which nothing lasts, or nobody else is kept out."""
    return journal, journal.with_name(journal.name + "-wal"), lock_path(journal)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _refusals(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StartRefused(f"the journal {path} cannot be opened: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StartRefused(f"the journal {path} cannot be opened: {error}") from error


def _prepare(path: Path) -> tuple[str, ...]:
    """Make the file for its owner alone; SQLite gives its neighbours (-wal, -shm) the same mode. Warn of a too open one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return (f"the journal {path} is open to others (mode {mode:04o}); run chmod 600 on it",)
    return ()
