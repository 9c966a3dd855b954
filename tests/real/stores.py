"""A place with buckets thrice: emulated, moto's server, and radosgw. One set of tests may run against all. Judges nothing."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Protocol

import attrs
import trio

from kmsconn.ciphertexts.fetch import ByteBudget, Fetcher, Lease
from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.ciphertexts.registry import Registry
from kmsconn.ciphertexts.sources import BothForms
from kmsconn.emulator.bucket_faults import BucketFaults, RedirectingBucket
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.network import serve_sockets
from kmsconn.ethereum.addresses import Address
from kmsconn.model.events import ignore
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.profile import Coprocessor
from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Ports, offload_to_threads
from tests.real import store_client
from tests.real.radosgw import S3_DOMAIN, WEBSITE_DOMAIN

_NUMBERS = itertools.count(1)


class Bucket(Protocol):
    """One bucket, by both forms of its address."""

    @property
    def url(self) -> str:
        """Its address with the bucket in the path."""
        ...

    @property
    def host_url(self) -> str:
        """Its address with the bucket in the host."""
        ...

    async def put(self, key: str, body: bytes, headers: dict[str, str]) -> None:
        """Store an object with metadata headers."""
        ...

    async def put_redirect(self, key: str, location: str) -> str:
        """Let a key point elsewhere, and return the URL that does so."""
        ...


class Store(Protocol):
    """A server with buckets."""

    async def open_bucket(self, *, public: bool = True, listed: bool = True) -> Bucket:
        """Make a bucket of a name that was not used before."""
        ...


@attrs.define(eq=False)
class ServedBucket:
    """A bucket of a server that is not ours."""

    client: Any
    name: str
    port: int
    public: bool

    @property
    def url(self) -> str:
        """Its address with the bucket in the path."""
        return f"http://127.0.0.1:{self.port}/{self.name}"

    @property
    def host_url(self) -> str:
        """Its address with the bucket in the host."""
        return f"http://{self.name}.{S3_DOMAIN}:{self.port}"

    async def put(self, key: str, body: bytes, headers: dict[str, str]) -> None:
        """Store an object with metadata headers."""
        await self._put(key, body, headers)

    async def put_redirect(self, key: str, location: str) -> str:
        """Let a key point elsewhere, and return the URL that does so."""
        website = {"IndexDocument": {"Suffix": "index"}}
        await trio.to_thread.run_sync(
            partial(self.client.put_bucket_website, Bucket=self.name, WebsiteConfiguration=website)
        )
        await self._put(key, b"", {}, WebsiteRedirectLocation=location)
        return f"http://{self.name}.{WEBSITE_DOMAIN}:{self.port}/{key}"

    async def _put(self, key: str, body: bytes, headers: dict[str, str], **more: str) -> None:
        put = partial(
            store_client.put, self.client, self.name, key, body, headers, public=self.public, **more
        )
        await trio.to_thread.run_sync(put)


@attrs.define(eq=False)
class ServedStore:
    """A server that is not ours."""

    port: int
    client: Any

    async def open_bucket(self, *, public: bool = True, listed: bool = True) -> ServedBucket:
        """Make a bucket of a name that was not used before."""
        name = f"ct128-{next(_NUMBERS)}"
        make = partial(store_client.make_bucket, self.client, name, public=public, listed=listed)
        await trio.to_thread.run_sync(make)
        return ServedBucket(self.client, name, self.port, public)


@attrs.define(eq=False)
class OurBucket:
    """An emulated bucket on a port of its own."""

    faults: BucketFaults
    port: int

    @property
    def url(self) -> str:
        """Its address with the bucket in the path."""
        return f"http://127.0.0.1:{self.port}{self.faults.bucket.prefix}"

    @property
    def host_url(self) -> str:
        """Its address with the bucket in the host."""
        return f"http://{self.faults.bucket.prefix[1:]}.{S3_DOMAIN}:{self.port}"

    async def put(self, key: str, body: bytes, headers: dict[str, str]) -> None:
        """Store an object with metadata headers."""
        await trio.lowlevel.checkpoint()
        self.faults.bucket.put(key, body, tuple(headers.items()))

    async def put_redirect(self, key: str, location: str) -> str:
        """Let a key point elsewhere, and return the URL that does so."""
        await trio.lowlevel.checkpoint()
        self.faults.script(RedirectingBucket(location=location), key=key)
        return f"{self.host_url}/{key}"


@attrs.define(eq=False)
class OurStore:
    """Emulated buckets."""

    nursery: trio.Nursery
    crashes: list[Exception] = attrs.field(factory=list)

    async def open_bucket(self, *, public: bool = True, listed: bool = True) -> OurBucket:
        """Make a bucket of a name that was not used before."""
        bucket = BucketFaults(EmulatedBucket(f"/ct128-{next(_NUMBERS)}", public=public, listed=listed))
        port: int = await self.nursery.start(partial(serve_sockets, bucket.serve, crashes=self.crashes))
        return OurBucket(bucket, port)


@asynccontextmanager
async def open_emulated_store() -> AsyncIterator[OurStore]:
    """Serve emulated buckets while the block lasts."""
    async with trio.open_nursery() as nursery:
        store = OurStore(nursery)
        yield store
        nursery.cancel_scope.cancel()
    assert not store.crashes, store.crashes


@contextmanager
def open_moto() -> Iterator[int]:
    """Run moto's server in a thread while the block lasts, and give its port."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


@attrs.define(eq=False)
class Client:
    """Our client, which takes every name for this machine."""

    http: HttpClient
    dialled: list[str]

    def fetcher(self, buckets: list[Bucket], *, max_size: int = 1 << 24) -> Fetcher:
        """Return a fetcher of ciphertexts for coprocessors 0, 1, … with these buckets."""
        registry = Registry(None, None, 60.0, ignore)  # type: ignore[arg-type]
        registry._coprocessors = {
            sender(index): Coprocessor(sender(index), sender(index), bucket.url)
            for index, bucket in enumerate(buckets)
        }
        return Fetcher(BothForms(self.http, registry), BucketPolicy(True, True), offload_to_threads, max_size)


def sender(index: int) -> Address:
    """Return the address of a coprocessor."""
    return Address(bytes([index + 1]) * 20)


async def fetch(fetcher: Fetcher, handle: bytes, digest: bytes, coprocessors: int = 1) -> Ciphertext:
    """Fetch as a request would, from the first so many coprocessors."""
    with Lease(ByteBudget(1 << 28)) as lease:
        senders = tuple(map(sender, range(coprocessors)))
        return await fetcher.fetch(CiphertextReference(handle, 1, digest, senders), lease)


@asynccontextmanager
async def open_client() -> AsyncIterator[Client]:
    """Open our HTTP client; whatever the name, it dials this machine."""
    dialled: list[str] = []

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        dialled.append(host)
        return await dial_sockets("127.0.0.1", port, tls=tls)

    async with open_http(Ports(dial, offload_to_threads, time.time, random.random)) as http:
        yield Client(http, dialled)
