"""What no honest server sends: frames of websockets (RFC 6455) and of HTTP/2 (RFC 9113), HTTP answers; what no bucket says of an object.

A frame stands in the place of what an honest server sends at once: mostly one of a websocket, a few of HTTP/2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import trio

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, FORMAT_HEADER
from kmsconn.testing.spoiling import WrappedStream
from kmsconn.transport.grpc import frames
from tests.faults.hostile.json_rpc import ANY, BIG_TEXT, DIGITS, Change, always, before

_SHORT, _LONG = 126, 127  # how a websocket tells that the length follows in 2 or 8 bytes
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
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


def _h2(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return frames.frame(kind, flags, stream, payload)


_OK = b"\x88"  # :status 200, of HPACK's static table
_SETTING = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "list": 6, "unknown": 0xFFFF}

HTTP2: Final[Mapping[str, Change]] = {
    **_ANY,
    **{
        f"a setting {name} of {value}": before(_h2(frames.SETTINGS, identifier.to_bytes(2) + value.to_bytes(4)))
        for name, identifier in _SETTING.items()
        for value in (0, 2, 2**31, 2**32 - 1)
    },
    "settings of 5 bytes": before(_h2(frames.SETTINGS, bytes(5))),
    "settings on a stream": before(_h2(frames.SETTINGS, stream=1)),
    "an acknowledgement with a payload": before(_h2(frames.SETTINGS, bytes(6), flags=frames.ACK)),
    "10,000 acknowledgements": before(_h2(frames.SETTINGS, flags=frames.ACK) * _MANY),
    "10,000 settings": before(_h2(frames.SETTINGS) * _MANY),
    "10,000 pings": before(_h2(frames.PING, bytes(8)) * _MANY),
    "a ping of 7 bytes": before(_h2(frames.PING, bytes(7))),
    "a ping on a stream": before(_h2(frames.PING, bytes(8), stream=1)),
    **{f"a goaway up to {last}": before(_h2(frames.GOAWAY, last.to_bytes(4) + (0).to_bytes(4))) for last in (0, 1, 2**31 - 1)},
    "a goaway of 3 bytes": before(_h2(frames.GOAWAY, bytes(3))),
    "a goaway for an unknown reason": before(_h2(frames.GOAWAY, bytes(4) + b"\xff" * 4)),
    "a goaway with 16 KB of text": before(_h2(frames.GOAWAY, bytes(8) + b"\x1b[31m" * 3_000)),
    "10,000 goaways": before(_h2(frames.GOAWAY, bytes(8)) * _MANY),
    **{f"a reset of stream {one}": before(_h2(frames.RST_STREAM, (2).to_bytes(4), stream=one)) for one in (0, 1, 2, 2**31 - 1)},
    "a reset of 3 bytes": before(_h2(frames.RST_STREAM, bytes(3), stream=1)),
    "10,000 resets": before(_h2(frames.RST_STREAM, (8).to_bytes(4), stream=1) * _MANY),
    **{
        f"a window update of {size} on stream {stream}": before(_h2(frames.WINDOW_UPDATE, size.to_bytes(4), stream=stream))
        for size in (0, 2**31 - 1, 2**32 - 1)
        for stream in (0, 1, 2**31 - 1)
    },
    "a window update of 3 bytes": before(_h2(frames.WINDOW_UPDATE, bytes(3))),
    "10,000 window updates": before(_h2(frames.WINDOW_UPDATE, (1).to_bytes(4)) * _MANY),
    **{f"data on stream {one}": before(_h2(frames.DATA, b"x", stream=one)) for one in (0, 1, 2, 2**31 - 1)},
    "data with more padding than data": before(_h2(frames.DATA, b"\xffx", flags=frames.PADDED, stream=1)),
    "10,000 empty data": before(_h2(frames.DATA, stream=1) * _MANY),
    "a megabyte of data that nobody granted": before(_h2(frames.DATA, bytes(16_384), stream=1) * 64),
    **{f"headers on stream {one}": before(_h2(frames.HEADERS, _OK, flags=frames.END_HEADERS, stream=one)) for one in (0, 1, 2, 2**31 - 1)},
    **{
        f"headers with {name}": before(_h2(frames.HEADERS, block, flags=frames.END_HEADERS, stream=1))
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
    "headers with more padding than block": before(_h2(frames.HEADERS, b"\xff\x88", flags=frames.END_HEADERS | frames.PADDED, stream=1)),
    "headers that are never continued": before(_h2(frames.HEADERS, _OK, stream=1)),
    "a continuation of nothing": before(_h2(frames.CONTINUATION, _OK, flags=frames.END_HEADERS, stream=1)),
    "10,000 continuations": always(_h2(frames.HEADERS, _OK, stream=1) + _h2(frames.CONTINUATION, b"\x40\x01a\x01b", stream=1) * _MANY),
    "10,000 empty continuations": always(_h2(frames.HEADERS, _OK, stream=1) + _h2(frames.CONTINUATION, stream=1) * _MANY),
    "a promise": before(_h2(frames.PUSH_PROMISE, (2).to_bytes(4) + _OK, flags=frames.END_HEADERS, stream=1)),
    "a stream that depends on itself": before(_h2(frames.PRIORITY, (1).to_bytes(4) + b"\0", stream=1)),
    "a priority of 4 bytes": before(_h2(frames.PRIORITY, bytes(4), stream=1)),
    "10,000 priorities": before(_h2(frames.PRIORITY, (0).to_bytes(4) + b"\0", stream=1) * _MANY),
    "a frame of an unknown type": before(_h2(0xFA, b"x" * 100, flags=0xFF, stream=2**31 - 1)),
    "10,000 frames of unknown types": before(_h2(0xFA) * _MANY),
    "a frame of 2^24-1 bytes": before(frames.head(frames.DATA, 0, 1, 2**24 - 1)),
    "a frame longer than was agreed": before(_h2(frames.DATA, bytes(16_385), stream=1)),
}  # fmt: skip
"""In the place of frames of HTTP/2."""


def _head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""])


HTTP: Final[Mapping[str, bytes]] = {
    "nothing": b"",
    "NUL bytes": b"\0" * 1_000,
    "a mail server": b"220 mail.example ESMTP\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "HTTP/0.9": b"<html>welcome</html>",
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    **{
        f"status {status}": _head(b"content-length: 0", status=status.encode())
        for status in ("99", "000", "1000", "-200", "2e2", "２００", "204", "304", "418", "511", "999")
    },
    "status of 5,000 digits": _head(b"content-length: 0", status=b"2" * DIGITS),
    "204 with a body": _head(b"content-length: 2", status=b"204 No Content") + b"{}",
    "a thousand interim answers": _head(status=b"100 Continue") * 1_000,
    "switching protocols": _head(
        b"upgrade: websocket", b"connection: upgrade", status=b"101 Switching Protocols"
    ),
    "a negative length": _head(b"content-length: -1") + b"{}",
    "a length of 5,000 digits": _head(b"content-length: " + b"9" * DIGITS) + b"{}",
    "a length in exponents": _head(b"content-length: 1e3") + b"{}",
    "two lengths": _head(b"content-length: 2", b"content-length: 3") + b"{}",
    "a length and chunks": _head(b"content-length: 2", b"transfer-encoding: chunked")
    + b"2\r\n{}\r\n0\r\n\r\n",
    "a length of 60 MB": _head(b"content-length: 60000000") + b"{}",
    "a length that is too long": _head(b"content-length: 20") + b"{}",
    "a length that is too short": _head(b"content-length: 1") + b"{}",
    "a chunk of no size": _head(b"transfer-encoding: chunked") + b"zz\r\n{}\r\n",
    "a chunk of negative size": _head(b"transfer-encoding: chunked") + b"-2\r\n{}\r\n",
    "a chunk of 2^64": _head(b"transfer-encoding: chunked") + b"f" * 16 + b"\r\n{}",
    "a chunk size of 5,000 digits": _head(b"transfer-encoding: chunked") + b"f" * DIGITS + b"\r\n{}",
    "trailers without end": _head(b"transfer-encoding: chunked") + b"0\r\n" + b"a: b\r\n" * 10_000,
    "gzip": _head(b"content-length: 22", b"content-encoding: gzip") + b"\x1f\x8b\x08" + b"\0" * 19,
    "10,000 headers": _head(*[b"a: b"] * 10_000),
    "a header of a million bytes": _head(b"a: " + b"b" * BIG_TEXT),
    "a header without a colon": _head(b"nonsense", b"content-length: 0"),
    "a header in two lines": _head(b"a: b\r\n c", b"content-length: 0"),
    "a header of control bytes": _head(b"a: \x01\x1b[31m", b"content-length: 0"),
    "a header of invalid UTF-8": _head(b"a: \xff\xfe", b"content-length: 2") + b"{}",
    "a redirect to itself": _head(b"location: ", b"content-length: 0", status=b"302 Found"),
    "a redirect to no URL": _head(b"location: ht!tp:\\\\[", b"content-length: 0", status=b"302 Found"),
    "a redirect of a million bytes": _head(
        b"location: /" + b"x" * 30_000, b"content-length: 0", status=b"302 Found"
    ),
    "a body without end": _head(),
    "chunks of one byte without end": _head(b"transfer-encoding: chunked") + b"1\r\nx\r\n" * 10_000,
    "a head without end": b"HTTP/1.1 200 OK\r\n",
    "an empty body": _head(b"content-length: 0"),
    "a body that is no JSON": _head(b"content-length: 15") + b"<html>no</html>",
    "an error page": _head(b"content-length: 15", status=b"500 Oops") + b"<html>no</html>",
    "403": _head(b"content-length: 0", status=b"403 Forbidden"),
    "429 for ever": _head(b"retry-after: " + b"9" * DIGITS, b"content-length: 0", status=b"429 Slow"),
    "two answers": (_head(b"content-length: 2") + b"{}") * 2,
}
"""In the place of all that a server sends on one connection."""
ENDLESS: Final[Mapping[str, bytes]] = {
    "a body without end": b"x" * 65_536,
    "chunks of one byte without end": b"1\r\nx\r\n" * 1_000,
    "a head without end": b"a: b\r\n" * 1_000,
}
"""What follows again and again behind the HTTP answer of that name."""
_NAMES = ("version", "key_id", "ciphertext_digest", "sns_ciphertext_digest", "format", "signer", "signature")
_ATTESTATIONS: Final[Mapping[str, str]] = {
    "an empty attestation": "",
    "an attestation nested 5,000 deep": '{"version":' + "[" * 5_000 + "]" * 5_000 + "}",
    "objects nested 3,000 deep": '{"a":' * 3_000 + "1" + "}" * 3_000,
    "a version of 4,000 digits": '{"version":' + "1" * 4_000 + "}",
    "a version of 2^63": '{"version":9223372036854775808}',
    "a version that is true": '{"version":true}',
    "duplicate keys": '{"version":1,"version":2,"version":1}',
    "surrogates": '{"format":"\\ud800"}',
    "a list": "[]",
    "null": "null",
    "a number": "1e999",
    "numbers for texts": json.dumps(dict.fromkeys(_NAMES, 1), separators=(",", ":")),
    "empty texts": json.dumps({**dict.fromkeys(_NAMES, ""), "version": 1}, separators=(",", ":")),
}
METADATA: Final[Mapping[str, Mapping[str, str]]] = {
    "no headers": {},
    **{name: {ATTESTATION_HEADER: text} for name, text in _ATTESTATIONS.items()},
    "a format of 20,000 letters": {FORMAT_HEADER: "x" * 20_000},
}
"""In the place of an object's metadata headers."""
BODIES: Final[Mapping[str, Change]] = {
    **ANY,
    "one bit changed": lambda honest: bytes([honest[0] ^ 1]) + honest[1:],
    "an error document": always(b"<Error><Code>NoSuchKey</Code></Error>"),
    "a million bytes": always(bytes(BIG_TEXT)),
}
"""In the place of an object's body."""
