"""Where the objects of a ciphertext may be had, one class for each generation, and which bucket is asked when. Reads no object itself.

Buckets that gave nothing of late are asked last, the next one after a failure or a moment without a result.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, ClassVar, Final, Generic, TypeVar

import attrs
import trio

from kmsconn.ciphertexts.places import ObjectPlace, Substitute, by_digest, by_handle, places
from kmsconn.ciphertexts.registry import Find
from kmsconn.ciphertexts.sdk import Sdk, SdkBody
from kmsconn.errors import Misconfigured, Retryable, Unreachable
from kmsconn.frozen import frozen
from kmsconn.model.requests import CiphertextReference
from kmsconn.transport.http import Asked, Download, HttpClient
from kmsconn.transport.urls import show, show_origin

Body = Download | SdkBody
"""An answer whose bytes are still on their way; iterating raises Unreachable when it breaks or grows beyond the cap."""
Open = Callable[..., Awaitable[AbstractAsyncContextManager[Body]]]
"""Asks, with a cap on the bytes (``max_bytes``) and what to call once it is this request's turn (``begun``)."""


@frozen
class CiphertextSource:
    """One way to one object: the address that the policy judges, how it is asked, and what is special about that."""

    address: str = attrs.field(repr=False)
    open: Open = attrs.field(repr=False)
    ahead: Callable[[], Awaitable[Asked | None]] | None = attrs.field(default=None, repr=False)
    """Asks before anybody waits for it, where that can be done; what was asked is read by its own ``open``."""
    manner: str = ""
    attested_by: str = attrs.field(default="", repr=False)
    """The bucket whose attestation comes with the object; empty for an object that carries none that counts."""

    @property
    def shown(self) -> str:
        """How errors name it."""
        return show(self.address) + self.manner


def anonymous(http: HttpClient, url: str, attested_by: str = "") -> CiphertextSource:
    """Return the way of everybody: a GET without credentials."""
    return CiphertextSource(
        url, partial(http.stream_get, url), partial(http.ask_ahead, url), attested_by=attested_by
    )


@frozen
class CandidateBucket:
    """A bucket that may have a ciphertext, and what gives the ways to it there, to be gone one after the other."""

    address: str = attrs.field(repr=False)
    ways: Callable[[], Iterable[CiphertextSource]] = attrs.field(repr=False)


@attrs.define
class BothForms:
    """Two objects in each bucket, by handle and by digest; the form that a bucket answered last is asked first (fhevm-0.14.md, 4.3)."""

    at_hand: ClassVar = True
    """Whether ``of`` asks nobody."""

    http: HttpClient
    find: Find
    _by_digest: set[str] = attrs.field(factory=set)

    async def of(self, reference: CiphertextReference) -> Sequence[CandidateBucket]:
        """Return both forms for each bucket of the ciphertext's coprocessors. Raises as ``Registry.find``."""
        buckets = await self.find(reference.coprocessors)
        return [CandidateBucket(bucket, partial(self._forms, bucket, reference)) for bucket in buckets]

    def found(self, bucket: str, source: CiphertextSource) -> None:
        """Remember which form it was that a bucket had: the one by handle carries an attestation."""
        if not source.attested_by:
            self._by_digest.add(bucket)
        else:
            self._by_digest.discard(bucket)

    def _forms(self, bucket: str, reference: CiphertextReference) -> Iterator[CiphertextSource]:
        # As they are asked for: the first form of the first bucket is nearly always enough.
        digest_first = bucket in self._by_digest
        if digest_first:
            yield anonymous(self.http, by_digest(bucket, reference.digest))
        yield anonymous(self.http, by_handle(bucket, reference.handle), attested_by=bucket)
        if not digest_first:
            yield anonymous(self.http, by_digest(bucket, reference.digest))


@attrs.frozen
class ByPlace:
    """One object in each bucket, by digest: without credentials, then by the SDK with the operator's (httpz-rc7.md, 4.3 to 4.5).

    A signature is shown to S3's own hosts and to the operator's own endpoint only: the other addresses come from a chain.
    """

    at_hand: ClassVar = False

    http: HttpClient
    find: Find
    sdk: Sdk
    instead: Substitute | None = None

    async def of(self, reference: CiphertextReference) -> Sequence[CandidateBucket]:
        """Return both ways for each place; what the operator configured stands in where no coprocessor could be looked up."""
        spare = places([], self.instead)
        try:
            addresses = await self.find(reference.coprocessors)
        except Unreachable:
            if not spare:
                raise
            addresses = []
        found = places(addresses, self.instead) if addresses else spare
        key = reference.digest.hex()
        return [CandidateBucket(place.service, partial(self._ways, place, key)) for place in found]

    def found(self, bucket: str, source: CiphertextSource) -> None:
        """Remember nothing."""

    def _ways(self, place: ObjectPlace, key: str) -> list[CiphertextSource]:
        url = place.object_url(key)
        ways = [anonymous(self.http, url)]
        if place.is_s3 or self._is_own(place):
            ways.append(CiphertextSource(url, partial(self._signed, place, key), manner=" with credentials"))
        return ways

    async def _signed(self, place: ObjectPlace, key: str, **how: Any) -> AbstractAsyncContextManager[Body]:
        return self.sdk.get(place, key, **how)

    def _is_own(self, place: ObjectPlace) -> bool:
        own = self.instead.place if self.instead else None
        return own is not None and own.endpoint == place.endpoint


Sources = BothForms | ByPlace
"""Knows where a ciphertext may be had, and takes to heart which way led to it."""

T = TypeVar("T")

AGAIN: Final = 5.0
"""Seconds after which one request asks such a bucket in its turn again: the price of an outage is one late ciphertext in that time."""
MOST: Final = 1_000
"""Buckets that are remembered; a registry names up to as many."""


@attrs.define
class Race(Generic[T]):
    """The ways to one thing: the next one is gone when the one before failed, or after ``hedge_delay`` seconds without a result.

    What the losers had begun is cancelled, so a way must be safe to repeat and to leave undone.
    """

    ways: Sequence[Callable[[], Awaitable[T]]]
    hedge_delay: float
    won: list[T] = attrs.field(factory=list)
    """What the first success gave."""
    _said: dict[str, bool] = attrs.field(factory=dict)
    """Each reason, and whether only the operator can mend it; an error would hold its frames, and they what they had read."""
    begun: bool = False
    """Whether the first way has had its time: the next one is gone at once, and the first anew beside it unless it failed."""

    async def run(self) -> None:
        """Go the ways that are left until one leads there.

        Raises Unreachable with the reason of each when every way failed; Misconfigured when only the operator can open any of them.
        Cancellation: cancels what runs.
        """
        ways = self.ways[1:] if self.begun else self.ways
        beside = self.ways[:1] if self.begun and not self._said else ()
        if len(ways) + len(beside) == 1:
            await self.go((ways or beside)[0])
        elif ways or beside:
            await self._race(ways, beside)
        if not self.won:
            text = "; ".join(self._said) or "no bucket is left to ask"
            closed = self._said and all(self._said.values())
            raise Misconfigured(text) if closed else Unreachable(text)

    async def go(self, way: Callable[[], Awaitable[T]]) -> None:
        """Go one way, without a task, and note what came of it. Cancellation: ``run`` goes on from there."""
        try:
            self.won.append(await way())
        except Retryable as error:
            self._said[str(error)] = isinstance(error, Misconfigured)

    async def _race(
        self, ways: Sequence[Callable[[], Awaitable[T]]], beside: Sequence[Callable[[], Awaitable[T]]]
    ) -> None:
        """Go ways one after the other, not waiting for ever for any, and others ``beside`` them from the beginning."""

        async def go(way: Callable[[], Awaitable[T]], over: trio.Event) -> None:
            await self.go(way)
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


@attrs.define
class BucketStanding:
    """When each bucket that gave nothing is asked in its turn again, by its origin.

    In its turn a silent bucket would cost each request the time until the next one is asked too, and one that refuses a connection in vain.
    """

    _again: dict[str, float] = attrs.field(factory=dict)
    calm_from: float = -math.inf
    """Since then every bucket that was asked of late gave something: the first one will most likely do."""

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
        self.calm_from = now + AGAIN
        if len(self._again) < MOST:
            self._again[show_origin(address)] = now + AGAIN
