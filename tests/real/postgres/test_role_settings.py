"""What an administrator sets for a role, a database or all programs: kmsconn sets what it needs at each connection, or refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import attrs
import psycopg
import pytest
import trio

from bench.cluster import Cluster
from kmsconn.config.values import PostgresAddress, Secret
from kmsconn.journal.postgres import connect
from kmsconn.journal.postgres_session import SessionLimits
from kmsconn.journal.postgres_side import listen
from kmsconn.journal.postgres_statements import call_of
from kmsconn.model.events import AlertRaised
from kmsconn.transport.ports import offload_to_threads
from tests.real.postgres.crowd import open_crowd

NEEDED = {
    "client_encoding": ("LATIN1", "UTF8"),
    "standard_conforming_strings": ("off", "on"),
    "default_transaction_isolation": ("serializable", "read committed"),
    "synchronous_commit": ("off", "on"),
    "statement_timeout": ("50ms", "10s"),
    "lock_timeout": ("50ms", "8s"),
    "idle_in_transaction_session_timeout": ("50ms", "3s"),
    "plan_cache_mode": ("force_custom_plan", "force_generic_plan"),
    "jit": ("on", "off"),
    "enable_seqscan": ("on", "off"),
    "enable_indexscan": ("off", "on"),
    "enable_indexonlyscan": ("off", "on"),
    "enable_bitmapscan": ("off", "on"),
    "enable_nestloop": ("off", "on"),
    "enable_sort": ("off", "on"),
}
"""What the role has, and what a connection of kmsconn must have."""
SINCE_14 = {"idle_session_timeout": ("300ms", "0")}
NO_MATTER = {
    "bytea_output": "escape",
    "timezone": "Pacific/Kiritimati",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-15",
    "row_security": "off",
    "jit_above_cost": "0",
    "default_transaction_deferrable": "on",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "backslash_quote": "off",
    "array_nulls": "off",
    "work_mem": "64kB",
    "join_collapse_limit": "1",
    "check_function_bodies": "off",
}


@pytest.fixture
def settings(postgresql: Cluster) -> dict[str, tuple[str, str]]:
    """What the server knows of what is needed."""
    is_newer = int(postgresql.run("SHOW server_version_num")) >= 140_000
    return {**NEEDED, **(SINCE_14 if is_newer else {})}


@pytest.fixture
def role(
    postgresql: Cluster, database: str, settings: dict[str, tuple[str, str]]
) -> Iterator[PostgresAddress]:
    """A database, as its owner reaches it, who has all settings otherwise."""
    name = f"odd_{database}"
    postgresql.run(f"CREATE ROLE {name} LOGIN PASSWORD 'odd'; ALTER DATABASE {database} OWNER TO {name}")
    postgresql.run(f"ALTER SCHEMA public OWNER TO {name}", database)
    for setting, value in {**{one: odd for one, (odd, _) in settings.items()}, **NO_MATTER}.items():
        postgresql.run(f"ALTER ROLE {name} SET {setting} = '{value}'")
    yield attrs.evolve(postgresql.address(database, tcp=True), user=name, password=Secret("odd"))
    postgresql.drop_database(database)
    postgresql.run(f"DROP ROLE {name}")


def test_a_connection_has_what_it_needs(role: PostgresAddress, settings: dict[str, tuple[str, str]]) -> None:
    keywords: dict[str, Any] = role.keywords()
    with psycopg.connect(**keywords) as plain:
        found = {one: plain.execute(f"SHOW {one}".encode()).fetchone() for one in settings}
    assert found == {one: (odd,) for one, (odd, _) in settings.items()}
    with closing(connect(role, SessionLimits())) as session:
        replies = session.exchange([call_of("SELECT current_setting(?)", (one,)) for one in settings])
    assert [reply.rows[0][0] for reply in replies] == [needed for _, needed in settings.values()]


async def test_a_connector_works_whatever_its_role_has(role: PostgresAddress) -> None:
    async with open_crowd(role) as crowd, crowd.connector("one"):
        for answered in (6, 12):
            crowd.ask(*("public", "direct", "delegated") * 2)
            await crowd.wait_answered(answered)
            await trio.sleep(0.5)
        assert crowd.of("one", AlertRaised) == []


async def test_a_connection_that_only_listens_stays(role: PostgresAddress, postgresql: Cluster) -> None:
    """What is told while it is made anew would be lost."""
    begun = 0

    async def take(told: frozenset[str]) -> None:
        nonlocal begun
        begun += not told

    began = time.monotonic()
    with trio.move_on_after(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, role, "listening", offload_to_threads, take, int)
            while time.monotonic() - began < 1:  # noqa: ASYNC110 - the server's clock
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert begun == 1
