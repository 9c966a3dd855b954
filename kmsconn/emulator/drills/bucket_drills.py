"""Drills of buckets: statuses, redirects, bodies that are late, endless or in pieces, and addresses that nobody should ask."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Final, Literal

import attrs
import msgspec

from kmsconn.emulator import bucket_faults, injections
from kmsconn.emulator.bucket_faults import BucketFaults, Fault, PlanStep
from kmsconn.emulator.buckets import error
from kmsconn.emulator.drills.drill import (
    Drill,
    DrillScene,
    End,
    Target,
    appended,
    changing,
)
from kmsconn.emulator.http import HttpRequest, HttpResponse, Send

_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}
SPOILS: Final = {
    fault.name: fault
    for fault in (
        bucket_faults.WRONG_BYTES, bucket_faults.SHORTER, bucket_faults.LONGER, bucket_faults.EMPTY,
        bucket_faults.TRUNCATED, bucket_faults.HANG_UP,
    )
}  # fmt: skip


class BucketDrill(Drill, frozen=True):
    """On a bucket."""

    target = Target.BUCKET


class AnswerDrill(BucketDrill, frozen=True):
    """On this share of its answers."""

    share: float = 1.0
    times: int | None = None

    def strike(self, scene: DrillScene, name: str, fault: str, act: PlanStep) -> End:
        """Let a fault strike requests, before those that were put on earlier."""
        faults = _bucket(scene, name)
        end = appended(
            faults.injections, injections.FaultInjection(self.share, Fault(fault, act), times=self.times)
        )
        faults.injections.insert(0, faults.injections.pop())
        return end


def _bucket(scene: DrillScene, name: str) -> BucketFaults:
    return scene.dependencies.buckets[_index(name)]


def _index(name: str) -> int:
    return int(name.removeprefix("bucket"))


class RefusingBucket(AnswerDrill, frozen=True):
    """Requests are answered with this HTTP status.

    The connector tries other buckets and forms of keys; if all fail, requests wait and a critical alert names the buckets.
    """

    name = "status"
    code: Annotated[int, msgspec.Meta(ge=200, le=599)] = 403

    def put_on(self, scene: DrillScene, name: str) -> End:
        response = error(self.code, _CODES.get(self.code, "Error"))
        return self.strike(scene, name, f"status {self.code}", lambda _, __: response)


class RedirectingBucket(AnswerDrill, frozen=True):
    """Requests are redirected to another origin.

    Followed up to three times, each judged by the bucket policy (a written configuration allows every address), without
    credentials; beyond that the bucket failed.
    """

    name = "redirect"
    location: str = ""  # where a path begins with {path}; empty: the same object in the next bucket

    def put_on(self, scene: DrillScene, name: str) -> End:
        index = _index(name)
        following = scene.dependencies.bucket_url((index + 1) % len(scene.dependencies.buckets))

        def act(request: HttpRequest, response: HttpResponse) -> HttpResponse:
            del response
            key = _bucket(scene, name).bucket.key_of(request) or ""
            location = self.location.replace("{path}", request.path) or f"{following}/{key}"
            return HttpResponse(307, (("location", location),))

        return self.strike(scene, name, "redirect", act)


class ChunkedBodies(AnswerDrill, frozen=True):
    """Bodies have no length and come in chunks of this many bytes.

    Bytes count against the budget as they arrive; a body in more than 1,024 chunks of under 64 bytes is given up. Those of the
    usual size, 1 KiB, pass.
    """

    name = "chunked"
    bytes: Annotated[int, msgspec.Meta(ge=1)] = 1

    def put_on(self, scene: DrillScene, name: str) -> End:
        def act(_: HttpRequest, response: HttpResponse) -> HttpResponse:
            content = response.body if not callable(response.body) else b""
            return attrs.evolve(response, body=partial(_send_pieces, content, self.bytes))

        return self.strike(scene, name, "chunked", act)


async def _send_pieces(content: bytes, size: int, send: Send) -> None:
    for start in range(0, len(content), size):
        await send(content[start : start + size])


class StalledBodies(AnswerDrill, frozen=True):
    """Bodies stop after this many bytes.

    The download ends after 10 s of silence; the connector asks another bucket.
    """

    name = "stall"
    after: int = 0

    def put_on(self, scene: DrillScene, name: str) -> End:
        return self.strike(scene, name, "stall", bucket_faults.stall(self.after).act)


class OversizedBodies(AnswerDrill, frozen=True):
    """Bodies exceed the size limit, announced or not.

    The download ends at the size limit.
    """

    name = "oversized"
    bytes: int = 1 << 30
    announced: bool = False

    def put_on(self, scene: DrillScene, name: str) -> End:
        spoilt = bucket_faults.oversized(self.bytes, announced=self.announced)
        return self.strike(scene, name, "oversized", spoilt.act)


class SpoiledBodies(AnswerDrill, frozen=True):
    """Bodies are spoilt.

    The digest does not match; the connector asks another bucket.
    """

    name = "spoil"
    how: Literal[*SPOILS] = "wrong bytes"  # type: ignore[valid-type]

    def put_on(self, scene: DrillScene, name: str) -> End:
        return self.strike(scene, name, self.how, SPOILS[self.how].act)


class SlowBucket(BucketDrill, frozen=True):
    """Answers begin later by this time.

    The connector asks the next bucket meanwhile.
    """

    name = "slow"
    seconds: float = 5.0

    def put_on(self, scene: DrillScene, name: str) -> End:
        return changing(_bucket(scene, name).bucket, "latency", self.seconds)


class HangingBucket(BucketDrill, frozen=True):
    """Requests are never answered.

    The connector asks the next bucket meanwhile; the request waits if all are silent.
    """

    name = "hang"

    def put_on(self, scene: DrillScene, name: str) -> End:
        return changing(_bucket(scene, name).bucket, "latency", math.inf)


class OtherAddress(BucketDrill, frozen=True):
    """The contract names this URL for the bucket: without TLS, of a private address, or without a server.

    A URL that the bucket policy forbids is left out and named with its option; where it leaves none, requests wait. A written
    configuration allows every address: there the bucket fails. Within `registry_refresh` (60 s).
    """

    name = "address"
    url: str

    def put_on(self, scene: DrillScene, name: str) -> End:
        dependencies, index = scene.dependencies, _index(name)
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
