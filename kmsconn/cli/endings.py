"""How a command ends: the exit statuses, and what a group of errors amounts to. Prints nothing."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from kmsconn.errors import StartRefused


class ExitStatus(IntEnum):
    """The exit statuses of every command."""

    WELL = 0  # ended well; drained
    CRASHED = 1
    WRONG_USAGE = 2  # wrong usage or configuration
    REFUSED = 3  # running would be unsafe


def refusals_of(group: BaseExceptionGroup[BaseException]) -> tuple[StartRefused, ...]:
    """Return the refusals of a group that holds nothing else; none if it holds anything else."""
    refusals, others = group.split(StartRefused)
    return tuple(_leaves(refusals)) if refusals is not None and others is None else ()


def _leaves(group: BaseExceptionGroup[StartRefused]) -> Iterator[StartRefused]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
