"""Several ways to the same thing: start the next when one failed or is slow, take the first that succeeds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import trio

from kmsconn.errors import Misconfigured, Retryable, Unreachable

T = TypeVar("T")


async def first_success(ways: Sequence[Callable[[], Awaitable[T]]], hedge_delay: float) -> T:
    """Return the first success; the next way starts when the one before failed or after ``hedge_delay`` seconds without a result.

    Raises Unreachable with the reason of each when every way failed; Misconfigured when only the operator can open any of them.
    Cancellation: cancels what runs. What the losers had begun is cancelled, so a way must be safe to repeat and to leave undone.
    """
    said: dict[
        str, bool
    ] = {}  # each reason, and whether only the operator can mend it; an error would hold this frame
    won: list[T] = []

    async def run(way: Callable[[], Awaitable[T]], over: trio.Event) -> None:
        try:
            won.append(await way())
        except Retryable as error:
            said[str(error)] = isinstance(error, Misconfigured)
        else:
            if len(nursery.child_tasks) > 1:
                nursery.cancel_scope.cancel()
        over.set()

    async with trio.open_nursery() as nursery:
        for way in ways:
            over = trio.Event()
            nursery.start_soon(run, way, over)
            with trio.move_on_after(hedge_delay):
                await over.wait()
            if won:
                break
    if not won:
        raise _failure(said)
    return won[0]


def _failure(said: Mapping[str, bool]) -> Retryable:
    text = "; ".join(said) or "no bucket is left to ask"
    return Misconfigured(text) if said and all(said.values()) else Unreachable(text)
