"""Connections, rights and room that a connector lacks for a while on a real server: it tells, and goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
import trio

from bench.cluster import Cluster
from kmsconn.config.values import PostgresAddress, Secret
from kmsconn.journal import queries
from kmsconn.model.events import AlertCleared, AlertRaised
from tests.real.postgres.crowd import Crowd, open_crowd

FORMS = ("public", "direct", "delegated")
OTHERS = 4
"""Connections of a process, beside those that only read."""


@attrs.frozen
class Owner:
    """The owner of a database, who is no superuser."""

    cluster: Cluster
    address: PostgresAddress

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
def owner(postgresql: Cluster, database: str) -> Iterator[Owner]:
    name = f"limited_{database}"
    address = attrs.evolve(postgresql.address(database, tcp=True), user=name, password=Secret("limited"))
    made = Owner(postgresql, address)
    made.run("CREATE ROLE {owner} LOGIN PASSWORD 'limited'")
    made.run(f"ALTER DATABASE {database} OWNER TO {{owner}}; ALTER SCHEMA public OWNER TO {{owner}}")
    yield made
    postgresql.drop_database(database)
    postgresql.run(f"DROP ROLE {name}")


async def wait_told(crowd: Crowd, words: str) -> None:
    """Wait until the alert that the journal cannot be used has these words."""
    await crowd.wait(
        lambda: any(one.cause == "unwritable" and words in one.text for one in crowd.of("one", AlertRaised))
    )


async def wait_over(crowd: Crowd) -> None:
    """Wait until that alert is cleared."""
    await crowd.wait(lambda: any(one.cause == "unwritable" for one in crowd.of("one", AlertCleared)))


async def test_a_pool_of_readers_that_cannot_grow_uses_what_it_has(owner: Owner) -> None:
    owner.run(f"ALTER ROLE {{owner}} CONNECTION LIMIT {OTHERS + 1}")
    async with open_crowd(owner.address) as crowd, crowd.connector("one", database_pool_size=8) as connector:
        crowd.ask(*FORMS * 2)
        await crowd.wait_answered(6)
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(connector.components.journal.run, queries.counts, 1000.0)
        assert crowd.of("one", AlertRaised) == []


async def test_a_process_without_a_connection_for_its_claims_says_so(owner: Owner) -> None:
    owner.run("ALTER ROLE {owner} CONNECTION LIMIT 2")
    async with open_crowd(owner.address) as crowd, crowd.connector("one"):
        await wait_told(crowd, "too many connections for role")
        owner.run("ALTER ROLE {owner} CONNECTION LIMIT -1")
        crowd.ask(*FORMS)
        await crowd.wait_answered(3)
        await wait_over(crowd)


async def test_connections_that_are_ended_by_an_administrator_lose_nothing(owner: Owner) -> None:
    """Each by turn, then all at once."""
    asked = 0
    async with open_crowd(owner.address) as crowd, crowd.living("one"):
        for number in (1, 2, 3, 4, 5, 0, 0):
            crowd.ask(*FORMS * 2)
            asked += 6
            await trio.sleep(0.1)
            owner.end_connections(f"number = {number}" if number else "true")
        await crowd.wait_answered(asked)


@pytest.mark.parametrize("table", ["request", "meta", "member"])
async def test_a_right_that_is_taken_away_is_waited_for(table: str, owner: Owner) -> None:
    async with open_crowd(owner.address) as crowd, crowd.connector("one"):
        crowd.ask(*FORMS)
        await crowd.wait_answered(3)
        owner.run(f"REVOKE ALL ON {table} FROM {{owner}}")
        crowd.ask(*FORMS)
        await wait_told(crowd, f"permission denied for table {table}")
        owner.run(f"GRANT ALL ON {table} TO {{owner}}")
        await crowd.wait_answered(6)
        await wait_over(crowd)
