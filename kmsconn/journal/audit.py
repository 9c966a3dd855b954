"""An audit log: its outbox in the journal, its lines, JSON objects each with the hash of the one before, their verification and files.

Every transition of a request is written to the outbox by triggers (``journal.schema``) in the transaction that makes it: so none is missed,
whatever statement or command made it, and none stands there that was not committed. It leaves the outbox once the log's file holds it for
good; what a process leaves behind is for the next one. Triggers are there only while the audit log is on, and the database's own clock
gives the time, so that they work in whichever program changes a row.

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
import mmap
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
from kmsconn.journal.database import Database, reads, rides
from kmsconn.model.requests import NO_BLOCK
from kmsconn.transport.urls import hide_urls

NO_LINE: Final = "0" * 64
LONGEST_REASON: Final = 512  # characters

GENESIS, STARTED, TRANSITION = "genesis", "started", "transition"
CONTINUED, REPAIRED, GAP = "continued", "repaired", "gap"

_HEAD: Final = "audit head"
_NOTE: Final = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_PENDING: Final = (
    "SELECT seq, at, rid, kind, id, chain_id, contract, old_state, state, block, transaction_hash, nonce, reply_hash, included_block, "
    "reason FROM audit_outbox ORDER BY seq LIMIT ?"
)
_FIELDS: Final = (
    "seq", "at", "row", "kind", "id", "chain", "contract", "from", "to", "block", "transaction", "nonce", "reply", "included", "reason",
)  # fmt: skip

Transition = Mapping[str, Any]
"""One transition of a request under the names of its line, with the values of the outbox: ``at`` in Unix seconds, no ``from`` of a new
one, ``nonce``, ``reply`` and ``included`` as far as a reply has come."""


@attrs.frozen
class End:
    """Where a chain ends: the number (0 where nobody noted it), the hash and the transition of its last line."""

    number: int = 0
    line_hash: str = NO_LINE
    seq: int = 0

    def line(self, kind: str, at: float, fields: Mapping[str, Any]) -> bytes:
        """Return the next line, without its line feed."""
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {"number": self.number + 1, "type": kind, "at": when, "seq": self.seq}
        return msgspec.json.encode({**head, **fields, "previous": self.line_hash})

    def after(self, line: bytes, seq: int | None = None) -> End:
        """Return where the chain ends with this line."""
        return End(self.number + 1, sha256(line).hexdigest(), self.seq if seq is None else seq)


def capture(db: Database, *, wanted: bool = True) -> None:
    """Let every transition go into the outbox from now on, or none any more; what waits there stays. Repeating: no effect."""
    with db.savepoint():
        for statement in db.driver.capture if wanted else db.driver.stop_capturing:
            db.execute(statement)


@reads
@rides(lambda *_: 0.0)  # the log's file holds nothing that the journal may lose
def pending(db: Database, most: int) -> Sequence[Transition]:
    """Return the oldest transitions of the outbox."""
    return [dict(zip(_FIELDS, row, strict=True)) for row in db.execute(_PENDING, (most,)).fetchall()]


def written(db: Database, end: End) -> None:
    """Take out of the outbox what the log's file holds for good, and remember where that ends. Repeating: no effect."""
    with db.savepoint():
        db.execute("DELETE FROM audit_outbox WHERE seq <= ?", (end.seq,))
        db.execute(_NOTE, (_HEAD, f"{end.seq} {end.line_hash}"))


@reads
def read_head(db: Database) -> End | None:
    """Return where the audit log ended when it was last written; None where there never was one."""
    found = db.execute("SELECT value FROM meta WHERE key = ?", (_HEAD,)).fetchone()
    if found is None:
        return None
    seq, _, line_hash = found[0].partition(" ")
    return End(line_hash=line_hash, seq=int(seq))


def transitions(end: End, happened: Iterable[Transition]) -> tuple[list[bytes], End]:
    """Return the lines of transitions that the chain does not hold yet, and where it ends with them."""
    lines = []
    for one in happened:
        if one["seq"] > end.seq:
            line = end.line(TRANSITION, one["at"], _said(one))
            lines.append(line)
            end = end.after(line, one["seq"])
    return lines, end


def _said(one: Transition) -> dict[str, Any]:
    """Return what the line of a transition says of it: its time stands there already, and what is empty is left out."""
    contract, block = one["contract"], None if one["block"] == NO_BLOCK else one["block"]
    whose = checksum(Address(contract)) if len(contract) == ADDRESS_BYTES else contract
    fields = {**one, "contract": whose, "block": block, "reason": hide_urls(one["reason"])[:LONGEST_REASON]}
    del fields["at"]
    told = {name: value for name, value in fields.items() if value not in {None, "", b""}}
    return {name: to_hex(value) if isinstance(value, bytes) else value for name, value in told.items()}


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
    return (
        End(number, sha256(line).hexdigest(), seq)
        if isinstance(number, int) and isinstance(seq, int)
        else None
    )


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
    number, previous, seen, broken = 0, "", not head, ""
    gaps: list[str] = []
    for where, line in numbered_lines(paths):
        found = read_line(line.removesuffix(b"\n"))
        fault = (
            "has no line feed: it was cut" if not line.endswith(b"\n") else _fault(found, number, previous)
        )
        if fault or found is None:
            broken = f"{where} {fault}"
            break
        if found["type"] == GAP:
            gaps.append(f"{where} says that transitions {found['first']} to {found['last']} are lost")
        number, previous = found["number"], sha256(line.removesuffix(b"\n")).hexdigest()
        seen = seen or previous == head
    if not broken and not (seen and number):
        broken = "the log is empty" if seen else f"the log has no line with the hash {head}"
    return LogVerification(number, previous or NO_LINE, broken, tuple(gaps))


def _fault(found: dict[str, Any] | None, number: int, previous: str) -> str:
    """Return why a line does not follow a line with this number and hash, or cannot be the first one (no hash); nothing where it can."""
    if found is None:
        return "is no JSON object"
    if previous and found.get("previous") != previous:
        return "does not follow the line before it: one of the two was changed, or a line was removed, inserted or moved"
    if previous:
        return "" if found.get("number") == number + 1 else f"is not number {number + 1}"
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
_DIGITS: Final = 6  # of the number of a rotated file


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
        self._descriptor = -1
        self.end = End()
        """Where the log ends, as far as it is durable."""

    def open(self, known: End | None) -> tuple[str, ...]:
        """Open or make the file, repair its end, and note the start of a process; return what an operator should know.

        ``known``: what the journal knows of the log. Raises BlockingIOError where another process writes it.
        """
        cut = self._open()
        if not self.end.number:
            self._begin()
        warnings = [self._note_cut(cut), self._note_gap(known)]
        self._write(STARTED, self._origin)
        return tuple(filter(None, warnings))

    def append(self, happened: Sequence[Transition]) -> None:
        """Append transitions that the log does not hold yet; beyond the size, in a new file."""
        if self._is_gone():
            self._begin_anew()
        lines, end = transitions(self.end, happened)
        self._put(lines, end)
        if os.fstat(self._descriptor).st_size > self._rotated_size:
            self._rotate()

    def close(self) -> None:
        """Close the file. Repeating: no effect."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        """Open or make the file, for this process alone; return how many bytes were cut off its end."""
        self.close()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another process writes it", str(self._path)) from error
        _sync_folder(self._path)
        size = os.fstat(self._descriptor).st_size
        end, found = _last_line(self._descriptor)
        self.end = found or End()
        if size > end:
            os.ftruncate(self._descriptor, end)
            os.fsync(self._descriptor)
        return size - end

    def _begin(self) -> None:
        """Begin a file that is empty: the log itself, or the next file of it."""
        if before := rotated(self._path):
            with before[-1].open("rb") as file:
                self.end = _last_line(file.fileno())[1] or self.end
            self._write(CONTINUED, {"after": before[-1].name})
        else:
            self._write(GENESIS, self._origin)

    def _note_cut(self, cut: int) -> str:
        if not cut:
            return ""
        self._write(REPAIRED, {"bytes": cut})
        return f"the last line of {self._path} was incomplete: {cut} bytes were cut off; its transition is written again"

    def _note_gap(self, known: End | None) -> str:
        """Note that the log lacks lines that it held: it was cut, restored from a backup, or is another file."""
        if known is None or known.seq <= self.end.seq:
            return ""
        first, last = self.end.seq + 1, known.seq
        self._write(GAP, {"first": first, "last": last, "lost_head": known.line_hash})
        return f"{self._path} lacks transitions {first} to {last}, which it held before: it was cut, replaced or restored"

    def _write(self, kind: str, fields: Mapping[str, Any]) -> None:
        line = self.end.line(kind, self._wall(), fields)
        seq = fields["last"] if kind == GAP else None
        self._put([line], self.end.after(line, seq))

    def _put(self, lines: Sequence[bytes], end: End) -> None:
        """Write lines and make them durable; take them back where they cannot be written whole."""
        if not lines:
            return
        size = os.fstat(self._descriptor).st_size
        try:
            _write_all(self._descriptor, b"".join(line + b"\n" for line in lines))
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise
        self.end = end

    def _rotate(self) -> None:
        before = rotated(self._path)
        number = int(before[-1].name[-_DIGITS:]) + 1 if before else 1
        self._path.rename(self._path.with_name(f"{self._path.name}.{number:0{_DIGITS}}"))
        self._begin_anew()

    def _is_gone(self) -> bool:
        """Say whether the path names another file than ours, or none: somebody rotated it."""
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return True

    def _begin_anew(self) -> None:
        """Begin the next file; the chain goes on in it."""
        end = self.end
        self._open()
        self.end = end
        self._write(CONTINUED, {})


def rotated(path: Path) -> list[Path]:
    """Return the earlier files of a log, the oldest first."""
    pattern = f"{path.name}.{'[0-9]' * _DIGITS}"
    return sorted(path.parent.glob(pattern))


def _last_line(descriptor: int) -> tuple[int, End | None]:
    """Return where the last line of a file that is whole ends, and the chain with it; (0, None) where there is none."""
    if os.fstat(descriptor).st_size == 0:
        return 0, None
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as file:
        end = file.rfind(b"\n") + 1
        while end:
            start = file.rfind(b"\n", 0, end - 1) + 1
            if found := end_of(file[start : end - 1]):
                return end, found
            end = start
    return 0, None


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
