"""Waits grow, stay inside their bounds, and end."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.app.retrying import DEFERRAL, IN_WORKER, WORKER_WAIT_LIMIT, retrying
from kmsconn.errors import NotYet, Overloaded, Rejected, Unreachable


@given(tries=st.integers(0, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_between_half_and_the_whole_of_its_step(tries: int, random: float) -> None:
    step = min(60.0, 0.5 * 2 ** min(tries, 20))
    assert step / 2 <= DEFERRAL.seconds(tries, random) <= step


@given(random=st.floats(0, 1, exclude_max=True))
def test_waits_never_pass_the_cap(random: float) -> None:
    assert max(IN_WORKER.seconds(tries, random) for tries in range(40)) <= IN_WORKER.cap


def failing(times: int, error: Exception, log: Any) -> Any:
    async def step() -> Any:
        await trio.lowlevel.checkpoint()
        log.append(trio.current_time())
        if len(log) <= times:
            raise error
        return "done"

    return step


@pytest.mark.parametrize("error", [Unreachable("x"), Overloaded("x")])
async def test_a_dependency_that_comes_back_is_waited_for(autojump_clock: Any, error: Exception) -> None:
    log: list[Any] = []
    assert await retrying(failing(3, error, log), lambda: 0.0) == "done"
    assert len(log) == 4
    assert log == sorted(log)


async def test_patience_ends(autojump_clock: Any) -> None:
    log: list[Any] = []
    with pytest.raises(Unreachable):
        await retrying(failing(1000, Unreachable("x"), log), lambda: 0.5)
    assert 1 < len(log) < 20
    assert trio.current_time() < WORKER_WAIT_LIMIT


@pytest.mark.parametrize("error", [NotYet("denied"), Rejected("never")])
async def test_an_answer_is_not_asked_for_again(autojump_clock: Any, error: Exception) -> None:
    log: list[Any] = []
    with pytest.raises(type(error)):
        await retrying(failing(1000, error, log), lambda: 0.0)
    assert len(log) == 1


async def test_cancellation_between_tries(autojump_clock: Any) -> None:
    with trio.move_on_after(1) as scope:
        await retrying(failing(1000, Unreachable("x"), []), lambda: 0.99)
    assert scope.cancelled_caught
