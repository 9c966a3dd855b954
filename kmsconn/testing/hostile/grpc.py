"""What no honest Core answers: Protobuf messages made of an honest one; headers, data and trailers of gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import FIXED64, LENGTH, fields
from kmsconn.testing.hostile.changes import ANY, BIG_TEXT, DIGITS, Change, always


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - the continuation bit
        out.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, wire: int, value: int | bytes) -> bytes:
    key = _varint(number << 3 | wire)
    if isinstance(value, int):
        return key + _varint(value)
    return key + (_varint(len(value)) + value if wire == LENGTH else value)


def _rewritten(change: Callable[[int, int, int | bytes], bytes], depth: int = 3) -> Change:
    """Return what writes a message anew, each value that is no message changed; what can be read as a message is one."""

    def write(message: bytes, left: int = depth) -> bytes:
        return b"".join(one(number, wire, raw, left) for number, wire, raw in fields(message))

    def one(number: int, wire: int, raw: int | memoryview, left: int) -> bytes:
        if isinstance(raw, int):
            return change(number, wire, raw)
        try:
            inner = write(bytes(raw), left - 1) if left and wire == LENGTH and raw else None
        except Undecodable:
            inner = None
        return change(number, wire, bytes(raw)) if inner is None else _field(number, LENGTH, inner)

    return write


def _texts(text: bytes) -> Change:
    return _rewritten(lambda number, wire, raw: _field(number, wire, raw if isinstance(raw, int) else text))


def _numbers(value: int) -> Change:
    return _rewritten(lambda number, wire, raw: _field(number, wire, value if isinstance(raw, int) else raw))


def _nested_messages(depth: int) -> bytes:
    message = b""
    for _ in range(depth):
        message = _field(1, LENGTH, message)
    return message


PROTOBUF: Final[Mapping[str, Change]] = {
    **ANY,
    "a NUL byte": always(b"\0"),
    "a key without a value": always(b"\x08"),
    "a group": always(b"\x0b\x0c"),
    "field number 0": always(b"\x02\x00"),
    "field number 2^29": always(_varint(1 << 32 | 2) + b"\0"),
    "a varint without end": always(b"\x08" + b"\xff" * 1_000),
    "a varint of 2^64": always(b"\x08" + b"\x80" * 9 + b"\x02"),
    "a length of 2^64-1": always(b"\x0a" + _varint(2**64 - 1)),
    "a length of 2^31": always(b"\x0a" + _varint(2**31)),
    "a packed list of a million": always(_field(1, LENGTH, bytes(BIG_TEXT))),
    "text": always(b"pardon?"),
    "JSON": always(b'{"request_id": null}'),
    "a byte more": lambda honest: honest + b"\x0a",
    "unknown fields beside it": lambda honest: (
        honest + _field(1_000, LENGTH, b"x" * 1_000) + _field(2_000, 0, 2**64 - 1)
    ),
    "every number 0": _numbers(0),
    "every number 2^31-1": _numbers(2**31 - 1),
    "every number 2^64-1": _numbers(2**64 - 1),
    "every text empty": _texts(b""),
    "every text invalid UTF-8": _texts(b"\xff\xfe\xc0"),
    "every text NUL bytes": _texts(bytes(32)),
    "every text ones": _texts(b"\xff" * 65),
    "every text 5,000 digits": _texts(b"9" * DIGITS),
    "every text a million bytes": _texts(b"f" * BIG_TEXT),
    "every number a text": _rewritten(
        lambda number, _, raw: _field(number, LENGTH, b"x" if isinstance(raw, int) else raw)
    ),
    "every text a number": _rewritten(
        lambda number, _, raw: _field(number, 0, raw if isinstance(raw, int) else 7)
    ),
    "every value fixed": _rewritten(lambda number, _wire, _raw: _field(number, FIXED64, b"\xff" * 8)),
    "every value twice": _rewritten(lambda number, wire, raw: _field(number, wire, raw) * 2),
    **{f"messages nested {depth} deep": always(_nested_messages(depth)) for depth in (10, 987, 5_000)},
}
"""In the place of a message of the Core."""


GRPC_OK: Final = ((":status", "200"), ("content-type", "application/grpc"))
_EMPTY_MESSAGE = b"\0\0\0\0\0"
Fields = tuple[tuple[str, str], ...]


def _status(text: str, *more: tuple[str, str]) -> tuple[Fields, bytes, Fields]:
    return (*GRPC_OK, ("grpc-status", text), *more), b"", ()


def _http(status: str, *more: tuple[str, str]) -> tuple[Fields, bytes, Fields]:
    return ((":status", status), *more), b"", ()


_INTERNAL = 13  # no lie: it costs an hour, and has tests of its own
GRPC: Final[Mapping[str, tuple[Fields, bytes, Fields]]] = {
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
    "HTTP status 200 of a web page": (
        ((":status", "200"), ("content-type", "text/html")),
        b"<html></html>",
        (),
    ),
    "no HTTP status": ((("content-type", "application/grpc"),), b"", ()),
    "a message that is compressed": (GRPC_OK, b"\x01\0\0\0\0", (("grpc-status", "0"),)),
    "a message with prefix 7": (GRPC_OK, b"\x07\0\0\0\0", (("grpc-status", "0"),)),
    "a message of 2^32-1 bytes": (GRPC_OK, b"\0\xff\xff\xff\xff", (("grpc-status", "0"),)),
    "a message that is too short": (GRPC_OK, b"\0\0\0\0\x09x", (("grpc-status", "0"),)),
    "a message that is too long": (GRPC_OK, b"\0\0\0\0\x01xxx", (("grpc-status", "0"),)),
    "half a prefix": (GRPC_OK, b"\0\0", (("grpc-status", "0"),)),
    "two messages": (GRPC_OK, _EMPTY_MESSAGE * 2, (("grpc-status", "0"),)),
    "a thousand messages": (GRPC_OK, _EMPTY_MESSAGE * 1_000, (("grpc-status", "0"),)),
}
"""In the place of an answer of the Core: its headers, its data, its trailers (none: the data or the headers end it)."""
