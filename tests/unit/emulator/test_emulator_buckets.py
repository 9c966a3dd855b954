"""An emulated bucket, honest and faulty."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import trio
import trio.testing

from kmsconn.ciphertexts.attestation import (
    ATTESTATION_HEADER,
    FORMAT_HEADER,
    StoredFormat,
    parse_attestation,
)
from kmsconn.emulator.bucket_faults import (
    BucketFault,
    BucketFaults,
    OversizedBodies,
    RedirectingBucket,
    RefusingBucket,
    SpoiledBodies,
    StalledBodies,
)
from kmsconn.emulator.buckets import EmulatedBucket, ObjectForm, asked_range
from kmsconn.emulator.ciphertexts import make_ciphertext
from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse
from kmsconn.ethereum.signing import PrivateKey

SIGNER = PrivateKey(bytes(31) + b"\x31")
MADE = make_ciphertext("a", 1, 5, chain_id=12345, size=1000)
BY_HANDLE = f"/ct/ct128/{MADE.handle.hex()}/1"
BY_DIGEST = f"/ct/{MADE.digest.hex()}"


def bucket(*forms: ObjectForm, signer: PrivateKey | None = SIGNER) -> EmulatedBucket:
    made = EmulatedBucket("/ct")
    made.publish(MADE, signer=signer, key_id=4, stored=StoredFormat.COMPRESSED_ON_GPU, forms=forms)
    return made


def get(path: str = BY_HANDLE, method: str = "GET") -> HttpRequest:
    return HttpRequest(method, path)


def code_of(response: HttpResponse) -> str:
    assert isinstance(response.body, bytes)
    code: str = re.findall("<Code>(.*)</Code>", response.body.decode())[0]
    return code


async def spoilt(fault: BucketFault) -> HttpResponse:
    faults = BucketFaults(bucket(ObjectForm.HANDLE))
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


async def test_a_published_ciphertext_lies_under_its_digest_when_asked() -> None:
    made = bucket(ObjectForm.DIGEST)
    assert (await made.handle(get(BY_DIGEST))).body == MADE.body
    assert (await made.handle(get(BY_HANDLE))).status == 404


async def test_it_carries_its_attestation() -> None:
    headers = dict((await bucket(ObjectForm.HANDLE).handle(get())).headers)
    attestation = parse_attestation(headers[ATTESTATION_HEADER])
    assert (attestation.signer, attestation.sns_ciphertext_digest) == (SIGNER.address, MADE.digest)


async def test_without_a_signer_it_carries_its_format() -> None:
    headers = dict((await bucket(ObjectForm.HANDLE, signer=None).handle(get())).headers)
    assert headers[FORMAT_HEADER] == "compressed_on_gpu"
    assert ATTESTATION_HEADER not in headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
async def test_nobody_without_credentials_may_write(method: str) -> None:
    assert (await bucket(ObjectForm.HANDLE).handle(get(method=method))).status == 403


async def test_a_private_bucket_tells_nothing() -> None:
    made = bucket(ObjectForm.HANDLE)
    made.public = False
    for path in (BY_HANDLE, "/ct/other"):
        response = await made.handle(get(path))
        assert (response.status, code_of(response)) == (403, "AccessDenied")


async def test_latency_is_a_knob() -> None:
    made = bucket(ObjectForm.HANDLE)
    made.latency = 3
    start = trio.current_time()
    await made.handle(get())
    assert trio.current_time() - start == 3


async def test_requests_are_counted() -> None:
    made = bucket(ObjectForm.HANDLE)
    for request in (get(), get(method="HEAD"), get("/ct/other"), get()):
        await made.handle(request)
    assert made.counts == Counter({("GET", 200): 2, ("HEAD", 200): 1, ("GET", 404): 1})


@pytest.mark.parametrize("code", [403, 404, 500, 503])
async def test_a_status_in_place_of_the_object(code: int) -> None:
    assert (await spoilt(RefusingBucket(code=code))).status == code


async def test_a_redirect_names_its_target() -> None:
    assert ("location", "http://else/x") in (
        await spoilt(RedirectingBucket(location="http://else/x"))
    ).headers


async def test_a_script_ends() -> None:
    faults = BucketFaults(bucket(ObjectForm.HANDLE))
    faults.script(RefusingBucket(code=403), RefusingBucket(code=404))
    assert [(await faults.handle(get())).status for _ in range(3)] == [403, 404, 200]


async def test_a_script_for_one_key_leaves_the_others_alone() -> None:
    faults = BucketFaults(bucket(ObjectForm.HANDLE, ObjectForm.DIGEST))
    faults.script(RefusingBucket(code=500), key=BY_DIGEST.removeprefix("/ct/"))
    assert [(await faults.handle(get(path))).status for path in (BY_HANDLE, BY_DIGEST)] == [200, 500]


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


async def test_a_hang_up_sends_nothing() -> None:
    assert await drained(await spoilt(SpoiledBodies(how="hang up"))) == (b"", "hung up")


async def test_a_stall_sends_so_many_bytes_and_then_nothing() -> None:
    assert await drained(await spoilt(StalledBodies(after=17))) == (MADE.body[:17], "stalled")


@pytest.mark.parametrize("announced", [True, False])
async def test_an_oversized_body_says_so_or_not(announced: bool) -> None:
    response = await spoilt(OversizedBodies(bytes=200_000, announced=announced))
    assert (("content-length", "200000") in response.headers) is announced
    assert await drained(response) == (bytes(200_000), "ended")


async def test_faults_are_counted_by_name() -> None:
    faults = BucketFaults(bucket(ObjectForm.HANDLE))
    faults.script(RefusingBucket(code=403), None, RefusingBucket(code=403))
    for _ in range(3):
        await faults.handle(get())
    assert faults.counts == Counter({"status 403": 2})


async def test_chance_strikes_only_its_method() -> None:
    faults = BucketFaults(bucket(ObjectForm.HANDLE))
    faults.strike(RefusingBucket(code=500), "HEAD")
    statuses = [(await faults.handle(get(method=method))).status for method in ("GET", "HEAD")]
    assert statuses == [200, 500]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [0]),
        ("bytes=3-5", [3, 4, 5]),
        ("bytes=8-", [8, 9]),
        ("bytes=8-99", [8, 9]),
        ("bytes=-3", [7, 8, 9]),
        ("bytes=-99", list(range(10))),
        ("bytes=10-", []),
        ("bytes=99-", []),
        ("bytes=99-100", []),
        ("bytes=-0", []),
    ],
)
def test_one_range_is_understood(header: str, expected: list[int]) -> None:
    found = asked_range(header, 10)
    assert found is not None
    assert list(found) == expected


@pytest.mark.parametrize(
    "header", ["", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "items=0-1", "bytes= 0-1", "0-1"]
)
def test_anything_else_asks_for_the_whole(header: str) -> None:
    assert asked_range(header, 10) is None
