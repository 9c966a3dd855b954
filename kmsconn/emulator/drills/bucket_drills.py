"""Drills of buckets: statuses, redirects, bodies that are late, endless or in pieces, and addresses that nobody should ask."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import attrs

from kmsconn.emulator import bucket_faults, injections
from kmsconn.emulator.bucket_faults import BucketFaults, Fault
from kmsconn.emulator.buckets import error
from kmsconn.emulator.drills.drill import (
    Drill,
    DrillBody,
    DrillError,
    DrillScene,
    End,
    Target,
    appended,
    changing,
)
from kmsconn.emulator.http import HttpRequest, HttpResponse, Send

_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}
_SPOILS = {
    fault.name: fault
    for fault in (
        bucket_faults.WRONG_BYTES, bucket_faults.SHORTER, bucket_faults.LONGER, bucket_faults.EMPTY,
        bucket_faults.TRUNCATED, bucket_faults.HANG_UP,
    )
}  # fmt: skip


class BucketShare(DrillBody, frozen=True):
    """The share of requests that meet it."""

    share: float = 1.0


class AnsweringBuckets(BucketShare, frozen=True):
    """And the HTTP status that they get."""

    code: int = 403


class Pointing(BucketShare, frozen=True):
    """And where they are pointed, where a path begins with {path}; empty: to the same object in the next bucket."""

    location: str = ""


class Pieces(BucketShare, frozen=True):
    """And the bytes of each chunk of a body without a length."""

    bytes: int = 1


class Stalling(BucketShare, frozen=True):
    """And after how many bytes nothing follows."""

    after: int = 0


class Size(BucketShare, frozen=True):
    """And how long bodies are; ``announced``: a header says so."""

    bytes: int = 1 << 30
    announced: bool = False


class BucketDelay(DrillBody, frozen=True):
    """How late answers begin."""

    seconds: float = 5.0


class SpoiledBucket(BucketShare, frozen=True):
    """And how bodies are spoilt."""

    how: str = "wrong bytes"


class BucketUrl(DrillBody, frozen=True):
    """What the contract says where the bucket is."""

    url: str


def _bucket(scene: DrillScene, name: str) -> BucketFaults:
    return scene.dependencies.buckets[_index(name)]


def _index(name: str) -> int:
    return int(name.removeprefix("bucket"))


def _struck(scene: DrillScene, name: str, share: float, fault: Fault) -> End:
    faults = _bucket(scene, name)
    end = appended(faults.injections, injections.FaultInjection(share, fault))
    faults.injections.insert(0, faults.injections.pop())
    return end


def _status(scene: DrillScene, name: str, body: AnsweringBuckets) -> End:
    if not 200 <= body.code < 600:  # noqa: PLR2004 - HTTP statuses
        raise DrillError("code", f"{body.code} is no HTTP status of an answer", "name one from 200 to 599")
    response = error(body.code, _CODES.get(body.code, "Error"))
    return _struck(scene, name, body.share, Fault(f"status {body.code}", lambda _, __: response))


def _redirect(scene: DrillScene, name: str, body: Pointing) -> End:
    index = _index(name)
    following = scene.dependencies.bucket_url((index + 1) % len(scene.dependencies.buckets))

    def act(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        del response
        key = scene.dependencies.buckets[index].bucket.key_of(request) or ""
        location = body.location.replace("{path}", request.path) or f"{following}/{key}"
        return HttpResponse(307, (("location", location),))

    return _struck(scene, name, body.share, Fault("redirect", act))


def _chunked(scene: DrillScene, name: str, body: Pieces) -> End:
    if body.bytes < 1:
        raise DrillError("bytes", f"{body.bytes} bytes are no chunk", "name at least 1")

    def act(_: HttpRequest, response: HttpResponse) -> HttpResponse:
        content = response.body if isinstance(response.body, bytes) else b""
        return attrs.evolve(response, body=partial(_send_pieces, content, body.bytes))

    return _struck(scene, name, body.share, Fault("chunked", act))


async def _send_pieces(content: bytes, size: int, send: Send) -> None:
    for start in range(0, len(content), size):
        await send(content[start : start + size])


def _stall(scene: DrillScene, name: str, body: Stalling) -> End:
    return _struck(scene, name, body.share, bucket_faults.stall(body.after))


def _oversized(scene: DrillScene, name: str, body: Size) -> End:
    return _struck(scene, name, body.share, bucket_faults.oversized(body.bytes, announced=body.announced))


def _spoil(scene: DrillScene, name: str, body: SpoiledBucket) -> End:
    fault = _SPOILS.get(body.how)
    if fault is None:
        raise DrillError("how", f"no such fault: {body.how!r}", f"there are: {', '.join(_SPOILS)}")
    return _struck(scene, name, body.share, fault)


def _slow(scene: DrillScene, name: str, body: BucketDelay) -> End:
    return changing(_bucket(scene, name).bucket, "latency", body.seconds)


def _hang(scene: DrillScene, name: str, body: DrillBody) -> End:
    del body
    return changing(_bucket(scene, name).bucket, "latency", math.inf)


def _address(scene: DrillScene, name: str, body: BucketUrl) -> End:
    dependencies, index = scene.dependencies, _index(name)
    dependencies.told_urls[index] = body.url
    dependencies.settled()

    def end() -> None:
        dependencies.told_urls.pop(index, None)
        dependencies.settled()

    return end


BUCKET_DRILLS: tuple[Drill[Any], ...] = (
    Drill(
        "status", Target.BUCKET, AnsweringBuckets, _status,
        "Requests are answered with this HTTP status.",
        "The connector tries other buckets and forms of keys; if all fail, requests wait and a critical alert names the buckets.",
    ),
    Drill(
        "redirect", Target.BUCKET, Pointing, _redirect,
        "Requests are redirected to another origin.",
        "Followed up to three times, each judged by the bucket policy (a written configuration allows every address), without "
        "credentials; beyond that the bucket failed.",
    ),
    Drill(
        "chunked", Target.BUCKET, Pieces, _chunked,
        "Bodies have no length and come in chunks of this many bytes.",
        "Bytes count against the budget as they arrive; a body in more than 1,024 chunks of under 64 bytes is given up. Those of the "
        "usual size, 1 KiB, pass.",
    ),
    Drill(
        "stall", Target.BUCKET, Stalling, _stall,
        "Bodies stop after this many bytes.",
        "The download ends after 10 s of silence; the connector asks another bucket.",
    ),
    Drill(
        "oversized", Target.BUCKET, Size, _oversized,
        "Bodies exceed the size limit, announced or not.",
        "The download ends at the size limit.",
    ),
    Drill(
        "spoil", Target.BUCKET, SpoiledBucket, _spoil,
        f"Bodies are spoilt: {', '.join(_SPOILS)}.",
        "The digest does not match; the connector asks another bucket.",
    ),
    Drill(
        "slow", Target.BUCKET, BucketDelay, _slow,
        "Answers begin later by this time.",
        "The connector asks the next bucket meanwhile.",
    ),
    Drill(
        "hang", Target.BUCKET, DrillBody, _hang,
        "Requests are never answered.",
        "The connector asks the next bucket meanwhile; the request waits if all are silent.",
    ),
    Drill(
        "address", Target.BUCKET, BucketUrl, _address,
        "The contract names this URL for the bucket: without TLS, of a private address, or without a server.",
        "A URL that the bucket policy forbids is left out and named with its option; where it leaves none, requests wait. A written "
        "configuration allows every address: there the bucket fails. Within `registry_refresh` (60 s).",
    ),
)  # fmt: skip
