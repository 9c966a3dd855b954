from __future__ import annotations

import threading

import pytest
import trio

from kmsconn.transport.ports import THREADS_PER_USE, _limiter, offload_inline, offload_to_threads


async def test_inline_work_stays_in_the_loops_thread() -> None:
    assert await offload_inline("hash", threading.get_ident) == threading.get_ident()


async def test_inline_work_is_a_checkpoint() -> None:
    done: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await offload_inline("hash", lambda: done.append(1))
    assert (scope.cancelled_caught, done) == (True, [])


async def test_threaded_work_leaves_the_loops_thread() -> None:
    assert await offload_to_threads("hash", threading.get_ident) != threading.get_ident()


async def test_an_exception_of_the_work_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        await offload_to_threads("hash", lambda: 1 // 0)


def test_each_use_has_a_limiter_of_its_own() -> None:
    assert _limiter("hash") is _limiter("hash")
    assert _limiter("hash") is not _limiter("journal")
    assert _limiter("hash").total_tokens == THREADS_PER_USE


async def test_cancelled_work_that_has_started_is_finished() -> None:
    started, go = threading.Event(), threading.Event()
    done: list[int] = []

    def work() -> None:
        started.set()
        go.wait(10)
        done.append(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(offload_to_threads, "hash", work)
        await trio.to_thread.run_sync(started.wait)
        nursery.cancel_scope.cancel()
        go.set()
    assert done == [1]
