"""The files of an audit log: appended to, made durable, rotated by size, and repaired where a process died in the middle of a line.

All of it blocks, so it is called off the loop. When ``append`` returns, its lines are on the disk (``fsync``). What cannot be written
whole is taken back, so a full disk leaves no half of a line.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kmsconn.journal.audit.lines import CONTINUED, GAP, GENESIS, REPAIRED, STARTED, End, end_of, transitions
from kmsconn.journal.outbox import Head, Transition

ROTATED_SIZE: Final = 64 * 1024 * 1024  # bytes after which a file is renamed and the next one begins
LONGEST_LINE: Final = 64 * 1024  # bytes; lines have some 500
_DIGITS: Final = 6  # of the number of a rotated file


class InUse(OSError):  # noqa: N818 - says what happened
    """Another process writes this audit log."""


class AuditFile:
    """The open file of a log. Raises OSError where the file system refuses; whatever was called may then be called again.

    ``origin`` is what the first line says of the connector; ``wall`` is in Unix seconds.
    """

    def __init__(
        self,
        path: Path,
        origin: Mapping[str, Any],
        wall: Callable[[], float],
        rotated_size: int = ROTATED_SIZE,
    ) -> None:
        self._path, self._origin, self._wall, self._rotated_size = path, origin, wall, rotated_size
        self._descriptor: int | None = None
        self._end = End()

    @property
    def head(self) -> Head:
        """How far the log is."""
        return Head(self._end.seq, self._end.line_hash)

    def open(self, known: Head | None) -> tuple[str, ...]:
        """Open or make the file, repair its end, and note the start of a process; return what an operator should know.

        ``known``: what the journal knows of the log. Raises InUse.
        """
        self.close()
        made = not self._path.exists()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lock()
        cut = self._find_end()
        if made:
            _sync_folder(self._path)
        warnings = [self._begin(), self._note_cut(cut), self._note_gap(known)]
        self._write(STARTED, self._origin)
        return tuple(filter(None, warnings))

    def append(self, happened: Sequence[Transition]) -> None:
        """Append transitions that the log does not hold yet; beyond the size, in a new file."""
        assert self._descriptor is not None, "the audit log is not open"
        if self._is_gone():
            self._begin_anew()
        lines, end = transitions(self._end, happened)
        self._put(lines, end)
        if os.fstat(self._descriptor).st_size > self._rotated_size:
            self._rotate()

    def close(self) -> None:
        """Close the file. Repeating: no effect."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self) -> None:
        assert self._descriptor is not None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(error.errno, "another process writes this audit log") from error

    def _find_end(self) -> int:
        """Find the last whole line and cut off what comes after it; return how many bytes that were."""
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        end, found = _last_line(self._descriptor, size)
        if found is not None:
            self._end = found
        elif size == 0 or end == 0:
            self._end = End()
        if size > end:
            os.ftruncate(self._descriptor, end)
            os.fsync(self._descriptor)
        return size - end

    def _begin(self) -> str:
        """Begin a file that is empty: the log itself, or the next file of it."""
        if self._end.number:
            return ""
        before = rotated(self._path)
        if not before:
            self._write(GENESIS, self._origin)
            return ""
        self._end = _end_of_file(before[-1]) or self._end
        self._write(CONTINUED, {"after": before[-1].name})
        return ""

    def _note_cut(self, cut: int) -> str:
        if not cut:
            return ""
        self._write(REPAIRED, {"bytes": cut})
        return f"the last line of {self._path} was incomplete: {cut} bytes were cut off; its transition is written again"

    def _note_gap(self, known: Head | None) -> str:
        """Note that the log lacks lines that it held: it was cut, restored from a backup, or is another file."""
        if known is None or known.seq <= self._end.seq:
            return ""
        first, last = self._end.seq + 1, known.seq
        self._write(GAP, {"first": first, "last": last, "lost_head": known.line_hash})
        return f"{self._path} lacks transitions {first} to {last}, which it held before: it was cut, replaced or restored"

    def _write(self, kind: str, fields: Mapping[str, Any]) -> None:
        line = self._end.line(kind, self._wall(), fields)
        seq = fields["last"] if kind == GAP else None
        self._put([line], self._end.after(line, seq))

    def _put(self, lines: Sequence[bytes], end: End) -> None:
        """Write lines and make them durable; take them back where they cannot be written whole."""
        if not lines:
            return
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        try:
            _write_all(self._descriptor, b"".join(line + b"\n" for line in lines))
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise
        self._end = end

    def _rotate(self) -> None:
        before = rotated(self._path)
        number = int(before[-1].name[-_DIGITS:]) + 1 if before else 1
        self._path.rename(self._path.with_name(f"{self._path.name}.{number:0{_DIGITS}}"))
        self._begin_anew()

    def _is_gone(self) -> bool:
        """Say whether the path names another file than ours, or none: somebody rotated it."""
        assert self._descriptor is not None
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        ours = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _begin_anew(self) -> None:
        """Begin the next file; the chain goes on in it."""
        end = self._end
        self.close()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lock()
        self._find_end()
        self._end = end
        self._write(CONTINUED, {})
        _sync_folder(self._path)


def rotated(path: Path) -> list[Path]:
    """Return the earlier files of a log, the oldest first."""
    pattern = f"{path.name}.{'[0-9]' * _DIGITS}"
    return sorted(path.parent.glob(pattern))


def _last_line(descriptor: int, size: int) -> tuple[int, End | None]:
    """Return where the last line that is whole ends, and the chain with it; (0, None) where there is none."""
    end = size
    while end > 0:
        start = max(0, end - LONGEST_LINE)
        tail = os.pread(descriptor, end - start, start)
        end = start + tail.rfind(b"\n") + 1  # behind the last line feed; before the chunk where it has none
        if end == start:
            continue
        body = tail[: end - start - 1]
        line = body[body.rfind(b"\n") + 1 :]
        if found := end_of(line):
            return end, found
        end -= len(line) + 1
    return 0, None


def _end_of_file(path: Path) -> End | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _last_line(descriptor, os.fstat(descriptor).st_size)[1]
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(path: Path) -> None:
    """Make the name of a new file durable."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
