"""A start says once that this machine's clock is not that of the chains."""

from __future__ import annotations

import io
import json
from typing import Any

import attrs
import pytest
import trio

from kmsconn.cli.clock_check import CLOCK_CHECK_WAIT, check_clock
from kmsconn.config.settings import LogFormat
from kmsconn.monitoring.logs import make_logger


@attrs.define
class Heads:
    """A connector that knows the newest blocks of its chains from a moment on."""

    times: list[float | None]
    since: float = 0.0

    async def wait_ready(self) -> None:
        await trio.lowlevel.checkpoint()

    def head_times(self) -> list[float | None]:
        return self.times if trio.current_time() >= self.since else [None] * len(self.times)


async def said(heads: Heads, now: float) -> list[dict[str, Any]]:
    stream = io.StringIO()
    await check_clock(
        heads.wait_ready, heads.head_times, lambda: now, make_logger(stream, "info", LogFormat.JSON)
    )
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(("now", "words"), [(8600.0, "3600 s ahead of"), (1400.0, "3600 s behind")])
async def test_an_hour_is_told_with_the_remedy(now: float, words: str, autojump_clock: Any) -> None:
    """The newest block of all counts."""
    [line] = await said(Heads([5000.0, 12.0], since=trio.current_time() + 3), now)
    assert (line["event"], line["level"]) == ("clock", "warning")
    assert words in line["message"]
    assert "NTP" in line["remedy"]


async def test_a_right_clock_is_no_line(autojump_clock: Any) -> None:
    """Nor is a chain that is behind."""
    assert await said(Heads([5000.0, 12.0]), 5010.0) == []


async def test_a_chain_without_a_head_is_not_waited_for_for_ever(autojump_clock: Any) -> None:
    """Those that are known count."""
    before = trio.current_time()
    assert len(await said(Heads([5000.0, None]), 9000.0)) == 1
    assert trio.current_time() - before == pytest.approx(CLOCK_CHECK_WAIT)
