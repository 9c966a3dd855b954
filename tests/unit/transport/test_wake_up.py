from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from kmsconn.transport.waiting import WakeUp


async def test_a_ring_before_the_wait_is_heard() -> None:
    wake_up = WakeUp()
    wake_up.notify({"any": "push"})
    with trio.fail_after(1):
        await wake_up.wait()


async def test_many_notifications_are_one_wake() -> None:
    wake_up = WakeUp()
    for _ in range(5):
        wake_up.notify()
    await wake_up.wait()
    with trio.move_on_after(1) as scope:
        await wake_up.wait()
    assert scope.cancelled_caught


async def test_a_ring_during_the_wait_is_heard() -> None:
    wake_up = WakeUp()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake_up.wait)
        await wait_all_tasks_blocked()
        wake_up.notify()


async def test_a_cancelled_wait_loses_no_ring() -> None:
    wake_up = WakeUp()
    with trio.CancelScope() as scope:
        wake_up.notify()
        scope.cancel()
        await wake_up.wait()
    with trio.fail_after(1):
        await wake_up.wait()
