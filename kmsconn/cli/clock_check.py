"""Looks once, soon after a start, whether this machine's clock is that of the chains, and logs a warning where it is not.

Requests are answered all the same, since their deadlines are measured in chain time; log lines and the journal have wrong times.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from kmsconn.doctor.clocks import judge_clock

CLOCK_CHECK_WAIT: Final = 20.0  # seconds for the newest block of every chain; then those that are known count


async def check_clock(
    wait_ready: Callable[[], Awaitable[None]],
    head_times: Callable[[], Sequence[float | None]],
    wall: Callable[[], float],
    log: FilteringBoundLogger,
) -> None:
    """Log that the clock is wrong, if it is; ``head_times`` are those of the chains' newest blocks, None for one not known yet.

    Cancellation: at any time.
    """
    await wait_ready()
    with trio.move_on_after(CLOCK_CHECK_WAIT):
        while None in head_times():  # noqa: ASYNC110 - heads are a snapshot
            await trio.sleep(0.5)
    known = [time for time in head_times() if time is not None]
    wrong = judge_clock(max(known), wall()) if known else None
    if wrong is not None:
        log.warning("clock", message=f"{wrong.checked}: {wrong.found}", remedy=wrong.remedy)
