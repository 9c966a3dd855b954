"""Measures what work leaves in memory while nobody collects cycles: an error, its frames and what they held, for one."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Awaitable, Callable


async def left_behind(work: Callable[[], Awaitable[object]], times: int = 5) -> int:
    """Do some work so many times, and return the bytes that stay; once before, for what is kept the first time."""
    await work()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(times):
            await work()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()
