"""Which bucket is asked when: those that gave nothing of late last, the next one after a failure or a moment without a result."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import attrs
import trio

from kmsconn.ciphertexts.sources import CandidateBucket
from kmsconn.errors import Misconfigured, Retryable, Unreachable
from kmsconn.transport.urls import show_origin

T = TypeVar("T")

AGAIN: Final = 5.0
"""Seconds after which one request asks such a bucket in its turn again: the price of an outage is one late ciphertext in that time."""
MOST: Final = 1_000
"""Buckets that are remembered; a registry names up to as many."""


async def first_success(
    ways: Sequence[Callable[[], Awaitable[T]]], hedge_delay: float, *, calm: bool = True
) -> T:
    """Return the first success; the next way starts when the one before failed or after ``hedge_delay`` seconds without a result.

    Where it is ``calm`` the first way goes alone, without a task; if it takes longer than that, it begins anew beside the next one.
    Raises Unreachable with the reason of each when every way failed; Misconfigured when only the operator can open any of them.
    Cancellation: cancels what runs. What the losers had begun is cancelled, so a way must be safe to repeat and to leave undone.
    """
    race = _Race[T](hedge_delay)
    if len(ways) == 1:
        await race.ask(ways[0])
    elif ways and calm:
        with trio.move_on_after(hedge_delay) as alone:
            await race.ask(ways[0])
        if not race.won:
            await race.run(ways[1:], ways[:1] if alone.cancelled_caught else ())
    else:
        await race.run(ways)
    return race.result()


@attrs.define
class _Race(Generic[T]):
    """What came of the ways so far."""

    hedge_delay: float
    won: list[T] = attrs.field(factory=list)
    said: dict[str, bool] = attrs.field(factory=dict)
    """Each reason, and whether only the operator can mend it; an error would hold its frames, and they what they had read."""

    async def ask(self, way: Callable[[], Awaitable[T]]) -> None:
        """Go one way, and note what came of it."""
        try:
            self.won.append(await way())
        except Retryable as error:
            self.said[str(error)] = isinstance(error, Misconfigured)

    async def run(
        self, ways: Sequence[Callable[[], Awaitable[T]]], beside: Sequence[Callable[[], Awaitable[T]]] = ()
    ) -> None:
        """Go ways one after the other, not waiting for ever for any, and others ``beside`` them from the beginning."""

        async def go(way: Callable[[], Awaitable[T]], over: trio.Event) -> None:
            await self.ask(way)
            if self.won and len(nursery.child_tasks) > 1:
                nursery.cancel_scope.cancel()
            over.set()

        async with trio.open_nursery() as nursery:
            for way in beside:
                nursery.start_soon(go, way, trio.Event())
            for way in ways:
                over = trio.Event()
                nursery.start_soon(go, way, over)
                with trio.move_on_after(self.hedge_delay):
                    await over.wait()
                if self.won:
                    break

    def result(self) -> T:
        """Return what won, or raise why nothing did."""
        if self.won:
            return self.won[0]
        text = "; ".join(self.said) or "no bucket is left to ask"
        closed = self.said and all(self.said.values())
        raise Misconfigured(text) if closed else Unreachable(text)


@attrs.define
class BucketStanding:
    """When each bucket that gave nothing is asked in its turn again, by its origin.

    In its turn a silent bucket would cost each request the time until the next one is asked too, and one that refuses a connection in vain.
    """

    _again: dict[str, float] = attrs.field(factory=dict)
    _calm_from: float = -math.inf

    def is_calm(self, now: float) -> bool:
        """Say whether every bucket that was asked of late gave something: then the first one will most likely do."""
        return now >= self._calm_from

    def in_turn(self, buckets: Sequence[CandidateBucket], now: float) -> Sequence[CandidateBucket]:
        """Return the buckets in the order of asking. Where the time of one has come, it has its turn once: for this caller."""
        if not self._again:
            return buckets
        behind = [bucket for bucket in buckets if self._is_behind(show_origin(bucket.address), now)]
        return [*(bucket for bucket in buckets if bucket not in behind), *behind]

    def _is_behind(self, origin: str, now: float) -> bool:
        again = self._again.get(origin)
        if again is None or now < again:
            return again is not None
        self._again[origin] = now + AGAIN
        return False

    def gave(self, address: str) -> None:
        """Note that a bucket gave an object."""
        if self._again:
            self._again.pop(show_origin(address), None)

    def gave_nothing(self, address: str, now: float) -> None:
        """Note that a bucket gave no answer, or none that was of use."""
        self._calm_from = now + AGAIN
        if len(self._again) < MOST:
            self._again[show_origin(address)] = now + AGAIN
