"""An emulated bucket, honest and faulty."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.testing

from kmsconn.emulator.bucket_faults import (
    BucketFault,
    BucketFaults,
    OversizedBodies,
    RedirectingBucket,
    RefusingBucket,
    SpoiledBodies,
    StalledBodies,
)
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.ciphertexts import make_ciphertext
from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse
from kmsconn.ethereum.signing import PrivateKey

SIGNER = PrivateKey(bytes(31) + b"\x31")
MADE = make_ciphertext("a", 1, 5, chain_id=12345, size=1000)
BY_HANDLE = f"/ct/ct128/{MADE.handle.hex()}/1"


def bucket() -> EmulatedBucket:
    made = EmulatedBucket("/ct")
    made.publish(MADE, signer=None, key_id=4)
    return made


def get(path: str = BY_HANDLE, method: str = "GET") -> HttpRequest:
    return HttpRequest(method, path)


async def spoilt(fault: BucketFault) -> HttpResponse:
    faults = BucketFaults(bucket())
    faults.script(fault)
    return await faults.handle(get())


async def drained(response: HttpResponse, seconds: float = 1e6) -> tuple[bytes, str]:
    """What arrives of a streamed body, and how it ends."""
    received, end = b"", "stalled"

    async def send(data: bytes) -> None:
        nonlocal received
        await trio.lowlevel.checkpoint()
        received += data

    assert callable(response.body)
    with trio.move_on_after(seconds):
        try:
            await response.body(send)
            end = "ended"
        except HangUp:
            end = "hung up"
    return received, end


async def test_latency_is_a_knob() -> None:
    made = bucket()
    made.latency = 3
    start = trio.current_time()
    await made.handle(get())
    assert trio.current_time() - start == 3


async def test_requests_are_counted() -> None:
    made = bucket()
    for request in (get(), get(method="HEAD"), get("/ct/other"), get()):
        await made.handle(request)
    assert made.counts == Counter({("GET", 200): 2, ("HEAD", 200): 1, ("GET", 404): 1})


async def test_a_redirect_names_its_target() -> None:
    assert ("location", "http://else/x") in (
        await spoilt(RedirectingBucket(location="http://else/x"))
    ).headers


@pytest.mark.parametrize(
    ("how", "size"), [("wrong bytes", 1000), ("shorter", 999), ("longer", 1001), ("empty", 0)]
)
async def test_bodies_that_belie_the_digest(how: str, size: int) -> None:
    response = await spoilt(SpoiledBodies(how=how))
    assert isinstance(response.body, bytes)
    assert (response.status, len(response.body)) == (200, size)
    assert response.body != MADE.body


async def test_a_truncated_body_hangs_up_in_the_middle() -> None:
    response = await spoilt(SpoiledBodies(how="truncated"))
    assert ("content-length", "1000") in response.headers
    assert await drained(response) == (MADE.body[:500], "hung up")


async def test_a_stall_sends_so_many_bytes_and_then_nothing() -> None:
    assert await drained(await spoilt(StalledBodies(after=17))) == (MADE.body[:17], "stalled")


@pytest.mark.parametrize("announced", [True, False])
async def test_an_oversized_body_says_so_or_not(announced: bool) -> None:
    response = await spoilt(OversizedBodies(bytes=200_000, announced=announced))
    assert (("content-length", "200000") in response.headers) is announced
    assert await drained(response) == (bytes(200_000), "ended")


async def test_faults_are_counted_by_name() -> None:
    faults = BucketFaults(bucket())
    faults.script(RefusingBucket(code=403), None, RefusingBucket(code=403))
    for _ in range(3):
        await faults.handle(get())
    assert faults.counts == Counter({"status 403": 2})
