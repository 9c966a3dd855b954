"""What the doctor finds at a real server, before the first start and beside a running connector; and that it leaves no trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from bench.cluster import Cluster
from kmsconn.config.description import PostgresAddress, Secret
from kmsconn.operate.doctor.postgres import PostgresPlace, judge_postgres, look_at_postgres
from kmsconn.operate.doctor.probing import CheckStatus
from tests.unit.journal.samples import BINDING, opened


@pytest.fixture
def fresh(postgresql: Cluster, database: str) -> PostgresAddress:
    """A database without tables."""
    return postgresql.address(database, tcp=True)


@pytest.fixture
def guest(postgresql: Cluster, database: str) -> Iterator[PostgresAddress]:
    """A fresh database, as a user reaches it who owns nothing."""
    name = f"guest_{database}"
    postgresql.run(f"CREATE ROLE {name} LOGIN PASSWORD 'guest'")
    yield attrs.evolve(postgresql.address(database, tcp=True), user=name, password=Secret("guest"))
    postgresql.run(f"DROP OWNED BY {name}", database)
    postgresql.run(f"DROP ROLE {name}")


def findings(address: PostgresAddress, place: PostgresPlace | None = None) -> dict[str, str]:
    """Return what is not well. The server of the tests does not sync, for speed."""
    lines = judge_postgres("journal", address, place or look_at_postgres(address), 4)
    return {
        line.checked: line.found
        for line in lines
        if line.status is not CheckStatus.OK and "fsync is off" not in line.found
    }


def test_a_fresh_database_is_well_and_stays_empty(fresh: PostgresAddress, postgresql: Cluster) -> None:
    place = look_at_postgres(fresh)
    assert findings(fresh, place) == {}
    assert place.tables is not None
    assert place.tables.versions is None
    assert postgresql.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", fresh.database) == "0"


PRESENT = "INSERT INTO presence (token) SELECT token FROM member"


def test_a_journal_tells_its_version_owner_and_members(fresh: PostgresAddress, postgresql: Cluster) -> None:
    opened(fresh).close()
    postgresql.run("INSERT INTO member (name) VALUES ('kmsconn-1'), ('')", fresh.database)
    postgresql.run(PRESENT, fresh.database)
    place = look_at_postgres(fresh)
    assert place.tables is not None
    assert place.tables.versions is not None
    assert BINDING.as_text().items() <= place.tables.stored.items()
    assert [one.label for one in place.members] == [
        "kmsconn-1 (member 1)",
        "a process without a name (member 2)",
    ]
    assert findings(fresh, place) == {}


def test_the_settings_of_the_processes_are_read_where_there_are_some(
    fresh: PostgresAddress, postgresql: Cluster
) -> None:
    """Something else may stand there."""
    opened(fresh).close()
    postgresql.run(
        """INSERT INTO member (name, settings) VALUES ('a', '{"lease": "5s"}'), ('b', '[1]'), ('c', '')""",
        fresh.database,
    )
    postgresql.run(PRESENT, fresh.database)
    assert [one.settings for one in look_at_postgres(fresh).members] == [{"lease": "5s"}, {}, {}]
    postgresql.run("ALTER TABLE member DROP COLUMN settings", fresh.database)
    assert look_at_postgres(fresh).members == ()


def test_the_clock_is_this_machines(fresh: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs(look_at_postgres(fresh).clock) < 1
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() - 100)
    assert look_at_postgres(fresh).clock == pytest.approx(100, abs=1)


def test_a_wrong_password_is_told_without_it(fresh: PostgresAddress) -> None:
    wrong = attrs.evolve(fresh, password=Secret("hunter2"))
    told = findings(wrong)["journal"]
    assert "password authentication failed" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("change", "words"), [({"ports": (1,)}, "refused"), ({"database": "absent"}, "does not exist")]
)
def test_a_server_or_database_that_is_not_there_is_told(
    change: dict[str, Any], words: str, fresh: PostgresAddress
) -> None:
    assert words in findings(attrs.evolve(fresh, **change))["journal"]


def test_tables_of_another_program_are_told(fresh: PostgresAddress, postgresql: Cluster) -> None:
    postgresql.run("CREATE TABLE meta (key text, value text)", fresh.database)
    assert "another program" in findings(fresh)["journal: tables"]


def test_a_user_who_may_make_no_tables_is_told(guest: PostgresAddress, postgresql: Cluster) -> None:
    postgresql.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC", guest.database)
    assert "may not make tables" in findings(guest)["journal: tables"]


def test_tables_of_another_user_are_told(
    fresh: PostgresAddress, guest: PostgresAddress, postgresql: Cluster
) -> None:
    opened(fresh).close()
    postgresql.run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {guest.user}", fresh.database)
    assert "belong to another user" in findings(guest)["journal: tables"]


@pytest.mark.parametrize(
    ("path", "words"), [("absent,missing", "no schema on the search path"), ("absent", "may not make one")]
)
def test_a_schema_that_is_not_there_is_told(path: str, words: str, guest: PostgresAddress) -> None:
    elsewhere = attrs.evolve(guest, parameters={"options": f"-csearch_path={path}"})
    assert words in findings(elsewhere)["journal: tables"]


def test_a_schema_that_can_be_made_is_well(fresh: PostgresAddress) -> None:
    assert findings(attrs.evolve(fresh, parameters={"options": "-csearch_path=absent"})) == {}


def test_a_database_that_takes_no_writes_is_told(fresh: PostgresAddress, postgresql: Cluster) -> None:
    postgresql.run(f"ALTER DATABASE {fresh.database} SET default_transaction_read_only = on")
    assert "read-only" in findings(fresh)["journal"]


def test_a_database_in_another_encoding_is_told(postgresql: Cluster) -> None:
    postgresql.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    assert "LATIN1" in findings(postgresql.address("latin"))["journal"]
    postgresql.drop_database("latin")


def test_a_server_that_does_not_sync_is_a_warning(fresh: PostgresAddress) -> None:
    lines = judge_postgres("journal", fresh, look_at_postgres(fresh), 4)
    assert [line.found for line in lines if "fsync" in line.found]


def test_few_connections_are_a_warning(fresh: PostgresAddress) -> None:
    lines = judge_postgres("journal", fresh, look_at_postgres(fresh), 100)
    (found,) = (line for line in lines if line.checked == "journal: connections")
    assert found.status is CheckStatus.WARNING


@pytest.mark.parametrize("whose", ["ROLE", "DATABASE"])
def test_a_limit_of_the_user_or_the_database_counts(
    whose: str, guest: PostgresAddress, postgresql: Cluster
) -> None:
    """Providers limit them, well below what the server takes."""
    name = guest.user if whose == "ROLE" else guest.database
    postgresql.run(f"GRANT CREATE ON SCHEMA public TO {guest.user}", guest.database)
    postgresql.run(f"ALTER {whose} {name} CONNECTION LIMIT 7")
    found = findings(guest)["journal: connections"]
    assert found == "6 are left, a process needs up to 8"


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"password": Secret("wrong")}, "journal_password_file"),
        ({"database": "absent"}, "CREATE DATABASE"),
        ({"parameters": {"sslmode": "require"}}, "turn ssl on"),
        ({"ports": (1,)}, "that PostgreSQL runs there"),
    ],
)
def test_a_refusal_has_its_remedy(changes: dict[str, Any], remedy: str, fresh: PostgresAddress) -> None:
    address = attrs.evolve(fresh, **changes)
    (line,) = judge_postgres("journal", address, look_at_postgres(address), 4)
    assert remedy in line.remedy


def test_a_server_without_autovacuum_is_told(own_server: Cluster) -> None:
    address = own_server.address(own_server.make_database())
    assert "journal: autovacuum" not in findings(address)
    own_server.run("ALTER SYSTEM SET autovacuum = off")
    own_server.run("SELECT pg_reload_conf()")
    own_server.run("SELECT pg_sleep(0.5)")
    assert "it is off" in findings(address)["journal: autovacuum"]
