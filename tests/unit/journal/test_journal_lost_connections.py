"""A journal in PostgreSQL whose connection ends in any statement: nothing is lost, nothing is done twice, and all goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kmsconn.errors import JournalFailed, JournalUnreachable, JournalWentBack, LeaseLost, NonceTaken
from kmsconn.journal import inspecting, moves, opening, postgres, queries
from kmsconn.journal.database import Database, OutcomeUnknown
from kmsconn.journal.journal import FIND_OUT_AGAIN, Journal
from kmsconn.journal.operations import counted
from kmsconn.journal.postgres import MemberCount
from kmsconn.journal.postgres_opening import LOCK
from kmsconn.model.life import State
from kmsconn.transport.ports import offload_inline
from tests.fake_postgres import FakeServer, Loss
from tests.unit.journal.samples import ANSWER, BINDING, CHAIN, KIND, new_row, signing, wall
from tests.unit.journal.test_journal_groups import adds, gather
from tests.unit.journal.test_journal_life import life


@pytest.fixture(autouse=True, params=[1000, 0], ids=["asking", "supposing"])
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many transactions must have been alone before one supposes that it is: with 1000 none does, with 0 all do."""
    monkeypatch.setattr(postgres, "ALONE", request.param)
    return int(request.param)


@pytest.fixture
def commit_of_one(alone: int) -> int:
    """Where the commit stands in a group of one move: begin, lock, tick, the count of commits, the move, the tick, the commit.

    Tick and count are one statement where they are supposed.
    """
    return 7 if alone else 6


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def connected(server: FakeServer) -> Database:
    """Open a database on a server as a member."""
    db = Database(server.driver(), wall)
    db.open(BINDING)
    db.driver.member = MemberCount(server.join())  # type: ignore[attr-defined]
    return db


@asynccontextmanager
async def journal_on(server: FakeServer) -> AsyncIterator[Journal]:
    db = connected(server)
    async with trio.open_nursery() as nursery:
        journal = Journal(db, offload_inline)
        nursery.start_soon(journal.commit_groups)
        try:
            yield journal
        finally:
            journal.close()
    db.close()


@counted
def closes(db: Database, rid: int) -> bool:
    return moves.close(db, rid, "quarantine", "because")


async def until_kept(work: Callable[[], Awaitable[Any]]) -> int:
    """Do as the callers of the journal do: repeat what failed. Return how often it did."""
    for failures in range(9):
        try:
            await work()
        except JournalFailed:
            continue
        return failures
    raise AssertionError("the journal does not recover")


@pytest.mark.parametrize("after", [False, True])
async def test_a_life_goes_on_wherever_the_connection_ends(after: bool) -> None:
    """Each transition stands once in the row's history: none was lost, none was done twice."""
    async with journal_on(FakeServer()) as journal:
        begins = len(journal._db.driver.queue._session.server.asked)  # type: ignore[attr-defined]
        await life(journal)
        ends = len(journal._db.driver.queue._session.server.asked)  # type: ignore[attr-defined]
        undisturbed = [entry.step for entry in await journal.run(inspecting.history, 1)]
    assert begins + 20 < ends
    for number in range(begins + 1, ends + 1):
        server = FakeServer([Loss(number, after)])
        async with journal_on(server) as journal:
            failures = await until_kept(partial(life, journal))
            found = await journal.run(queries.row, 1)
            assert found is not None
            assert found.state is State.FINALIZED
            assert [entry.step for entry in await journal.run(inspecting.history, 1)] == undisturbed
            assert (await journal.run(queries.counts, 0.0)).states == {(KIND, State.FINALIZED): 1}
            assert (failures, journal.failure) in {(0, ""), (1, "")}


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
        opening._open(db, BINDING)


async def answer_with(server: FakeServer, journal: Journal, at: int, *, after: bool) -> bool:
    """Have a row answered by a commit whose connection ends before or after it was kept."""
    rid = await journal.run(adds(1))
    server.losses = [Loss(len(server.asked) + at, after)]
    answered = await journal.run(moves.answer, rid, ANSWER, 1000.0)
    assert "COMMIT" in server.asked[server.losses[0].at - 1]
    return answered


async def test_a_commit_that_was_kept_unheard_is_no_failure(server: FakeServer, commit_of_one: int) -> None:
    async with journal_on(server) as journal:
        assert await answer_with(server, journal, commit_of_one, after=True)
        assert journal.failure == ""
        assert [entry.step for entry in await journal.run(inspecting.history, 1)] == ["answer"]


async def test_a_commit_that_was_not_kept_is_repeated(
    server: FakeServer, alone: int, commit_of_one: int
) -> None:
    """By the caller, who is told; at once where it went in one round trip, whose connection may have ended long before."""
    async with journal_on(server) as journal:
        if alone:
            with pytest.raises(JournalFailed, match="not known"):
                await answer_with(server, journal, commit_of_one, after=False)
            assert await journal.run(moves.answer, 1, ANSWER, 1000.0)
        else:
            assert await answer_with(server, journal, commit_of_one, after=False)
        assert [entry.step for entry in await journal.run(inspecting.history, 1)] == ["answer"]


async def test_nothing_is_applied_before_the_outcome_is_known(server: FakeServer, commit_of_one: int) -> None:
    """The server is away for a while: whoever asked waits, and the alert names why."""
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.refusals = 4
        server.losses = [Loss(len(server.asked) + commit_of_one, after=True)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run, moves.answer, rid, ANSWER, 1000.0)
            await wait_all_tasks_blocked()
            assert "COMMIT" in server.asked[-1]
            asked = len(server.asked)
            nursery.start_soon(journal.run, moves.defer, rid, 5.0, "later")
            await trio.sleep(FIND_OUT_AGAIN)
            assert "not known whether it was written" in journal.failure
            assert len(server.asked) == asked
        assert journal.failure == ""
        found = await journal.run(queries.row, rid)
        assert found is not None
        assert (found.state, found.progress.reason) == (State.ANSWERED, "later")


async def test_a_server_that_is_away_fails_each_group_and_all_goes_on_after_it(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.refusals = 2
        server.sessions[-1].lose()
        for _ in range(2):
            with pytest.raises(JournalFailed, match="refused"):
                await journal.run(moves.answer, rid, ANSWER, 1000.0)
            assert "refused" in journal.failure
        assert await journal.run(moves.answer, rid, ANSWER, 1000.0)
        assert journal.failure == ""


async def test_an_idle_connection_that_ended_costs_nobody_anything(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.sessions[-1].lose()
        assert await journal.run(moves.answer, rid, ANSWER, 1000.0)


async def test_an_idle_connection_whose_end_is_heard_late_costs_nobody_anything(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.losses = [Loss(len(server.asked) + 1)]
        assert await journal.run(moves.answer, rid, ANSWER, 1000.0)


async def test_a_process_without_its_row_writes_nothing_more(server: FakeServer) -> None:
    with pytest.RaisesGroup(LeaseLost):
        async with journal_on(server) as journal:
            rid = await journal.run(adds(1))
            server.database.execute("DELETE FROM member")
            with pytest.raises(JournalFailed):
                await journal.run(moves.answer, rid, ANSWER, 1000.0)
            await trio.sleep_forever()
    assert server.database.execute("SELECT state FROM request").fetchall() == [("pending",)]
    assert not server.database.in_transaction


async def test_a_process_that_lost_its_row_after_a_commit_starts_again(
    server: FakeServer, commit_of_one: int
) -> None:
    """Whether the commit was kept nobody can tell any more; the next start finds what there is."""
    with pytest.RaisesGroup(LeaseLost):
        async with journal_on(server) as journal:
            rid = await journal.run(adds(1))
            server.losses, server.refusals = [Loss(len(server.asked) + commit_of_one, after=True)], 2
            outcomes: dict[int, Any] = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    gather, outcomes, 0, journal, partial(moves.answer, rid=rid, kept=ANSWER, now=1.0)
                )
                await wait_all_tasks_blocked()
                server.database.execute("DELETE FROM member")
            assert isinstance(outcomes[0], JournalFailed)
            await trio.sleep_forever()


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
                await journal.run(moves.answer, rid, ANSWER, 1000.0)
            await trio.sleep_forever()
    assert server.database.execute("SELECT state FROM request").fetchall() == [("pending",)]


async def test_a_standby_with_all_commits_goes_on(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.fail_over(server.snapshot())
        assert await journal.run(moves.answer, rid, ANSWER, 1000.0)


def test_without_a_member_an_unknown_outcome_counts_as_not_written(server: FakeServer) -> None:
    """As of a command on the journal of a stopped connector: who repeats it finds what was done."""
    db = Database(server.driver(), wall)
    db.open(BINDING)
    db.begin()
    rid = new_row(db)
    db.commit()
    db.begin()
    moves.answer(db, rid, ANSWER, 1000.0)
    server.losses = [Loss(len(server.asked) + 2, after=True)]
    with pytest.raises(OutcomeUnknown):
        db.commit()
    assert not db.find_out()
    db.close()


async def test_a_statement_that_fails_has_its_group_done_again_and_fails_alone(server: FakeServer) -> None:
    async with journal_on(server) as journal:
        rids = [await journal.run(adds(number)) for number in (1, 2, 3)]
        for rid in rids:
            await journal.run(moves.answer, rid, ANSWER, 1000.0)
        journal.note_stage(rids[2], "answer", 1.5)
        done = await journal.run_each(
            moves.sign, [signing(rids[0], 7), signing(rids[1], 7), signing(rids[2], 8)]
        )
        assert [isinstance(one, NonceTaken) or one for one in done] == [True, True, True]
        assert isinstance(done[1], NonceTaken)
        assert [row.rid for row in await journal.run(queries.signed, CHAIN)] == [rids[0], rids[2]]
        entry = (await journal.run(inspecting.history, rids[2]))[-1]
        assert (entry.step, dict(entry.stages)) == ("sign", {"answer": 1.5})


async def test_a_group_of_moves_is_two_round_trips_or_one(server: FakeServer, alone: int) -> None:
    """Begin, lock, tick and count; then all moves with the tick and the commit. What did not move says so all the same.

    While no other process writes, all of it goes at once: the lock, what is supposed, the moves and the tick.
    """
    async with journal_on(server) as journal:
        rids = [await journal.run(adds(number)) for number in range(1, 6)]
        await journal.run(moves.close, rids[2], "expire", "over")
        server.rounds.clear()
        moved = await journal.run_each(closes, rids)
        assert moved == [True, True, False, True, True]
        assert server.rounds == ([4, 5 + 2] if alone else [2 + 5 + 1])


async def test_some_transactions_alone_let_the_next_one_suppose_that_it_is(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ALONE", 2)
    async with journal_on(server) as journal:
        rids = [await journal.run(adds(number)) for number in range(1, 6)]
        for rid in rids:
            server.rounds.clear()
            await journal.run(moves.defer, rid, 9.0, "later")
        assert server.rounds == [3]


async def test_a_lock_that_somebody_keeps_is_waited_for_once(server: FakeServer) -> None:
    """Also by a group that supposes to be alone: it waits for nothing, and is done again as one that does."""
    async with journal_on(server) as journal:
        rid = await journal.run(adds(1))
        server.is_locked = True
        server.asked.clear()
        with pytest.raises(JournalFailed, match="lock timeout"):
            await journal.run(moves.answer, rid, ANSWER, 1000.0)
        assert server.asked.count(LOCK) == 1
        server.is_locked = False
        assert await journal.run(moves.answer, rid, ANSWER, 1000.0)


async def test_what_others_write_is_found_and_moves_go_behind_it(server: FakeServer) -> None:
    """What was supposed wrongly is undone, and done again with what is there; then nothing is supposed for a while."""
    async with journal_on(server) as ours, journal_on(server) as theirs:
        rids = [await ours.run(adds(number)) for number in (1, 2, 3)]
        assert await theirs.run(moves.answer, rids[0], ANSWER, 1000.0)
        ours.note_submitted(rids[1], True)
        assert await ours.run(moves.answer, rids[0], ANSWER, 1000.0) is False
        assert await ours.run(moves.answer, rids[1], ANSWER, 1000.0)
        ticks = [tick for (tick,) in server.database.execute("SELECT tick FROM request ORDER BY tick")]
        assert (len({*ticks}), ours.tick) == (3, ticks[-1])
        assert [entry.step for entry in await ours.run(inspecting.history, rids[1])] == ["answer"]


async def test_an_operation_without_a_savepoint_that_fails_halfway_leaves_nothing(server: FakeServer) -> None:
    """Its group is undone, and done again with savepoints: the others are written, it is not."""

    def fails_halfway(db: Database, rid: int) -> None:
        with db.savepoint():
            moves.answer(db, rid, ANSWER, 1000.0)
            raise ValueError("halfway")

    async with journal_on(server) as journal:
        rids = [await journal.run(adds(number)) for number in (1, 2)]
        outcomes: dict[int, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gather, outcomes, 0, journal, partial(fails_halfway, rid=rids[0]))
            nursery.start_soon(
                gather, outcomes, 1, journal, partial(moves.answer, rid=rids[1], kept=ANSWER, now=1.0)
            )
        assert (type(outcomes[0]), outcomes[1]) == (ValueError, True)
        states = server.database.execute("SELECT state FROM request ORDER BY rid").fetchall()
        assert states == [("pending",), ("answered",)]


async def test_what_may_be_signed_is_looked_up_in_two_round_trips(server: FakeServer) -> None:
    """What is due, what is stranded and when the next one is due; then the rows."""
    async with journal_on(server) as journal:
        for number in (1, 2, 3):
            rid = await journal.run(adds(number))
            await journal.run(moves.answer, rid, ANSWER, 1000.0)
        db = Database(server.driver(), wall)
        db.open(BINDING)
        db.begin()
        server.rounds.clear()
        assert len(queries.answered(db, CHAIN, 1000.0, 9).rows) == 3
        assert server.rounds == [3, 4]
        db.close()
