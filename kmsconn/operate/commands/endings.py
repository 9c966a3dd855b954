"""How a command ends: the exit statuses, and what a group of errors amounts to. Prints nothing."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class ExitStatus(IntEnum):
    """The exit statuses of every command."""

    WELL = 0  # ended well; drained
    CRASHED = 1
    FAULTS_FOUND = 1  # by kmsconn doctor
    WRONG_USAGE = 2  # wrong usage or configuration
    REFUSED = 3  # running would be unsafe
    INTERRUPTED = 130  # SIGINT before the command heeds it
    BROKEN_PIPE = 141  # the reader of standard output went away


def only(kind: type[E], group: BaseExceptionGroup[BaseException]) -> tuple[E, ...]:
    """Return the errors of a group that holds nothing but errors of this kind; none if it holds anything else."""
    ours, others = group.split(kind)
    return tuple(leaves(ours)) if ours is not None and others is None else ()


def leaves(error: E | BaseExceptionGroup[E]) -> Iterator[E]:
    """Yield the errors of a group of groups, in their order; of an error that is no group, itself."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error
