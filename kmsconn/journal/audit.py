"""An audit log: its lines, JSON objects each with the hash of the one before, their verification, and the files that they stand in.

A line's hash is the SHA-256 of its bytes without the line feed. The first line of a log has 64 zeros in place of one. Every line has
its ``number``, counted from 1 through all files of a log, its ``type`` and, as ``seq``, the last transition that the log holds with it.

The chain proves what stands before its last line: that nothing was changed, removed, swapped or inserted. That lines at its end are gone
shows against a hash that was noted elsewhere, and against the journal, which remembers the log's head.

Files are appended to, made durable, rotated by size, and repaired where a process died in the middle of a line. All of that blocks, so it
is called off the loop. When ``append`` returns, its lines are on the disk (``fsync``). What cannot be written whole is taken back, so a
full disk leaves no half of a line.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal.outbox import Head, Transition
from kmsconn.model.requests import NO_BLOCK
from kmsconn.transport.urls import hide_urls

NO_LINE: Final = "0" * 64
LONGEST_REASON: Final = 512  # characters

GENESIS, STARTED, TRANSITION, CONTINUED, REPAIRED, GAP = (
    "genesis",
    "started",
    "transition",
    "continued",
    "repaired",
    "gap",
)


@attrs.frozen
class End:
    """Where a chain ends: the number, the hash and the transition of its last line."""

    number: int = 0
    line_hash: str = NO_LINE
    seq: int = 0

    def line(self, kind: str, at: float, fields: Mapping[str, Any]) -> bytes:
        """Return the next line, without its line feed."""
        head = {"number": self.number + 1, "type": kind, "at": time_text(at), "seq": self.seq}
        return msgspec.json.encode({**head, **fields, "previous": self.line_hash})

    def after(self, line: bytes, seq: int | None = None) -> End:
        """Return where the chain ends with this line."""
        return End(self.number + 1, hash_of(line), self.seq if seq is None else seq)


def transitions(end: End, happened: Iterable[Transition]) -> tuple[list[bytes], End]:
    """Return the lines of transitions that the chain does not hold yet, and where it ends with them."""
    lines = []
    for one in happened:
        if one.seq > end.seq:
            line = end.line(TRANSITION, one.at, {**_fields(one), "seq": one.seq})
            lines.append(line)
            end = end.after(line, one.seq)
    return lines, end


def _fields(one: Transition) -> dict[str, Any]:
    fields = {
        "row": one.subject.rid,
        "kind": one.subject.kind,
        "id": to_hex(one.subject.id),
        "chain": one.subject.chain_id,
        "contract": checksum(Address(one.subject.contract))
        if len(one.subject.contract) == ADDRESS_BYTES
        else to_hex(one.subject.contract),
        "from": one.old_state,
        "to": one.state,
        "block": None if one.subject.block == NO_BLOCK else one.subject.block,
        "transaction": to_hex(one.subject.transaction_hash) if one.subject.transaction_hash else None,
        "nonce": one.reply.nonce,
        "reply": None if one.reply.transaction_hash is None else to_hex(one.reply.transaction_hash),
        "included": one.reply.block,
        "reason": hide_urls(one.reason)[:LONGEST_REASON],
    }
    return {name: value for name, value in fields.items() if value not in {None, ""}}


def hash_of(line: bytes) -> str:
    """Return the hash of a line without its line feed."""
    return sha256(line).hexdigest()


def read_line(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line; None for what is none."""
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None


def end_of(line: bytes) -> End | None:
    """Return where a chain ends with this line; None for what is no line of a log."""
    found = read_line(line)
    if found is None:
        return None
    number, seq = found.get("number"), found.get("seq")
    return End(number, hash_of(line), seq) if isinstance(number, int) and isinstance(seq, int) else None


def time_text(seconds: float) -> str:
    """Return a time in UTC as in log lines, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@attrs.frozen
class LogVerification:
    """What came of a look at a log: how many lines hold, the hash of the last of them, where it broke, and gaps that it tells of itself."""

    lines: int
    head: str
    broken: str = ""
    gaps: tuple[str, ...] = ()


def verify(paths: Iterable[Path], head: str = "") -> LogVerification:
    """Follow the chain through files, the oldest first, up to the first line that does not hold.

    ``head``: a hash that a line of the log must have. Raises OSError for a file that cannot be read.
    """
    number, previous, seen = 0, "", not head
    gaps: list[str] = []
    for where, line in numbered_lines(paths):
        found = read_line(line.removesuffix(b"\n"))
        broken = (
            "has no line feed: it was cut" if not line.endswith(b"\n") else _fault(found, number, previous)
        )
        if broken or found is None:
            return LogVerification(number, previous or NO_LINE, f"{where} {broken}", tuple(gaps))
        if found["type"] == GAP:
            gaps.append(f"{where} says that transitions {found['first']} to {found['last']} are lost")
        number, previous = found["number"], hash_of(line.removesuffix(b"\n"))
        seen = seen or previous == head
    if not seen:
        return LogVerification(
            number, previous or NO_LINE, f"the log has no line with the hash {head}", tuple(gaps)
        )
    return LogVerification(number, previous or NO_LINE, "" if number else "the log is empty", tuple(gaps))


def _fault(found: dict[str, Any] | None, number: int, previous: str) -> str:
    """Return why a line does not follow a line with this number and hash; nothing where it does."""
    if found is None:
        return "is no JSON object"
    if not previous:
        return _fault_of_first(found)
    if found.get("previous") != previous:
        return "does not follow the line before it: one of the two was changed, or a line was removed, inserted or moved"
    return "" if found.get("number") == number + 1 else f"is not number {number + 1}"


def _fault_of_first(found: dict[str, Any]) -> str:
    """Return why a line cannot be the first of the files that are looked at."""
    if found.get("type") == GENESIS:
        return "" if found.get("previous") == NO_LINE and found.get("number") == 1 else "is no genesis line"
    if found.get("type") == CONTINUED:
        return "continues an earlier file: name that one before it"
    return "is not the first line of a file: lines before it were removed"


def numbered_lines(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of files with their places, ``FILE:NUMBER``, line feeds included."""
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}:{number}", line


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
        cut = self._open()
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

    def _open(self) -> int:
        """Open or make the file, for this process alone; return how many bytes were cut off its end."""
        self.close()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(error.errno, "another process writes this audit log") from error
        _sync_folder(self._path)
        return self._find_end()

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
        self._open()
        self._end = end
        self._write(CONTINUED, {})


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
