"""Several calls on their way at once that must be heard in their order. Decides nothing."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from kmsconn.errors import KmsconnError, StageTimeout

T = TypeVar("T")


async def in_order(
    steps: Sequence[Callable[[], Awaitable[T]]], *, seconds: float = math.inf
) -> list[T | KmsconnError]:
    """Run all steps concurrently, each begun after the one before took its place in a queue; return what came of each.

    An error of ours stands in the place of its result, StageTimeout where nothing came in ``seconds``.
    Cancellation: cancels every step.
    """
    results: list[T | KmsconnError] = [StageTimeout("a call of the lane", seconds)] * len(steps)

    async def run(index: int) -> None:
        try:
            results[index] = await steps[index]()
        except KmsconnError as error:
            results[index] = error

    with trio.move_on_after(seconds):
        if len(steps) == 1:
            await run(0)  # here: a task less
            return results
        async with trio.open_nursery() as nursery:
            for index in range(len(steps)):
                nursery.start_soon(run, index)
                await trio.lowlevel.checkpoint()  # Trio starts tasks of one moment in any order
    return results
