"""Frames that no honest server sends, of websockets (RFC 6455) and of HTTP/2 (RFC 9113), and the stream that sends them.

Each stands in the place of what an honest server sends at once: mostly one frame of a websocket, a few of HTTP/2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from kmsconn.testing.hostile.changes import ANY, Change, always, before
from kmsconn.testing.spoiling import WrappedStream

_SHORT, _LONG = 126, 127  # how a websocket tells that the length follows in 2 or 8 bytes
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PINGED, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_HEADERS, _PADDED, _ACK = 0x4, 0x8, 0x1
_MANY = 10_000


class FramedStream(WrappedStream):
    """A server's stream on which ``change`` may put other bytes in the place of each piece that is sent, once frames are spoken."""

    def __init__(self, stream: trio.abc.Stream, change: Change, *, upgrades: bool = False) -> None:
        super().__init__(stream)
        self._change, self._framed = change, not upgrades

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, perhaps something else."""
        honest = bytes(data)
        await super().send_all(self._change(honest) if self._framed else honest)
        self._framed = self._framed or honest.startswith(b"HTTP/1.1 101")


def _ws(opcode: int, payload: bytes = b"", *, first: int = 0x80, length: bytes | None = None) -> bytes:
    size = len(payload)
    if length is None:
        length = bytes([size]) if size < _SHORT else bytes([_LONG]) + size.to_bytes(8)
    return bytes([first | opcode]) + length + payload


_ANY: Final[Mapping[str, Change]] = {
    **ANY,
    "a byte before it": before(b"\xff"),
    "64 KiB of zeros": always(bytes(65_536)),
    "64 KiB of ones": always(b"\xff" * 65_536),
    "an HTTP/1.1 answer": always(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
    "a TLS alert": always(b"\x15\x03\x03\x00\x02\x02\x28"),
}

WEBSOCKET: Final[Mapping[str, Change]] = {
    **_ANY,
    **{f"reserved opcode {code}": before(_ws(code, b"x")) for code in (3, 7, 11, 15)},
    **{f"reserved bits {bits:#x}": before(_ws(_TEXT, b"{}", first=0x80 | bits)) for bits in (0x10, 0x20, 0x40, 0x70)},
    "a masked text": before(_ws(_TEXT, b"\0\0\0\0{}", length=b"\x82")),
    "a ping of 126 bytes": before(_ws(_PING, b"x" * 126, length=b"\x7e\x00\x7e")),
    "a ping in fragments": before(_ws(_PING, b"x", first=0)),
    "10,000 pings": before(_ws(_PING, b"x" * 125) * _MANY),
    "10,000 pongs that nobody asked for": before(_ws(_PONG) * _MANY),
    "a continuation of nothing": before(_ws(0, b"x")),
    "a text within a text": before(_ws(_TEXT, b"{", first=0)),
    "10,000 fragments without end": always(_ws(_TEXT, b"[", first=0) + _ws(0, b"[", first=0) * _MANY),
    "10,000 empty fragments": always(_ws(_TEXT, b"", first=0) + _ws(0, b"", first=0) * _MANY),
    "10,000 empty texts": before(_ws(_TEXT) * _MANY),
    "10,000 empty binaries": before(_ws(_BINARY) * _MANY),
    "a binary of NUL bytes": before(_ws(_BINARY, bytes(1_000))),
    "a text of invalid UTF-8": before(_ws(_TEXT, b"\xff\xfe\xc0")),
    "half a character": before(_ws(_TEXT, b"\xe2\x82")),
    **{
        f"a length of {name}": before(_ws(_TEXT, b"", length=bytes([_LONG]) + size.to_bytes(8)))
        for name, size in (("0 in 8 bytes", 0), ("2^26+1", 2**26 + 1), ("2^31", 2**31), ("2^63-1", 2**63 - 1), ("2^64-1", 2**64 - 1))
    },
    "a length of 1 in 2 bytes": before(_ws(_TEXT, b"x", length=b"\x7e\x00\x01")),
    "a close": before(_ws(_CLOSE)),
    "a close of 1 byte": before(_ws(_CLOSE, b"\x03")),
    **{f"a close with code {code}": before(_ws(_CLOSE, code.to_bytes(2))) for code in (0, 999, 1005, 1015, 65_535)},
    "a close with invalid UTF-8": before(_ws(_CLOSE, b"\x03\xe8\xff\xfe")),
    "1,000 closes": before(_ws(_CLOSE, b"\x03\xe8") * 1_000),
}  # fmt: skip
"""In the place of frames of a websocket."""


def _h2(
    kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0, length: int | None = None
) -> bytes:
    size = len(payload) if length is None else length
    return size.to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _setting(identifier: int, value: int) -> bytes:
    return _h2(_SETTINGS, identifier.to_bytes(2) + value.to_bytes(4))


def _number(value: int) -> bytes:
    return value.to_bytes(4)


_OK = b"\x88"  # :status 200, of HPACK's static table
_SETTING = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "list": 6, "unknown": 0xFFFF}

HTTP2: Final[Mapping[str, Change]] = {
    **_ANY,
    **{
        f"a setting {name} of {value}": before(_setting(identifier, value))
        for name, identifier in _SETTING.items()
        for value in (0, 2, 2**31, 2**32 - 1)
    },
    "settings of 5 bytes": before(_h2(_SETTINGS, bytes(5))),
    "settings on a stream": before(_h2(_SETTINGS, stream=1)),
    "an acknowledgement with a payload": before(_h2(_SETTINGS, bytes(6), flags=_ACK)),
    "10,000 acknowledgements": before(_h2(_SETTINGS, flags=_ACK) * _MANY),
    "10,000 settings": before(_h2(_SETTINGS) * _MANY),
    "10,000 pings": before(_h2(_PINGED, bytes(8)) * _MANY),
    "a ping of 7 bytes": before(_h2(_PINGED, bytes(7))),
    "a ping on a stream": before(_h2(_PINGED, bytes(8), stream=1)),
    **{f"a goaway up to {last}": before(_h2(_GOAWAY, _number(last) + _number(0))) for last in (0, 1, 2**31 - 1)},
    "a goaway of 3 bytes": before(_h2(_GOAWAY, bytes(3))),
    "a goaway for an unknown reason": before(_h2(_GOAWAY, bytes(4) + b"\xff" * 4)),
    "a goaway with 16 KB of text": before(_h2(_GOAWAY, bytes(8) + b"\x1b[31m" * 3_000)),
    "10,000 goaways": before(_h2(_GOAWAY, bytes(8)) * _MANY),
    **{f"a reset of stream {one}": before(_h2(_RESET, _number(2), stream=one)) for one in (0, 1, 2, 2**31 - 1)},
    "a reset of 3 bytes": before(_h2(_RESET, bytes(3), stream=1)),
    "10,000 resets": before(_h2(_RESET, _number(8), stream=1) * _MANY),
    **{
        f"a window update of {size} on stream {stream}": before(_h2(_WINDOW, _number(size), stream=stream))
        for size in (0, 2**31 - 1, 2**32 - 1)
        for stream in (0, 1, 2**31 - 1)
    },
    "a window update of 3 bytes": before(_h2(_WINDOW, bytes(3))),
    "10,000 window updates": before(_h2(_WINDOW, _number(1)) * _MANY),
    **{f"data on stream {one}": before(_h2(_DATA, b"x", stream=one)) for one in (0, 1, 2, 2**31 - 1)},
    "data with more padding than data": before(_h2(_DATA, b"\xffx", flags=_PADDED, stream=1)),
    "10,000 empty data": before(_h2(_DATA, stream=1) * _MANY),
    "a megabyte of data that nobody granted": before(_h2(_DATA, bytes(16_384), stream=1) * 64),
    **{f"headers on stream {one}": before(_h2(_HEADERS, _OK, flags=_END_HEADERS, stream=one)) for one in (0, 1, 2, 2**31 - 1)},
    **{
        f"headers with {name}": before(_h2(_HEADERS, block, flags=_END_HEADERS, stream=1))
        for name, block in {
            "nothing": b"",
            "index 0": b"\x80",
            "an index beyond the table": b"\xff\xff\xff\xff\x0f",
            "an integer without end": b"\xff" * 1_000,
            "a broken Huffman code": b"\x40\x84\xff\xff\xff\xff\x01x",
            "half a field": b"\x40\x0aabc",
            "a table of 2^31": b"\x3f\xe1\xff\xff\xff\x07",
            "a table size behind a field": b"\x88\x20",
            "a field a thousand times": _OK + b"\x40\x01a\x01b" * 1_000,
            "one field again and again": b"\x40\x01a\x7f\x81\x1f" + b"b" * 4_096 + b"\xbe" * 12_000,
        }.items()
    },
    "headers with more padding than block": before(_h2(_HEADERS, b"\xff\x88", flags=_END_HEADERS | _PADDED, stream=1)),
    "headers that are never continued": before(_h2(_HEADERS, _OK, stream=1)),
    "a continuation of nothing": before(_h2(_CONTINUATION, _OK, flags=_END_HEADERS, stream=1)),
    "10,000 continuations": always(_h2(_HEADERS, _OK, stream=1) + _h2(_CONTINUATION, b"\x40\x01a\x01b", stream=1) * _MANY),
    "10,000 empty continuations": always(_h2(_HEADERS, _OK, stream=1) + _h2(_CONTINUATION, stream=1) * _MANY),
    "a promise": before(_h2(_PUSH, _number(2) + _OK, flags=_END_HEADERS, stream=1)),
    "a stream that depends on itself": before(_h2(_PRIORITY, _number(1) + b"\0", stream=1)),
    "a priority of 4 bytes": before(_h2(_PRIORITY, bytes(4), stream=1)),
    "10,000 priorities": before(_h2(_PRIORITY, _number(0) + b"\0", stream=1) * _MANY),
    "a frame of an unknown type": before(_h2(0xFA, b"x" * 100, flags=0xFF, stream=2**31 - 1)),
    "10,000 frames of unknown types": before(_h2(0xFA) * _MANY),
    "a frame of 2^24-1 bytes": before(_h2(_DATA, stream=1, length=2**24 - 1)),
    "a frame longer than was agreed": before(_h2(_DATA, bytes(16_385), stream=1)),
}  # fmt: skip
"""In the place of frames of HTTP/2."""
