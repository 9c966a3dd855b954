"""A worker waits for a dependency for some seconds, and no longer."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.errors import NotYet, Overloaded, Rejected, Unreachable
from kmsconn.requests.stages import WORKER_WAIT_LIMIT, retrying


def failing(times: int, error: Exception, log: Any) -> Any:
    async def step() -> Any:
        await trio.lowlevel.checkpoint()
        log.append(trio.current_time())
        if len(log) <= times:
            raise error
        return "done"

    return step


@pytest.mark.parametrize("error", [Unreachable("x"), Overloaded("x")])
async def test_a_dependency_that_comes_back_is_waited_for(error: Exception) -> None:
    log: list[Any] = []
    assert await retrying(failing(3, error, log), lambda: 0.0) == "done"
    assert len(log) == 4
    assert log == sorted(log)


async def test_patience_ends() -> None:
    log: list[Any] = []
    with pytest.raises(Unreachable):
        await retrying(failing(1000, Unreachable("x"), log), lambda: 0.5)
    assert 1 < len(log) < 20
    assert trio.current_time() < WORKER_WAIT_LIMIT


@pytest.mark.parametrize("error", [NotYet("denied"), Rejected("never")])
async def test_an_answer_is_not_asked_for_again(error: Exception) -> None:
    log: list[Any] = []
    with pytest.raises(type(error)):
        await retrying(failing(1000, error, log), lambda: 0.0)
    assert len(log) == 1


async def test_cancellation_between_tries() -> None:
    with trio.move_on_after(1) as scope:
        await retrying(failing(1000, Unreachable("x"), []), lambda: 0.99)
    assert scope.cancelled_caught
