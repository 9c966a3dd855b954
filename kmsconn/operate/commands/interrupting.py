"""Ends a command well at SIGINT or SIGTERM: cancels its work, after which it still says what it has. For commands without a drain."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio


async def until_interrupted(work: Callable[[], Awaitable[object]]) -> None:
    """Do the work; a signal cancels it, and this returns."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def heed() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(heed)
            await work()
            nursery.cancel_scope.cancel()
