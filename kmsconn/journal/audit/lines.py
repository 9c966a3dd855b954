"""The lines of an audit log: JSON objects, each with the hash of the one before, and their verification. Writes nothing.

A line's hash is the SHA-256 of its bytes without the line feed. The first line of a log has 64 zeros in place of one. Every line has
its ``number``, counted from 1 through all files of a log, its ``type`` and, as ``seq``, the last transition that the log holds with it.

The chain proves what stands before its last line: that nothing was changed, removed, swapped or inserted. That lines at its end are gone
shows against a hash that was noted elsewhere, and against the journal, which remembers the log's head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal.outbox import Transition
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
