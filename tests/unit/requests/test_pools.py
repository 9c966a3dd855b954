"""Workers: each row is worked on once at a time, a bug costs one request, a place is free again whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from kmsconn.errors import JournalFailed, Rejected
from kmsconn.journal.journal import DISK_PAUSE
from kmsconn.journal.values import Row
from kmsconn.model.events import AlertRaised, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind, PoolName
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.row_outcomes import OUT_OF_MEMORY
from kmsconn.transport.waiting import WakeUp
from tests.unit.requests.bench import Bench

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
    return pool.full.chosen


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
    assert pool.full.chosen == {3}


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
