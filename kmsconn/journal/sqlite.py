"""SQLite as the journal's database: one file, made with mode 0600, locked and migrated, and its only connection.

One journal, one process: the lock is a file beside the journal, which stays when the lock is given back, since deleting it would let two
processes lock two different files of one name. Never knows what a request is. Nothing here waits for anything but the disk.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from kmsconn.errors import StartRefused
from kmsconn.journal.database import Tally
from kmsconn.journal.schema import CAPTURE, COUNTING, MIGRATIONS, STOP_CAPTURING, shard_index
from kmsconn.journal.sqlite_faults import Execute, file_fault, layout_of, refusal_of

Synchronous = Literal["FULL", "OFF"]

CACHE = 16 * 1024  # KiB: some thousand open rows with their indices, so that statements need no disk

LOG_SIZE = 64 << 20  # bytes to which the write-ahead log is cut after something large went through it


class SqliteDriver:
    """One journal file; see ``journal.database.Driver``.

    ``synchronous="OFF"`` gives durability up for speed: for tests under a virtual disk only.
    """

    error = sqlite3.Error
    conflict = sqlite3.IntegrityError
    is_remote: ClassVar[bool] = False
    capture: ClassVar[Sequence[str]] = CAPTURE
    stop_capturing: ClassVar[Sequence[str]] = STOP_CAPTURING

    def __init__(self, path: Path, shards: int = 1, synchronous: Synchronous = "FULL") -> None:
        self.path, self.where = path, str(path)
        self.refusal: Callable[[Exception], StartRefused] = partial(refusal_of, path)
        self.shards = shards
        self.warnings: Sequence[str] = ()
        self.tally = Tally()
        self._synchronous = synchronous
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._resources = ExitStack()
        self._connection: sqlite3.Connection | None = None
        self.execute: Callable[..., sqlite3.Cursor] = _not_open
        """Runs one statement: while the file is open, the connection's own method."""

    def open(self, *, make: bool) -> None:
        """Lock, make or open, and migrate the file."""
        if not make:
            self.path.stat()
        self.path = self.path.resolve()  # one lock for one file, whatever links lead to it
        self.where = str(self.path)
        self._resources.enter_context(locked(self.path))
        self.warnings = _prepare(self.path)
        self._connect(_OWNER if make else _LOOKING)
        version = _known_version(self.execute, self.path)
        if make:
            for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
                _do_together(self.execute, [*statements, f"PRAGMA user_version = {number}"])
            _index_shards(self.execute, self.shards)
        for statement in COUNTING:
            self.execute(statement)
        files = self.path, self.path.with_name(self.path.name + "-wal"), lock_path(self.path)
        self._files = {file: _identity(file) for file in files}

    def close(self) -> None:
        """Close the file and give the lock back; what was not committed is rolled back. Repeating: does nothing."""
        self._resources.close()
        self._connection, self.execute = None, _not_open

    @property
    def is_begun(self) -> bool:
        """Whether there is a transaction."""
        return self._connection is not None and self._connection.in_transaction

    @property
    def changes(self) -> int:
        """How many rows this connection has changed."""
        assert self._connection is not None, "the journal is not open"
        return self._connection.total_changes

    def begin(self) -> None:
        """Begin a transaction; nobody else writes."""
        self.execute("BEGIN")

    def commit(self) -> None:
        """Commit the transaction, the numbers of its rows with it."""
        self.tally.write(self.execute)
        self.execute("COMMIT")

    def roll_back(self) -> None:
        """Undo the transaction, if there is one."""
        self.tally.forget()
        if self.is_begun:
            with suppress(sqlite3.Error):  # the next BEGIN would tell
                self.execute("ROLLBACK")

    def misplaced(self) -> str:
        """Say which of the journal's files was removed or replaced since it was opened; empty when none was."""
        for file, identity in self._files.items():
            if (now := _identity(file)) != identity:
                return f"{file} was {'removed' if now is None else 'replaced'} while in use; no request is recorded until it is back"
        return ""

    def unconfirmed(self) -> str:
        """Return nothing: only the disk has to confirm a commit."""
        return ""

    def give_back(self, pages: int, spare: float) -> None:
        """Shorten the file by some pages where much of it is free; one that an earlier version made stays as it is."""
        free, all_pages = (
            int(self.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("freelist_count", "page_count")
        )
        if free <= pages or free < spare * all_pages:
            return
        for _ in range(pages):  # one each: Python 3.11 takes a single step of a statement without columns
            self.execute("PRAGMA incremental_vacuum(1)").fetchall()

    def _connect(self, settings: Sequence[str]) -> None:
        # Another thread may serve each call; the journal lets only one run at a time. Nobody else writes, so nobody is waited for.
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        self._resources.callback(connection.close)
        connection.create_function("count_row", 8, self.tally.count)
        self._connection = connection
        self.execute = connection.execute
        for setting in (*settings, f"synchronous = {self._synchronous}", *_ALWAYS):
            self.execute(f"PRAGMA {setting}")


_OWNER = "auto_vacuum = INCREMENTAL", "journal_mode = WAL", f"journal_size_limit = {LOG_SIZE}"
"""In this order: the first is of a new file only, and only before anything else."""
_LOOKING = ("locking_mode = EXCLUSIVE",)
"""The index of the log stands in memory then: who only looks writes nothing, and so may look into a journal on a full disk."""
_ALWAYS = f"cache_size = -{CACHE}", "temp_store = MEMORY"
"""A container's root is read-only: there is no folder for temporary files."""


def _index_shards(execute: Execute, shards: int) -> None:
    """Make the index of due rows for our number of shards; drop that of another number or an older layout."""
    known = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name GLOB 'request_due_*'"
    there, wanted = {*execute(known)}, {shard_index(shards)}
    drop = [f"DROP INDEX {name}" for name, _ in there - wanted]
    _do_together(execute, [*drop, *(making for _, making in wanted - there)])


def _do_together(execute: Execute, statements: Sequence[str]) -> None:
    execute("BEGIN")
    for statement in statements:
        execute(statement)
    execute("COMMIT")


def _known_version(execute: Execute, path: Path) -> int:
    """Return the version of the layout. Raises StartRefused for a file that is no journal for us."""
    if wrong := file_fault(execute):
        words, remedy = wrong
        raise StartRefused(f"the journal {path} {words}; {remedy}")
    return layout_of(execute)


def lock_path(journal: Path) -> Path:
    """Return where the lock of a journal stands."""
    return journal.with_name(journal.name + ".lock")


@contextmanager
def locked(journal: Path) -> Generator[None]:
    """Hold the lock of a journal; the operating system gives it back when the process dies.

    Raises StartRefused when another process, or another journal object of this one, holds it; OSError when the file cannot be made.
    """
    descriptor = os.open(lock_path(journal), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "rb", 0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartRefused(
                f"the journal {journal} is in use by another process, which holds {lock_path(journal)}; "
                "stop that process or name another journal path"
            ) from error
        yield


def _not_open(_statement: str, _values: object = ()) -> sqlite3.Cursor:
    raise sqlite3.ProgrammingError("the journal is not open")


def free_bytes(path: Path) -> int | None:
    """Return how many bytes this process may still write to the file system of a journal; None where the file is gone."""
    with suppress(OSError):
        return shutil.disk_usage(path).free
    return None


def _identity(file: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = file.stat()
        return found.st_dev, found.st_ino
    return None


def _prepare(path: Path) -> tuple[str, ...]:
    """Make the file for its owner alone; SQLite gives its companions (-wal, -shm) the same mode. Warn of a too open one.

    Raises StartRefused for a file of several names: each would have a lock and a write-ahead log of its own.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb", 0) as file:
        found = os.fstat(file.fileno())
    if found.st_nlink > 1:
        raise StartRefused(
            f"the journal {path} has {found.st_nlink} names (hard links), under each of which a process could open it; "
            f"remove the others (find them with: find DIRECTORY -samefile {path}) or name another journal path"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return (f"the journal {path} can be accessed by other users (mode {mode:04o}); run chmod 600 on it",)
    return ()
