"""Headers, data and trailers that no honest gRPC server sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.testing.hostile.json_values import _BIG_TEXT, _DIGITS

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
    "status of 5,000 digits": _status("5" * _DIGITS),
    "two statuses": _status("14", ("grpc-status", "0")),
    "no status": (GRPC_OK, b"", ()),
    "OK and a message, and no status": (GRPC_OK, _EMPTY_MESSAGE, ()),
    "a text of broken percents": _status("2", ("grpc-message", "%zz%%%ff%fe%")),
    "a text of NUL bytes and colours": _status("2", ("grpc-message", "%00%1b[31m%0a%0d")),
    "a text of 40,000 letters": _status("2", ("grpc-message", "x" * 40_000)),
    "a text of a million letters": _status("2", ("grpc-message", "x" * _BIG_TEXT)),
    "10,000 trailers": _status("2", *[(f"a{number}", "b") for number in range(10_000)]),
    "a trailer in capitals": _status("2", ("Grpc-Odd", "b")),
    "a trailer of control bytes": _status("2", ("grpc-odd", "\x00\x01")),
    **{
        f"HTTP status {status}": _http(status)
        for status in ("204", "301", "404", "500", "999", "99", "abc", "-1", "")
    },
    "HTTP status of 5,000 digits": _http("2" * _DIGITS),
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
