"""One line of a diagnosis: what was checked, what was found, what to do. Finds nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

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
