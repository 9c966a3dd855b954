"""Which bucket is asked when: those that gave nothing of late last, the next one after a failure or a moment without a result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

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


@attrs.define
class BucketStanding:
    """When each bucket that gave nothing is asked in its turn again, by its origin.

    In its turn a silent bucket would cost each request the time until the next one is asked too, and one that refuses a connection in vain.
    """

    _again: dict[str, float] = attrs.field(factory=dict)

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
        if len(self._again) < MOST:
            self._again[show_origin(address)] = now + AGAIN
