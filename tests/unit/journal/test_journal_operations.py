"""Which operations are applied in a thread: those that may take milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmsconn.journal import inspecting, moves, queries, recording, retention, rewinding
from kmsconn.journal.groups import Execution
from kmsconn.journal.values import Position, RetentionStep, Wanted
from tests.unit.journal.samples import ANSWER, CHAIN, CONTRACT, KIND, arrival, read_of, signing


def read(count: int) -> Any:
    return read_of(*(arrival(number, 10) for number in range(count)))


def arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


@pytest.mark.parametrize(
    ("operation", "given", "expected"),
    [
        (recording.record, arguments(read(recording.LONG_READ)), False),
        (recording.record, arguments(read(recording.LONG_READ + 1)), True),
        (queries.included, arguments(CHAIN, 30, queries.LONG_LIST, from_block=1), False),
        (queries.included, arguments(CHAIN, 30, queries.LONG_LIST + 1, from_block=1), True),
        (queries.answered_after, arguments(CHAIN, (0, 0), queries.LONG_LIST), False),
        (queries.answered_after, arguments(CHAIN, (0, 0), queries.LONG_LIST + 1), True),
        (queries.places, arguments(CHAIN, CONTRACT, KIND, (1, 9), limit=1), True),
        (rewinding.rewind, arguments(CHAIN, CONTRACT, 1, 2), True),
        (retention.step, arguments(RetentionStep(None, None, {}), Position()), True),
        (inspecting.find, arguments(Wanted(), None, 1), True),
        (queries.due, arguments([KIND], 0.0, 1000), False),
        (queries.counts, arguments(0.0), False),
        (moves.answer, arguments(1, ANSWER, 0.0), False),
        (moves.sign, arguments(signing(1)), False),
    ],
)
def test_an_operation_is_off_the_loop_when_it_may_take_long(
    operation: Callable[..., Any], given: tuple[Any, Any], expected: bool
) -> None:
    assert Execution(operation, *given).is_long == expected
