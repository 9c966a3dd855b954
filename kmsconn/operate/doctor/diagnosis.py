"""One line of a diagnosis: what was checked, what was found, what to do; for people and for machines. Finds nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any

import attrs


class CheckStatus(StrEnum):
    """How a check ended. A fault stops requests from being answered; a warning may."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@attrs.frozen
class Diagnosis:
    """What was checked, how that ended, what was found, and what the operator is to do about it."""

    checked: str
    status: CheckStatus
    found: str
    remedy: str = ""


def ok(checked: str, found: str) -> Diagnosis:
    """Return that a check found nothing wrong."""
    return Diagnosis(checked, CheckStatus.OK, found)


def warning(checked: str, found: str, remedy: str) -> Diagnosis:
    """Return that a check found what may become a fault."""
    return Diagnosis(checked, CheckStatus.WARNING, found, remedy)


def fault(checked: str, found: str, remedy: str) -> Diagnosis:
    """Return that a check found a fault."""
    return Diagnosis(checked, CheckStatus.FAULT, found, remedy)


def skipped(checked: str, reason: str, remedy: str = "") -> Diagnosis:
    """Return that something could not be checked."""
    return Diagnosis(checked, CheckStatus.SKIPPED, reason, remedy)


def has_fault(lines: Iterable[Diagnosis]) -> bool:
    """Say whether any check found a fault."""
    return any(line.status is CheckStatus.FAULT for line in lines)


_WIDTH = max(len(status) for status in CheckStatus)


def as_text(lines: Sequence[Diagnosis]) -> Iterator[str]:
    """Yield one line for each check, one more with the remedy where there is one, and a last line with the numbers."""
    for line in lines:
        yield f"{line.status.value:{_WIDTH}}  {line.checked}: {line.found}"
        if line.remedy:
            yield f"{'':{_WIDTH}}  → {line.remedy}"
    yield _sum(lines)


def _sum(lines: Sequence[Diagnosis]) -> str:
    numbers = Counter(line.status for line in lines)
    return f"{len(lines)} checks: " + ", ".join(f"{numbers[status]} {status.value}" for status in CheckStatus)


def as_json(lines: Sequence[Diagnosis]) -> dict[str, Any]:
    """Return the checks, how many ended how, and whether there is no fault."""
    numbers = Counter(line.status for line in lines)
    return {
        "well": not has_fault(lines),
        "counts": {status.value: numbers[status] for status in CheckStatus},
        "checks": [attrs.asdict(line) for line in lines],
    }
