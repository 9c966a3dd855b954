"""What a bucket can do wrong, on command or by chance, around an honest one. Never changes the objects in it.

Source: faults.md section 2, row "Buckets".
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Final, Literal

import attrs
import msgspec
import trio

from kmsconn.emulator.buckets import EmulatedBucket, error, serve_bucket
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
from kmsconn.emulator.http import CHUNK, HangUp, HttpRequest, HttpResponse, Send

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
        await serve_bucket(self.handle, stream)


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
        return HttpResponse(
            307, (("location", self.location.replace("{path}", request.path).replace("{key}", key)),)
        )


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
