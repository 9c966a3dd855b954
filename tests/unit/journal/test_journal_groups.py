"""Group commit: one fsync for all who asked, each operation for itself, and what holds when the disk says no."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kmsconn.errors import JournalFailed, NonceTaken
from kmsconn.journal import audit, moves, queries, recording
from kmsconn.journal.database import RIDE, Database, off_loop, reads, rides
from kmsconn.journal.groups import OPERATIONS_BETWEEN_CHECKPOINTS, Execution, apply_group
from kmsconn.journal.journal import QUEUE, Journal, Readers
from kmsconn.journal.recording import Arrival, Recorded
from kmsconn.model.life import State
from kmsconn.transport.ports import Offload
from tests.unit.journal.samples import (
    AutocommitDatabase,
    arrival,
    dump,
    keep,
    new_row,
    read_of,
    row_of,
    signing,
)

T = TypeVar("T")


class Gate:
    """An offload that counts groups, and holds them up while it is shut; ``fault`` comes instead of the next group."""

    def __init__(self) -> None:
        self.groups = 0
        self.open = trio.Event()
        self.open.set()
        self.fault: Exception | None = None

    async def __call__(self, use: str, work: Callable[[], T]) -> T:
        assert use == "journal"
        await self.open.wait()
        self.groups += 1
        if self.fault is not None:
            raise self.fault
        return work()


class FailingDatabase(AutocommitDatabase):
    """A database whose commits fail while ``broken``, as those of a full disk do."""

    broken = False

    def commit(self) -> None:
        if self.broken:
            raise self.driver.error("database or disk is full")
        super().commit()


@pytest.fixture
def failing(db: Database) -> FailingDatabase:
    db.__class__ = FailingDatabase
    assert isinstance(db, FailingDatabase)
    return db


@pytest.fixture
def gate() -> Gate:
    return Gate()


@asynccontextmanager
async def writing(db: Database, offload: Offload, readers: Readers | None = None) -> AsyncIterator[Journal]:
    journal = Journal(db, offload, readers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.commit_groups)
        try:
            yield journal
        finally:
            journal.close()
            if readers is not None:
                readers.close()


def adds(id_: int) -> Callable[[Database], int]:
    return lambda db: new_row(db, id_)


def answers(db: Database) -> bool:
    return keep(db, new_row(db, 1))


def fails(db: Database) -> int:
    with db.savepoint():
        new_row(db, 99)
        raise NonceTaken("no")


def rows(db: Database) -> int:
    return len(dump(db))


@reads
def asks(db: Database) -> int:
    return rows(db)


@off_loop()
def rows_off_loop(db: Database) -> int:
    return rows(db)


async def gather(
    outcomes: dict[int, Any], number: int, journal: Journal, apply: Callable[[Database], Any]
) -> None:
    try:
        outcomes[number] = await journal.run(apply)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        outcomes[number] = error


async def all_at_once(journal: Journal, gate: Gate, *operations: Callable[[Database], Any]) -> list[Any]:
    """Have operations wait together behind a shut gate, then let them go as one group behind a first, long read."""
    outcomes: dict[int, Any] = {}
    gate.open = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gather, {}, 0, journal, rows_off_loop)
        await wait_all_tasks_blocked()
        for number, apply in enumerate(operations):
            nursery.start_soon(gather, outcomes, number, journal, apply)
            await wait_all_tasks_blocked()
        gate.open.set()
    return [outcomes[number] for number in range(len(operations))]


async def queued(nursery: trio.Nursery, journal: Journal, gate: Gate, count: int) -> dict[int, Any]:
    """Have rows wait behind a shut gate, and return where their outcomes will be."""
    outcomes: dict[int, Any] = {}
    gate.open = trio.Event()
    for number in range(count):
        nursery.start_soon(gather, outcomes, number, journal, adds(number))
        await wait_all_tasks_blocked()
    return outcomes


async def test_an_operation_returns_its_value_and_a_closed_journal_says_so(db: Database) -> None:
    async with writing(db, Gate()) as journal:
        assert await journal.run(adds(1)) == 1
    with pytest.raises(JournalFailed, match="closed"):
        await journal.run(rows)


async def test_those_who_ask_meanwhile_are_one_group_in_the_order_of_their_calls(
    db: Database, gate: Gate
) -> None:
    async with writing(db, gate) as journal:
        many = (one for number in range(50) for one in (rows, adds(number)))
        seen = await all_at_once(journal, gate, *many)
    assert seen[::2] == list(range(50))
    assert (gate.groups, rows(db)) == (2, 50)


async def test_one_that_raises_undoes_itself_alone(db: Database, gate: Gate) -> None:
    async with writing(db, gate) as journal:
        first, bad, last = await all_at_once(journal, gate, adds(1), fails, adds(2))
    assert isinstance(bad, NonceTaken)
    assert [row_of(db, rid).id for rid in (first, last)] == [1, 2]
    assert rows(db) == 2


async def test_a_statement_that_is_refused_has_changed_nothing(db: Database, gate: Gate) -> None:
    """SQLite undoes it, with what its trigger did, though no savepoint stands around it."""
    for id_ in (1, 2):
        new_row(db, id_)
    clash = "UPDATE request SET state = 'signed', nonce = 7"
    async with writing(db, gate) as journal:
        bad, last = await all_at_once(journal, gate, lambda db: db.execute(clash), adds(3))
    assert isinstance(bad, JournalFailed)
    assert [row_of(db, rid).reply.nonce for rid in (1, 2, last)] == [None, None, None]


@pytest.mark.parametrize("error", [ValueError("v"), OverflowError("o"), KeyError("k"), TypeError("t")])
async def test_a_faulty_value_costs_its_caller_only(db: Database, error: Exception, gate: Gate) -> None:
    def breaks(_: Database) -> None:
        raise error

    async with writing(db, gate) as journal:
        bad, good = await all_at_once(journal, gate, breaks, adds(1))
    assert (bad, good) == (error, 1)


@pytest.mark.sqlite
async def test_a_group_that_only_reads_is_not_taken_off_the_loop(db: Database, gate: Gate) -> None:
    async with writing(db, gate) as journal:
        assert [await journal.run(rows), await journal.run(rows)] == [0, 0]
    assert gate.groups == 0


@pytest.mark.sqlite
async def test_of_a_group_that_writes_only_the_commit_is_taken_off_the_loop(db: Database) -> None:
    used: list[object] = []

    async def offload(use: str, work: Callable[[], T]) -> T:
        used.append((use, work))
        return work()

    await apply_group(db, [Execution(adds(number)) for number in range(3)], offload)
    assert used == [("journal", db.commit)]


@pytest.mark.sqlite
async def test_a_long_operation_is_applied_off_the_loop_in_its_turn(db: Database, gate: Gate) -> None:
    executions: list[Execution[int]] = [Execution(rows), Execution(off_loop()(adds(1))), Execution(rows)]
    await apply_group(db, executions, gate)
    assert [execution.result() for execution in executions] == [0, 1, 1]
    assert gate.groups == 2


@pytest.mark.sqlite
async def test_the_loop_runs_on_while_a_large_group_is_applied(db: Database) -> None:
    steps: list[int] = []

    async def count() -> None:
        for step in range(3):
            steps.append(step)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        seen = [Execution(lambda _: len(steps)) for _ in range(3 * OPERATIONS_BETWEEN_CHECKPOINTS)]
        await apply_group(db, seen, Gate())
    assert seen[0].result() < seen[-1].result()


async def test_what_was_applied_has_failed_when_the_commit_was_not_waited_for(db: Database) -> None:
    operation = Execution(adds(1))

    async def hangs(use: str, work: Callable[[], T]) -> T:
        await trio.sleep_forever()
        raise AssertionError

    with trio.move_on_after(0):
        await apply_group(db, [operation], hangs)
    with pytest.raises(JournalFailed):
        operation.result()


async def test_an_error_of_the_database_comes_out_as_ours(db: Database) -> None:
    async with writing(db, Gate()) as journal:
        with pytest.raises(JournalFailed) as failure:
            await journal.run(lambda db: db.execute("SELECT * FROM nothing"))
    assert isinstance(failure.value.__cause__, db.driver.error)


async def test_a_commit_that_fails_fails_all_of_its_group_and_the_next_is_served(
    failing: FailingDatabase, gate: Gate
) -> None:
    async with writing(failing, gate) as journal:
        failing.broken = True
        outcomes = await all_at_once(journal, gate, adds(1), fails, adds(2))
        failing.broken = False
        assert rows(failing) == 0
        rid = await journal.run(adds(3))
    assert all(isinstance(outcome, JournalFailed) for outcome in outcomes)
    assert "disk is full" in str(outcomes[0])
    assert len(set(map(id, outcomes))) == 3
    assert [row_of(failing, rid).id, rows(failing)] == [3, 1]


@pytest.mark.sqlite
async def test_who_only_asks_has_an_answer_though_its_group_was_not_written(
    failing: FailingDatabase, gate: Gate
) -> None:
    async with writing(failing, gate) as journal:
        failing.broken = True
        outcomes = await all_at_once(journal, gate, adds(1), asks, adds(2))
        failing.broken = False
    assert [type(outcome) for outcome in outcomes] == [JournalFailed, int, JournalFailed]
    assert outcomes[1] == 0


@pytest.mark.sqlite
async def test_a_disk_that_fills_up_fails_what_does_not_fit(db: Database, gate: Gate) -> None:
    """SQLite's own limit stands for the disk's; it may roll the whole transaction back by itself."""
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    async with writing(db, gate) as journal:
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
        await all_at_once(journal, gate, *(lambda db: new_row(db, 1, content="x" * 50_000) for _ in range(3)))
        assert await journal.run(rows) == 0
        db.execute("PRAGMA max_page_count = 1000000")
        await journal.run(adds(2))
    assert rows(db) == 1


async def test_a_transaction_that_is_lost_whole_fails_all(db: Database) -> None:
    def loses_all(db: Database) -> None:
        db.roll_back()
        raise db.driver.error("disk I/O error")

    group: list[Execution[Any]] = [Execution(adds(1)), Execution(loses_all), Execution(adds(2))]
    await apply_group(db, group, Gate())
    assert all(isinstance(operation.error, JournalFailed) for operation in group)
    assert rows(db) == 0


async def test_an_operation_that_was_never_applied_has_failed() -> None:
    with pytest.raises(JournalFailed):
        Execution(rows).result()


async def test_an_operation_that_is_applied_again_has_the_outcome_of_the_last_time(db: Database) -> None:
    outcomes, again = iter([0, 1]), Execution(lambda _: 1 // next(outcomes))
    db.begin()
    again.apply(db)
    again.apply(db)
    assert (again.error, again.value) == (None, 1)


async def answer(journal: Journal, rid: int) -> bool:
    return await journal.run(moves.move, "answer", rid, calldata=b"", signer=None, now=0.0)


@pytest.mark.sqlite
async def test_what_would_be_found_again_is_seen_at_once_and_rides_on_the_next_commit(
    db: Database, gate: Gate
) -> None:
    async with writing(db, gate) as journal:
        rid = await journal.run(adds(1))
        assert await answer(journal, rid)
        seen = await journal.run(queries.row, rid)
        assert seen is not None
        assert (gate.groups, seen.state, journal.answers_tick) == (1, State.ANSWERED, db.tick)
        await journal.run(moves.sign, signing(rid))
        assert gate.groups == 2
        await journal.run_each(moves.move, [{"rid": rid, "block": 30}], transition="confirm")
        assert gate.groups == 2
    db.roll_back()
    assert row_of(db, rid).state is State.INCLUDED


@pytest.mark.sqlite
async def test_what_rides_is_durable_in_time(db: Database, autojump_clock: object, gate: Gate) -> None:
    async with writing(db, gate) as journal:
        rid = await journal.run(adds(1))
        for first, last, seconds in (
            (partial(answer, journal, rid), 20, 0.1),
            (partial(read, journal), 30, RIDE),
        ):
            before, began = gate.groups, trio.current_time()
            assert await first()
            assert await read(journal, last=last) == Recorded()
            while gate.groups == before:  # noqa: ASYNC110 - the clock jumps
                await trio.sleep(0.01)
            assert trio.current_time() - began == pytest.approx(seconds, abs=0.02)
            db.roll_back()
        assert (row_of(db, rid).state, queries.cursors(db)[0][2]) == (State.ANSWERED, 31)


async def read(journal: Journal, *arrivals: Arrival, last: int = 20) -> Recorded:
    return await journal.run(recording.record, read_of(*arrivals, blocks=(11, last)))


@pytest.mark.sqlite
async def test_what_a_read_learned_does_not_ride_and_neither_does_what_is_told_to_a_file(
    db: Database, gate: Gate
) -> None:
    async with writing(db, gate) as journal:
        await read(journal, arrival(1, 15))
        await journal.run(audit.capture)
        before = gate.groups
        await answer(journal, 1)
        assert gate.groups == before
        assert await journal.run(asks) == 1
        assert [one["to"] for one in await journal.run(audit.pending, 9)] == ["answered"]
        assert (before, gate.groups) == (1, 2)
        assert await journal.run(asks) == 1
        assert not db.driver.is_begun


@pytest.mark.sqlite
async def test_what_rode_on_a_commit_that_failed_is_done_again(
    failing: FailingDatabase, gate: Gate, autojump_clock: object
) -> None:
    has_room = iter((False, True, True, True, False, True))

    @rides(lambda *_: 1.0)
    def needs_room(db: Database) -> None:
        if not next(has_room):
            raise db.driver.error("no room")
        new_row(db, 4)

    async with writing(failing, gate) as journal:
        rid = await journal.run(adds(1))
        await answer(journal, rid)
        with pytest.raises(JournalFailed):  # who is told so does it again
            await journal.run(needs_room)
        await journal.run(needs_room)
        failing.broken = True
        await trio.sleep(5)
        assert gate.groups == 2  # nothing hurries
        with pytest.raises(JournalFailed):
            await journal.run(adds(2))
        with pytest.raises(JournalFailed):  # while the disk refuses all, nothing rides
            await journal.run(moves.move, "confirm", rid, block=30)
        failing.broken = False
        await journal.run(adds(3))
        assert (row_of(failing, rid).state, rows(failing)) == (State.ANSWERED, 2)
        await journal.run(adds(5))
        assert rows(failing) == 4


async def test_the_tick_is_published_once_it_is_durable(db: Database, gate: Gate) -> None:
    async with writing(db, gate) as journal, trio.open_nursery() as nursery:
        gate.open = trio.Event()
        nursery.start_soon(journal.run, answers)
        await wait_all_tasks_blocked()
        before = journal.answers_tick
        gate.open.set()
        await wait_all_tasks_blocked()
        assert (before, journal.answers_tick) == (0, 2)


async def test_what_is_queued_at_the_close_is_committed(db: Database, gate: Gate) -> None:
    async with trio.open_nursery() as nursery, writing(db, gate) as journal:
        outcomes = await queued(nursery, journal, gate, 3)
        journal.close()
        gate.open.set()
    assert sorted(outcomes.values()) == [1, 2, 3]


async def test_what_is_queued_at_a_cancellation_is_committed(db: Database, gate: Gate) -> None:
    """The callers are gone, but what they said is kept."""
    with trio.CancelScope() as scope:
        async with writing(db, gate) as journal, trio.open_nursery() as nursery:
            await queued(nursery, journal, gate, 3)
            scope.cancel()
            gate.open.set()
    assert rows(db) == 3


async def test_a_disk_that_hangs_does_not_hold_up_the_end_for_ever(db: Database, gate: Gate) -> None:
    async with trio.open_nursery() as nursery, writing(db, gate) as journal:
        outcomes = await queued(nursery, journal, gate, 2)
    assert all(isinstance(outcome, JournalFailed) for outcome in outcomes.values())
    assert len(outcomes) == 2


async def test_a_full_queue_makes_callers_wait(db: Database, gate: Gate) -> None:
    async with writing(db, gate) as journal, trio.open_nursery() as nursery:
        gate.open = trio.Event()
        for number in range(QUEUE + 50):
            nursery.start_soon(journal.run, adds(number))
        await wait_all_tasks_blocked()
        assert journal._input.statistics().current_buffer_used <= QUEUE
        gate.open.set()
    assert rows(db) == QUEUE + 50


async def test_a_bug_ends_the_journal_and_everybody_learns_it(db: Database, gate: Gate) -> None:
    """An error that nobody foresaw is not swallowed: it comes out of the nursery, and nobody waits for ever."""
    async with trio.open_nursery() as outside:
        with pytest.RaisesGroup(ZeroDivisionError):
            async with writing(db, gate) as journal:
                outcomes = await queued(outside, journal, gate, 2)
                gate.fault = ZeroDivisionError()
                gate.open.set()
                await trio.sleep_forever()
    assert [type(outcome) for outcome in outcomes.values()] == [JournalFailed, JournalFailed]
