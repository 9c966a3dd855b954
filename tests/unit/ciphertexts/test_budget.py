"""The byte budget: never more than the total, save for one alone; everything given back."""

from __future__ import annotations

from functools import partial

import trio
import trio.testing

from kmsconn.ciphertexts.budget import LARGE, LARGE_BODIES, SILENCE, Attempt, ByteBudget, Lease


async def test_what_fits_is_held_until_the_block_is_left() -> None:
    budget = ByteBudget(10)
    with Lease(budget) as lease:
        await Attempt(lease).reserve(4)
        await Attempt(lease).reserve(6)
        assert budget.used == 10
    assert budget.used == 0


async def test_more_waits_until_another_gives_back() -> None:
    budget, order = ByteBudget(10), []

    async def hold() -> None:
        with Lease(budget) as lease:
            await Attempt(lease).reserve(8)
            await trio.sleep(5)
            order.append("given back")

    async def want() -> None:
        await trio.sleep(1)
        with Lease(budget) as lease:
            await Attempt(lease).reserve(8)
            order.append(f"held at {trio.current_time():g}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        nursery.start_soon(want)
    assert order == ["given back", "held at 5"]


async def test_one_alone_may_exceed_the_total() -> None:
    budget = ByteBudget(10)
    with Lease(budget) as lease, Attempt(lease) as attempt:
        await attempt.reserve(8)
        await attempt.reserve(100)
        assert budget.used == 108
    assert budget.used == 0


async def test_one_body_after_the_other_goes_beyond_the_total() -> None:
    """A request has several ciphertexts, each in several buckets: all of them at once would be many times the total."""
    budget, most = ByteBudget(10), []

    async def read(lease: Lease, *, kept: bool) -> None:
        with Attempt(lease) as attempt:
            await attempt.reserve(8)
            most.append(budget.used)
            await trio.sleep(1)
            if kept:
                attempt.held = 0

    with Lease(budget) as lease:
        async with trio.open_nursery() as nursery:
            for kept in (True, False, False):
                nursery.start_soon(partial(read, lease, kept=kept))
        assert (max(most), len(most), budget.used) == (16, 3, 8)


async def test_no_more_than_some_large_bodies_of_a_bucket_grow_at_once() -> None:
    """They leave holes in the heap: a process with a budget of 64 MiB took 330 MB. The eldest waits for none, or nobody might go on."""
    budget, order = ByteBudget(1 << 40), list[str]()

    async def read(name: str, bucket: str, size: int) -> None:
        with Lease(budget) as lease, trio.CancelScope() as silence:
            with Attempt(lease, silence, bucket) as attempt:
                attempt.begun = trio.current_time()
                attempt.watch()
                await attempt.reserve(LARGE)
                await attempt.grow(size - LARGE)
                order.append(f"{name} at {trio.current_time():g}")
                attempt.watch()
                assert silence.deadline == trio.current_time() + SILENCE, "the wait is not the bucket's"
                silence.deadline = float("inf")
                await trio.sleep(2 * SILENCE)
                attempt.held = 0  # kept
            await trio.sleep(SILENCE)

    with Lease(budget) as eldest:
        await Attempt(eldest, bucket="http://a/1").reserve(1)
        async with trio.open_nursery() as nursery:
            for number in range(LARGE_BODIES):
                nursery.start_soon(read, "large", f"http://a/{number}", LARGE + 1)
            await trio.sleep(1)
            nursery.start_soon(read, "late", "http://a/late", LARGE + 1)
            await trio.sleep(1)
            nursery.start_soon(read, "small", "http://a/small", LARGE)
            nursery.start_soon(read, "other bucket", "http://b/", LARGE + 1)
            await trio.sleep(1)
            with Attempt(eldest, bucket="http://a/2") as attempt, trio.fail_after(0):
                await attempt.grow(LARGE + 1)
    assert order[:LARGE_BODIES] == ["large at 0"] * LARGE_BODIES
    assert sorted(order[LARGE_BODIES:]) == ["late at 20", "other bucket at 2", "small at 2"]
    assert not budget.large


async def test_a_large_body_that_does_not_fit_waits_for_no_place() -> None:
    """It would hold a connection to its bucket meanwhile, and the eldest might find none."""
    budget = ByteBudget(LARGE)
    with Lease(budget) as eldest, Lease(budget) as late:
        await Attempt(eldest).reserve(LARGE)
        budget.large["http://a"] = LARGE_BODIES
        with trio.fail_after(0):
            assert not await Attempt(late, bucket="http://a/1").grow(LARGE + 1)


async def test_a_cancelled_wait_holds_nothing_more() -> None:
    budget = ByteBudget(10)
    with Lease(budget) as first, Lease(budget) as second:
        await Attempt(first).reserve(10)
        with trio.move_on_after(1):
            await Attempt(second).reserve(1)
        assert (second.held, budget.used) == (0, 10)
    assert budget.used == 0


async def test_those_who_each_hold_a_part_and_want_more_do_not_wait_for_each_other() -> None:
    """Bodies without a length are counted as they arrive: the eldest goes on beyond the total, then the others."""
    budget, ended, most = ByteBudget(10), [], []

    async def read(name: int) -> None:
        with Lease(budget) as lease, Attempt(lease) as attempt:
            for _ in range(4):
                await attempt.reserve(2)
                most.append(budget.used)
                await trio.sleep(1)
        ended.append(name)

    async with trio.open_nursery() as nursery:
        for name in range(3):
            nursery.start_soon(read, name)
    assert sorted(ended) == [0, 1, 2]
    assert max(most) <= 10 + 8
    assert budget.used == 0


async def test_what_an_attempt_gave_back_makes_another_the_eldest() -> None:
    budget = ByteBudget(10)
    with Lease(budget) as first, Lease(budget) as second:
        with Attempt(first) as attempt:
            await attempt.reserve(5)
        await Attempt(second).reserve(10)
        await Attempt(second).reserve(5)
        with trio.move_on_after(1) as scope:
            await Attempt(first).reserve(1)
        assert scope.cancelled_caught
