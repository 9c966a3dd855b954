"""Looks once, soon after a start, whether this machine's clock is that of the chains, and logs a warning where it is not.

Requests are answered all the same, since their deadlines are measured in chain time; log lines and the journal have wrong times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from kmsconn.doctor.clocks import judge_clock

CLOCK_CHECK_WAIT: Final = 20.0  # seconds for the newest block of every chain; then those that are known count


class KnowsHeads(Protocol):
    """The connector, as far as the clock is compared with it."""

    async def wait_ready(self) -> None:
        """Return once every dependency has answered."""
        ...

    def head_times(self) -> Iterable[float | None]:
        """Return the time of each chain's newest block, None for one that is not known yet."""
        ...


async def check_clock(connector: KnowsHeads, wall: Callable[[], float], log: FilteringBoundLogger) -> None:
    """Log that the clock is wrong, if it is. Cancellation: at any time."""
    await connector.wait_ready()
    with trio.move_on_after(CLOCK_CHECK_WAIT):
        while None in connector.head_times():  # noqa: ASYNC110 - heads are a snapshot
            await trio.sleep(0.5)
    known = [time for time in connector.head_times() if time is not None]
    wrong = judge_clock(max(known), wall()) if known else None
    if wrong is not None:
        log.warning("clock", message=f"{wrong.checked}: {wrong.found}", remedy=wrong.remedy)
