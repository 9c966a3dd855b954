"""An emulated bucket, honest and faulty; made ciphertexts and attestations (fhevm-0.14.md, 4); and the emulated AWS KMS."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kmsconn.ciphertexts.attestation import parse_attestation
from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.buckets import (
    BucketFault,
    BucketFaults,
    EmulatedBucket,
    OversizedBodies,
    RefusingBucket,
    SpoiledBodies,
    StalledBodies,
)
from kmsconn.emulator.ciphertexts import (
    EmulatedCiphertext,
    attest,
    attestation_header,
    make_ciphertext,
    make_handle,
)
from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, recoverable
from tests import vectors

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


VALID = vectors.load()["attestations"]["valid"]


def test_an_unknown_type_has_no_handle() -> None:
    with pytest.raises(ValueError, match="84"):
        make_handle(b"seed", chain_id=1, fhe_type=84)


def test_label_value_and_chain_make_another_ciphertext() -> None:
    made = {
        (each.handle, each.body)
        for each in (
            make_ciphertext("a", 7, 2, chain_id=1),
            make_ciphertext("b", 7, 2, chain_id=1),
            make_ciphertext("a", 8, 2, chain_id=1),
            make_ciphertext("a", 7, 2, chain_id=2),
        )
    }
    assert len({handle for handle, _ in made}) == len({body for _, body in made}) == 4


def test_a_body_too_small_to_differ_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        make_ciphertext("a", 1, 5, chain_id=1, size=31)


def test_a_repr_does_not_hold_the_body() -> None:
    assert "<1000000 bytes>" in repr(make_ciphertext("a", 1, 5, chain_id=1, size=1_000_000))


@pytest.mark.parametrize(
    "valid", VALID, ids=[f"{each['ciphertext']}-{each['coprocessor']}" for each in VALID]
)
def test_a_header_of_the_vectors_is_made_again_byte_for_byte(valid: dict[str, Any]) -> None:
    (published,) = [each for each in vectors.load()["ciphertexts"] if each["name"] == valid["ciphertext"]]
    key = vectors.load()["environment"]["keys"][f"cop_signer{valid['coprocessor']}"]["private_key"]
    ciphertext = EmulatedCiphertext(
        from_hex(published["handle"]),
        published["fhe_type"],
        int(published["plaintext_value"], 16),
        from_hex(published["body"]),
        from_hex(published["ciphertext_digest"]),
    )
    attestation = attest(
        ciphertext,
        key_id=int(published["key_id"], 16),
        stored=parse_attestation(valid["header"]).format,
        signer=PrivateKey.parse(key),
    )
    assert attestation_header(attestation) == valid["header"]


KEY = PrivateKey.parse("22" * 32)
DIGEST = keccak256(b"digest")
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=test/20261125/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"
)


async def ask(
    kms: EmulatedAwsKms, operation: str, headers: dict[str, str] | None = None, **parameters: Any
) -> tuple[int, Any]:
    wanted = {"x-amz-target": f"TrentService.{operation}", "authorization": SIGNED} | (headers or {})
    body = json.dumps({"KeyId": "k", **parameters}).encode()
    response = await kms.handle(HttpRequest("POST", "/", tuple(wanted.items()), body))
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body or b"null")


def signing(message: bytes, kind: str | None = "DIGEST") -> dict[str, Any]:
    typed = {} if kind is None else {"MessageType": kind}
    return {"Message": base64.b64encode(message).decode(), "SigningAlgorithm": "ECDSA_SHA_256", **typed}


def halves(answer: Any) -> tuple[int, int]:
    return decode_dss_signature(base64.b64decode(answer["Signature"]))


@pytest.fixture
def kms() -> EmulatedAwsKms:
    return EmulatedAwsKms({"k": KEY})


@pytest.mark.parametrize("kind", ["RAW", None])
async def test_a_raw_message_is_hashed_first(kms: EmulatedAwsKms, kind: str | None) -> None:
    _, answer = await ask(kms, "Sign", **signing(b"a message", kind))
    hashed = hashlib.sha256(b"a message").digest()
    assert recoverable(hashed, *halves(answer), KEY.address) == KEY.sign(hashed)


async def test_every_second_signature_is_high(kms: EmulatedAwsKms) -> None:
    found = [halves((await ask(kms, "Sign", **signing(DIGEST)))[1])[1] for _ in range(4)]
    assert found[0] == found[2] > found[1] == found[3]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Message": base64.b64encode(DIGEST[:31]).decode()}, "ValidationException"),
        ({"SigningAlgorithm": "ECDSA_SHA_512"}, "ValidationException"),
        ({"KeyId": "another"}, "NotFoundException"),
    ],
)
async def test_what_is_wrong_in_a_request_is_refused(
    kms: EmulatedAwsKms, changes: dict[str, Any], code: str
) -> None:
    status, answer = await ask(kms, "Sign", **{**signing(DIGEST), **changes})
    assert (status, answer["__type"]) == (400, code)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": ""}, "MissingAuthenticationTokenException"),
        ({"authorization": SIGNED.replace("/kms/", "/s3/")}, "MissingAuthenticationTokenException"),
        ({"x-amz-target": "Other.Sign"}, "UnknownOperationException"),
        ({"x-amz-target": "TrentService.Encrypt"}, "UnknownOperationException"),
    ],
)
async def test_a_request_that_the_sdk_would_not_make_is_refused(
    kms: EmulatedAwsKms, headers: dict[str, str], code: str
) -> None:
    status, answer = await ask(kms, "Sign", headers, **signing(DIGEST))
    assert (status, answer["__type"]) == (400, code)
