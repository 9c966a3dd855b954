"""Group commit: one fsync for all who asked, each operation for itself, and what holds when the disk says no."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kmsconn.errors import JournalFailed, NonceTaken
from kmsconn.journal.book import Book
from kmsconn.journal.writer import AT_ONCE, NOTING, QUEUE, Operation, Writer, apply_group
from tests.unit.journal.samples import dump, new_row, opened, row_of

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


class FailingBook(Book):
    """A book whose commits fail while ``broken``, as those of a full disk do."""

    broken = False

    def commit(self) -> None:
        if self.broken:
            raise sqlite3.OperationalError("database or disk is full")
        super().commit()


@pytest.fixture
def failing(book: Book) -> FailingBook:
    book.__class__ = FailingBook
    assert isinstance(book, FailingBook)
    return book


@asynccontextmanager
async def writing(book: Book, gate: Gate) -> AsyncIterator[Writer]:
    writer = Writer(book, gate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        try:
            yield writer
        finally:
            writer.close()


def adds(id_: int) -> Callable[[Book], int]:
    return lambda book: new_row(book, id_)


def fails(book: Book) -> int:
    with book.savepoint():
        new_row(book, 99)
        raise NonceTaken("no")


def rows(book: Book) -> int:
    return len(dump(book))


async def gather(
    outcomes: dict[int, Any],
    number: int,
    writer: Writer,
    apply: Callable[[Book], Any],
    *,
    long: bool = False,
) -> None:
    try:
        outcomes[number] = await writer.do(apply, long=long)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        outcomes[number] = error


async def all_at_once(writer: Writer, gate: Gate, *operations: Callable[[Book], Any]) -> list[Any]:
    """Have operations wait together behind a shut gate, then let them go as one group behind a first, long read."""
    outcomes: dict[int, Any] = {}
    gate.open = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(gather, {}, 0, writer, rows, long=True))
        await wait_all_tasks_blocked()
        for number, apply in enumerate(operations):
            nursery.start_soon(gather, outcomes, number, writer, apply)
            await wait_all_tasks_blocked()
        gate.open.set()
    return [outcomes[number] for number in range(len(operations))]


async def test_an_operation_returns_its_value(book: Book) -> None:
    async with writing(book, Gate()) as writer:
        assert await writer.do(adds(1)) == 1


async def test_those_who_ask_meanwhile_are_one_group(book: Book) -> None:
    gate = Gate()
    async with writing(book, gate) as writer:
        await all_at_once(writer, gate, *(adds(number) for number in range(50)))
    assert (gate.groups, rows(book)) == (2, 50)


async def test_operations_are_applied_in_the_order_of_their_calls(book: Book) -> None:
    gate = Gate()
    async with writing(book, gate) as writer:
        seen = await all_at_once(writer, gate, rows, adds(1), rows, adds(2), rows)
    assert seen[::2] == [0, 1, 2]


async def test_one_that_raises_undoes_itself_alone(book: Book) -> None:
    gate = Gate()
    async with writing(book, gate) as writer:
        first, bad, last = await all_at_once(writer, gate, adds(1), fails, adds(2))
    assert isinstance(bad, NonceTaken)
    assert [row_of(book, rid).id for rid in (first, last)] == [1, 2]
    assert rows(book) == 2


async def test_a_statement_that_is_refused_has_changed_nothing(book: Book) -> None:
    """SQLite undoes it, with what its trigger did, though no savepoint stands around it."""
    gate = Gate()
    for id_ in (1, 2):
        new_row(book, id_)
    clash = "UPDATE request SET state = 'signed', nonce = 7"
    async with writing(book, gate) as writer:
        bad, last = await all_at_once(writer, gate, lambda book: book.execute(clash), adds(3))
    assert isinstance(bad, JournalFailed)
    assert [row_of(book, rid).nonce for rid in (1, 2, last)] == [None, None, None]


@pytest.mark.parametrize("error", [ValueError("v"), OverflowError("o"), KeyError("k"), TypeError("t")])
async def test_a_faulty_value_costs_its_caller_only(book: Book, error: Exception) -> None:
    def breaks(_: Book) -> None:
        raise error

    gate = Gate()
    async with writing(book, gate) as writer:
        bad, good = await all_at_once(writer, gate, breaks, adds(1))
    assert (bad, good) == (error, 1)


async def test_a_group_that_only_reads_is_not_taken_off_the_loop(book: Book) -> None:
    gate = Gate()
    async with writing(book, gate) as writer:
        assert [await writer.do(rows), await writer.do(rows)] == [0, 0]
    assert gate.groups == 0


async def test_of_a_group_that_writes_only_the_commit_is_taken_off_the_loop(book: Book) -> None:
    used: list[object] = []

    async def offload(use: str, work: Callable[[], T]) -> T:
        used.append((use, work))
        return work()

    await apply_group(book, [Operation(adds(number)) for number in range(3)], {}, offload)
    assert used == [("journal", book.keep)]


async def test_a_long_operation_is_applied_off_the_loop_in_its_turn(book: Book) -> None:
    gate = Gate()
    operations: list[Operation[int]] = [Operation(rows), Operation(adds(1), long=True), Operation(rows)]
    await apply_group(book, operations, {}, gate)
    assert [operation.result() for operation in operations] == [0, 1, 1]
    assert gate.groups == 2


async def test_the_loop_runs_on_while_a_large_group_is_applied(book: Book) -> None:
    steps: list[int] = []

    async def count() -> None:
        for step in range(3):
            steps.append(step)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        seen = [Operation(lambda _: len(steps)) for _ in range(3 * AT_ONCE)]
        await apply_group(book, seen, {}, Gate())
    assert seen[0].result() < seen[-1].result()


async def test_what_was_applied_has_failed_when_the_commit_was_not_waited_for(book: Book) -> None:
    operation = Operation(adds(1))

    async def hangs(_use: str, _work: Callable[[], T]) -> T:
        await trio.sleep_forever()
        raise AssertionError

    with trio.move_on_after(0):
        await apply_group(book, [operation], {}, hangs)
    with pytest.raises(JournalFailed):
        operation.result()


async def test_an_error_of_the_database_comes_out_as_ours(book: Book) -> None:
    async with writing(book, Gate()) as writer:
        with pytest.raises(JournalFailed) as failure:
            await writer.do(lambda book: book.execute("SELECT * FROM nothing"))
    assert isinstance(failure.value.__cause__, sqlite3.Error)


async def test_a_commit_that_fails_fails_all_of_its_group(failing: FailingBook) -> None:
    gate = Gate()
    async with writing(failing, gate) as writer:
        failing.broken = True
        outcomes = await all_at_once(writer, gate, adds(1), fails, adds(2))
    assert all(isinstance(outcome, JournalFailed) for outcome in outcomes)
    assert "disk is full" in str(outcomes[0])
    assert len(set(map(id, outcomes))) == 3
    assert rows(failing) == 0


async def test_the_group_after_a_failed_commit_is_served(failing: FailingBook) -> None:
    async with writing(failing, Gate()) as writer:
        failing.broken = True
        with pytest.raises(JournalFailed):
            await writer.do(adds(1))
        failing.broken = False
        await writer.do(adds(2))
    assert [row_of(failing, 1).id, rows(failing)] == [2, 1]


async def test_a_disk_that_fills_up_fails_what_does_not_fit(book: Book) -> None:
    """SQLite's own limit stands for the disk's; it may roll the whole transaction back by itself."""
    pages = book.execute("PRAGMA page_count").fetchone()[0]
    gate = Gate()
    async with writing(book, gate) as writer:
        book.execute(f"PRAGMA max_page_count = {pages + 2}")
        await all_at_once(
            writer, gate, *(lambda book: new_row(book, 1, content="x" * 50_000) for _ in range(3))
        )
        assert await writer.do(rows) == 0
        book.execute("PRAGMA max_page_count = 1000000")
        await writer.do(adds(2))
    assert rows(book) == 1


async def test_a_transaction_that_is_lost_whole_fails_all(book: Book) -> None:
    def loses_all(book: Book) -> None:
        book.roll_back()
        raise sqlite3.OperationalError("disk I/O error")

    group: list[Operation[Any]] = [Operation(adds(1)), Operation(loses_all), Operation(adds(2))]
    await apply_group(book, group, {}, Gate())
    assert all(isinstance(operation.error, JournalFailed) for operation in group)
    assert rows(book) == 0


async def test_an_operation_that_was_never_applied_has_failed() -> None:
    with pytest.raises(JournalFailed):
        Operation(rows).result()


async def test_the_tick_is_published_once_it_is_durable(book: Book) -> None:
    gate = Gate()
    async with writing(book, gate) as writer, trio.open_nursery() as nursery:
        gate.open = trio.Event()
        nursery.start_soon(writer.do, adds(1))
        await wait_all_tasks_blocked()
        before = writer.tick
        gate.open.set()
        await wait_all_tasks_blocked()
        assert (before, writer.tick) == (0, 1)


async def test_a_note_is_written_with_the_first_group_after_a_second(book: Book, autojump_clock: Any) -> None:
    async with writing(book, Gate()) as writer:
        rid = await writer.do(adds(1))
        writer.note(rid, True)
        assert not await writer.do(lambda book: row_of(book, rid).submitted)
        await trio.sleep(NOTING)
        assert not row_of(book, rid).submitted
        assert await writer.do(lambda book: row_of(book, rid).submitted)


async def test_notes_are_written_with_the_oldest_of_them(book: Book, autojump_clock: Any) -> None:
    async with writing(book, Gate()) as writer:
        for number in (1, 2):
            writer.note(await writer.do(adds(number)), True)
            await trio.sleep(NOTING / 2)
        assert await writer.do(lambda book: [row_of(book, rid).submitted for rid in (1, 2)]) == [True, True]


async def test_the_last_of_several_notes_counts(book: Book, autojump_clock: Any) -> None:
    async with writing(book, Gate()) as writer:
        rid = await writer.do(adds(1))
        writer.note(rid, True)
        writer.note(rid, False)
        await trio.sleep(NOTING)
        assert not await writer.do(lambda book: row_of(book, rid).submitted)


async def test_a_note_made_again_does_not_hold_back_the_others(book: Book, autojump_clock: Any) -> None:
    async with writing(book, Gate()) as writer:
        rids = [await writer.do(adds(number)) for number in (1, 2)]
        for rid in rids:
            writer.note(rid, True)
        await trio.sleep(NOTING / 2)
        writer.note(rids[0], True)
        await trio.sleep(NOTING / 2)
        assert await writer.do(lambda book: [row_of(book, rid).submitted for rid in rids]) == [True, True]


async def test_a_note_that_was_taken_is_not_written(book: Book, autojump_clock: Any) -> None:
    async with writing(book, Gate()) as writer:
        rid = await writer.do(adds(1))
        writer.note(rid, True)
        assert (writer.noted(rid), writer.noted(rid)) == (True, None)
        await trio.sleep(NOTING)
        assert not await writer.do(lambda book: row_of(book, rid).submitted)


async def test_a_note_on_a_row_that_is_not_there_is_lost(book: Book, autojump_clock: Any) -> None:
    async with writing(book, Gate()) as writer:
        writer.note(99, True)
        await trio.sleep(NOTING)
        assert await writer.do(rows) == 0


async def test_a_closed_writer_says_so(book: Book) -> None:
    async with writing(book, Gate()) as writer:
        pass
    with pytest.raises(JournalFailed, match="closed"):
        await writer.do(rows)


async def test_what_is_queued_at_the_close_is_committed(book: Book) -> None:
    gate = Gate()
    outcomes: dict[int, Any] = {}
    async with trio.open_nursery() as nursery, writing(book, gate) as writer:
        gate.open = trio.Event()
        for number in range(3):
            nursery.start_soon(gather, outcomes, number, writer, adds(number))
        await wait_all_tasks_blocked()
        writer.close()
        gate.open.set()
    assert sorted(outcomes.values()) == [1, 2, 3]


async def test_what_is_queued_at_a_cancellation_is_committed(book: Book) -> None:
    """The callers are gone, but what they said is kept."""
    gate = Gate()
    with trio.CancelScope() as scope:
        async with writing(book, gate) as writer, trio.open_nursery() as nursery:
            gate.open = trio.Event()
            for number in range(3):
                nursery.start_soon(writer.do, adds(number))
            await wait_all_tasks_blocked()
            scope.cancel()
            gate.open.set()
    assert rows(book) == 3


async def test_a_caller_cancelled_while_waiting_disturbs_nobody(book: Book) -> None:
    gate = Gate()
    async with writing(book, gate) as writer:
        gate.open = trio.Event()
        outcomes: dict[int, Any] = {}
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as cancelled:
                    cancelled.start_soon(writer.do, adds(1))
                    nursery.start_soon(gather, outcomes, 0, writer, adds(2))
                    await wait_all_tasks_blocked()
                    scope.cancel()
            gate.open.set()
        assert isinstance(outcomes[0], int)
        assert await writer.do(rows) == 2


async def test_a_disk_that_hangs_does_not_hold_up_the_end_for_ever(
    book: Book, autojump_clock: object
) -> None:
    gate = Gate()
    outcomes: dict[int, Any] = {}
    async with trio.open_nursery() as nursery, writing(book, gate) as writer:
        gate.open = trio.Event()
        for number in range(2):
            nursery.start_soon(gather, outcomes, number, writer, adds(number))
            await wait_all_tasks_blocked()
    assert all(isinstance(outcome, JournalFailed) for outcome in outcomes.values())
    assert len(outcomes) == 2


async def test_a_full_queue_makes_callers_wait(book: Book) -> None:
    gate = Gate()
    async with writing(book, gate) as writer, trio.open_nursery() as nursery:
        gate.open = trio.Event()
        for number in range(QUEUE + 50):
            nursery.start_soon(writer.do, adds(number))
        await wait_all_tasks_blocked()
        assert writer._input.statistics().current_buffer_used <= QUEUE
        gate.open.set()
    assert rows(book) == QUEUE + 50


async def test_a_bug_ends_the_writer_and_everybody_learns_it(book: Book) -> None:
    """An error that nobody foresaw is not swallowed: it comes out of the nursery, and nobody waits for ever."""
    gate = Gate()
    outcomes: dict[int, Any] = {}
    async with trio.open_nursery() as outside:
        with pytest.RaisesGroup(ZeroDivisionError):
            async with writing(book, gate) as writer:
                gate.open = trio.Event()
                for number in range(2):
                    outside.start_soon(gather, outcomes, number, writer, adds(number))
                    await wait_all_tasks_blocked()
                gate.fault = ZeroDivisionError()
                gate.open.set()
                await trio.sleep_forever()
    assert [type(outcome) for outcome in outcomes.values()] == [JournalFailed, JournalFailed]


async def test_nothing_of_a_group_stays_when_the_process_dies_before_the_commit(
    book: Book, path: Path
) -> None:
    class Killed(BaseException):
        pass

    def dies(_: Book) -> None:
        raise Killed

    with pytest.raises(Killed):
        await apply_group(book, [Operation(adds(1)), Operation(dies)], {}, Gate())
    book.close()
    again = opened(path)
    assert rows(again) == 0
    again.close()
