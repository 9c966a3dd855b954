"""Fixtures of the journal's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kmsconn.journal.book import Book
from tests.unit.journal.samples import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal of a test stands."""
    return tmp_path / "journal.db"


@pytest.fixture
def book(path: Path) -> Iterator[Book]:
    """Open an empty book."""
    book = opened(path)
    yield book
    book.close()
