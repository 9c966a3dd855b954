"""A journal in PostgreSQL whose connection ends in any statement: nothing is lost or done twice, and all goes on or begins anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import Any, TypeVar

import pytest
import trio

from kmsconn.errors import (
    JournalFailed,
    JournalUnreachable,
    JournalWentBack,
    LeaseLost,
    NonceTaken,
    OutcomeUnknown,
    StartAgain,
)
from kmsconn.journal import inspecting, moves, queries
from kmsconn.journal import journal as journal_module
from kmsconn.journal.database import Database, counted
from kmsconn.journal.journal import Journal
from kmsconn.journal.postgres_schema import LOCK
from kmsconn.model.life import State
from kmsconn.transport.ports import offload_inline
from tests.fake_postgres import FakeServer, Loss
from tests.unit.journal.samples import ANSWER, BINDING, CHAIN, KIND, keep, signing, wall
from tests.unit.journal.test_journal_groups import adds, gather, writing
from tests.unit.journal.test_journal_life import life

T = TypeVar("T")

COMMIT_OF_ONE = 6
"""Where the commit stands in a group of one move: begin, lock, the count of commits with the tick, the move, the tick, the commit."""


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def connected(server: FakeServer) -> Database:
    """Open a database on a server as a member."""
    db = Database(server.driver(), wall)
    db.open(BINDING)
    db.driver.join(server.join())  # type: ignore[union-attr]
    return db


@asynccontextmanager
async def journal_on(server: FakeServer) -> AsyncIterator[Journal]:
    db = connected(server)
    async with writing(db, offload_inline) as journal:
        yield journal
    db.close()


@counted
def closes(db: Database, rid: int) -> bool:
    return moves.move(db, "quarantine", rid, reason="because")


async def until_kept(work: Callable[[], Awaitable[Any]]) -> int:
    """Do as the callers of the journal do: repeat what failed. Return how often it did."""
    for failures in range(9):
        try:
            await work()
        except JournalFailed:
            continue
        return failures
    raise AssertionError("the journal does not recover")


async def living_on(server: FakeServer, work: Callable[[Journal], Awaitable[T]]) -> tuple[T, int]:
    """Do some work over a journal, and begin anew as ``kmsconn run`` does; return what it gave, and how often it was begun."""
    for starts in range(1, 9):
        try:
            async with journal_on(server) as journal:
                return await work(journal), starts
        except ExceptionGroup as group:
            again, others = group.split((StartAgain, JournalFailed))
            if others is not None or again is None or again.subgroup(StartAgain) is None:
                raise
    raise AssertionError("the journal does not recover")


async def whole_life(journal: Journal) -> tuple[Any, ...]:
    """Take a request through its life, and return what the journal says of it."""
    failures = await until_kept(partial(life, journal))
    found = await journal.run(queries.row, 1)
    assert found is not None
    steps = [entry.step for entry in await journal.run(inspecting.history, 1)]
    counts = (await journal.run(queries.counts, 0.0)).states
    return failures, found.state, steps, counts, journal.failures.text


@pytest.mark.parametrize("after", [False, True])
async def test_a_life_goes_on_wherever_the_connection_ends(after: bool) -> None:
    """Each transition stands once in the row's history: none was lost, none was done twice. What is unknown after a commit begins anew."""
    calm = FakeServer()
    async with journal_on(calm) as journal:
        begins = len(calm.asked)
        await life(journal)
        ends = len(calm.asked)
        undisturbed = [entry.step for entry in await journal.run(inspecting.history, 1)]
    assert begins + 20 < ends
    for number in range(begins + 1, ends + 1):
        server = FakeServer([Loss(number, after)])
        (failures, state, steps, counts, failure), starts = await living_on(server, whole_life)
        assert state is State.FINALIZED
        assert steps == undisturbed
        assert counts == {(KIND, State.FINALIZED): 1}
        assert (failures, failure) in {(0, ""), (1, "")}
        assert starts == 2 if server.asked[number - 1] == "COMMIT" else starts <= 2


@pytest.mark.parametrize("after", [False, True])
def test_a_start_is_tried_again_wherever_the_connection_ends(after: bool) -> None:
    calm = FakeServer()
    open_first(calm)
    opened_at_once = set()
    for number, statement in enumerate(calm.asked, 1):
        server = FakeServer([Loss(number, after)])
        with suppress(JournalUnreachable):
            open_first(server)
            opened_at_once.add(statement)
        open_first(server)
    assert "COMMIT" not in opened_at_once


def open_first(server: FakeServer) -> None:
    """Open a journal as a start does."""
    with closing(Database(server.driver(), wall)) as db:
        journal_module._open(db, BINDING)


@pytest.mark.parametrize("after", [False, True])
async def test_a_commit_whose_outcome_is_unknown_begins_anew(server: FakeServer, after: bool) -> None:
    """Nobody who asked is told that it was done, nor repeats it here: the next start finds what there is."""
    outcomes: dict[int, Any] = {}
    with pytest.RaisesGroup(OutcomeUnknown):
        async with journal_on(server) as journal:
            rid = await journal.run(adds(1))
            server.losses = [Loss(len(server.asked) + COMMIT_OF_ONE, after)]
            await gather(outcomes, 0, journal, partial(keep, rid=rid))
            await trio.sleep_forever()
    assert server.asked[server.losses[0].at - 1] == "COMMIT"
    assert isinstance(outcomes[0], JournalFailed)
    assert journal.is_closed
    async with journal_on(server) as journal:
        found = await journal.run(queries.row, rid)
        assert found is not None
        assert found.state is (State.ANSWERED if after else State.PENDING)


async def test_a_server_that_is_away_fails_each_group_and_all_goes_on_after_it(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.refusals = 2
        server.sessions[-1].lose()
        for _ in range(2):
            with pytest.raises(JournalFailed, match="refused"):
                await journal.run(keep, rid)
            assert "refused" in journal.failures.text
        assert await journal.run(keep, rid)
        assert journal.failures.text == ""


async def test_an_answer_that_was_refused_at_first_is_news_once_it_is_kept(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.database.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON request BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        with pytest.raises(JournalFailed, match="full"):
            await journal.run(keep, rid)
        seen = journal.answers_tick
        server.database.execute("DROP TRIGGER full")
        assert await journal.run(keep, rid)
        assert journal.answers_tick > seen


def ends(server: FakeServer) -> None:
    server.sessions[-1].lose()


def ends_and_is_heard_late(server: FakeServer) -> None:
    server.losses = [Loss(len(server.asked) + 1)]


def fails_over_with_all_commits(server: FakeServer) -> None:
    server.fail_over(server.snapshot())


@pytest.mark.parametrize("happens", [ends, ends_and_is_heard_late, fails_over_with_all_commits])
async def test_an_idle_connection_that_ended_costs_nobody_anything(
    server: FakeServer, happens: Callable[[FakeServer], None]
) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        happens(server)
        assert await journal.run(keep, rid)


async def test_a_process_without_its_row_writes_nothing_more(server: FakeServer) -> None:
    with pytest.RaisesGroup(LeaseLost):
        async with journal_on(server) as journal:
            rid = await journal.run(adds(1))
            server.database.execute("DELETE FROM member")
            with pytest.raises(JournalFailed):
                await journal.run(keep, rid)
            await trio.sleep_forever()
    assert server.database.execute("SELECT state FROM request").fetchall() == [("pending",)]
    assert not server.database.in_transaction


@pytest.mark.parametrize("rows_after", [1, 0])
async def test_a_standby_without_the_last_commits_is_found(server: FakeServer, rows_after: int) -> None:
    """By the tick where a row moved, by the number of commits where one was only deferred."""
    with pytest.RaisesGroup(JournalWentBack):
        async with journal_on(server) as journal:
            rid = await journal.run(adds(1))
            standby = server.snapshot()
            await (journal.run(adds(2)) if rows_after else journal.run(moves.defer, rid, 9.0, "later"))
            server.fail_over(standby)
            with pytest.raises(JournalFailed):
                await journal.run(keep, rid)
            await trio.sleep_forever()
    assert server.database.execute("SELECT state FROM request").fetchall() == [("pending",)]


async def test_a_statement_that_fails_has_its_group_done_again_and_fails_alone(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rids = [await journal.run(adds(number)) for number in (1, 2, 3)]
        for rid in rids:
            await journal.run(keep, rid)
        done = await journal.run_each(
            moves.sign, [{"signing": signing(*one)} for one in zip(rids, (7, 7, 8), strict=True)]
        )
        assert [isinstance(one, NonceTaken) or one for one in done] == [True, True, True]
        assert isinstance(done[1], NonceTaken)
        assert [row.rid for row in await journal.run(queries.signed, CHAIN)] == [rids[0], rids[2]]
        assert [entry.step for entry in await journal.run(inspecting.history, rids[2])] == ["answer", "sign"]


async def test_a_group_of_moves_is_two_round_trips(server: FakeServer) -> None:
    """Begin, lock, and count with the tick; then all moves with the tick and the commit. What did not move says so all the same."""
    async with journal_on(server) as journal:
        rids = [await journal.run(adds(number)) for number in range(1, 6)]
        await journal.run(moves.move, "expire", rids[2], reason="over")
        server.rounds.clear()
        moved = await journal.run_each(closes, [{"rid": rid} for rid in rids])
        assert moved == [True, True, False, True, True]
        assert server.rounds == [3, 5 + 2]


async def test_a_lock_that_somebody_keeps_is_waited_for_once(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.is_locked = True
        server.asked.clear()
        with pytest.raises(JournalFailed, match="lock timeout"):
            await journal.run(keep, rid)
        assert server.asked.count(LOCK) == 1
        server.is_locked = False
        assert await journal.run(keep, rid)


async def test_what_others_write_is_found_and_moves_go_behind_it(server: FakeServer) -> None:
    async with journal_on(server) as ours, journal_on(server) as theirs:
        rids = [await ours.run(adds(number)) for number in (1, 2, 3)]
        assert await theirs.run(keep, rids[0])
        ours.note_submitted(rids[1], True)
        assert await ours.run(keep, rids[0]) is False
        assert await ours.run(keep, rids[1])
        assert (theirs.answers_tick, ours.answers_tick) == (4, 6)
        rid = await ours.run(adds(4))
        assert ours.answers_tick == 6
        assert await theirs.run(keep, rid)
        await ours.run(adds(5))
        assert ours.answers_tick == theirs.answers_tick
        assert [entry.step for entry in await ours.run(inspecting.history, rids[1])] == ["answer"]


async def test_an_operation_without_a_savepoint_that_fails_halfway_leaves_nothing(server: FakeServer) -> None:
    """Its group is undone, and done again with savepoints: the others are written, it is not."""

    def fails_halfway(db: Database, rid: int) -> None:
        with db.savepoint():
            keep(db, rid)
            raise ValueError("halfway")

    async with journal_on(server) as journal:
        rids = [await journal.run(adds(number)) for number in (1, 2)]
        outcomes: dict[int, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gather, outcomes, 0, journal, partial(fails_halfway, rid=rids[0]))
            nursery.start_soon(gather, outcomes, 1, journal, partial(keep, rid=rids[1], kept=ANSWER, now=1.0))
        assert (type(outcomes[0]), outcomes[1]) == (ValueError, True)
        states = server.database.execute("SELECT state FROM request ORDER BY rid").fetchall()
        assert states == [("pending",), ("answered",)]


async def test_what_may_be_signed_is_looked_up_in_one_round_trip(server: FakeServer) -> None:
    """The rows that are due, and when the next one is."""
    async with journal_on(server) as journal:
        for number in (1, 2, 3):
            rid = await journal.run(adds(number))
            await journal.run(keep, rid)
        db = Database(server.driver(), wall)
        db.open(BINDING)
        db.begin()
        server.rounds.clear()
        assert len(queries.answered(db, CHAIN, 1000.0, 9).rows) == 3
        assert server.rounds == [2]
        db.close()
