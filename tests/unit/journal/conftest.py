"""Fixtures of the journal's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kmsconn.journal.database import Database
from tests.unit.journal.samples import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal of a test stands."""
    return tmp_path / "journal.db"


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    """Open an empty database."""
    db = opened(path)
    yield db
    db.close()
