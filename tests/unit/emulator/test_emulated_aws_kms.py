"""The emulated AWS KMS: what it answers to whom."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kmsconn.emulator.aws_kms import EmulatedAwsKms, KmsFault
from kmsconn.emulator.http import HttpRequest
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, recoverable

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


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (KmsFault.THROTTLED, 400),
        (KmsFault.DENIED, 400),
        (KmsFault.DISABLED, 400),
        (KmsFault.INTERNAL, 500),
        (KmsFault.UNAVAILABLE, 503),
    ],
)
async def test_a_fault_is_what_was_asked_for(kms: EmulatedAwsKms, fault: KmsFault, status: int) -> None:
    kms.fault = lambda operation: fault if operation == "Sign" else None
    found, answer = await ask(kms, "Sign", **signing(DIGEST))
    assert found == status
    assert answer is None or answer["__type"] == fault.value
    assert (await ask(kms, "GetPublicKey"))[0] == 200


async def test_the_wrong_key_is_another_one(kms: EmulatedAwsKms) -> None:
    kms.fault = lambda _: KmsFault.WRONG_KEY
    _, answer = await ask(kms, "Sign", **signing(DIGEST))
    assert recoverable(DIGEST, *halves(answer), KEY.address) is None
