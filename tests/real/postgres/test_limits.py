"""Connections, rights and room that a connector lacks for a while on a real server: it tells, and goes on by itself."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pytest
import trio

from bench.cluster import Cluster
from kmsconn.config.description import PostgresAddress
from kmsconn.journal import queries
from kmsconn.journal.postgres_servers import connect
from kmsconn.journal.postgres_session import SessionLimits, call_of
from kmsconn.journal.postgres_side import listen
from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.transport.ports import offload_to_threads
from tests.real.postgres.conftest import Owner
from tests.real.postgres.crowd import SOON, Crowd, open_crowd

pytestmark = pytest.mark.rotating

FORMS = ("public", "direct", "delegated")
OTHERS = 4
"""Connections of a process, beside those that only read."""


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


NEEDED = {
    "client_encoding": ("LATIN1", "UTF8"),
    "standard_conforming_strings": ("off", "on"),
    "default_transaction_isolation": ("serializable", "read committed"),
    "synchronous_commit": ("off", "on"),
    "statement_timeout": ("1s", "10s"),
    "lock_timeout": ("1s", "8s"),
    "idle_in_transaction_session_timeout": ("1s", "3s"),
    "plan_cache_mode": ("force_custom_plan", "force_generic_plan"),
    "jit": ("on", "off"),
    "enable_seqscan": ("on", "off"),
    "enable_indexscan": ("off", "on"),
    "enable_indexonlyscan": ("off", "on"),
    "enable_bitmapscan": ("off", "on"),
    "enable_nestloop": ("off", "on"),
    "enable_sort": ("off", "on"),
}
"""What the role has, and what a connection of kmsconn must have: it says so in its first statement, which waits on a busy machine, too."""
SINCE_14 = {"idle_session_timeout": ("1s", "0")}
NO_MATTER = {
    "bytea_output": "escape",
    "timezone": "Pacific/Kiritimati",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-15",
    "row_security": "off",
    **dict.fromkeys(("jit_above_cost", "jit_inline_above_cost", "jit_optimize_above_cost"), "0"),
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
def role(owner: Owner, settings: dict[str, tuple[str, str]]) -> PostgresAddress:
    """A database, as its owner reaches it, who has all settings otherwise."""
    for setting, value in {**{one: odd for one, (odd, _) in settings.items()}, **NO_MATTER}.items():
        owner.run(f"ALTER ROLE {{owner}} SET {setting} = '{value}'")
    return owner.address


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
            await trio.sleep(1.2)
        assert crowd.of("one", AlertRaised) == []


async def test_a_connection_that_only_listens_stays(role: PostgresAddress) -> None:
    """What is told while it is made anew would be lost."""
    begun: list[float] = []

    async def take(told: frozenset[str]) -> None:
        begun.extend([] if told else [trio.current_time()])

    with trio.fail_after(SOON):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, role, "listening", offload_to_threads, take, int)
            while not begun or trio.current_time() < begun[0] + 1.2:  # noqa: ASYNC110 - the server's clock
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert len(begun) == 1
