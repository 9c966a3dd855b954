"""Operations speak what SQLite and PostgreSQL both understand: what differs stands in the driver."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kmsconn.journal import (
    inspecting,
    moves,
    outbox,
    queries,
    recording,
    retention,
    rewinding,
    rows,
)

MODULES = (
    inspecting, moves, outbox, queries, recording, retention, rewinding, rows,
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
