"""Delays double inside their bounds, a notification is never lost, and work is done in its place."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from kmsconn.errors import NotYet, Rejected, Unreachable
from kmsconn.transport.ports import THREADS_PER_USE, _limiter, offload_inline, offload_to_threads
from kmsconn.transport.waiting import STALLED_AFTER, Backoff, Heartbeats, Hold, WakeUp, together


@given(failures=st.integers(0, 10_000), random=st.floats(0, 1), least=st.floats(0, 1))
def test_a_delay_lies_between_its_least_share_and_the_whole_of_its_step(
    failures: int, random: float, least: float
) -> None:
    step = min(60.0, 0.5 * 2 ** min(failures, 20))
    delay = Backoff(0.5, 60.0, least).seconds(failures, random)
    assert step * least - 1e-9 <= delay <= step + 1e-9


def test_delays_double_up_to_the_cap_with_half_of_them_drawn() -> None:
    backoff = Backoff(first=0.5, cap=3.0)
    assert [backoff.seconds(n) for n in range(4)] == [0.5, 1.0, 2.0, 3.0]
    assert backoff.seconds(10**9, 0.0) == 1.5


def test_a_backoff_holds_longer_with_each_failure_and_lets_go() -> None:
    backoff = Hold(Backoff(first=1.0, cap=60.0), lambda: 1.0)
    assert not backoff.holds(0.0)
    backoff.failed(0.0)
    assert backoff.holds(0.9)
    assert not backoff.holds(1.0)
    backoff.failed(1.0)
    assert backoff.holds(2.9)
    backoff.worked()
    assert not backoff.holds(1.0)


async def test_many_notifications_before_the_wait_are_one_wake() -> None:
    wake_up = WakeUp()
    for _ in range(5):
        wake_up.notify({"any": "push"})
    with trio.fail_after(1):
        await wake_up.wait()
    with trio.move_on_after(1) as scope:
        await wake_up.wait()
    assert scope.cancelled_caught


async def test_a_cancelled_wait_loses_no_ring_and_the_next_hears_one_that_comes() -> None:
    wake_up, heard = WakeUp(), 0
    with trio.CancelScope() as scope:
        scope.cancel()
        wake_up.notify()
        await wake_up.wait()
        heard += 1  # it did not wait at all
        await wake_up.wait()
        heard += 1
    assert heard == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake_up.wait)
        await wait_all_tasks_blocked()
        wake_up.notify()


async def test_who_goes_on_with_its_own_work_was_told_nothing() -> None:
    wake_up = WakeUp()
    wake_up.go_on()
    with trio.fail_after(1):
        await wake_up.wait()
    assert not wake_up.told
    wake_up.notify()
    assert wake_up.told


@pytest.mark.parametrize(("notified", "ends"), [(0.0, 0.5), (0.2, 0.5), (0.7, 0.7), (3.0, 2.0)])
async def test_a_rest_ends_with_a_notification_but_not_too_soon(notified: float, ends: float) -> None:
    wake_up, start = WakeUp(), trio.current_time()

    async def notify() -> None:
        await trio.sleep(notified)
        wake_up.notify()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(notify)
        assert await wake_up.rest(start + 0.5, start + 2.0) == (notified < 2.0)
        assert trio.current_time() - start == pytest.approx(ends)


async def test_inline_work_stays_in_the_loops_thread_and_threaded_work_leaves_it() -> None:
    assert await offload_inline("hash", threading.get_ident) == threading.get_ident()
    assert await offload_to_threads("hash", threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await offload_to_threads("hash", lambda: 1 // 0)


async def test_inline_work_is_a_checkpoint() -> None:
    done: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await offload_inline("hash", lambda: done.append(1))
    assert (scope.cancelled_caught, done) == (True, [])


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


def step(result: Any, *, after: float = 0.0, log: list[str] | None = None) -> Callable[[], Awaitable[Any]]:
    """Return a step that gives, or raises, something a while later; a cancellation is logged."""

    async def run() -> Any:
        try:
            await trio.sleep(after)
        except trio.Cancelled:
            (log if log is not None else []).append(f"{result} cancelled")
            raise
        if isinstance(result, Exception):
            raise result
        return result

    return run


async def test_the_steps_run_beside_each_other_and_results_are_in_their_order() -> None:
    assert await together([]) == []
    assert await together([step("a", after=3), step("b", after=1), step("c", after=2)]) == ["a", "b", "c"]
    assert trio.current_time() == 3


async def test_of_two_failures_the_earlier_one_counts_and_of_two_at_once_one() -> None:
    with pytest.raises(Unreachable, match="early"):
        await together([step(Unreachable("late"), after=2), step(Unreachable("early"), after=1)])
    with pytest.raises((Unreachable, Rejected)):
        await together([step(Unreachable("one"), after=1), step(Rejected("other"), after=1)])


@pytest.mark.parametrize("others", [0, 1, 5])
async def test_the_first_failure_comes_out_itself_and_not_in_a_group(others: int) -> None:
    """A single step and several look the same to the caller."""
    steps = [step("a", after=9) for _ in range(others)]
    with pytest.raises(NotYet, match="not now"):
        await together([*steps, step(NotYet("not now"), after=1)])
    assert trio.current_time() == 1


async def test_a_failure_cancels_the_rest() -> None:
    log: list[str] = []
    with pytest.raises(Rejected):
        await together([step("a", after=9, log=log), step(Rejected("never"), after=1), step("b", log=log)])
    assert log == ["a cancelled"]


async def breaks_while_it_is_cancelled() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise KeyError("bug")


@pytest.mark.parametrize(
    "steps",
    [
        [step("a", after=9), step(KeyError("bug"))],
        [step(Unreachable("down"), after=1), breaks_while_it_is_cancelled],
    ],
    ids=["alone", "beside a failure"],
)
async def test_a_foreign_exception_comes_out_in_a_group(steps: list[Callable[[], Awaitable[Any]]]) -> None:
    """It is a bug of ours, and goes to the worker's boundary with everything that it tells."""
    with pytest.raises(ExceptionGroup) as caught:
        await together(steps)
    assert caught.group_contains(KeyError)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.5])
async def test_cancellation_cancels_every_step(at: float) -> None:
    log: list[str] = []
    with trio.move_on_after(at) as scope:
        await together(
            [step("a", after=9, log=log), step("b", after=9, log=log), step("c", after=1, log=log)]
        )
    assert scope.cancelled_caught
    assert len(log) == (2 if at > 1 else 3)


def test_a_part_stands_still_after_the_limit_and_not_before_and_each_for_itself() -> None:
    now = [0.0]
    heartbeats = Heartbeats(lambda: now[0])
    beat = heartbeats.part("reader of 0x01", "gateway")
    beat_of_other = heartbeats.part("journal", "journal")
    now[0] = STALLED_AFTER
    assert heartbeats.stalled() == ()
    now[0] += 1
    beat_of_other()
    [found] = heartbeats.stalled()
    assert (found.part, found.dependency, found.seconds) == ("reader of 0x01", "gateway", STALLED_AFTER + 1)
    beat()
    assert heartbeats.stalled() == ()
