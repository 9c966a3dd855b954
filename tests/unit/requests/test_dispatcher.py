"""Due rows go to free places, at once when notified, else at their time; each is worked on once at a time, and a bug costs one request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.errors import JournalFailed, Rejected
from kmsconn.journal import moves, queries
from kmsconn.journal.inspecting import PausedKind
from kmsconn.journal.journal import DISK_PAUSE
from kmsconn.journal.recording import Arrival
from kmsconn.journal.rows import Row
from kmsconn.model.events import AlertRaised, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind, PoolName
from kmsconn.requests.dispatcher import OrderedDispatcher, WorkerPool, run_dispatcher
from kmsconn.requests.membership import LOOK_AGAIN, Membership
from kmsconn.requests.row_outcomes import OUT_OF_MEMORY
from kmsconn.transport.waiting import WakeUp
from tests.unit.requests.bench import PROFILE, Bench, open_bench, wall
from tests.vectors import keys

Work = Callable[[Row], Awaitable[Any]]


def pool_of(size: int) -> WorkerPool:
    return WorkerPool(PoolName.PUBLIC_DECRYPTION, (Kind.PUBLIC_DECRYPTION,), size, WakeUp())


@asynccontextmanager
async def running(pool: WorkerPool, work: Work, bench: Bench) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, work, bench.pipeline.outcomes.unexpected)
        yield
        nursery.cancel_scope.cancel()


def held(shards: int, size: int, ids: Iterable[int]) -> frozenset[int]:
    pool = WorkerPool(PoolName.PUBLIC_DECRYPTION, (Kind.PUBLIC_DECRYPTION,), size, WakeUp(), shards)
    pool.busy.update({rid: identifier % shards for rid, identifier in enumerate(ids)})
    return pool.full


@pytest.mark.parametrize(
    ("shards", "size", "ids", "full"),
    [
        (4, 8, [], set()),
        (4, 8, [2], set()),
        (4, 8, [2, 6], {2}),
        (4, 8, [2, 6, 1, 5, 0], {1, 2}),
        (4, 9, [2, 6], {2}),  # what is left over stays free
        (4, 4, [3], {3}),
        (1, 2, [7], set()),
        (1, 2, [7, 8], {0}),
    ],
)
def test_a_shard_is_full_when_it_holds_its_share_of_the_places(
    shards: int, size: int, ids: list[int], full: set[int]
) -> None:
    assert held(shards, size, ids) == full


def test_a_shard_that_is_gone_takes_nothing() -> None:
    pool = WorkerPool(PoolName.PUBLIC_DECRYPTION, (Kind.PUBLIC_DECRYPTION,), 8, WakeUp(), 4)
    pool.gone = lambda: frozenset({3})
    assert pool.full == {3}


NAMES = ("public_one_v0", "public_three_v0", "public_one_v1", "public_three_v1")


async def rows_of(bench: Bench, count: int) -> list[Row]:
    """Make several requests, each in a block of its own."""
    return [await bench.record(name, block=10 + n) for n, name in enumerate(NAMES[:count])]


async def test_as_many_rows_are_worked_on_at_once_as_there_are_places(bench: Bench) -> None:
    pool, at_once = pool_of(3), []

    async def work(row: Row) -> None:
        at_once.append(len(pool.busy))
        await trio.sleep(1)

    rows = await rows_of(bench, 3)
    async with running(pool, work, bench):
        for row in rows:
            pool.dispatch(row)
        assert pool.free == 0
        await trio.sleep(1.5)
        assert pool.free == 3
    assert at_once == [3, 3, 3]


async def test_a_full_pool_takes_no_row_and_says_so(bench: Bench) -> None:
    """Whoever hands out looks at ``free`` first; a mistake there is loud."""
    [first, second] = await rows_of(bench, 2)
    pool = pool_of(1)
    pool.dispatch(first)
    with pytest.raises(trio.WouldBlock):
        pool.dispatch(second)


@pytest.mark.parametrize(
    "error",
    [KeyError("bug"), Rejected("meant for the pipeline"), ExceptionGroup("several", [ValueError("bug")])],
)
async def test_an_unexpected_error_quarantines_its_request_and_the_worker_goes_on(
    error: Exception, bench: Bench
) -> None:
    done: list[int] = []

    async def work(row: Row) -> None:
        await trio.lowlevel.checkpoint()
        if row.rid == bad.rid:
            raise error
        done.append(row.rid)

    [bad, good] = await rows_of(bench, 2)
    pool = pool_of(1)
    async with running(pool, work, bench):
        for row in (bad, good):
            pool.dispatch(row)
            await trio.sleep(1)
    kept = await bench.row(bad.rid)
    assert done == [good.rid]
    assert kept.state is State.QUARANTINED
    assert "Traceback" in kept.progress.reason
    assert type(error).__name__ in kept.progress.reason
    [closed] = bench.told(RequestClosed)
    assert (closed.rid, closed.state) == (bad.rid, State.QUARANTINED)
    assert [event.critical for event in bench.told(AlertRaised)] == [True]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), [True]),
        (ExceptionGroup("of a nursery", [MemoryError()]), [True]),
        (JournalFailed("disk full"), []),
    ],
)
async def test_want_of_memory_or_disk_is_no_fault_of_a_request_and_makes_its_worker_rest(
    error: Exception, told: list[bool], bench: Bench
) -> None:
    async def work(row: Row) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    row, pool = await bench.record(), pool_of(1)
    async with running(pool, work, bench):
        pool.dispatch(row)
        await trio.sleep(DISK_PAUSE / 2)
        assert pool.busy == {row.rid: 0}
        await trio.sleep(DISK_PAUSE)
        assert pool.busy == {}
    assert (await bench.row(row.rid)).state is State.PENDING
    assert [OUT_OF_MEMORY in event.text for event in bench.told(AlertRaised)] == told


async def test_a_cancelled_worker_gives_its_place_back_and_leaves_the_row(bench: Bench) -> None:
    async def work(row: Row) -> None:
        await trio.sleep_forever()

    row, pool = await bench.record(), pool_of(2)
    async with running(pool, work, bench):
        pool.dispatch(row)
        await trio.sleep(1)
    assert pool.busy == {}
    assert (await bench.row(row.rid)).state is State.PENDING


async def wakes_after(work: Work, bench: Bench, *, backlogged: bool) -> float | None:
    """Return when a pool of one place notifies whose one row is worked on; None: not within a minute."""
    row, pool, started = await bench.record(), pool_of(1), trio.current_time()
    pool.backlogged = backlogged
    async with running(pool, work, bench):
        pool.dispatch(row)
        with trio.move_on_after(60):
            await pool.wake_up.wait()
            return trio.current_time() - started
    return None


@pytest.mark.parametrize(
    ("done", "backlogged", "notifies"),
    [(True, True, 3), (False, True, 3), (False, False, 3), (True, False, None)],
)
async def test_a_free_place_notifies_unless_all_that_is_due_has_a_place_and_its_row_is_done(
    done: bool, backlogged: bool, notifies: float | None, bench: Bench
) -> None:
    async def work(row: Row) -> bool:
        await trio.sleep(3)
        return done

    assert await wakes_after(work, bench, backlogged=backlogged) == notifies


@pytest.mark.parametrize("error", [KeyError("bug"), JournalFailed("disk full")])
async def test_a_place_that_an_error_frees_notifies(error: Exception, bench: Bench) -> None:
    async def work(row: Row) -> bool:
        await trio.lowlevel.checkpoint()
        raise error

    assert await wakes_after(work, bench, backlogged=False) is not None


NAME, KIND = PoolName.PUBLIC_DECRYPTION, Kind.PUBLIC_DECRYPTION


class Record(WorkerPool):
    """A pool without workers that notes what it is handed, and when."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.handed: list[tuple[float, int]] = []

    def dispatch(self, row: Row) -> None:
        self.busy[row.rid] = row.id % self.shards
        self.handed.append((trio.current_time(), row.rid))


@asynccontextmanager
async def picking(
    bench: Bench, size: int = 10, journal: Any = None, shards: int = 1
) -> AsyncIterator[Record]:
    pool = Record(NAME, (KIND,), size, WakeUp(), shards)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_dispatcher, pool, Membership(journal or bench.journal), wall)
        await trio.sleep(0.001)
        yield pool
        nursery.cancel_scope.cancel()


async def test_what_is_due_is_dispatched_at_the_start_oldest_first_and_once(bench: Bench) -> None:
    rows = await rows_of(bench, 4)
    async with picking(bench) as pool:
        for _ in range(5):
            assert [rid for _, rid in pool.handed] == [row.rid for row in rows]
            pool.wake_up.notify()
            await trio.sleep(LOOK_AGAIN)


async def test_no_more_is_dispatched_than_there_is_room_for_and_a_freed_place_takes_the_next(
    bench: Bench,
) -> None:
    rows = await rows_of(bench, 4)
    async with picking(bench, size=3) as pool:
        await trio.sleep(3 * LOOK_AGAIN)
        assert len(pool.handed) == 3
        await bench.journal.run(moves.move, "reject", rows[0].rid, reason="done")
        await free_a_place(pool, rows[0].rid)
        assert [rid for _, rid in pool.handed] == [row.rid for row in rows]


@pytest.mark.parametrize("notified", [True, False])
async def test_a_new_row_is_dispatched_when_notified_and_else_at_the_next_look(
    notified: bool, bench: Bench
) -> None:
    async with picking(bench) as pool:
        row = await bench.record()
        await trio.sleep(1)
        assert pool.handed == []
        if notified:
            pool.wake_up.notify()
        await trio.sleep(0.01 if notified else LOOK_AGAIN)
        assert [rid for _, rid in pool.handed] == [row.rid]


@pytest.mark.parametrize("wait", [0.0, 0.5, 7.0, LOOK_AGAIN - 1])
async def test_a_deferred_row_is_dispatched_when_its_time_comes(wait: float, bench: Bench) -> None:
    row = await bench.record()
    await bench.journal.run(moves.defer, row.rid, wall() + wait, "waits")
    started = trio.current_time()
    async with picking(bench) as pool:
        await trio.sleep(wait + 1)
        [(at, rid)] = pool.handed
    assert rid == row.rid
    assert at - started == pytest.approx(wait, abs=0.05)


async def test_other_kinds_are_left_to_their_own_dispatchers(bench: Bench) -> None:
    await bench.record()
    pool = Record(PoolName.USER_DECRYPTION, (Kind.USER_DECRYPTION,), 5, WakeUp())
    with trio.move_on_after(LOOK_AGAIN):
        await run_dispatcher(pool, Membership(bench.journal), wall)
    assert pool.handed == []


async def test_a_full_shard_leaves_its_rows_and_the_others_get_the_rest(tmp_path: Path) -> None:
    """Of four rows two are of each shard; each shard has one place of the two."""
    async with open_bench(tmp_path, shards=2) as bench:
        rows = await rows_of(bench, 4)
        ours, theirs = ([row for row in rows if row.id % 2 == number] for number in (0, 1))
        async with picking(bench, size=2, shards=2) as pool:
            await trio.sleep(3 * LOOK_AGAIN)
            assert sorted(rid for _, rid in pool.handed) == sorted([ours[0].rid, theirs[0].rid])
            await bench.journal.run(moves.move, "reject", ours[0].rid, reason="done")
            await free_a_place(pool, ours[0].rid)
            assert [rid for _, rid in pool.handed[2:]] == [ours[1].rid]


class Failing:
    """A journal that cannot be read a few times."""

    def __init__(self, bench: Bench, times: int) -> None:
        self._bench, self.left = bench, times

    async def run(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.left:
            self.left -= 1
            raise JournalFailed("disk full")
        return await self._bench.journal.run(operation, *arguments, **options)


async def test_a_journal_that_cannot_be_read_is_asked_again(bench: Bench) -> None:
    await bench.record()
    async with picking(bench, journal=Failing(bench, 3)) as pool:
        await trio.sleep(10)
        assert len(pool.handed) == 1


# Who notifies when a place becomes free: where rows may wait for one, everybody; else only who leaves a row that may be due again.


@pytest.mark.parametrize(("size", "backlogged"), [(3, True), (4, True), (5, False)])
async def test_a_pool_is_backlogged_while_it_has_no_place_left(
    size: int, backlogged: bool, bench: Bench
) -> None:
    await rows_of(bench, 4)
    async with picking(bench, size=size) as pool:
        assert pool.backlogged is backlogged


async def test_a_pool_is_backlogged_while_one_of_its_shards_is_full(bench: Bench) -> None:
    await rows_of(bench, 1)
    async with picking(bench, size=2, shards=2) as pool:
        assert (pool.backlogged, pool.free) == (True, 1)


@asynccontextmanager
async def picking_in_order(bench: Bench, size: int = 4) -> AsyncIterator[Record]:
    kinds = tuple(k for k, one in PROFILE.operations.items() if one.pool is PoolName.PROTOCOL_CONFIG)
    pool = Record(PoolName.PROTOCOL_CONFIG, kinds, size, WakeUp())
    outcomes = bench.pipeline.outcomes
    dispatcher = OrderedDispatcher(
        pool, bench.journal, PROFILE, wall, outcomes.end_destroyed, outcomes.contexts.is_destroyed
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatcher.run)
        await trio.sleep(0.001)
        yield pool
        nursery.cancel_scope.cancel()


CONTEXT_SWITCH = ["context_2_new", "epoch_2_context_switch", "context_1_destroyed"]


async def record_all(bench: Bench, names: list[str]) -> list[int]:
    return [(await bench.record_key_request(name)).rid for name in names]


async def free_a_place(pool: Record, rid: int) -> None:
    del pool.busy[rid]
    pool.wake_up.notify()
    await trio.sleep(0.001)


async def test_what_ends_while_the_line_is_read_is_not_begun_again(bench: Bench) -> None:
    [rid] = await record_all(bench, CONTEXT_SWITCH[:1])
    plain = bench.journal.run

    async def run(*asked: Any) -> Any:
        found = await plain(*asked)
        pool.busy.pop(rid, None)  # its worker ends, and then the answer comes
        return found

    async with picking_in_order(bench) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.journal, "run", run)
            pool.wake_up.notify()
            await trio.sleep(0.001)
        assert [one for _, one in pool.handed] == [rid]


async def test_contexts_and_epochs_wait_only_for_what_they_need(bench: Bench) -> None:
    context, epoch, end = await record_all(bench, CONTEXT_SWITCH)
    async with picking_in_order(bench) as pool:
        assert [rid for _, rid in pool.handed] == [context, end]
        await bench.journal.run(moves.move, "finish", context, reason="done")
        await free_a_place(pool, context)
        assert [rid for _, rid in pool.handed] == [context, end, epoch]


async def test_what_waits_for_its_time_holds_up_what_needs_it(bench: Bench) -> None:
    context, _, end = await record_all(bench, CONTEXT_SWITCH)
    await bench.journal.run(moves.defer, context, wall() + 7, "not now")
    async with picking_in_order(bench) as pool:
        await trio.sleep(10)
    assert [(round(at), rid) for at, rid in pool.handed] == [(0, end), (7, context)]


async def test_no_more_contexts_and_epochs_than_places(bench: Bench) -> None:
    context, _, end = await record_all(bench, CONTEXT_SWITCH)
    async with picking_in_order(bench, size=1) as pool:
        assert [rid for _, rid in pool.handed] == [context]
        await bench.journal.run(moves.defer, context, wall() + 60, "not now")
        await free_a_place(pool, context)
        assert [rid for _, rid in pool.handed] == [context, end]


async def test_what_a_later_one_destroys_is_ended_once_nobody_works_on_it(bench: Bench) -> None:
    """An end that came while it was made waits for the pass that is under way, so that nothing is made behind its back."""
    [context, epoch] = await record_all(bench, CONTEXT_SWITCH[:2])
    async with picking_in_order(bench) as pool:
        end = (await bench.record_arrival(end_of_context_2())).rid
        pool.wake_up.notify()
        await trio.sleep(0.001)
        assert [rid for _, rid in pool.handed] == [context]
        assert bench.told(RequestClosed) == []  # by a log alone
        bench.pipeline.outcomes.contexts.note_destroyed([keys.content("context_2_new").id])
        pool.wake_up.notify()
        await trio.sleep(0.001)
        assert [one.rid for one in bench.told(RequestClosed)] == [epoch]
        await free_a_place(pool, context)
        assert [rid for _, rid in pool.handed] == [context, end]
    assert {(one.rid, one.state) for one in bench.told(RequestClosed)} == {
        (epoch, State.REJECTED),
        (context, State.REJECTED),
    }
    assert "context 0x07" in (await bench.row(context)).progress.reason


def end_of_context_2() -> Arrival:
    log = keys.log("context_1_destroyed")
    identifier = keys.content("context_2_new").id
    topics = (log.topics[0], identifier.to_bytes(32))
    later = attrs.evolve(log, topics=topics, block_number=log.block_number + 100)
    return Arrival(identifier, Kind.KMS_CONTEXT_DESTROYED, PROFILE.digest(later), later, expires=False)


async def test_what_cannot_be_read_holds_up_nobody(bench: Bench) -> None:
    """The pipeline quarantines it."""
    good = await bench.record_key_request("context_1_destroyed")
    log = attrs.evolve(keys.log("epoch_2_context_switch"), data=b"")
    bad = await bench.record_arrival(Arrival(5, Kind.NEW_KMS_EPOCH, b"5" * 32, log, expires=False))
    async with picking_in_order(bench) as pool:
        assert {rid for _, rid in pool.handed} == {good.rid, bad.rid}


class Counting:
    """A journal that counts how often it was asked what is due."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self.asked = bench, 0

    async def run(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        self.asked += operation is queries.due
        return await self._bench.journal.run(operation, *arguments, **options)


async def test_busy_rows_are_those_at_the_time_of_the_question(bench: Bench) -> None:
    """The pool goes on while the question waits in the queue of the journal."""

    class Slow:
        """A journal that answers late."""

        async def run(self, operation: Any, *arguments: Any, **options: Any) -> Any:
            await trio.sleep(1)
            return await bench.journal.run(operation, *arguments, **options)

    row = await bench.record()
    pool = Record(NAME, (KIND,), 10, WakeUp())
    pool.busy[row.rid] = 0
    slow: Any = Slow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_dispatcher, pool, Membership(slow), wall)
        await trio.sleep(0.5)
        pool.busy.clear()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert pool.handed == []


@pytest.mark.parametrize(("size", "times", "questions"), [(2, [1, 1, 2, 2], 3), (10, [1, 1, 1, 1], 1)])
async def test_rows_get_a_place_as_soon_as_there_is_one_and_nobody_asks_for_those_that_have_theirs(
    size: int, times: list[int], questions: int, bench: Bench
) -> None:
    await rows_of(bench, 4)
    journal: Any = Counting(bench)
    done: list[int] = []
    started = trio.current_time()

    async def work(row: Row) -> bool:
        await trio.sleep(1)
        done.append(round(trio.current_time() - started))
        return await bench.journal.run(moves.move, "reject", row.rid, reason="done")

    pool = WorkerPool(NAME, (KIND,), size, WakeUp())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, work, bench.pipeline.outcomes.unexpected)
        nursery.start_soon(run_dispatcher, pool, Membership(journal), wall)
        await trio.sleep(LOOK_AGAIN / 2)
        nursery.cancel_scope.cancel()
    assert (done, journal.asked) == (times, questions)


async def test_rows_of_a_paused_kind_wait_until_it_is_resumed(bench: Bench) -> None:
    [row] = await rows_of(bench, 1)
    async with picking(bench) as pool:
        assert [rid for _, rid in pool.handed] == [row.rid]
        pool.busy.clear()
        pool.handed.clear()
        pool.paused[KIND] = PausedKind(KIND, 0.0)
        pool.wake_up.notify()
        await trio.sleep(2 * LOOK_AGAIN)
        assert pool.handed == []
        del pool.paused[KIND]
        pool.wake_up.notify()
        await trio.sleep(0.001)
        assert [rid for _, rid in pool.handed] == [row.rid]


async def test_a_paused_context_holds_up_what_needs_it(bench: Bench) -> None:
    context, _, end = await record_all(bench, CONTEXT_SWITCH)
    async with picking_in_order(bench) as pool:
        pool.busy.clear()
        pool.handed.clear()
        pool.paused[Kind.NEW_KMS_CONTEXT] = PausedKind(Kind.NEW_KMS_CONTEXT, 0.0)
        pool.wake_up.notify()
        await trio.sleep(0.001)
        assert [rid for _, rid in pool.handed] == [end]
        pool.paused.clear()
        pool.wake_up.notify()
        await trio.sleep(0.001)
        assert [rid for _, rid in pool.handed] == [end, context]
