"""Addresses of a journal in PostgreSQL: our reading of a URL is libpq's, and it leads to a server."""

from __future__ import annotations

from typing import Any

import attrs
import psycopg
import pytest

from bench.cluster import Cluster, open_standby
from kmsconn.config.description import PostgresAddress, Secret
from kmsconn.config.places import PARAMETERS, parse_postgres_url
from kmsconn.errors import JournalUnreachable, StartRefused
from kmsconn.journal.copying import copy_journal
from kmsconn.journal.journal import driver_of
from tests.unit.journal.samples import new_row, opened, row_of

URLS = (
    "postgresql://db/k",
    "postgres://db:5433/k",
    "postgresql:///k",
    "postgresql://u@db/k",
    "postgresql://u:p%40%2F:x@db/k",
    "postgresql://[::1]:5433/k",
    "postgresql://%2Frun%2Fpg/k",
    "postgresql:///k?host=/run/pg&port=5433",
    "postgresql://a:5433/k?host=b",
    "postgresql:///?dbname=k&user=u&password=p",
    "postgresql://db/k?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&target_session_attrs=read-write",
    "postgresql://:5433/k",
)


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_read_as_libpq_reads_it(url: str, postgresql: Cluster) -> None:
    read = psycopg.conninfo.conninfo_to_dict(url)
    assert parse_postgres_url(url).keywords() == {
        name: str(value) for name, value in read.items() if value != ""
    }


@pytest.mark.parametrize(
    "url", ["postgresql://a:5433,b:5434/k", "postgresql://a:5433,b:5433/k", "postgresql://a:5433,b/k"]
)
def test_ports_of_several_hosts_mean_what_they_mean_to_libpq(url: str, postgresql: Cluster) -> None:
    """Ours are written out: an absent port is the default, and one number for all hosts is written once."""
    read = psycopg.conninfo.conninfo_to_dict(url)
    ports = [port or "5432" for port in str(read["port"]).split(",")]
    ours = parse_postgres_url(url).keywords()["port"].split(",")
    assert ours * (1 if len(ours) > 1 else 2) == ports


def test_libpq_knows_every_parameter(postgresql: Cluster) -> None:
    """Newer ones than this machine's libpq has are left out."""
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    newer = {"require_auth", "sslcertmode", "load_balance_hosts", "gssdelegation", "sslnegotiation"}
    assert PARAMETERS - known <= newer


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "loopback"])
def test_an_address_leads_to_its_database(tcp: bool, postgresql: Cluster, database: str) -> None:
    address = parse_postgres_url(postgresql.url(database, tcp=tcp))
    assert address == postgresql.address(database, tcp=tcp)
    assert reached(address) == database


def reached(address: PostgresAddress) -> str:
    """Return the name of the database that an address leads to."""
    with psycopg.connect(**address.keywords()) as connection:
        row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None
    return str(row[0])


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


def test_beside_the_tables_of_an_earlier_kmsconn_no_journal_is_made(
    postgresql: Cluster, database: str
) -> None:
    postgresql.run(
        "CREATE TABLE meta (key text, value text); INSERT INTO meta VALUES ('kmsconn_schema', '3 1')",
        database,
    )
    with pytest.raises(
        StartRefused, match=r"has the tables of an earlier kmsconn, .*decryption_from_block_number"
    ):
        opened(postgresql.address(database))


def test_a_schema_of_its_own_is_made_beside_them(theirs: PostgresAddress, postgresql: Cluster) -> None:
    db = opened(in_schema(theirs, "kmsconn"))
    db.begin()
    rid = new_row(db)
    db.commit()
    assert row_of(db, rid).rid == rid
    db.close()
    tables = "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'"
    assert postgresql.run(tables, theirs.database) == "public_decryption_requests"


def test_database_of_the_three_services_keeps_a_journal(theirs: PostgresAddress, postgresql: Cluster) -> None:
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


def test_operator_makes_no_schema(theirs: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = tmp_path_factory.mktemp("copy") / "copy.db"
    with pytest.raises(StartRefused, match=r"there is no journal in .*, and no schema kmsconn"):
        copy_journal(driver_of(in_schema(theirs, "kmsconn"), 1), driver_of(target, 1))


@pytest.fixture
def fresh(postgresql: Cluster, database: str) -> PostgresAddress:
    return postgresql.address(database, tcp=True)


@pytest.mark.parametrize("changes", [{"ports": (1,)}, {"hosts": ("nobody.invalid",)}])
def test_a_server_that_is_away_may_come_back(changes: dict[str, Any], fresh: PostgresAddress) -> None:
    with pytest.raises(JournalUnreachable, match="cannot be opened"):
        opened(attrs.evolve(fresh, **changes))


def test_a_server_without_a_place_for_a_connection_may_have_one_later(
    fresh: PostgresAddress, postgresql: Cluster
) -> None:
    postgresql.run("CREATE ROLE crowded LOGIN PASSWORD 'crowded' CONNECTION LIMIT 0")
    with pytest.raises(JournalUnreachable, match="too many connections"):
        opened(attrs.evolve(fresh, user="crowded", password=Secret("crowded")))
    postgresql.run("DROP ROLE crowded")


READ_ONLY = "read-only transaction: name all servers in journal with .target_session_attrs=read-write"


@pytest.mark.parametrize("is_there", [False, True], ids=["no journal yet", "a journal"])
def test_a_server_that_takes_no_writes_may_take_them_later(
    is_there: bool, fresh: PostgresAddress, postgresql: Cluster
) -> None:
    if is_there:
        opened(fresh).close()
    postgresql.run(f"ALTER DATABASE {fresh.database} SET default_transaction_read_only = on")
    with pytest.raises(JournalUnreachable, match=READ_ONLY):
        opened(fresh)


@pytest.mark.slow
def test_a_standby_may_be_promoted(own_server: Cluster) -> None:
    database = own_server.make_database()
    opened(own_server.address(database)).close()
    with open_standby(own_server) as standby:
        with pytest.raises(JournalUnreachable, match=READ_ONLY):
            opened(standby.address(database))
        standby.run("SELECT pg_promote()")
        opened(standby.address(database)).close()


@pytest.mark.parametrize(
    "changes",
    [
        {"password": Secret("wrong")},
        {"user": "nobody"},
        {"database": "absent"},
        {"parameters": {"sslmode": "require"}},
    ],
)
def test_what_somebody_must_mend_is_refused(changes: dict[str, Any], fresh: PostgresAddress) -> None:
    with pytest.raises(StartRefused) as caught:
        opened(attrs.evolve(fresh, **changes))
    assert not isinstance(caught.value, JournalUnreachable)
