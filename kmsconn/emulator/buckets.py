"""One coprocessor's bucket: objects with metadata, served like a public S3 bucket; and what it can do wrong, on command or by chance.

A bucket is never faulty by itself, and no fault changes its objects. Source: fhevm-0.14.md, 4.3-4.5; faults.md section 2, row "Buckets".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from typing import Annotated, Final, Literal
from urllib.parse import unquote

import attrs
import msgspec
import trio

from kmsconn.ciphertexts.attestation import (
    ATTESTATION_HEADER,
    COPROCESSOR_CONTEXT_ID,
    FORMAT_HEADER,
    StoredFormat,
)
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, attest, attestation_header
from kmsconn.emulator.drills.drill import (
    Drill,
    DrillScene,
    End,
    Faulty,
    Occasional,
    Target,
    changing,
    index_of,
)
from kmsconn.emulator.http import CHUNK, HangUp, Headers, HttpRequest, HttpResponse, Send, serve_http
from kmsconn.ethereum.signing import PrivateKey

XML = ("content-type", "application/xml")


class ObjectForm(Enum):
    """Under which key an object lies."""

    HANDLE = "ct128/{handle}/{context}"
    DIGEST = "{digest}"

    def key(self, ciphertext: EmulatedCiphertext) -> str:
        """Return the object's key."""
        handle, digest = ciphertext.handle.hex(), ciphertext.digest.hex()
        return self.value.format(handle=handle, digest=digest, context=COPROCESSOR_CONTEXT_ID)


@attrs.frozen
class StoredObject:
    """A body and its metadata headers."""

    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    headers: Headers = ()


@attrs.define(eq=False)
class EmulatedBucket:
    """Objects under ``{prefix}/{key}``, and under ``/{key}`` of a host that begins with the bucket's name.

    Every knob may be changed at any time.
    """

    prefix: str = ""
    """The path of the bucket's URL, without a slash at its end; its last part is the bucket's name."""
    objects: dict[str, StoredObject] = attrs.field(factory=dict, repr=False)
    public: bool = True
    """Whether anybody may read objects."""
    listed: bool = True
    """Whether anybody may know which objects there are. If not, a key that is not there is forbidden, not missing."""
    latency: float = 0.0
    """Seconds before an answer begins."""
    counts: Counter[tuple[str, int]] = attrs.field(factory=Counter, init=False)
    """(method, status) → times."""

    def put(self, key: str, body: bytes, headers: Headers = ()) -> None:
        """Store an object."""
        self.objects[key] = StoredObject(body, headers)

    def publish(
        self,
        ciphertext: EmulatedCiphertext,
        *,
        signer: PrivateKey | None,
        key_id: int,
        stored: StoredFormat = StoredFormat.UNCOMPRESSED_ON_CPU,
        forms: tuple[ObjectForm, ...] = (ObjectForm.HANDLE,),
    ) -> None:
        """Store a ciphertext with its attestation, or, without a signer, with its format only."""
        headers = ((FORMAT_HEADER, stored.name.lower()),)
        if signer is not None:
            attestation = attest(ciphertext, key_id=key_id, stored=stored, signer=signer)
            headers = ((ATTESTATION_HEADER, attestation_header(attestation)),)
        for form in forms:
            self.put(form.key(ciphertext), ciphertext.body, headers)

    def key_of(self, request: HttpRequest) -> str | None:
        """Return the key that a request asks for, or None outside of the bucket."""
        path, prefix = unquote(request.path), f"{self.prefix}/"
        name = self.prefix.rpartition("/")[2]
        if name and (request.header("host") or "").startswith(f"{name}."):
            return path.removeprefix("/")
        return path.removeprefix(prefix) if path.startswith(prefix) else None

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer GET and HEAD of somebody without credentials; everything else is refused as S3 does."""
        await trio.sleep(self.latency)
        response = self._answer(request)
        self.counts[request.method, response.status] += 1
        return response

    def _answer(self, request: HttpRequest) -> HttpResponse:
        key = self.key_of(request)
        if key is None:
            return error(404, "NoSuchBucket")
        stored = self.objects.get(key)
        if request.method not in {"GET", "HEAD"} or not self.public:
            return error(403, "AccessDenied")
        if stored is None:
            return error(404, "NoSuchKey") if self.listed else error(403, "AccessDenied")
        return HttpResponse(200, (("content-type", "binary/octet-stream"), *stored.headers), stored.body)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection of a network."""
        await serve_http(stream, self.handle, max_body=0)


def error(status: int, code: str) -> HttpResponse:
    """Return an S3 error document."""
    body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return HttpResponse(status, (XML,), f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode())


_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


class BucketFault(Occasional, frozen=True):
    """On a share of a bucket's answers."""

    target = Target.BUCKET

    def put_on(self, scene: DrillScene, name: str) -> End:
        return scene.bucket(name).strike(self)

    def act(self, request: HttpRequest, honest: HttpResponse) -> HttpResponse:
        """Return what is answered instead."""
        raise NotImplementedError


@attrs.define(eq=False)
class BucketFaults(Faulty[BucketFault]):
    """The faults of one bucket."""

    bucket: EmulatedBucket

    def script(self, *faults: BucketFault | None, key: str | None = None) -> None:
        """Let the next requests (for this key; None: for any) meet these, in this order; None is an honest answer."""
        self._scripts[key].extend(faults)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request, spoilt or not."""
        response = await self.bucket.handle(request)
        fault = self.struck(request.method, self.bucket.key_of(request), None)
        if fault is None:
            return response
        self.counts[fault.label] += 1
        return fault.act(request, response)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection of a network."""
        await serve_http(stream, self.handle, max_body=0)


class RefusingBucket(BucketFault, frozen=True):
    """Requests are answered with this HTTP status.

    The connector tries other buckets and forms of keys; if all fail, requests wait and a critical alert names the buckets.
    """

    name = "status"
    code: Annotated[int, msgspec.Meta(ge=200, le=599)] = 403

    def act(self, _request: HttpRequest, _honest: HttpResponse) -> HttpResponse:
        return error(self.code, _CODES.get(self.code, "Error"))


class RedirectingBucket(BucketFault, frozen=True):
    """Requests are redirected to another origin.

    Followed up to three times, each judged by the bucket policy (a written configuration allows every address), without
    credentials; beyond that the bucket failed.
    """

    name = "redirect"
    location: str = ""  # where a path begins with {path}; empty: the same object in the next bucket

    def put_on(self, scene: DrillScene, name: str) -> End:
        following = scene.dependencies.bucket_url((index_of(name) + 1) % len(scene.dependencies.buckets))
        location = self.location or f"{following}/{{key}}"
        return scene.bucket(name).strike(msgspec.structs.replace(self, location=location))

    def act(self, request: HttpRequest, _honest: HttpResponse) -> HttpResponse:
        key = request.path.removeprefix("/").partition("/")[2]
        location = self.location.replace("{path}", request.path).replace("{key}", key)
        return HttpResponse(307, (("location", location),))


class ChunkedBodies(BucketFault, frozen=True):
    """Bodies have no length and come in chunks of this many bytes.

    Bytes count against the budget as they arrive; a body in more than 1,024 chunks of under 64 bytes is given up. Those of the
    usual size, 1 KiB, pass.
    """

    name = "chunked"
    bytes: Annotated[int, msgspec.Meta(ge=1)] = 1

    def act(self, _request: HttpRequest, honest: HttpResponse) -> HttpResponse:
        async def send_body(send: Send) -> None:
            body = _body(honest)
            for start in range(0, len(body), self.bytes):
                await send(body[start : start + self.bytes])

        return _streamed(send_body, None, honest)


class StalledBodies(BucketFault, frozen=True):
    """Bodies stop after this many bytes.

    The download ends after 10 s of silence; the connector asks another bucket.
    """

    name = "stall"
    after: int = 0

    def act(self, _request: HttpRequest, honest: HttpResponse) -> HttpResponse:
        async def send_body(send: Send) -> None:
            await send(_body(honest)[: self.after])
            await trio.sleep_forever()

        return _streamed(send_body, len(_body(honest)), honest)


class OversizedBodies(BucketFault, frozen=True):
    """Bodies exceed the size limit, announced or not.

    The download ends at the size limit.
    """

    name = "oversized"
    bytes: int = 1 << 30
    announced: bool = False

    def act(self, _request: HttpRequest, honest: HttpResponse) -> HttpResponse:
        async def send_body(send: Send) -> None:
            for start in range(0, self.bytes, CHUNK):
                await send(bytes(min(CHUNK, self.bytes - start)))

        return _streamed(send_body, self.bytes if self.announced else None, honest)


def _body(response: HttpResponse) -> bytes:
    if not isinstance(response.body, bytes):  # the honest bucket streams nothing
        raise TypeError
    return response.body


def _streamed(
    send_body: Callable[[Send], Awaitable[None]], length: int | None, response: HttpResponse
) -> HttpResponse:
    announced = () if length is None else (("content-length", str(length)),)
    return attrs.evolve(response, headers=(*response.headers, *announced), body=send_body)


def _replaced(change: Callable[[bytes], bytes]) -> Callable[[HttpResponse], HttpResponse]:
    return lambda response: attrs.evolve(response, body=change(_body(response)))


def _hang_up(share: float, response: HttpResponse) -> HttpResponse:
    """Send a share of the body that the header announces, then end the connection."""
    body = _body(response)

    async def send_body(send: Send) -> None:
        await send(body[: int(share * len(body))])
        raise HangUp

    return _streamed(send_body, len(body), response)


BODIES: Final[dict[str, Callable[[HttpResponse], HttpResponse]]] = {
    "wrong bytes": _replaced(lambda body: body[:-1] + bytes([(body or b"\0")[-1] ^ 1])),
    "shorter": _replaced(lambda body: body[:-1]),
    "longer": _replaced(lambda body: body + b"\0"),
    "empty": _replaced(lambda _: b""),
    "truncated": partial(_hang_up, 0.5),
    "hang up": partial(_hang_up, 0.0),
}
"""How a body is spoilt, by name: the header agrees with the first ones."""


class SpoiledBodies(BucketFault, frozen=True):
    """Bodies are spoilt.

    The digest does not match; the connector asks another bucket.
    """

    name = "spoil"
    how: Literal[*BODIES] = "wrong bytes"  # type: ignore[valid-type]

    def act(self, _request: HttpRequest, honest: HttpResponse) -> HttpResponse:
        return BODIES[self.how](honest)


class SlowBucket(Drill, frozen=True):
    """Answers begin later by this time.

    The connector asks the next bucket meanwhile.
    """

    name, target = "slow", Target.BUCKET
    seconds: float = 5.0

    def put_on(self, scene: DrillScene, name: str) -> End:
        return changing(scene.bucket(name).bucket, "latency", self.seconds)


class HangingBucket(Drill, frozen=True):
    """Requests are never answered.

    The connector asks the next bucket meanwhile; the request waits if all are silent.
    """

    name, target = "hang", Target.BUCKET

    def put_on(self, scene: DrillScene, name: str) -> End:
        return changing(scene.bucket(name).bucket, "latency", math.inf)


class OtherAddress(Drill, frozen=True):
    """The contract names this URL for the bucket: without TLS, of a private address, or without a server.

    A URL that the bucket policy forbids is left out and named with its option; where it leaves none, requests wait. A written
    configuration allows every address: there the bucket fails. Within `registry_refresh` (60 s).
    """

    name, target = "address", Target.BUCKET
    url: str

    def put_on(self, scene: DrillScene, name: str) -> End:
        dependencies, index = scene.dependencies, index_of(name)
        dependencies.told_urls[index] = self.url
        dependencies.settled()

        def end() -> None:
            dependencies.told_urls.pop(index, None)
            dependencies.settled()

        return end


BUCKET_DRILLS: tuple[type[Drill], ...] = (
    RefusingBucket, RedirectingBucket, ChunkedBodies, StalledBodies, OversizedBodies, SpoiledBodies, SlowBucket, HangingBucket,
    OtherAddress,
)  # fmt: skip
