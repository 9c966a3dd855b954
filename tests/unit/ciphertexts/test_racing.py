"""Laws of first_success: order, patience, losers cancelled, every reason named."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.ciphertexts.sources import first_success
from kmsconn.errors import Rejected, Unreachable


def way(result: Any, *, after: Any = 0.0, log: Any = None) -> Any:
    async def run() -> Any:
        try:
            await trio.sleep(after)
        except trio.Cancelled:
            if log is not None:
                log.append(f"{result} cancelled")
            raise
        if isinstance(result, Exception):
            raise result
        return result

    return run


async def test_the_first_way_wins_when_it_is_quick() -> None:
    assert await first_success([way("a", after=0.5), way("b")], 1.0) == "a"
    assert trio.current_time() == 0.5


async def test_a_failure_starts_the_next_at_once() -> None:
    assert await first_success([way(Unreachable("down")), way("b", after=0.1)], 1.0) == "b"
    assert trio.current_time() == 0.1


async def test_a_slow_way_is_overtaken_and_cancelled() -> None:
    log: list[Any] = []
    assert await first_success([way("a", after=100, log=log), way("b", after=0.2)], 1.0) == "b"
    assert trio.current_time() == 1.2
    assert log == ["a cancelled"] * 2  # once alone, once beside


@pytest.mark.parametrize(("calm", "seconds"), [(False, 3), (True, 4)])
async def test_a_slow_way_may_still_win(calm: bool, seconds: float) -> None:
    """Where it went alone it began anew."""
    ways = [way("a", after=3), way(Unreachable("x"), after=1), way("c", after=60)]
    assert await first_success(ways, 1.0, calm=calm) == "a"
    assert trio.current_time() == seconds


async def test_the_only_way_has_all_the_time() -> None:
    assert await first_success([way("a", after=60)], 1.0) == "a"
    assert trio.current_time() == 60


async def test_all_reasons_are_told_when_every_way_fails() -> None:
    with pytest.raises(Unreachable, match="one; two"):
        await first_success([way(Unreachable("one")), way(Unreachable("two"), after=5)], 1.0)


async def test_nowhere_to_ask_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="no bucket is left to ask"):
        await first_success([], 1.0)


async def test_a_terminal_error_is_not_hidden() -> None:
    with pytest.raises(Rejected, match="never"):
        await first_success([way(Rejected("never")), way("b")], 1.0)
    with pytest.raises(ExceptionGroup) as caught:
        await first_success([way(Rejected("never")), way("b")], 1.0, calm=False)
    assert caught.group_contains(Rejected)


@pytest.mark.parametrize("calm", [False, True])
@pytest.mark.parametrize("at", [0.0, 0.5, 0.9, 1.5])
async def test_cancellation_ends_every_way(at: Any, calm: bool) -> None:
    log: list[Any] = []
    with trio.move_on_after(at) as scope:
        await first_success([way("a", after=9, log=log), way("b", after=9, log=log)], 1.0, calm=calm)
    assert scope.cancelled_caught
    assert len(log) == (2 + calm if at >= 1 else 1)


@pytest.mark.parametrize("first", [way("a"), way("a", after=0.9)])
async def test_a_quick_first_way_takes_no_task(first: Any) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def alone() -> Any:
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        return await first()

    assert await first_success([alone, way("b")], 1.0) == "a"
