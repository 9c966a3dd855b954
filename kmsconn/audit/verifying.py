"""Whether the files of an audit log are one chain in which nothing was changed, removed, swapped or inserted. Reads, writes nothing.

A chain proves what stands before its last line. That lines at its end are gone shows against a hash that was noted elsewhere, and
against the journal, which remembers the log's head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from kmsconn.audit.lines import CONTINUED, GAP, GENESIS, NO_LINE, hash_of, read_line


@attrs.frozen
class Verdict:
    """What came of a look at a log: how many lines hold, the hash of the last of them, where it broke, and gaps that it tells of itself."""

    lines: int
    head: str
    broken: str = ""
    gaps: tuple[str, ...] = ()


def verify(paths: Iterable[Path], head: str = "") -> Verdict:
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
            return Verdict(number, previous or NO_LINE, f"{where} {broken}", tuple(gaps))
        if found["type"] == GAP:
            gaps.append(f"{where} says that transitions {found['first']} to {found['last']} are lost")
        number, previous = found["number"], hash_of(line.removesuffix(b"\n"))
        seen = seen or previous == head
    if not seen:
        return Verdict(number, previous or NO_LINE, f"the log has no line with the hash {head}", tuple(gaps))
    return Verdict(number, previous or NO_LINE, "" if number else "the log is empty", tuple(gaps))


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
