"""The table of outcomes names modules and tests that exist, and leaves no row without either."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "outcomes.md").read_text(encoding="utf-8")
_CELL = re.compile(r"(?<!\\)\|")
_FILE = re.compile(r"`([\w/]+\.py)`")
HEADER = ["situation", "outcome", "where", "test"]


def cells_of(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in _CELL.split(line)[1:-1]]


def rows() -> list[list[str]]:
    """Return the rows of every table that says where and how it is shown."""
    found, inside = [], False
    for line in PAGE.splitlines():
        inside = (inside and line.startswith("|")) or (line.startswith("|") and cells_of(line) == HEADER)
        if inside and cells_of(line) != HEADER and not line.startswith("|---"):
            found.append(cells_of(line))
    return found


def test_there_is_a_table() -> None:
    assert len(rows()) > 40


def complete(row: list[str]) -> bool:
    """Say whether a row has an outcome, and modules and tests that exist."""
    _, outcome, where, test = row
    modules, tests = _FILE.findall(where), _FILE.findall(test)
    files = [*(ROOT / "kmsconn" / name for name in modules), *(ROOT / "tests" / name for name in tests)]
    return bool(outcome and modules and tests) and all(file.is_file() for file in files)


def test_every_row_names_modules_and_tests_that_exist() -> None:
    assert [row for row in rows() if not complete(row)] == []
