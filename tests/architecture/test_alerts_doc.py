"""The page about alerts says of each cause what the code says."""

from __future__ import annotations

from pathlib import Path

from kmsconn.model.causes import CAUSES

PAGE = Path(__file__).parents[2] / "docs" / "alerts.md"


def test_the_table_of_causes_is_that_of_the_code() -> None:
    rows = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and "`/" not in line[:5]
    ]
    assert rows == [
        f"| `{name}` | {cause.dependency} | {cause.meaning} | {cause.remedy} |"
        for name, cause in CAUSES.items()
    ]
