"""A place with buckets thrice: emulated, moto's server, and radosgw. One set of tests may run against all. Judges nothing."""

from __future__ import annotations

import itertools
import json
import random
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from kmsconn.ciphertexts.budget import ByteBudget, Lease
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.ciphertexts.registry import Registry
from kmsconn.ciphertexts.sources import BothForms
from kmsconn.emulator.buckets import BucketFaults, EmulatedBucket, RedirectingBucket
from kmsconn.emulator.network import reserve_ports, serve_sockets
from kmsconn.ethereum.addresses import Address
from kmsconn.model.events import ignore
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.profile import Coprocessor
from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Ports, offload_to_threads

STARTING = 20.0  # seconds on a busy machine; undisturbed it is 0.1
ATTEMPTS = 3  # the command that makes the user may hang
S3_DOMAIN = "s3.eu-west-1.amazonaws.com"
WEBSITE_DOMAIN = "s3-website.eu-west-1.amazonaws.com"
_CONFIGURATION = """\
[global]
rgw_backend_store = dbstore
rgw_config_store = dbstore
dbstore_db_dir = {folder}
dbstore_config_uri = file:{folder}/config.db
rgw_data = {folder}
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_dns_name = {s3_domain}
rgw_dns_s3website_name = {website_domain}
rgw_enable_static_website = true
rgw_enable_apis = s3, s3website
admin_socket =
log_file = {folder}/log
keyring = {folder}/keyring
"""


@contextmanager
def open_radosgw(folder: Path) -> Iterator[int]:
    """Run a fresh server with one user while the block lasts, and give its port."""
    with reserve_ports(1) as (port,):
        process = _started(folder, port)
        try:
            yield port
        finally:
            process.kill()
            process.wait()


def _started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    for attempt in range(ATTEMPTS):
        place = folder / str(attempt)
        place.mkdir()
        common = _configured(place, port)
        if not _made_user(common):
            continue
        process = subprocess.Popen(["radosgw", *common, "--foreground"], **_QUIET)  # noqa: S603, S607
        if listens(process, port):
            return process
        process.kill()
        process.wait()
    raise AssertionError(f"radosgw did not start; the end of its log: {(place / 'log').read_text()[-1000:]}")


_QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}


def _configured(place: Path, port: int) -> list[str]:
    text = _CONFIGURATION.format(folder=place, port=port, s3_domain=S3_DOMAIN, website_domain=WEBSITE_DOMAIN)
    (place / "ceph.conf").write_text(text)
    return ["--conf", str(place / "ceph.conf"), "--no-mon-config"]


def _made_user(common: list[str]) -> bool:
    """Make the user; False where the command does not end: seldom, it waits for a thread of its own that missed being told to stop."""
    keys = ["--uid=tests", "--display-name=tests", f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}"]
    command = ["radosgw-admin", *common, "user", "create", *keys]
    try:
        subprocess.run(command, check=True, timeout=STARTING, **_QUIET)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return True


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a process takes connections; False where it ends before, or takes too long."""
    deadline = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


_NUMBERS = itertools.count(1)


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
        await trio.to_thread.run_sync(
            partial(put, self.client, self.name, key, body, headers, public=self.public, **more)
        )


@attrs.define(eq=False)
class ServedStore:
    """A server that is not ours."""

    port: int
    client: Any

    async def open_bucket(self, *, public: bool = True, listed: bool = True) -> ServedBucket:
        """Make a bucket of a name that was not used before."""
        name = f"ct128-{next(_NUMBERS)}"
        make = partial(make_bucket, self.client, name, public=public, listed=listed)
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


Bucket = ServedBucket | OurBucket
Store = ServedStore | OurStore


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

    def fetcher(self, buckets: Sequence[Bucket], *, max_size: int = 1 << 24) -> Fetcher:
        """Return a fetcher of ciphertexts for coprocessors 0, 1, … with these buckets."""
        sources = BothForms(self.http, registry_of(buckets).find)
        return Fetcher(sources, BucketPolicy(True, True), offload_to_threads, max_size)


def registry_of(buckets: Sequence[Bucket]) -> Registry:
    """Return a registry that knows coprocessors 0, 1, … with these buckets."""
    registry = Registry(None, None, 60.0, ignore)  # type: ignore[arg-type]
    registry._coprocessors = {
        sender(index): Coprocessor(sender(index), sender(index), bucket.url)
        for index, bucket in enumerate(buckets)
    }
    return registry


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


ACCESS_KEY, SECRET_KEY = "TESTS", "tests"
METADATA = "x-amz-meta-"


def connect(port: int, **changes: Any) -> Any:
    """Return an S3 client for a server on this machine."""
    import boto3
    from botocore.config import Config

    options = {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "region_name": "us-east-1",
        "config": Config(s3={"addressing_style": "path"}),
    }
    return boto3.client("s3", **(options | changes))


def make_bucket(client: Any, name: str, *, public: bool, listed: bool) -> None:
    """Make a bucket whose objects anybody may read, or nobody without credentials."""
    client.create_bucket(Bucket=name)
    if public:
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(_policy(name, listed=listed)))


def _policy(name: str, *, listed: bool) -> dict[str, Any]:
    everything = f"arn:aws:s3:::{name}/*"
    rights = [("s3:GetObject", everything)] + [("s3:ListBucket", f"arn:aws:s3:::{name}")] * listed
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": [action], "Resource": [resource]}
            for action, resource in rights
        ],
    }


def put(
    client: Any, bucket: str, key: str, body: bytes, headers: dict[str, str], *, public: bool, **more: str
) -> None:
    """Store an object with metadata."""
    metadata = {name.removeprefix(METADATA): value for name, value in headers.items()}
    access = {"ACL": "public-read"} if public else {}
    client.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata, **access, **more)
