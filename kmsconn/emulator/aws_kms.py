"""AWS KMS as its HTTP API shows it: GetPublicKey and Sign of secp256k1 keys, honest about DIGEST. Faulty where it is told to be.

A signature of AWS has s in either half; here every second one is high, so that nobody forgets to make it low.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs
import trio
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_DIGEST_BYTES = 32
_TARGET: Final = "TrentService."
_SPEC, _USAGE, _ALGORITHM = "ECC_SECG_P256K1", "SIGN_VERIFY", "ECDSA_SHA_256"
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/,]+/\d{8}/[^/,]+/kms/aws4_request,")
_WRONG_KEY = PrivateKey(keccak256(b"kmsconn emulator key that no wallet has"))


class KmsFault(StrEnum):
    """What may happen to one request."""

    THROTTLED = "ThrottlingException"
    DENIED = "AccessDeniedException"
    DISABLED = "DisabledException"
    INTERNAL = "KMSInternalException"
    UNAVAILABLE = "HTTP 503"
    GARBLED = "an answer that is no JSON"
    HANG = "no answer at all"
    WRONG_KEY = "a signature of another key"


class KmsRefusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer of AWS that is an error: its code, its HTTP status, a message."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code, self.message, self.status = code, message, status


@attrs.define(eq=False)
class EmulatedAwsKms:
    """Keys by id, ARN or alias; every knob may be turned at any time."""

    keys: dict[str, PrivateKey] = attrs.field(factory=dict, repr=False)
    latency: float = 0.0
    """Seconds before an answer."""
    fault: Callable[[str], KmsFault | None] = lambda operation: None  # noqa: ARG005 - a knob
    """What happens to a request of this operation."""
    counts: Counter[str] = attrs.field(factory=Counter, init=False)
    """Operation → how often it was answered well."""
    _signed: int = attrs.field(default=0, init=False)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection of a network."""
        await serve_http(stream, self.handle)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request of the HTTP API."""
        await trio.sleep(self.latency)
        try:
            operation, parameters = _read(request)
            return _json(200, await self.answer(operation, parameters))
        except KmsRefusal as refusal:
            said = {"__type": refusal.code, "message": refusal.message}
            return _json(refusal.status, said) if refusal.code else HttpResponse(refusal.status)

    async def answer(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an operation, blobs in base64. Raises Refusal."""
        fault = self.fault(operation)
        await _fail(fault)
        key = self._key(parameters)
        if operation == "GetPublicKey":
            answer = _public_key(key)
        elif operation == "Sign":
            answer = self._sign(_WRONG_KEY if fault is KmsFault.WRONG_KEY else key, parameters)
        else:
            raise KmsRefusal("UnknownOperationException")
        self.counts[operation] += 1
        garbled = {"Signature": "AAAA", "PublicKey": "AAAA"} if fault is KmsFault.GARBLED else {}
        return {"KeyId": parameters["KeyId"], **answer, **garbled}

    def _key(self, parameters: Mapping[str, Any]) -> PrivateKey:
        found = self.keys.get(str(parameters.get("KeyId")))
        if found is None:
            raise KmsRefusal("NotFoundException", f"Key '{parameters.get('KeyId')}' does not exist")
        return found

    def _sign(self, key: PrivateKey, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if parameters.get("SigningAlgorithm") != _ALGORITHM:
            raise KmsRefusal("ValidationException", "this key signs with ECDSA_SHA_256")
        signature = key.sign(_digest(parameters))
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64])
        self._signed += 1
        der = encode_dss_signature(r, _ORDER - s if self._signed % 2 else s)
        return {"Signature": base64.b64encode(der).decode(), "SigningAlgorithm": _ALGORITHM}


async def _fail(fault: KmsFault | None) -> None:
    if fault is KmsFault.HANG:
        await trio.sleep_forever()
    if fault is KmsFault.UNAVAILABLE:
        raise KmsRefusal("", status=503)
    if fault is KmsFault.INTERNAL:
        raise KmsRefusal(fault.value, status=500)
    if fault in {KmsFault.THROTTLED, KmsFault.DENIED, KmsFault.DISABLED}:
        raise KmsRefusal(fault.value, "as the emulator was told")


def _read(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """Return the operation and its parameters, as a signed request of the SDK has them."""
    target = request.header("x-amz-target") or ""
    if request.method != "POST" or not target.startswith(_TARGET):
        raise KmsRefusal("UnknownOperationException")
    if not _SCOPE.match(request.header("authorization") or ""):
        raise KmsRefusal("MissingAuthenticationTokenException", "Missing Authentication Token")
    try:
        parameters: dict[str, Any] = json.loads(request.body)
    except ValueError:
        raise KmsRefusal("SerializationException") from None
    return target.removeprefix(_TARGET), parameters


def _digest(parameters: Mapping[str, Any]) -> bytes:
    message = base64.b64decode(parameters["Message"])
    if parameters.get("MessageType", "RAW") == "RAW":
        return hashlib.sha256(message).digest()
    if len(message) != _DIGEST_BYTES:
        raise KmsRefusal("ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_256.")
    return message


def _public_key(key: PrivateKey) -> dict[str, Any]:
    point = EllipticCurvePublicKey.from_encoded_point(SECP256K1(), key.public_key)
    der = point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "KeySpec": _SPEC,
        "CustomerMasterKeySpec": _SPEC,
        "KeyUsage": _USAGE,
        "PublicKey": base64.b64encode(der).decode(),
        "SigningAlgorithms": [_ALGORITHM],
    }


def _json(status: int, said: Mapping[str, Any]) -> HttpResponse:
    headers = (("content-type", "application/x-amz-json-1.1"),)
    return HttpResponse(status, headers, json.dumps(said).encode())
