"""What no honest Core answers (Protobuf messages made of an honest one; headers, data and trailers of gRPC), and no honest AWS KMS.

A world asks AWS KMS through the SDK with its own parsers, over the emulated service and without a socket.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import FIXED64, LENGTH, Octets, fields, varint
from tests.faults.hostile.json_rpc import ANY, BIG_TEXT, DIGITS, RESULTS, Change, always


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | LENGTH) + varint(len(value)) + value


def _rewritten(write_value: Callable[[int, int | bytes], bytes]) -> Change:
    """Return what writes a message anew, each value that is no message changed; what can be read as a message is one."""

    def write(message: Octets, left: int = 3) -> bytes:
        return b"".join(one(key >> 3, raw, left) for key, raw in fields(message))

    def one(number: int, raw: int | Octets, left: int) -> bytes:
        if not isinstance(raw, int) and left and raw:
            with suppress(Undecodable):
                return _field(number, write(raw, left - 1))
        return write_value(number, raw if isinstance(raw, int) else bytes(raw))

    return write


def _every(*, number: int | bytes | None = None, text: int | bytes | None = None) -> Change:
    """Return what puts these in the place of every number and every text; None: leaves them."""

    def write_value(at: int, raw: int | bytes) -> bytes:
        new = number if isinstance(raw, int) else text
        return _field(at, raw if new is None else new)

    return _rewritten(write_value)


def _nested_messages(depth: int) -> bytes:
    message = b""
    for _ in range(depth):
        message = _field(1, message)
    return message


PROTOBUF: Final[Mapping[str, Change]] = {
    **ANY,
    "a NUL byte": always(b"\0"),
    "a key without a value": always(b"\x08"),
    "a group": always(b"\x0b\x0c"),
    "field number 0": always(b"\x02\x00"),
    "field number 2^29": always(varint(1 << 32 | 2) + b"\0"),
    "a varint without end": always(b"\x08" + b"\xff" * 1_000),
    "a varint of 2^64": always(b"\x08" + b"\x80" * 9 + b"\x02"),
    "a length of 2^64-1": always(b"\x0a" + varint(2**64 - 1)),
    "a length of 2^31": always(b"\x0a" + varint(2**31)),
    "a packed list of a million": always(_field(1, bytes(BIG_TEXT))),
    "text": always(b"pardon?"),
    "JSON": always(b'{"request_id": null}'),
    "a byte more": lambda honest: honest + b"\x0a",
    "unknown fields beside it": lambda honest: (
        honest + _field(1_000, b"x" * 1_000) + _field(2_000, 2**64 - 1)
    ),
    "every number 0": _every(number=0),
    "every number 2^31-1": _every(number=2**31 - 1),
    "every number 2^64-1": _every(number=2**64 - 1),
    "every number a text": _every(number=b"x"),
    "every text empty": _every(text=b""),
    "every text invalid UTF-8": _every(text=b"\xff\xfe\xc0"),
    "every text NUL bytes": _every(text=bytes(32)),
    "every text ones": _every(text=b"\xff" * 65),
    "every text 5,000 digits": _every(text=b"9" * DIGITS),
    "every text a million bytes": _every(text=b"f" * BIG_TEXT),
    "every text a number": _every(text=7),
    "every value fixed": _rewritten(lambda number, _: varint(number << 3 | FIXED64) + b"\xff" * 8),
    "every value twice": _rewritten(lambda number, raw: _field(number, raw) * 2),
    **{f"messages nested {depth} deep": always(_nested_messages(depth)) for depth in (10, 987, 5_000)},
}
"""In the place of a message of the Core."""


GRPC_OK: Final = ((":status", "200"), ("content-type", "application/grpc"))
_EMPTY_MESSAGE = b"\0\0\0\0\0"
Fields = tuple[tuple[str, str], ...]
Reply = tuple[Fields, bytes, Fields]


def _status(text: str, *more: tuple[str, str]) -> Reply:
    return (*GRPC_OK, ("grpc-status", text), *more), b"", ()


def _http(status: str, *more: tuple[str, str], data: bytes = b"") -> Reply:
    return ((":status", status), *more), data, ()


def _data(data: bytes) -> Reply:
    return GRPC_OK, data, (("grpc-status", "0"),)


_INTERNAL = 13  # no lie: it costs an hour, and has tests of its own
GRPC: Final[Mapping[str, Reply]] = {
    **{
        f"status {text!r}": _status(text)
        for text in ("", "-1", "17", "99", "abc", "0x1", "1.5", "1e3", "+2", "0")
    },
    **{f"status {number}": _status(str(number)) for number in range(1, 17) if number != _INTERNAL},
    "status of 5,000 digits": _status("5" * DIGITS),
    "two statuses": _status("14", ("grpc-status", "0")),
    "no status": (GRPC_OK, b"", ()),
    "OK and a message, and no status": (GRPC_OK, _EMPTY_MESSAGE, ()),
    "a text of broken percents": _status("2", ("grpc-message", "%zz%%%ff%fe%")),
    "a text of NUL bytes and colours": _status("2", ("grpc-message", "%00%1b[31m%0a%0d")),
    "a text of 40,000 letters": _status("2", ("grpc-message", "x" * 40_000)),
    "a text of a million letters": _status("2", ("grpc-message", "x" * BIG_TEXT)),
    "10,000 trailers": _status("2", *[(f"a{number}", "b") for number in range(10_000)]),
    "a trailer in capitals": _status("2", ("Grpc-Odd", "b")),
    "a trailer of control bytes": _status("2", ("grpc-odd", "\x00\x01")),
    **{
        f"HTTP status {status}": _http(status)
        for status in ("204", "301", "404", "500", "999", "99", "abc", "-1", "")
    },
    "HTTP status of 5,000 digits": _http("2" * DIGITS),
    "HTTP status 200 of a web page": _http("200", ("content-type", "text/html"), data=b"<html></html>"),
    "no HTTP status": ((("content-type", "application/grpc"),), b"", ()),
    "a message that is compressed": _data(b"\x01\0\0\0\0"),
    "a message with prefix 7": _data(b"\x07\0\0\0\0"),
    "a message of 2^32-1 bytes": _data(b"\0\xff\xff\xff\xff"),
    "a message that is too short": _data(b"\0\0\0\0\x09x"),
    "a message that is too long": _data(b"\0\0\0\0\x01xxx"),
    "half a prefix": _data(b"\0\0"),
    "two messages": _data(_EMPTY_MESSAGE * 2),
    "a thousand messages": _data(_EMPTY_MESSAGE * 1_000),
}
"""In the place of an answer of the Core: its headers, its data, its trailers (none: the data or the headers end it)."""


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


@contextmanager
def in_memory(handle: Callable[[HttpRequest], Awaitable[HttpResponse]]) -> Iterator[None]:
    """Let the SDK ask ``handle`` where its HTTP client would ask a socket, with credentials of no worth."""
    from aiobotocore.awsrequest import HttpxAWSResponse
    from aiobotocore.httpxsession import HttpxSession
    from botocore.compat import HTTPHeaders
    from httpx2 import Response

    async def enter(session: HttpxSession) -> HttpxSession:
        return session

    async def leave(*_: object) -> None: ...

    async def send(_session: HttpxSession, request: Any) -> HttpxAWSResponse:
        named = request.headers.items()
        headers = tuple((k.lower(), v.decode() if isinstance(v, bytes) else v) for k, v in named)
        answer = await handle(HttpRequest(request.method, "/", headers, request.body))
        assert isinstance(answer.body, bytes)
        told = HTTPHeaders.from_pairs(answer.headers)
        return HttpxAWSResponse(
            request.url, answer.status, told, Response(answer.status, content=answer.body)
        )

    own = mock.patch.multiple(HttpxSession, __aenter__=enter, __aexit__=leave, send=send)
    with own, mock.patch.dict(os.environ, _ENVIRONMENT):
        yield


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


def _of_key(key: Any) -> Answer:
    raw = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _with(PublicKey=_base64(raw))


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
    "a public key on P-256": _of_key(ec.derive_private_key(7, ec.SECP256R1())),
    "a public key of another account": _of_key(ec.derive_private_key(7, ec.SECP256K1())),
    "a public key on Curve25519": _of_key(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))),
}  # fmt: skip
"""In the place of an answer of AWS KMS."""
