"""AWS KMS as a world asks it: the SDK with its own parsers over the emulated service, without a socket; and its hostile answers.

The SDK brings an HTTP client that only speaks to sockets, so a world puts its own in that one's place: the rest of it is the real one.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.testing.hostile.changes import ANY, Change
from kmsconn.testing.hostile.json_rpc import RESULTS

KEY_ID: Final = "alias/kmsconn"
ENDPOINT: Final = "http://aws-kms"
_ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

Handle = Callable[[HttpRequest], Awaitable[HttpResponse]]


@contextmanager
def in_memory(handle: Handle) -> Iterator[None]:
    """Let the SDK ask ``handle`` instead of a socket, with credentials of no worth."""

    class HostileSession:
        """What the SDK needs of its HTTP client."""

        def __init__(self, **_options: Any) -> None:
            pass

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def close(self) -> None:
            """Close nothing."""

        async def send(self, request: Any) -> Any:
            """Ask, and return the answer as the SDK reads it."""
            return _as_the_sdk_reads(request.url, await handle(_request(request)))

    import aiobotocore.httpxsession
    import aiobotocore.session

    here = mock.patch.object(aiobotocore.httpxsession, "HttpxSession", HostileSession)
    with here, mock.patch.dict(os.environ, _ENVIRONMENT):
        yield


def _request(request: Any) -> HttpRequest:
    headers = tuple((name.lower(), _text(value)) for name, value in request.headers.items())
    return HttpRequest(request.method, "/", headers, request.body)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _as_the_sdk_reads(url: str, response: HttpResponse) -> Any:
    from aiobotocore.awsrequest import AioAWSResponse
    from botocore.compat import HTTPHeaders

    class Raw:
        async def read(self) -> bytes:
            assert isinstance(response.body, bytes)
            return response.body

    return AioAWSResponse(url, response.status, HTTPHeaders.from_pairs(response.headers), Raw())


def operation_of(request: HttpRequest) -> str:
    """Return the operation that a request names."""
    return (request.header("x-amz-target") or "").rpartition(".")[2]


Answer = Callable[[bytes], tuple[int, bytes]]
"""Makes status and body of the honest body."""


def _body(raw: bytes, status: int = 200) -> Answer:
    return lambda _: (status, raw)


def _ok(change: Change) -> Answer:
    return lambda honest: (200, change(honest))


def _fields(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Answer:
    return _ok(lambda honest: json.dumps(change(json.loads(honest))).encode())


def _with(**fields: Any) -> Answer:
    return _fields(lambda honest: {**honest, **fields})


def _without(name: str) -> Answer:
    return _fields(lambda honest: {k: v for k, v in honest.items() if k != name})


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _signature(r: int, s: int) -> Answer:
    return _with(Signature=_base64(encode_dss_signature(r, s)))


def _der(key: Any) -> str:
    return _base64(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _public_keys() -> dict[str, str]:
    return {
        "on P-256": _der(ec.derive_private_key(7, ec.SECP256R1())),
        "of another account": _der(ec.derive_private_key(7, ec.SECP256K1())),
        "on Curve25519": _der(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))),
    }


def _refusal(code: Any, message: Any = "no", status: int = 400) -> Answer:
    return _body(json.dumps({"__type": code, "message": message}).encode(), status)


_NO_BLOBS: Final[Mapping[str, Any]] = {
    "null": None,
    "a number": 7,
    "a list": [],
    "an object": {},
    "empty": "",
    "no base64": "%%%",
    "surrogates": "\ud800",
    "zeros": _base64(bytes(70)),
    "a million bytes": _base64(bytes(1_000_000)),
    "DER without end": _base64(b"\x30\x84\xff\xff\xff\xff"),
}

AWS: Final[Mapping[str, Answer]] = {
    **{name: _body(raw) for name, raw in RESULTS.items()},
    **{name: _ok(change) for name, change in ANY.items()},
    "invalid UTF-8": _body(b'{"Signature": "\xff\xfe"}'),
    **{f"status {status}": _body(b"", status) for status in (201, 204, 302, 400, 403, 404, 429, 500, 503, 599)},
    **{f"status {status} of a web page": _body(b"<html></html>", status) for status in (200, 400, 502)},
    "an unknown refusal": _refusal("WhatException"),
    "a refusal without a code": _body(b'{"message": "no"}', 400),
    "a refusal that is a list": _body(b"[]", 400),
    "a refusal with a number for a code": _refusal(7),
    "a refusal with an object for a message": _refusal("AccessDeniedException", {"a": [1]}),
    "a refusal with a message of a million characters": _refusal("AccessDeniedException", "x" * 1_000_000),
    "a refusal with control characters": _refusal("AccessDeniedException", "\x00\x1b[31m\n\r"),
    "throttling": _refusal("ThrottlingException"),
    **{
        f"{field} {name}": _with(**{field: value})
        for field in ("Signature", "PublicKey")
        for name, value in _NO_BLOBS.items()
    },
    **{f"no {field}": _without(field) for field in ("Signature", "PublicKey", "KeySpec", "KeyUsage")},
    **{
        f"a signature of {r_name} and {s_name}": _signature(r, s)
        for r_name, r in {"0": 0, "1": 1, "2^2048": 2**2048}.items()
        for s_name, s in {"0": 0, "n": _ORDER, "2^2048": 2**2048}.items()
    },
    "a negative signature": _with(Signature=_base64(b"\x30\x06\x02\x01\xff\x02\x01\xff")),
    "another key spec": _with(KeySpec="RSA_2048", CustomerMasterKeySpec="RSA_2048"),
    "a key spec that is a list": _with(KeySpec=["ECC_SECG_P256K1"]),
    "another usage": _with(KeyUsage="ENCRYPT_DECRYPT"),
    **{f"a public key {name}": _with(PublicKey=der) for name, der in _public_keys().items()},
}  # fmt: skip
"""In the place of an answer of AWS KMS."""
