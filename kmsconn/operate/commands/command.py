"""What every command has: how it is described, how it ends (statuses, groups of errors, a crash, Ctrl-C), times as text. Prints nothing."""

from __future__ import annotations

import argparse
import re
import signal
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final, TypeVar

import attrs
import trio

from kmsconn.transport.urls import show_origin

E = TypeVar("E", bound=BaseException)


@attrs.frozen
class CliCommand:
    """A command: what describes its arguments to a parser, and what runs it and returns the exit status."""

    configure: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], int]


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


LONGEST_LINE: Final = 1_000  # characters; a dependency's answer of a megabyte may stand in an error's text
_DEPTH: Final = 1_000  # of groups within the causes of one error; Python's own 10 is less than our tree has
_URL = re.compile(r"\b(?:https?|wss?)://[^\s'\"<>)}]*[^\s'\"<>)}:.,;]")


def crash_report(crash: BaseException) -> str:
    """Return the tracebacks of all errors that a crash consists of; alike ones once, with their number.

    Of URLs only scheme, host and port are shown: keys stand in user info, path and query.
    """
    errors = list(leaves(crash))
    causes = [error for error in errors if not isinstance(error, trio.Cancelled)]  # those only followed
    reports = Counter(_report_of(error) for error in causes or errors)
    number = sum(reports.values())
    head = f"crashed: {number} error{'s' if number > 1 else ''}"
    return "\n".join([head, *(_numbered(place, *one) for place, one in enumerate(reports.items(), 1))])


def _numbered(place: int, report: str, times: int) -> str:
    often = f", {times} times" if times > 1 else ""
    return f"--- error {place}{often}:\n{report}"


def _report_of(error: BaseException) -> str:
    whole = traceback.TracebackException.from_exception(error, max_group_depth=_DEPTH, max_group_width=_DEPTH)
    lines = "".join(whole.format()).splitlines()
    return "\n".join(_cut(_URL.sub(lambda found: show_origin(found[0]), line)) for line in lines)


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


async def until_interrupted(work: Callable[[], Awaitable[object]]) -> None:
    """Do the work; a signal cancels it, and this returns."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def heed() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(heed)
            await work()
            nursery.cancel_scope.cancel()


def time_text(seconds: float) -> str:
    """Return a wall time as text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


UNKNOWN: Final = "–"
_SPANS: Final = (
    (0.00995, 1e-3, 1, "ms"), (0.0995, 1e-3, 0, "ms"), (9.95, 1, 2, "s"), (60, 1, 1, "s"), (3600, 60, 1, "min"), (172800, 3600, 1, "h"),
)  # fmt: skip
"""Up to which seconds a unit is used: the seconds of it, its digits, its name."""


def duration_text(seconds: float | None) -> str:
    """Return a duration as text, in the unit that reads best."""
    if seconds is None:
        return UNKNOWN
    for limit, divisor, digits, unit in _SPANS:
        if seconds < limit:
            return f"{seconds / divisor:.{digits}f} {unit}"
    return f"{seconds / 86400:.0f} days"
