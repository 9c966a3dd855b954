"""Waiting in an emulated process: to its moment, to a moment that moves, or to the end of its life."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.emulator.core_table import Uptime
from kmsconn.emulator.grpc_server import CutConnection


async def test_a_wait_lasts_to_its_moment(autojump_clock: Any) -> None:
    began = trio.current_time()
    await Uptime().wait(lambda: began + 7)
    assert trio.current_time() == began + 7


async def test_a_moment_that_is_past_is_not_waited_for(autojump_clock: Any) -> None:
    began = trio.current_time()
    await Uptime().wait(lambda: began - 1)
    assert trio.current_time() == began


async def test_a_restart_cuts_those_who_wait(autojump_clock: Any) -> None:
    uptime = Uptime()

    async def wait() -> None:
        with pytest.raises(CutConnection):
            await uptime.wait(lambda: trio.current_time() + 100)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        uptime.restart()
    assert (uptime.restarts, trio.current_time() < 100) == (1, True)


async def test_a_restart_before_the_wait_cuts_nobody(autojump_clock: Any) -> None:
    uptime = Uptime()
    uptime.restart()
    moment = trio.current_time() + 1
    await uptime.wait(lambda: moment)


async def test_a_moment_that_moved_is_looked_at_again(autojump_clock: Any) -> None:
    uptime, moments = Uptime(), [trio.current_time() + 100]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uptime.wait, lambda: moments[0])
        await trio.sleep(2)
        moments[0] = trio.current_time()
        uptime.stir()
    assert trio.current_time() == moments[0]
