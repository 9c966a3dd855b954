"""What a failed test tells beside its traceback: what failed inside nurseries, causes that ``from None`` cut off, what was played before.

A report shows ten groups of exceptions inside one another, and a connector has more nurseries than that: the leaf, which says what
failed, is what is cut.

A test that fails only after others is played again by naming those files before it, in their order, to one process.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator

import attrs
import pytest

from tests.sampling import this_turn


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group that are no groups; nothing for what is no group itself."""
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        if isinstance(part, BaseExceptionGroup):
            yield from leaves(part)
        else:
            yield part


def hidden_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that a traceback leaves out since what was raised in their place suppresses them; also in groups."""
    seen: set[int] = set()
    further = [error]
    while further:
        one = further.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if one.__suppress_context__ and one.__cause__ is None and one.__context__ is not None:
            yield one.__context__
        further += [cause for cause in (one.__context__, one.__cause__) if cause is not None]
        further += one.exceptions if isinstance(one, BaseExceptionGroup) else ()


@attrs.define
class Played:
    """The files whose tests a process has begun, in their order, for the first test that fails there."""

    _files: dict[str, None] = attrs.field(factory=dict)
    _is_told: bool = False

    def note(self, node: str) -> None:
        """Note that a test begins."""
        self._files.setdefault(node.partition("::")[0])

    def told(self, node: str) -> str:
        """Return how to play a failed test after all that was played before it, once; nothing where there was nothing before."""
        before = [file for file in self._files if file != node.partition("::")[0]]
        if self._is_told or not before:
            return ""
        self._is_told = True
        return f"KMSCONN_TURN={this_turn()} pytest -n 0 {' '.join(before)} '{node}'"


PLAYED = Played()


def explain(report: pytest.TestReport, error: BaseException) -> None:
    """Add to the report of a failed test what its traceback does not say."""
    _add(report, "leaves of the exception group", leaves(error))
    _add(report, "causes that were cut off", hidden_causes(error))
    if played := PLAYED.told(report.nodeid):
        report.sections.append(("to play it after what its process had played", played))


def _add(report: pytest.TestReport, title: str, errors: Iterable[BaseException]) -> None:
    if texts := ["".join(traceback.format_exception(one)) for one in errors]:
        report.sections.append((title, "\n".join(texts)))
