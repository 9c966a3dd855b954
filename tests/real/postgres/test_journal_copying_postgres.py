"""The suite of the same name from a file into PostgreSQL, back, and from one database into another; and who is kept out meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bench.cluster import Cluster
from kmsconn.config.description import PostgresAddress
from kmsconn.errors import StartRefused
from kmsconn.journal.copying import copy_journal
from kmsconn.journal.journal import driver_of
from kmsconn.journal.schema import TABLES
from tests.unit.journal.samples import Place, new_row, opened
from tests.unit.journal.test_journal_copying import *  # noqa: F403 - its tests and fixtures are collected here once more
from tests.unit.journal.test_journal_copying import copy

LEFT_TABLES, LEFT_COLUMNS = {"member", "presence", "lease"}, {("request", "owner")}
"""What stays behind: it is of processes that are gone."""


@pytest.fixture(params=["into PostgreSQL", "out of it", "within it"])
def direction(request: pytest.FixtureRequest) -> str:
    """Which of the two journals is in PostgreSQL."""
    found: str = request.param
    return found


@pytest.fixture
def source(direction: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """Where the journal stands that is copied."""
    if direction == "into PostgreSQL":
        return tmp_path / "journal.db"
    found: PostgresAddress = request.getfixturevalue("path")
    return found


@pytest.fixture
def target(direction: str, tmp_path: Path, postgresql: Cluster, database: str) -> Place:
    """Where the copy goes: nothing is there yet."""
    return tmp_path / "copy.db" if direction == "out of it" else postgresql.address(database)


@pytest.fixture
def joined(path: PostgresAddress) -> Iterator[psycopg.Connection]:
    """A journal in PostgreSQL with a process among its members."""
    with psycopg.connect(**path.keywords(), autocommit=True) as connection:
        connection.execute("INSERT INTO member (name) VALUES ('kmsconn-1')")
        connection.execute("INSERT INTO presence (token) SELECT token FROM member")
        yield connection


def test_database_without_a_journal_is_not_copied(postgresql: Cluster, database: str, tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="there is no journal in postgresql://"):
        copy(postgresql.address(database), tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_journal_with_members_is_not_copied(
    joined: psycopg.Connection, path: PostgresAddress, tmp_path: Path
) -> None:
    with pytest.raises(StartRefused, match=r"is in use by kmsconn-1 .member \d+.; stop it"):
        copy(path, tmp_path / "copy.db")


def test_a_member_that_was_silent_for_long_is_gone(
    joined: psycopg.Connection, path: PostgresAddress, tmp_path: Path
) -> None:
    joined.execute("UPDATE presence SET renewed_at = clock_timestamp() - interval '61 s'")
    assert copy(path, tmp_path / "copy.db")["request"] == 0


def test_nobody_joins_a_journal_while_it_is_copied(path: PostgresAddress, tmp_path: Path) -> None:
    db = opened(path)
    db.begin()
    new_row(db)
    db.commit()
    db.close()
    refused: list[str] = []

    def try_to_join(_table: str, _rows: int) -> None:
        if refused:
            return
        with psycopg.connect(**path.keywords()) as connection:
            connection.execute("SET lock_timeout = '50ms'")
            try:
                connection.execute("INSERT INTO member (name) VALUES ('late')")
            except psycopg.errors.LockNotAvailable as error:
                refused.append(str(error))

    copy_journal(driver_of(path, 1), driver_of(tmp_path / "copy.db", 1), try_to_join)
    assert len(refused) == 1


def test_the_tables_that_are_copied_are_all_there_are(path: PostgresAddress) -> None:
    """A column that is new is copied, or said to stay behind."""
    with psycopg.connect(**path.keywords()) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        ).fetchall()
    there = {(table, column) for table, column in columns if table not in LEFT_TABLES}
    assert {(table.name, column) for table in TABLES for column in table.columns} | LEFT_COLUMNS == there


@pytest.fixture
def own(postgresql: Cluster, database: str) -> PostgresAddress:
    """A journal of one test alone, which may change its tables."""
    address = postgresql.address(database)
    opened(address).close()
    return address


def test_tables_of_a_newer_version_are_not_copied_in_part(own: PostgresAddress, tmp_path: Path) -> None:
    """Also where ours may run on them: what that has added would be left out silently."""
    with psycopg.connect(**own.keywords()) as connection:
        connection.execute("UPDATE meta SET value = '1000 1' WHERE key = 'kmsconn_tables'")
    with pytest.raises(StartRefused, match="may lack what that has added; copy it with the newest version"):
        copy(own, tmp_path / "copy.db")


def test_tables_of_others_in_the_schema_do_not_matter(own: PostgresAddress, tmp_path: Path) -> None:
    with psycopg.connect(**own.keywords()) as connection:
        connection.execute("CREATE TABLE notes_of_an_operator (text text)")
    assert copy(own, tmp_path / "copy.db")["request"] == 0
