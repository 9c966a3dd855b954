"""The schema of a journal: its own beside the tables of other programs, made where it is missing."""

from __future__ import annotations

import attrs
import pytest

from bench.cluster import Cluster
from kmsconn.config.postgres_url import parse_postgres_url
from kmsconn.config.values import PostgresAddress
from kmsconn.errors import StartRefused
from kmsconn.journal.copying import copy_journal
from kmsconn.journal.opening import driver_of
from tests.unit.journal.samples import new_row, opened, row_of


@pytest.fixture
def theirs(postgresql: Cluster, database: str) -> PostgresAddress:
    """A database with a table of another program."""
    postgresql.run("CREATE TABLE public_decryption_requests (id bytea)", database)
    return postgresql.address(database)


def in_schema(address: PostgresAddress, path: str) -> PostgresAddress:
    return attrs.evolve(address, parameters={"options": f"-csearch_path={path}"})


def test_beside_the_tables_of_another_program_no_journal_is_made(theirs: PostgresAddress) -> None:
    with pytest.raises(
        StartRefused, match="has the tables of another program; name an empty database, or a schema"
    ):
        opened(theirs)


def test_a_schema_of_its_own_is_made_beside_them(theirs: PostgresAddress, postgresql: Cluster) -> None:
    db = opened(in_schema(theirs, "kmsconn"))
    db.begin()
    rid = new_row(db)
    db.commit()
    assert row_of(db, rid).rid == rid
    db.close()
    tables = "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'"
    assert postgresql.run(tables, theirs.database) == "public_decryption_requests"


def test_the_database_of_the_three_services_keeps_a_journal(
    theirs: PostgresAddress, postgresql: Cluster
) -> None:
    """As the alias database_url names it."""
    url = f"{postgresql.url(theirs.database)}&options=-csearch_path%3Dkmsconn"
    opened(parse_postgres_url(url)).close()
    assert postgresql.run("SELECT count(*) FROM kmsconn.member", theirs.database) == "0"


def test_two_journals_of_one_database_know_nothing_of_each_other(theirs: PostgresAddress) -> None:
    one, other = opened(in_schema(theirs, "one")), opened(in_schema(theirs, "other"))
    one.begin()
    other.begin()
    new_row(one)
    one.commit()
    assert other.execute("SELECT count(*) FROM request").fetchone() == (0,)
    other.commit()
    one.close()
    other.close()


def test_a_search_path_without_a_schema_is_refused(theirs: PostgresAddress) -> None:
    with pytest.raises(StartRefused, match="no schema on the search path"):
        opened(in_schema(theirs, "absent,missing"))


def test_an_operator_makes_no_schema(
    theirs: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("copy") / "copy.db"
    with pytest.raises(StartRefused, match=r"there is no journal in .*, and no schema kmsconn"):
        copy_journal(driver_of(in_schema(theirs, "kmsconn"), 1), driver_of(target, 1))
