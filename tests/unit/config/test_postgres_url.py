"""URLs of databases of PostgreSQL: what libpq and sqlx take is taken, what is faulty is named, and nothing secret shows."""

from __future__ import annotations

import pytest

from kmsconn.config.postgres_url import parse_postgres_url
from kmsconn.config.values import PostgresAddress, Secret


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://db/k", PostgresAddress("k", ("db",))),
        ("postgres://db:5433/k", PostgresAddress("k", ("db",), (5433,))),
        ("postgresql:///k", PostgresAddress("k")),
        ("postgresql://u@db/k", PostgresAddress("k", ("db",), user="u")),
        ("postgresql://u:@db/k", PostgresAddress("k", ("db",), user="u")),
        ("postgresql://u:p%40%2F:x@db/k", PostgresAddress("k", ("db",), (), "u", Secret("p@/:x"))),
        ("postgresql://[::1]:5433/k", PostgresAddress("k", ("::1",), (5433,))),
        ("postgresql://[fe80::1%25eth0]/k", PostgresAddress("k", ("fe80::1%eth0",))),
        ("postgresql://a:5433,b:5433/k", PostgresAddress("k", ("a", "b"), (5433,))),
        ("postgresql://a:5433,b/k", PostgresAddress("k", ("a", "b"), (5433, 5432))),
        ("postgresql://%2Frun%2Fpg/k", PostgresAddress("k", ("/run/pg",))),
        ("postgresql:///k?host=/run/pg&port=5433", PostgresAddress("k", ("/run/pg",), (5433,))),
        ("postgresql:///?dbname=k&user=u&password=p", PostgresAddress("k", (), (), "u", Secret("p"))),
        ("postgresql://db/k?sslmode=require", PostgresAddress("k", ("db",), parameters={"sslmode": "require"})),
        ("postgresql://db/k?ssl-mode=require&statement-cache-capacity=5",
         PostgresAddress("k", ("db",), parameters={"sslmode": "require"})),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart_as_libpq_does(url: str, expected: PostgresAddress) -> None:
    assert parse_postgres_url(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://hunter2:hunter2@db", "names no database"),
        ("postgresql://hunter2:hunter2@db/", "names no database"),
        ("postgresql://hunter2:hun/ter2@db/k", "written as %40"),
        ("postgresql://hunter2:hun@ter2@db/k", "written as %40"),
        ("postgresql://hunter2:99/hunter2@db/k", "written as %40"),
        ("postgresql://hunter2:hunter 2@db/k", "no URL of a PostgreSQL database"),
        ("postgresql://hunter2:hunter2%zz@db/k", "two hex digits"),
        ("postgresql://hunter2:hunter2%00@db/k", "zero byte"),
        ("postgresql://hunter2@db:65536/k", "1 to 65535"),
        ("postgresql://hunter2@db:x/k", "malformed"),
        ("postgresql://hunter2@a:1,b:2/k?host=c", "1 hosts and 2 ports"),
        ("postgresql://hunter2@db/k?sslmode=hunter2", "sslmode must be one of disable, allow"),
        ("postgresql://hunter2@db/k?sslrootcrt=hunter2", "did you mean sslrootcert"),
        ("postgresql://hunter2@db/k?hunter2=hunter2", "does not know"),
        ("postgresql://hunter2@db/k?sslmode", "sslmode has no value"),
    ],
)
def test_a_faulty_part_is_named_and_nothing_is_quoted(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_postgres_url(url)
    assert "hunter" not in str(caught.value)


def test_an_address_shows_servers_and_database_alone() -> None:
    address = parse_postgres_url("postgresql://hunter2:hunter2@db:5433/k?sslcert=hunter2")
    assert str(address) == "postgresql://db:5433/k"
    assert "hunter2" not in repr(address)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u@db/k", "postgresql://db/k"),
        ("postgresql:///k", "postgresql:///k"),
        ("postgresql://[::1]:5433/k", "postgresql://[::1]:5433/k"),
        ("postgresql://a:5433,b:5433/k", "postgresql://a:5433,b:5433/k"),
        ("postgresql:///k?host=/run/pg", "postgresql:///k?host=/run/pg"),
    ],
)
def test_an_address_shows_as_a_url(url: str, shown: str) -> None:
    assert str(parse_postgres_url(url)) == shown


def test_the_keywords_are_those_of_libpq_with_the_password() -> None:
    address = parse_postgres_url("postgresql://u:p@a:5433,b/k?sslmode=require")
    assert address.keywords() == {
        "host": "a,b",
        "port": "5433,5432",
        "dbname": "k",
        "user": "u",
        "password": "p",
        "sslmode": "require",
    }


def test_what_is_left_to_libpq_has_no_keyword() -> None:
    assert parse_postgres_url("postgresql:///k").keywords() == {"dbname": "k"}


@pytest.mark.parametrize(
    ("url", "local"),
    [("postgresql:///k?host=/run/pg", True), ("postgresql:///k", False), ("postgresql://db/k", False)],
)
def test_an_address_by_a_socket_is_local(url: str, local: bool) -> None:
    assert parse_postgres_url(url).is_local is local
