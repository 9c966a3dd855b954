"""Several steps at once, all of them needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from kmsconn.errors import NotYet, Rejected, Unreachable
from kmsconn.transport.waiting import together


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


async def test_nothing_to_do_is_done() -> None:
    assert await together([]) == []


async def test_results_are_in_the_order_of_the_steps() -> None:
    assert await together([step("a", after=3), step("b", after=1), step("c", after=2)]) == ["a", "b", "c"]


async def test_the_steps_run_beside_each_other() -> None:
    await together([step("a", after=3), step("b", after=3), step("c", after=2)])
    assert trio.current_time() == 3


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


async def test_of_two_failures_the_earlier_one_counts() -> None:
    with pytest.raises(Unreachable, match="early"):
        await together([step(Unreachable("late"), after=2), step(Unreachable("early"), after=1)])


async def test_of_two_failures_at_once_one_comes_out() -> None:
    with pytest.raises((Unreachable, Rejected)):
        await together([step(Unreachable("one"), after=1), step(Rejected("other"), after=1)])


async def test_a_foreign_exception_comes_out_in_a_group() -> None:
    """It is a bug of ours, and goes to the worker's boundary with everything that it tells."""
    with pytest.raises(ExceptionGroup) as caught:
        await together([step("a", after=9), step(KeyError("bug"))])
    assert caught.group_contains(KeyError)


async def test_a_foreign_exception_is_not_hidden_by_a_failure() -> None:
    """Here a step breaks while it is being cancelled."""

    async def breaks() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("bug")

    with pytest.raises(ExceptionGroup) as caught:
        await together([step(Unreachable("down"), after=1), breaks])
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
