"""Addresses of a journal in PostgreSQL: our reading of a URL is libpq's, and it leads to a server."""

from __future__ import annotations

import signal

import psycopg
import pytest

from bench.cluster import Cluster
from kmsconn.config.postgres_url import PARAMETERS, parse_postgres_url
from kmsconn.config.values import PostgresAddress

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


def test_without_its_password_the_loopback_lets_nobody_in(postgresql: Cluster, database: str) -> None:
    address = parse_postgres_url(f"postgresql://kmsconn:wrong@127.0.0.1:{postgresql.port}/{database}")
    with pytest.raises(psycopg.OperationalError, match="password"):
        reached(address)


def test_a_cluster_goes_on_with_its_data_after_a_crash(own_server: Cluster, postgresql: Cluster) -> None:
    database = own_server.make_database()
    own_server.run("CREATE TABLE t (n integer)", database)
    own_server.stop(signal.SIGQUIT)
    own_server.start()
    assert own_server.run("SELECT count(*) FROM t", database) == "0"
