"""The journal's suites over PostgreSQL: what their fixtures open is a database of a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from kmsconn.config.settings import PostgresAddress
from kmsconn.journal.database import Database
from tests.real.postgres.cluster import Cluster
from tests.unit.journal.samples import opened

HERE = Path(__file__).parent

_EMPTY: LiteralString = """
DO $$ DECLARE one text; BEGIN
    FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'meta' LOOP
        EXECUTE format('TRUNCATE %I RESTART IDENTITY CASCADE', one);
    END LOOP;
    DROP TRIGGER IF EXISTS audit_records ON request;
    DROP TRIGGER IF EXISTS audit_moves ON request;
    DELETE FROM meta WHERE key <> 'kmsconn_schema';
END $$
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a file of SQLite has."""
    left_out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("sqlite")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def journal_address(postgresql: Cluster) -> PostgresAddress:
    """Where a journal stands that all tests use, one after the other: to make its tables takes longer than most of them."""
    address = postgresql.address(postgresql.make_database())
    opened(address).close()
    return address


@pytest.fixture
def path(journal_address: PostgresAddress) -> PostgresAddress:
    """Where the empty journal of a test stands."""
    keywords: dict[str, Any] = journal_address.keywords()
    with psycopg.connect(**keywords, autocommit=True) as connection:
        connection.execute(_EMPTY)
    return journal_address


@pytest.fixture
def db(path: PostgresAddress) -> Iterator[Database]:
    """Open an empty database."""
    db = opened(path)
    yield db
    db.close()
