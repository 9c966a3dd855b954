"""Operations that only read, on connections of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kmsconn.errors import JournalFailed
from kmsconn.journal import moves, queries
from kmsconn.journal.database import READING, Database
from kmsconn.journal.journal import REFUSED, TOLD, Journal, Readers
from kmsconn.journal.postgres import PostgresReadingDriver
from kmsconn.model.life import State
from kmsconn.transport.ports import Offload, offload_inline
from tests.fake_postgres import ADDRESS, FakeServer, Loss
from tests.unit.journal.samples import BINDING, CHAIN, keep, signing, wall
from tests.unit.journal.test_journal_groups import adds, writing

T = TypeVar("T")


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@asynccontextmanager
async def journal_on(
    server: FakeServer, offload: Offload = offload_inline, limit: int = 2, write: Offload = offload_inline
) -> AsyncIterator[Journal]:
    db = Database(server.driver(), wall)
    db.open(BINDING)
    readers = Readers(
        lambda: Database(PostgresReadingDriver(ADDRESS, 1, server.connect), wall), offload, limit
    )
    async with writing(db, write, readers) as journal:
        yield journal
    db.close()


async def test_a_question_sees_what_was_awaited_and_takes_no_turn(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        await journal.run(keep, rid)
        server.asked.clear()
        found = await journal.run(queries.row, rid)
        assert found is not None
        assert found.state is State.ANSWERED
        assert [words.split()[0] for words in server.asked] == ["BEGIN", "SELECT", "ROLLBACK"]


async def test_an_answer_that_is_being_kept_is_seen_by_who_ends_answers(server: FakeServer) -> None:
    async def slow(use: str, work: Callable[[], T]) -> T:
        await trio.sleep(1)
        return work()

    async with journal_on(server, write=slow) as journal, trio.open_nursery() as nursery:
        rid = await journal.run(adds(1))
        nursery.start_soon(journal.run, keep, rid)
        await wait_all_tasks_blocked()
        assert [row.rid for row in await journal.run(queries.answered_after, CHAIN, (-1, -1), 9)] == [rid]


async def test_a_row_that_cannot_be_read_is_set_aside_by_the_writer(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.database.execute("UPDATE request SET log = x'00'")
        assert await journal.run(queries.row, rid) is None
        assert [*journal.damaged] == [rid]
        assert server.database.execute("SELECT state FROM request").fetchall() == [("quarantined",)]
        assert await journal.run(queries.signed, 1) == ()


async def signed_rows(journal: Journal, count: int) -> list[int]:
    rids = [await journal.run(adds(number)) for number in range(1, count + 1)]
    for rid in rids:
        await journal.run(keep, rid)
    await journal.run_each(moves.sign, [{"signing": signing(rid, rid)} for rid in rids])
    return rids


async def test_rows_are_asked_for_together(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rids = await signed_rows(journal, 5)
        server.rounds.clear()
        assert [row.rid for row in await journal.run(queries.signed, CHAIN)] == rids
        assert len(server.rounds) == 2  # the list, and what is on it


async def test_of_rows_asked_for_together_a_damaged_one_is_set_aside_alone(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        first, second, third = await signed_rows(journal, 3)
        server.database.execute("UPDATE request SET log = x'00' WHERE rid = ?", (second,))
        assert [row.rid for row in await journal.run(queries.signed, CHAIN)] == [first, third]
        assert [*journal.damaged] == [second]


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_question_whose_connection_ends_is_answered_by_the_writer(server: FakeServer, at: int) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        assert await journal.run(queries.row, rid) is not None
        server.losses = [Loss(len(server.asked) + at)]
        assert await journal.run(queries.row, rid) is not None
        assert journal.failures.text == ""


async def test_a_server_that_is_away_fails_questions_and_is_told(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        for session in server.sessions:
            session.lose()
        server.refusals = 10**6
        with pytest.raises(JournalFailed, match="connection refused"):
            await journal.run(queries.row, 1)
        assert "connection refused" in journal.failures.text
        server.refusals = 0
        await journal.run(adds(1))
        assert journal.failures.text == ""


async def test_a_failure_to_write_is_not_over_with_a_question(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        journal.failures.unwritten = "the journal could not be written: no room"
        assert await journal.run(queries.row, 1) is None
        assert "no room" in journal.failures.text


async def test_no_more_questions_are_asked_at_once_than_there_may_be_connections(server: FakeServer) -> None:
    gate, asked = trio.Event(), 0

    async def offload(use: str, work: Callable[[], T]) -> T:
        nonlocal asked
        assert use == "journal reads"
        asked += 1
        await gate.wait()
        return work()

    async with journal_on(server, offload) as journal, trio.open_nursery() as nursery:
        for rid in range(5):
            nursery.start_soon(journal.run, queries.row, rid)
        await wait_all_tasks_blocked()
        assert asked == 2
        gate.set()
        await wait_all_tasks_blocked()
        assert (asked, len(server.sessions)) == (5, 2 + 2)  # beside the two that migrate and write


async def test_a_closed_journal_answers_no_question(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        pass
    with pytest.raises(JournalFailed, match="closed"):
        await journal.run(queries.row, 1)


@pytest.mark.parametrize("operation", [moves.move, moves.sign, adds(1), moves.defer])
def test_what_changes_something_is_no_question(operation: Any) -> None:
    assert operation not in READING


async def test_without_a_place_for_a_connection_questions_take_their_turn(
    server: FakeServer, mock_clock: MockClock
) -> None:
    """And the server is asked for a place once in a while, not for each of them."""
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.refusals, server.refusal = 10**6, "FATAL: too many connections for role"
        for _ in range(3):
            assert await journal.run(queries.row, rid) is not None
        assert (journal.failures.text, 10**6 - server.refusals) == ("", 1)
        server.refusals = 0
        mock_clock.jump(REFUSED)
        server.asked.clear()
        assert await journal.run(queries.row, rid) is not None
        assert "ROLLBACK" in server.asked


async def test_a_question_beside_the_journal_that_fails_is_told_until_one_is_answered(
    server: FakeServer,
) -> None:
    """Whatever else is written or read meanwhile."""

    async def asking(why_not: str) -> None:
        await trio.lowlevel.checkpoint()
        if why_not:
            raise JournalFailed(why_not)

    async with journal_on(server) as journal:
        with pytest.raises(JournalFailed):
            await journal.failures.noting(asking("no place for a connection"))
        rid = await journal.run(adds(1))
        assert await journal.run(queries.row, rid) is not None
        assert journal.failures.text == "no place for a connection"
        await journal.failures.noting(asking(""))
        assert journal.failures.text == ""


async def test_an_operation_that_fails_alone_is_told_for_a_while(
    server: FakeServer, mock_clock: MockClock
) -> None:
    """Whoever needs it repeats it; others are written meanwhile."""
    async with journal_on(server) as journal:
        with pytest.raises(JournalFailed):
            await journal.run(lambda db: db.execute("INSERT INTO absent VALUES (1)").rowcount)
        await journal.run(adds(1))
        assert "absent" in journal.failures.text
        mock_clock.jump(TOLD)
        assert journal.failures.text == ""
