"""Shows what failed inside the nurseries of a world: a group's leaves, each with its traceback, below the long report."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterator

import pytest


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that are no groups."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the leaves to the report of a test that failed with a group."""
    report = yield
    del item
    if call.excinfo is not None and isinstance(call.excinfo.value, BaseExceptionGroup):
        texts = ["".join(traceback.format_exception(leaf)) for leaf in leaves(call.excinfo.value)]
        report.sections.append(("leaves of the exception group", "\n".join(texts)))
    return report
