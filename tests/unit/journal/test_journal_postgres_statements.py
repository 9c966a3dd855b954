"""What differs between SQLite's SQL and PostgreSQL's is changed, and values keep what they are on the wire."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import pytest
from psycopg import ProgrammingError

from kmsconn.ethereum.addresses import Address
from kmsconn.journal.postgres_statements import call_of, prepare


@pytest.mark.parametrize(
    ("statement", "expected", "names"),
    [
        ("SELECT a FROM t WHERE b = ? AND c = ?", "SELECT a FROM t WHERE b = $1 AND c = $2", None),
        ("SET a = :x, b = :y, c = :x", "SET a = $1, b = $2, c = $1", ("x", "y")),
        ("SELECT a FROM t INDEXED BY t_a WHERE b = 1", "SELECT a FROM t WHERE b = 1", None),
        ("r IN (SELECT value FROM json_each(:busy))", "r IN (SELECT value FROM json_each($1))", ("busy",)),
        ("SELECT '?:a''?' || ?, b::text", "SELECT '?:a''?' || $1, b::text", None),
    ],
)
def test_a_statement_is_told_as_postgresql_takes_it(
    statement: str, expected: str, names: tuple[str, ...] | None
) -> None:
    prepared = prepare(statement)
    assert (prepared.text.decode(), prepared.names) == (expected, names)


def test_named_values_go_in_the_order_of_their_names() -> None:
    call = call_of("SET a = :x, b = :y WHERE c = :x", {"y": 2, "x": 1, "other": 3})
    assert call.dumped == [b"1", b"2"]


def test_a_value_that_is_missing_is_told_before_anything_is_sent() -> None:
    with pytest.raises(KeyError, match="x"):
        call_of("SET a = :x", {})


class Word(StrEnum):
    ONE = "one"


@pytest.mark.parametrize(
    ("value", "encoded", "form"),
    [
        (1, b"1", 0),
        (-(2**63), b"-9223372036854775808", 0),
        (True, b"1", 0),
        (False, b"0", 0),
        (None, None, 0),
        (0.1, b"0.1", 0),
        (math.inf, b"inf", 0),
        ("täglich", "täglich".encode(), 0),
        ("a\0b", "a�b".encode(), 0),
        (Word.ONE, b"one", 0),
        (b"\0\xff", b"\0\xff", 1),
        (Address(bytes(20)), bytes(20), 1),
    ],
)
def test_a_value_goes_in_the_form_that_its_column_reads(value: Any, encoded: bytes | None, form: int) -> None:
    call = call_of("SELECT ?", (value,))
    assert (call.dumped, call.binary) == ([encoded], [form])


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (2**63, OverflowError),
        (-(2**63) - 1, OverflowError),
        ("\udc00", UnicodeEncodeError),
        (object(), ProgrammingError),
    ],
)
def test_a_value_that_no_column_holds_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call_of("SELECT ?", (value,))
