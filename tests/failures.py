"""What a failed test tells beside its traceback: the causes that ``from None`` cut off, and what its process had played before it.

A test that fails only after others is played again by naming those files before it, in their order, to one process.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import attrs
import pytest

from tests.sampling import today


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
        return f"KMSCONN_DAY={today()} pytest -n 0 {' '.join(before)} '{node}'"


PLAYED = Played()


def explain(report: pytest.TestReport, error: BaseException) -> None:
    """Add to the report of a failed test what its traceback does not say."""
    causes = ["".join(traceback.format_exception(cause)) for cause in hidden_causes(error)]
    if causes:
        report.sections.append(("causes that were cut off", "\n".join(causes)))
    if played := PLAYED.told(report.nodeid):
        report.sections.append(("to play it after what its process had played", played))
