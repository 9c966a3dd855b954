"""Blocking work off the loop, or inline under a virtual clock. Never decides what is worth a thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import trio

T = TypeVar("T")

# Threads of one use; enough for two cores, few enough that a burst of hashes cannot starve the journal, which has its own.
THREADS_PER_USE = 4


@cache
def _limiter(_use: str) -> trio.CapacityLimiter:
    return trio.CapacityLimiter(THREADS_PER_USE)


async def offload_to_threads(use: str, work: Callable[[], T]) -> T:
    """Run ``work`` in a thread; each ``use`` has a limiter of its own, so that no use waits for another.

    Cancellation: before the work starts; work that has started is finished.
    """
    return await trio.to_thread.run_sync(work, abandon_on_cancel=False, limiter=_limiter(use))


async def offload_inline(use: str, work: Callable[[], T]) -> T:  # noqa: ARG001 - the port's signature
    """Run ``work`` at once in the loop, for worlds in virtual time, where any thread counts as a socket."""
    await trio.lowlevel.checkpoint()
    return work()
