"""Fixtures of the journal's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kmsconn.journal.database import Database
from tests.unit.journal.samples import Place, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal of a test stands."""
    return tmp_path / "journal.db"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the file of an empty journal: to migrate one takes ten times as long as to open it."""
    path = tmp_path_factory.mktemp("empty") / "journal.db"
    opened(path).close()
    return path.read_bytes()


@pytest.fixture
def db(path: Path, empty: bytes) -> Iterator[Database]:
    """Open an empty database."""
    path.touch(mode=0o600)
    path.write_bytes(empty)
    db = opened(path)
    yield db
    db.close()


@pytest.fixture
def source(path: Place) -> Place:
    """Where the journal stands that is copied."""
    return path


@pytest.fixture
def target(tmp_path: Path) -> Place:
    """Where the copy goes: nothing is there yet."""
    return tmp_path / "copy.db"
