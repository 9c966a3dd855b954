"""Whole connectors over one journal: who reads and sends, who works, what one tells another, and what happens as one of them ends."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import attrs
import psycopg
import pytest
import trio

from kmsconn.config.description import PostgresAddress, Role
from kmsconn.config.working import Pools
from kmsconn.connector.connector import Connector
from kmsconn.errors import JournalWentBack, LeaseLost
from kmsconn.journal import inspecting
from kmsconn.journal.inspecting import PausedKind
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, AnswerKept, ReplySent, RequestRecorded
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import perform
from kmsconn.operate.control.server import COMMANDS, context_of
from kmsconn.operate.doctor.postgres import OTHER_CONNECTIONS
from tests.faults.scene import post
from tests.real.postgres.crowd import LEASE, Crowd, open_crowd

pytestmark = pytest.mark.rotating

FORMS = ("public", "direct", "delegated")
FEW = Pools(public_decryption=2, user_decryption=2)
LONG = 60.0
"""Seconds of a lease that nobody waits for."""
AT_ONCE = 15.0
"""Seconds for what another process is told, on a busy machine; who is not told goes on by itself after 30."""


def asked(crowd: Crowd, statement: str, *values: Any) -> Any:
    """Return what the database says, as anybody may ask it."""
    keywords: dict[str, Any] = {**crowd.address.keywords()}
    with psycopg.connect(autocommit=True, **keywords) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else None


def holders(crowd: Crowd) -> dict[str, str]:
    """Return the name of the process that holds each lease."""
    return dict(
        asked(
            crowd, "SELECT lease.name, split_part(member.name, '@', 1) FROM lease JOIN member USING (token)"
        )
    )


async def wait_held(crowd: Crowd, name: str) -> None:
    """Wait until one process holds every lease."""
    await crowd.wait(lambda: len(held := holders(crowd)) >= 5 and set(held.values()) == {name})


async def test_one_of_two_reads_and_sends_and_both_work(path: PostgresAddress) -> None:
    async with open_crowd(path, computing=0.2) as crowd, crowd.connector("one", pools=FEW):
        await wait_held(crowd, "one")
        async with crowd.connector("two", pools=FEW):
            crowd.ask(*FORMS * 8)
            await crowd.wait_answered(24)
            assert crowd.truth.open == ()
            assert len(crowd.of("one", RequestRecorded)) == 24
            assert crowd.of("two", RequestRecorded) == []
            assert crowd.of("two", ReplySent) == []
            kept = [len(crowd.of(name, AnswerKept)) for name in ("one", "two")]
            assert min(kept) > 0
            assert sum(kept) == 24


async def test_who_ends_hands_over_at_once(path: PostgresAddress) -> None:
    async with open_crowd(path) as crowd, AsyncExitStack() as stack:
        first = await stack.enter_async_context(crowd.connector("one", lease=LONG))
        await wait_held(crowd, "one")
        async with crowd.connector("two", lease=LONG):
            crowd.ask(*FORMS)
            await crowd.wait_answered(3)
            crowd.ask(*FORMS)
            first.drain()
            began = trio.current_time()
            await crowd.wait(lambda: set(holders(crowd).values()) == {"two"})
            assert trio.current_time() - began < AT_ONCE
            await crowd.wait_answered(6)
            await first.wait_drained()


async def test_an_answer_of_one_process_is_sent_by_the_other_at_once(path: PostgresAddress) -> None:
    """The transaction manager is woken through the database, or sees what its own writes tell it, long before half a minute."""
    async with open_crowd(path) as crowd, crowd.connector("sends", roles={Role.HEAR, Role.SEND}):
        await crowd.wait(lambda: len(holders(crowd)) >= 4)
        async with crowd.connector("works", roles={Role.WORK}):
            crowd.ask("public")
            [kept] = await crowd.wait(lambda: crowd.of("works", AnswerKept))
            answered = trio.current_time()
            await crowd.wait(lambda: crowd.of("sends", ReplySent))
            assert trio.current_time() - answered < AT_ONCE
            assert crowd.of("sends", AnswerKept) == []
            assert crowd.of("works", ReplySent) == []
            assert kept.id is not None


async def test_who_leaves_sending_to_others_works_without_the_key(path: PostgresAddress) -> None:
    async with open_crowd(path) as crowd, crowd.connector("sends", roles={Role.HEAR, Role.SEND}):
        await crowd.wait(lambda: len(holders(crowd)) >= 4)
        address = crowd.dependencies.sender.address
        keyless: dict[str, Any] = {"private_key": None, "tx_sender_address": address}
        async with crowd.connector("works", roles={Role.WORK}, **keyless):
            crowd.ask(*FORMS)
            await crowd.wait_answered(3)
            assert len(crowd.of("works", AnswerKept)) == 3


async def test_who_waits_over_http_has_the_answer_of_another_process_at_once(path: PostgresAddress) -> None:
    """The waiter is woken through the database; by itself it would look after half a minute."""
    async with open_crowd(path) as crowd, crowd.connector("asked", roles={Role.HEAR, Role.SEND}) as asked:
        await crowd.wait(lambda: len(holders(crowd)) >= 4)
        async with crowd.connector("works", roles={Role.WORK}):
            content: Any = post(crowd.traffic, "public")
            with trio.fail_after(AT_ONCE):
                result = await asked.decryptions.decrypt(content)
            assert result.decryption_id == content.id
            assert crowd.of("asked", AnswerKept) == []


async def test_roles_take_no_lease_of_others(path: PostgresAddress) -> None:
    async with open_crowd(path) as crowd, crowd.connector("works", roles={Role.WORK}):
        await crowd.wait(lambda: len(holders(crowd)) >= 2)
        await trio.sleep(LEASE / 2)
        assert {name.split()[0] for name in holders(crowd)} == {"orders", "upkeep"}


async def test_a_role_that_nobody_has_is_told_by_every_process(
    path: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = attrs.evolve(CAUSES["role-missing"], after=1.0)
    monkeypatch.setattr("kmsconn.model.alerts.CAUSES", {**CAUSES, "role-missing": soon})
    key = "role work", "role-missing"
    async with (
        open_crowd(path) as crowd,
        crowd.connector("one", roles={Role.HEAR}),
        crowd.connector("two", roles={Role.HEAR, Role.SEND}),
    ):
        await crowd.wait(lambda: told(crowd, AlertRaised, *key) == {"one", "two"})
        async with crowd.connector("works", roles={Role.WORK}):
            await crowd.wait(lambda: told(crowd, AlertCleared, *key) == {"one", "two"})
        assert told(crowd, AlertRaised, *key) == {"one", "two"}


def told(crowd: Crowd, kind: type[Any], dependency: str, cause: str) -> set[str]:
    """Return the processes that told an alert, or its end."""
    return {
        name
        for name in crowd.told
        if any((one.dependency, one.cause) == (dependency, cause) for one in crowd.of(name, kind))
    }


async def test_settings_that_differ_are_told_by_every_process(path: PostgresAddress) -> None:
    key = "lease", "settings-differ"
    async with open_crowd(path) as crowd, crowd.connector("one") as one:
        async with crowd.connector("two", lease=2 * LEASE):
            await crowd.wait(lambda: told(crowd, AlertRaised, *key) == {"one", "two"})
            answer = await perform(COMMANDS, context_of(one), "status", {})
            assert [found["option"] for found in answer["different_settings"]] == ["lease"]
        await crowd.wait(lambda: told(crowd, AlertCleared, *key) == {"one"})


async def test_who_was_dismissed_ends_with_its_lease(path: PostgresAddress) -> None:
    """As after a long SIGSTOP: the others have deleted its row."""
    async with open_crowd(path) as crowd:
        ended: list[BaseException] = []
        try:
            async with crowd.connector("one"):
                await wait_held(crowd, "one")
                asked(crowd, "DELETE FROM member")
                await trio.sleep(LEASE)
        except* LeaseLost as group:
            ended += group.exceptions
        assert ended
        async with crowd.connector("two"):
            crowd.ask("public")
            await crowd.wait_answered(1)


async def test_a_pause_of_one_process_holds_for_all(path: PostgresAddress) -> None:
    async with open_crowd(path) as crowd, crowd.connector("one") as one, crowd.connector("two") as two:
        pause = PausedKind(Kind.PUBLIC_DECRYPTION, 0.0, "a test")
        await one.components.journal.run(inspecting.pause, pause)
        await crowd.wait(lambda: paused(two) and paused(one))
        await two.components.journal.run(inspecting.resume, Kind.PUBLIC_DECRYPTION)
        await crowd.wait(lambda: not paused(two) and not paused(one))


def paused(connector: Connector) -> bool:
    return any(pool.paused for pool in connector.components.pools.values())


async def test_a_silent_process_is_dismissed_and_an_alert_names_it(path: PostgresAddress) -> None:
    async with open_crowd(path) as crowd, crowd.connector("one"):
        asked(crowd, "INSERT INTO member (name) VALUES ('gone@there')")
        asked(crowd, "INSERT INTO presence SELECT token FROM member WHERE name = 'gone@there'")
        asked(crowd, "INSERT INTO lease SELECT 'something', token FROM member WHERE name = 'gone@there'")
        began = trio.current_time()
        [alert] = await crowd.wait(
            lambda: [one for one in crowd.of("one", AlertRaised) if one.cause == "member-fenced"]
        )
        assert LEASE - 0.1 < trio.current_time() - began < LEASE + AT_ONCE
        assert alert.dependency == "gone@there"
        assert "something" not in holders(crowd)


async def test_a_process_has_as_many_connections_as_doctor_counts(path: PostgresAddress) -> None:
    """``kmsconn doctor`` adds them to ``database_pool_size``, and operators set ``max_connections`` by that."""
    doctors = OTHER_CONNECTIONS + 1
    async with AsyncExitStack() as stack:
        crowd = await stack.enter_async_context(open_crowd(path))
        await crowd.wait(lambda: not connections(crowd))  # of a test before this one, which end by themselves
        await stack.enter_async_context(crowd.connector("one", database_pool_size=1))
        await wait_held(crowd, "one")
        counted = [connections(crowd)]
        crowd.ask(*FORMS)
        while len(crowd.truth.answered) < 3:
            counted.append(connections(crowd))
            await trio.sleep(0.02)
        await crowd.wait(lambda: connections(crowd) == doctors)
        assert max(counted) <= doctors


def connections(crowd: Crowd) -> int:
    """Return how many connections of kmsconn the database has at present."""
    ours = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kmsconn'"
    )
    return len(asked(crowd, ours))


async def test_a_database_that_went_back_ends_the_connector(path: PostgresAddress) -> None:
    """As after a fail-over to a server that lacked the last commits: what the next one knows it reads anew."""
    async with open_crowd(path) as crowd:
        ended: list[BaseException] = []
        try:
            async with crowd.connector("one"):
                crowd.ask("public")
                await crowd.wait_answered(1)
                asked(crowd, "UPDATE meta SET value = '0' WHERE key = 'tick'")
                await trio.sleep(LEASE)
        except* JournalWentBack as group:
            ended += group.exceptions
        assert ended
        async with crowd.connector("two"):
            crowd.ask("public")
            await crowd.wait_answered(2)
