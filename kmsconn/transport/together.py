"""Several steps at once, all of them needed: the first failure cancels the rest and comes out alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from kmsconn.errors import KmsconnError

T = TypeVar("T")


async def together(steps: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run all steps concurrently and return their results in order.

    Raises the first KmsconnError of a step, itself and not a group: the caller asked one question. Foreign exceptions come out as
    a group. Cancellation: cancels every step.
    """
    if len(steps) <= 1:
        return [await step() for step in steps]
    results: dict[int, T] = {}
    failures: list[KmsconnError] = []

    async def run(index: int) -> None:
        try:
            results[index] = await steps[index]()
        except KmsconnError as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for index in range(1, len(steps)):
            nursery.start_soon(run, index)
        await run(0)  # here: a task less
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(steps))]
