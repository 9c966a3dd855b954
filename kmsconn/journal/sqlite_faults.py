"""What keeps a file from being our journal, each with what to do. Never opens a file."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from kmsconn.errors import StartRefused
from kmsconn.journal.schema import APPLICATION_ID, BEGIN_AGAIN, EARLIER, FORMER_ID, VERSION

Execute: TypeAlias = Callable[..., sqlite3.Cursor]
"""Runs one statement."""

_MOVE: Final = f"move it away, with its -wal and -shm files, {BEGIN_AGAIN}"

_BY_CODE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_CORRUPT: f"the file is cut short or damaged; put a backup in its place, or {_MOVE}",
    sqlite3.SQLITE_NOTADB: f"name another journal path; if the file was a journal, put a backup in its place, or {_MOVE}",
    sqlite3.SQLITE_BUSY: "close the program that has it open, such as a shell or a backup",
    sqlite3.SQLITE_FULL: "make room on its file system",
    sqlite3.SQLITE_IOERR: "check its disk, and make room there if it is full",
    sqlite3.SQLITE_READONLY: "give this user the right to write it and in its folder",
    sqlite3.SQLITE_CANTOPEN: "give this user the right to write it and in its folder",
}
"""What to do, by SQLite's primary result code (https://www.sqlite.org/rescode.html)."""

_BY_ERRNO: Final[Mapping[int, str]] = {
    errno.ENOENT: "make its folder, or name another journal path",
    errno.ENOTDIR: "name a path in a folder in journal",
    errno.EISDIR: "name a file in journal",
    errno.EACCES: "give this user the right to write it and in its folder",
    errno.EROFS: "name a path on a file system that can be written in journal",
    errno.ENOSPC: "make room on its file system",
}


def opening_fault(error: Exception) -> tuple[str, str]:
    """Return why a journal cannot be opened, and what to do about it; nothing to do where that is not known."""
    if isinstance(error, OSError):
        return error.strerror or str(error), _BY_ERRNO.get(error.errno or 0, "")
    return str(error), _BY_CODE.get(_code(error), "")


def is_damage(error: sqlite3.Error) -> bool:
    """Say whether an error tells of the file's bytes, whoever reads it."""
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code(error: Exception) -> int:
    """Return SQLite's primary result code; an error of the module itself has none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def refusal_of(path: Path, error: Exception) -> StartRefused:
    """Say why a journal cannot be opened, and what to do."""
    why = "; ".join(filter(None, opening_fault(error)))
    return StartRefused(f"the journal {path} cannot be opened: {why}")


def file_fault(execute: Execute) -> tuple[str, str] | None:
    """Return who wrote a database that is no journal for us, and what to do about it; None where it is one, or empty.

    Raises sqlite3.Error if the file cannot be read.
    """
    owner = _number(execute, "PRAGMA application_id")
    version = layout_of(execute)
    if owner == FORMER_ID:
        return (
            f"was written by an earlier kmsconn, {EARLIER} (its layout is {version} of that time, ours {VERSION})",
            _MOVE,
        )
    if owner != APPLICATION_ID and _number(execute, "SELECT count(*) FROM sqlite_master"):
        return "is the database of another program", "name another journal path"
    if version > VERSION:
        words = f"was written by a newer version (its layout is {version}, ours {VERSION})"
        return words, "run that version or name another journal path"
    return None


def layout_of(execute: Execute) -> int:
    """Return the version of the layout of a journal; 0 where it is empty."""
    return _number(execute, "PRAGMA user_version")


def _number(execute: Execute, question: str) -> int:
    return int(execute(question).fetchone()[0])
