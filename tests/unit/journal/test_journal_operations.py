"""Rows and values are the same thing twice; operations speak what SQLite and PostgreSQL both understand, the long ones in a thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import audit, inspecting, moves, queries, recording, retention, rows
from kmsconn.journal.database import LONG
from kmsconn.journal.inspecting import Wanted
from kmsconn.journal.retention import Position, RetentionStep
from kmsconn.journal.rows import pack_id, pack_log, place_of, unpack_log
from tests.unit.journal.samples import CHAIN, CONTRACT, KIND, arrival, read_of, signing


def read(count: int) -> Any:
    return read_of(*(arrival(number, 10) for number in range(count)))


def arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


@pytest.mark.parametrize(
    ("operation", "given", "expected"),
    [
        (recording.record, arguments(read(recording.LONG_READ)), False),
        (recording.record, arguments(read(recording.LONG_READ + 1)), True),
        (queries.included, arguments(CHAIN, 30, queries.LONG_LIST), False),
        (queries.included, arguments(CHAIN, 30, queries.LONG_LIST + 1), True),
        (queries.answered_after, arguments(CHAIN, (0, 0), queries.LONG_LIST), False),
        (queries.answered_after, arguments(CHAIN, (0, 0), queries.LONG_LIST + 1), True),
        (queries.places, arguments(CHAIN, CONTRACT, KIND, (1, 9), limit=1), True),
        (retention.rewind, arguments(CHAIN, CONTRACT, 1, 2), True),
        (retention.step, arguments(RetentionStep(None, None, {}), Position()), True),
        (inspecting.find, arguments(Wanted(), None, 1), True),
        (queries.due, arguments([KIND], 0.0, 1000), False),
        (queries.counts, arguments(0.0), False),
        (moves.move, arguments("expire", 1), False),
        (moves.sign, arguments(signing(1)), False),
    ],
)
def test_an_operation_is_off_the_loop_when_it_may_take_long(
    operation: Callable[..., Any], given: tuple[Any, Any], expected: bool
) -> None:
    args, kwargs = given
    assert (operation in LONG and LONG[operation](*args, **kwargs)) == expected


MODULES = (
    inspecting, moves, audit, queries, recording, retention, rows,
)  # fmt: skip
ONLY_SQLITE = [
    r"\bOR (IGNORE|REPLACE|ABORT)\b", r"\bPRAGMA\b", r"\bGLOB\b", r"\biif\(", r"\bifnull\(", r"\binstr\(", r"\bzeroblob\(", r"\bx'",
    r"\bprintf\(", r"\browid\b", r"\bsqlite_", r"\btotal\(", r"\bgroup_concat\(", r"\bON CONFLICT DO UPDATE\b", r"\b(min|max)\([^()]*,",
    r"\btypeof\(", r"\brandomblob\(", r"==", r"\bIS NOT \d",
]  # fmt: skip


def statements(value: object) -> Iterator[str]:
    """Return the SQL that stands in a value of a module."""
    if isinstance(value, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)\b", value):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from statements(one)


FOUND = sorted({one for module in MODULES for value in vars(module).values() for one in statements(value)})


def test_the_statements_are_found() -> None:
    assert len(FOUND) > 60


@pytest.mark.parametrize("statement", FOUND)
def test_a_statement_uses_nothing_that_sqlite_alone_has(statement: str) -> None:
    assert [pattern for pattern in ONLY_SQLITE if re.search(pattern, statement, re.IGNORECASE)] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_of_operations_knows_no_driver(module: object) -> None:
    assert not {"sqlite3", "SqliteDriver"} & vars(module).keys()


hashes = st.binary(min_size=32, max_size=32)
logs = st.builds(
    Log,
    st.binary(min_size=20, max_size=20).map(Address),
    st.lists(hashes, max_size=4).map(tuple),
    st.binary(max_size=300),
    st.integers(0, 2**63 - 1),
    hashes,
    hashes,
    st.integers(0, 2**31),
)


@pytest.mark.slow
@given(logs)
def test_a_log_comes_back_as_it_was(log: Log) -> None:
    assert unpack_log(pack_log(log), *place_of(log)) == log


@given(st.integers(0, 2**256 - 1))
def test_an_id_has_32_bytes_and_keeps_its_order(identifier: int) -> None:
    packed = pack_id(identifier)
    assert (len(packed), int.from_bytes(packed, "big")) == (32, identifier)


@pytest.mark.parametrize("identifier", [-1, 2**256])
def test_a_number_that_is_no_id_is_refused(identifier: int) -> None:
    with pytest.raises(OverflowError):
        pack_id(identifier)
