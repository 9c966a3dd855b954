"""The report of a crash as text: every error of a group of groups with its traceback, each once, and no secret. Prints nothing."""

from __future__ import annotations

import re
import traceback
from collections import Counter
from typing import Final

import trio

from kmsconn.operate.commands.endings import leaves
from kmsconn.transport.urls import show_origin

LONGEST_LINE: Final = 1_000  # characters; a dependency's answer of a megabyte may stand in an error's text
_DEPTH: Final = (
    1_000  # of groups within the causes of one error; Python's own number is 10, less than our tree has
)
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
