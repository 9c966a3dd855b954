"""The journal's suites over PostgreSQL: what their fixtures open is a database of a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import attrs
import psycopg
import pytest

from bench.cluster import UNSYNCED, Cluster, open_cluster
from kmsconn.config.description import PostgresAddress, Secret
from kmsconn.journal.database import Database
from tests.unit.journal.samples import opened

HERE = Path(__file__).parent

_EMPTY: LiteralString = """
DO $$ DECLARE one text; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'meta' LOOP
        IF pg_relation_size(one::regclass) > 65536 THEN
            EXECUTE format('TRUNCATE %I CASCADE', one);
        ELSE
            EXECUTE format('DELETE FROM %I', one);
        END IF;
    END LOOP;
    PERFORM setval(format('%I', sequencename), start_value, false) FROM pg_sequences WHERE last_value IS NOT NULL;
    DROP TRIGGER IF EXISTS request_audited ON request;
    DELETE FROM meta WHERE key <> 'kmsconn_tables';
END $$
"""
"""To truncate a table makes a file for it and for each of its indices: what has few rows is emptied one by one."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a file of SQLite has; the suites that SQLite's journal has every day have their turns here."""
    ours = [item for item in items if item.path.parent == HERE]
    for item in ours:
        if item.path.match("test_journal_*_postgres.py"):
            item.add_marker("rotating")
    left_out = {item for item in ours if item.get_closest_marker("sqlite")}
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=[*left_out])


@pytest.fixture(scope="session")
def journal_address(postgresql: Cluster) -> PostgresAddress:
    """Where a journal stands that all tests use, one after the other: to make its tables takes longer than most of them."""
    address = postgresql.address(postgresql.make_database())
    opened(address).close()
    return address


@pytest.fixture(scope="session")
def emptying(journal_address: PostgresAddress) -> Iterator[psycopg.Connection[Any]]:
    """Keep a connection that empties the journal: to begin one costs more than to empty it."""
    keywords: dict[str, Any] = journal_address.keywords()
    with psycopg.connect(**keywords, autocommit=True) as connection:
        yield connection


@pytest.fixture
def path(journal_address: PostgresAddress, emptying: psycopg.Connection[Any]) -> PostgresAddress:
    """Where the empty journal of a test stands."""
    emptying.execute(_EMPTY)
    return journal_address


@pytest.fixture
def db(path: PostgresAddress) -> Iterator[Database]:
    """Open an empty database."""
    db = opened(path)
    yield db
    db.close()


@attrs.frozen
class Owner:
    """The owner of a database, who is no superuser; ``file`` has the password, for a kmsconn that reads it there."""

    cluster: Cluster
    address: PostgresAddress
    file: Path

    @property
    def reading(self) -> PostgresAddress:
        """Where the journal is for who reads the password."""
        return attrs.evolve(self.address, password=None, password_file=self.file)

    def run(self, statement: str) -> str:
        """Have the superuser run a statement; {owner} is the owner's name."""
        return self.cluster.run(statement.format(owner=self.address.user), self.address.database)

    def end_connections(self, which: str = "true") -> None:
        """End the owner's connections."""
        self.run(
            "SELECT pg_terminate_backend(pid) FROM "  # noqa: S608 - our own words
            "(SELECT pid, row_number() OVER (ORDER BY backend_start) AS number FROM pg_stat_activity WHERE usename = '{owner}') AS theirs "
            f"WHERE {which}"
        )


@pytest.fixture
def owner(postgresql: Cluster, database: str, tmp_path: Path) -> Iterator[Owner]:
    """The owner of a fresh database."""
    name, password, file = f"owner_{database}", "hunter-1", tmp_path / "password"
    file.write_text(f"{password}\n")
    address = attrs.evolve(postgresql.address(database, tcp=True), user=name, password=Secret(password))
    made = Owner(postgresql, address, file)
    made.run(f"CREATE ROLE {{owner}} LOGIN PASSWORD '{password}'")
    made.run(f"ALTER DATABASE {database} OWNER TO {{owner}}; ALTER SCHEMA public OWNER TO {{owner}}")
    yield made
    postgresql.drop_database(database)
    postgresql.run(f"DROP ROLE {name}")


@pytest.fixture
def own_server(postgresql_programs: Path) -> Iterator[Cluster]:
    """A server that a test may end; the other one is everybody's, and connections to it are kept."""
    with open_cluster(postgresql_programs, **UNSYNCED) as cluster:
        yield cluster
