"""A diagnosis for people and for machines. Decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from kmsconn.doctor.diagnosis import CheckStatus, Diagnosis, has_fault

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
        "checks": [
            {
                "checked": line.checked,
                "status": line.status.value,
                "found": line.found,
                "remedy": line.remedy,
            }
            for line in lines
        ],
    }
