"""Where the objects of a ciphertext may be had, in the order of asking: one class for each generation. Reads no object itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

import attrs

from kmsconn.ciphertexts.places import ObjectPlace, Substitute, by_digest, by_handle, places
from kmsconn.ciphertexts.registry import Directory
from kmsconn.ciphertexts.sdk import Sdk
from kmsconn.errors import Unreachable
from kmsconn.frozen import frozen
from kmsconn.model.requests import CiphertextReference
from kmsconn.transport.http import HttpClient
from kmsconn.transport.urls import show


class Body(Protocol):
    """An answer whose bytes are still on their way; iterating raises Unreachable when it breaks or grows beyond the cap."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""
        ...

    @property
    def announced(self) -> int | None:
        """How many bytes there will be, if that was said."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes as they come."""
        ...


Open = Callable[[int, Callable[[], None]], AbstractAsyncContextManager[Body]]
"""Asks, with a cap on the bytes and what to call once it is this request's turn."""


@frozen
class CiphertextSource:
    """One way to one object: the address that the policy judges, how it is asked, and what is special about that."""

    address: str = attrs.field(repr=False)
    open: Open = attrs.field(repr=False)
    manner: str = ""
    attested_by: str = attrs.field(default="", repr=False)
    """The bucket whose attestation comes with the object; empty for an object that carries none that counts."""

    @property
    def shown(self) -> str:
        """How errors name it."""
        return show(self.address) + self.manner


def anonymous(http: HttpClient, url: str, attested_by: str = "") -> CiphertextSource:
    """Return the way of everybody: a GET without credentials."""

    def ask(max_bytes: int, begun: Callable[[], None]) -> AbstractAsyncContextManager[Body]:
        return http.stream_get(url, max_bytes=max_bytes, begun=begun)

    return CiphertextSource(url, ask, attested_by=attested_by)


@attrs.frozen(eq=False)
class CandidateBucket:
    """A bucket that may have a ciphertext, and what gives the ways to it there, to be gone one after the other."""

    address: str = attrs.field(repr=False)
    ways: Callable[[], Iterable[CiphertextSource]] = attrs.field(repr=False)


class Sources(Protocol):
    """Knows where a ciphertext may be had."""

    async def of(self, reference: CiphertextReference) -> Sequence[CandidateBucket]:
        """Return the buckets that may have a ciphertext, in the order of asking.

        Raises as ``Directory.find``.
        """
        ...

    def found(self, reference: CiphertextReference, source: CiphertextSource) -> None:
        """Take to heart which way led to it."""
        ...


@attrs.define
class BothForms:
    """Two objects in each bucket, by handle and by digest; the form that a bucket answered last is asked first (fhevm-0.14.md, 4.3)."""

    http: HttpClient
    directory: Directory
    _by_digest: set[str] = attrs.field(factory=set)

    async def of(self, reference: CiphertextReference) -> Sequence[CandidateBucket]:
        """Return both forms for each bucket of the ciphertext's coprocessors."""
        buckets = await self.directory.find(reference.coprocessors)
        return [CandidateBucket(bucket, partial(self._forms, bucket, reference)) for bucket in buckets]

    def found(self, reference: CiphertextReference, source: CiphertextSource) -> None:
        """Remember which form it was."""
        bucket = source.address.removesuffix(by_digest("", reference.digest))
        if bucket != source.address:
            self._by_digest.add(bucket)
        elif self._by_digest:
            self._by_digest.discard(bucket.removesuffix(by_handle("", reference.handle)))

    def _forms(self, bucket: str, reference: CiphertextReference) -> Iterator[CiphertextSource]:
        # As they are asked for: the first form of the first bucket is nearly always enough.
        digest_first = bucket.rstrip("/") in self._by_digest
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

    http: HttpClient
    directory: Directory
    sdk: Sdk
    instead: Substitute | None = None

    async def of(self, reference: CiphertextReference) -> Sequence[CandidateBucket]:
        """Return both ways for each place; what the operator configured stands in where no coprocessor could be looked up."""
        spare = places([], self.instead)
        try:
            addresses = await self.directory.find(reference.coprocessors)
        except Unreachable:
            if not spare:
                raise
            addresses = []
        found = places(addresses, self.instead) if addresses else spare
        key = reference.digest.hex()
        return [CandidateBucket(place.service, partial(self._ways, place, key)) for place in found]

    def found(self, reference: CiphertextReference, source: CiphertextSource) -> None:
        """Remember nothing."""

    def _ways(self, place: ObjectPlace, key: str) -> list[CiphertextSource]:
        url = place.object_url(key)
        ways = [anonymous(self.http, url)]
        if place.is_s3 or self._is_own(place):
            ways.append(CiphertextSource(url, partial(self.sdk.get, place, key), " with credentials"))
        return ways

    def _is_own(self, place: ObjectPlace) -> bool:
        own = self.instead.place if self.instead else None
        return own is not None and own.endpoint == place.endpoint
