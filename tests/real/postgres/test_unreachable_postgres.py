"""What a server that cannot be used at the opening is: one to wait for, or one that somebody must mend."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from bench.cluster import Cluster, open_standby
from kmsconn.config.values import PostgresAddress, Secret
from kmsconn.errors import JournalUnreachable, StartRefused
from tests.unit.journal.samples import opened


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
