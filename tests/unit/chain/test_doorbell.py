from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kmsconn.chain.doorbell import Doorbell


async def test_a_ring_before_the_wait_is_heard(autojump_clock: MockClock) -> None:
    bell = Doorbell()
    bell.ring({"any": "push"})
    with trio.fail_after(1):
        await bell.wait()


async def test_many_rings_are_one_wake(autojump_clock: MockClock) -> None:
    bell = Doorbell()
    for _ in range(5):
        bell.ring()
    await bell.wait()
    with trio.move_on_after(1) as scope:
        await bell.wait()
    assert scope.cancelled_caught


async def test_a_ring_during_the_wait_is_heard(autojump_clock: MockClock) -> None:
    bell = Doorbell()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bell.wait)
        await wait_all_tasks_blocked()
        bell.ring()


async def test_a_cancelled_wait_loses_no_ring(autojump_clock: MockClock) -> None:
    bell = Doorbell()
    with trio.CancelScope() as scope:
        bell.ring()
        scope.cancel()
        await bell.wait()
    with trio.fail_after(1):
        await bell.wait()
