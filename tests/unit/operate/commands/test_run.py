"""Signals and announcements of a running connector."""

from __future__ import annotations

import gc
import io
import json
import signal
from collections.abc import AsyncIterator

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from kmsconn.config.values import LogFormat
from kmsconn.observe.logs import make_logger
from kmsconn.operate.commands.run import YOUNG_OBJECTS, announce_ready, calm_collector, heed_signals


@attrs.define
class FakeConnector:
    """Remembers what was done to it."""

    done: list[str] = attrs.field(factory=list)
    ready: trio.Event = attrs.field(factory=trio.Event)

    def drain(self) -> None:
        self.done.append("drain")

    def hurry(self) -> None:
        self.done.append("hurry")

    async def wait_ready(self) -> None:
        await self.ready.wait()


async def received(*numbers: int) -> AsyncIterator[int]:
    for number in numbers:
        yield number
        await trio.lowlevel.checkpoint()


async def after(*numbers: int) -> tuple[list[str], list[str]]:
    connector, stream = FakeConnector(), io.StringIO()
    await heed_signals(received(*numbers), connector, make_logger(stream, "info", LogFormat.JSON))
    return connector.done, [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


async def test_the_first_signal_drains() -> None:
    assert await after(signal.SIGTERM) == (["drain"], ["draining"])


async def test_a_second_signal_of_either_kind_hurries() -> None:
    assert await after(signal.SIGINT, signal.SIGTERM) == (["drain", "hurry"], ["draining", "ending at once"])


async def test_ready_is_logged_once_it_is() -> None:
    connector, stream = FakeConnector(), io.StringIO()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announce_ready, connector, make_logger(stream, "info", LogFormat.JSON))
        await wait_all_tasks_blocked()
        assert stream.getvalue() == ""
        connector.ready.set()
    assert json.loads(stream.getvalue())["event"] == "ready"


def test_cycles_are_looked_for_less_often() -> None:
    before = gc.get_threshold()
    try:
        calm_collector()
        assert gc.get_threshold() == (YOUNG_OBJECTS, *before[1:])
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
