"""Answers that no honest dependency gives, as bytes with names: JSON results and errors, JSON-RPC messages, HTTP answers, protobuf.

Plain data; ``testing.hostile`` plays them. Each is legal enough to reach the reader it is meant for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, FORMAT_HEADER
from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import FIXED64, LENGTH, fields

_DIGITS = 5_000
_BIG_TEXT = 1_000_000
_DEPTHS = (10, 987, 100_000)


def _text(content: str | bytes) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return b'"' + raw + b'"'


def _nested(depth: int, opening: bytes, closing: bytes, middle: bytes = b"1") -> bytes:
    return opening * depth + middle + closing * depth


NUMBERS: Final[Mapping[str, int]] = {
    "0": 0,
    "1": 1,
    "-1": -1,
    "2^53": 2**53,
    "2^63-1": 2**63 - 1,
    "2^63": 2**63,
    "2^64": 2**64,
    "2^256-1": 2**256 - 1,
    "2^256": 2**256,
    "2^20000": 2**20_000,
}
"""Numbers at the edges of what columns, words and Python's own conversions hold."""


def _hex_of(number: int) -> bytes:
    return _text(hex(number))


def _decimal_of(number: int) -> bytes:
    # str() of more than 4,300 digits is refused by Python itself
    return str(number).encode() if number < 2**10_000 else b"1" + b"0" * _DIGITS


RESULTS: Final[Mapping[str, bytes]] = {
    "null": b"null",
    "true": b"true",
    "false": b"false",
    **{f"hex {name}": _hex_of(number) for name, number in NUMBERS.items()},
    **{f"decimal {name}": _decimal_of(number) for name, number in NUMBERS.items()},
    "float": b"1.5",
    "float 1e999": b"1e999",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "empty text": _text(""),
    "0x": _text("0x"),
    "0x and 5,000 digits": _text("0x" + "f" * _DIGITS),
    "0x and odd digits": _text("0xabc"),
    "0x and a million digits": _text("0x" + "0" * _BIG_TEXT),
    "a zero word": _text("0x" + "00" * 32),
    "a word of ones": _text("0x" + "ff" * 32),
    "an ABI array of 2^255 items": _text("0x" + f"{32:064x}" + f"{2**255:064x}"),
    "an ABI array of 2^31 items": _text("0x" + f"{32:064x}" + f"{2**31:064x}" + "00" * 64),
    "ABI offsets in a circle": _text("0x" + f"{0:064x}" * 64),
    "5,000 decimal digits as text": _text("9" * _DIGITS),
    "not hex": _text("0xzz"),
    "text": _text("pardon?"),
    "lone surrogates": _text(r"\ud800\udfff\ud800"),
    "NUL bytes": _text(r"0x\u0000\u0000"),
    "full-width digits": _text("0x１２"),
    "right-to-left marks": _text("\u202e0x1"),
    "a million characters": _text("x" * _BIG_TEXT),
    "empty list": b"[]",
    "empty object": b"{}",
    "list of nulls": b"[null, null]",
    "list of lists": b"[[], [[]]]",
    "list of numbers": b"[1, -1, 1e999]",
    "list of empty objects": b"[{}, {}]",
    "object of another kind": b'{"what": ["is", 7]}',
    "block with wild numbers": (
        b'{"number": "0x7fffffffffffffff", "timestamp": "0x7fffffffffffffff", "hash": "0x00", '
        b'"baseFeePerGas": "0x' + b"f" * _DIGITS + b'", "reward": [["0x' + b"f" * _DIGITS + b'"]], '
        b'"blockHash": "0x00", "blockNumber": "0x7fffffffffffffff", "status": "0x' + b"f" * _DIGITS + b'"}'
    ),
    "a block at 2^63-1": b'{"number": "0x7fffffffffffffff", "timestamp": "0x7fffffffffffffff"}',
    "a number at 2^63-1": b'{"number": "0x7fffffffffffffff", "timestamp": "0x69560000"}',
    "a time at 2^63-1": b'{"number": "0x10", "timestamp": "0x7fffffffffffffff"}',
    "block with numbers below 2^53": (
        b'{"number": "0x1fffffffffffff", "timestamp": "0x1fffffffffffff", "hash": "0x00", "baseFeePerGas": "0x1", '
        b'"reward": [["0x1"]], "blockHash": "0x00", "blockNumber": "0x1fffffffffffff", "status": "0x2"}'
    ),
    "block with nulls": b'{"number": null, "timestamp": null, "blockNumber": null, "blockHash": null, "status": null}',
    "block with negative numbers": b'{"number": "-0x1", "timestamp": -1, "blockNumber": "-0x1", "blockHash": "0x"}',
    "duplicate keys": b'{"number": "0x1", "number": {}, "timestamp": "0x1", "timestamp": [], "status": "0x1", "status": 1}',
    "a log with wild numbers": (
        b'[{"address": "0x' + b"00" * 20 + b'", "topics": ["0x' + b"00" * 32 + b'"], "data": "0x", '
        b'"blockNumber": "0x7fffffffffffffff", "blockHash": "0x' + b"00" * 32 + b'", '
        b'"transactionHash": "0x' + b"00" * 32 + b'", "logIndex": "0x7fffffffffffffff"}]'
    ),
    "a trace without end": b'{"error": {"error": []}, "output": 7, "calls": '
    + _nested(500, b"[", b"]")
    + b"}",
    **{f"lists nested {depth} deep": _nested(depth, b"[", b"]") for depth in _DEPTHS},
    **{f"objects nested {depth} deep": _nested(depth, b'{"a":', b"}") for depth in _DEPTHS},
}
"""In the place of a call's ``result``, and of what a subscription pushes."""

ERRORS: Final[Mapping[str, bytes]] = {
    "true": b"true",
    "a number": b"-32000",
    "a text": _text("no"),
    "an empty object": b"{}",
    "an empty list": b"[]",
    "no code": b'{"message": "no"}',
    "no message": b'{"code": -32000}',
    "a huge code": b'{"code": 1' + b"0" * _DIGITS + b', "message": "no"}',
    "a code of 2^64": b'{"code": 18446744073709551616, "message": "no"}',
    "a code that is a text": b'{"code": "-32000", "message": "no"}',
    "a code that is infinite": b'{"code": 1e999, "message": "no"}',
    "a message that is an object": b'{"code": -32000, "message": {"a": [1]}}',
    "a message of surrogates": b'{"code": -32000, "message": "\\ud800"}',
    "a message of a million characters": b'{"code": -32000, "message": "'
    + b"revert " * (_BIG_TEXT // 7)
    + b'"}',
    "a message of NUL bytes": b'{"code": -32000, "message": "\\u0000\\u001b[31m"}',
    "data that is a list": b'{"code": 3, "message": "execution reverted", "data": []}',
    "data nested": b'{"code": 3, "message": "execution reverted", "data": {"data": {"data": "0x"}}}',
    "data of odd digits": b'{"code": 3, "message": "execution reverted", "data": "0xabc"}',
    "data of a million digits": b'{"code": 3, "message": "execution reverted", "data": "0x'
    + b"0" * _BIG_TEXT
    + b'"}',
    "data of an Error of 2^255 characters": (
        b'{"code": 3, "message": "execution reverted", "data": "0x08c379a0'
        + f"{32:064x}{2**255:064x}".encode()
        + b'"}'
    ),
    **{f"data nested {n} deep": b'{"code": 3, "data": ' + _nested(n, b"[", b"]") + b"}" for n in _DEPTHS},
    **{f"a message nested {n} deep": b'{"message": ' + _nested(n, b'{"a":', b"}") + b"}" for n in _DEPTHS},
}
"""In the place of a call's ``error``."""

Message = Callable[[bytes], bytes]
"""Makes a whole JSON-RPC message of the honest one."""


def _always(raw: bytes) -> Message:
    return lambda _: raw


def _each(old: bytes, new: bytes) -> Message:
    return lambda honest: honest.replace(old, new)


def _each_id(change: Callable[[bytes], bytes]) -> Message:
    return lambda honest: _with_ids(honest, change)


def _ids(pattern: bytes) -> Message:
    return _each_id(lambda one: pattern % one)


MESSAGES: Final[Mapping[str, Message]] = {
    "nothing": _always(b""),
    "a NUL byte": _always(b"\0"),
    "white space": _always(b" " * _BIG_TEXT),
    "null": _always(b"null"),
    "a number": _always(b"7"),
    "an empty list": _always(b"[]"),
    "an empty object": _always(b"{}"),
    "a list of nulls": _always(b"[null]"),
    "a list of lists": _always(b"[[{}]]"),
    "invalid UTF-8": _always(b'{"jsonrpc":"2.0","id":1,"result":"\xff\xfe"}'),
    "UTF-16": lambda honest: honest.decode("utf-8", "replace").encode("utf-16"),
    "a byte order mark": lambda honest: b"\xef\xbb\xbf" + honest,
    "two documents": lambda honest: honest + honest,
    "half a document": lambda honest: honest[: len(honest) // 2],
    "an answer that is wrapped": lambda honest: b"[" + honest + b"]",
    "answers without ids": _each(b'"id":', b'"di":'),
    "ids that are texts": _ids(b'"%b"'),
    "ids that are floats": _ids(b"%b.0"),
    "ids that are null": _each_id(lambda _: b"null"),
    "ids that are lists": _ids(b"[%b]"),
    "ids that are true": _each_id(lambda _: b"true"),
    "ids that are negative": _ids(b"-%b"),
    "ids that are huge": _each_id(lambda one: one + b"0" * _DIGITS),
    "ids of 2^64 more": _each_id(lambda one: str(int(one) + 2**64).encode()),
    "ids of others": _each_id(lambda one: str(int(one) + 1).encode()),
    "ids that are all alike": _each_id(lambda _: b"1"),
    "neither result nor error": lambda honest: honest.replace(b'"result":', b'"results":'),
    "both result and error": _each(b'"result":', b'"error":{"code":1,"message":"no"},"result":'),
    "an error beside null": _each(b'"result":', b'"error":null,"result":'),
    "duplicate results": _each(b'"result":', b'"result":[[7]],"result":'),
    "an error for nobody": _always(
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch limit"}}'
    ),
    "an error for nobody in a list": _always(b'[{"jsonrpc":"2.0","id":null,"error":{}}]'),
    "a push for nobody": _always(
        b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x0","result":7}}'
    ),
    "a push without parameters": _always(b'{"jsonrpc":"2.0","method":"eth_subscription"}'),
    "a push with a list": _always(b'{"jsonrpc":"2.0","method":"eth_subscription","params":[[]]}'),
    "a push nested 100000 deep": _always(
        b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x0","result":'
        + _nested(100_000, b"[", b"]")
        + b"}}"
    ),
    "a question": _always(b'{"jsonrpc":"2.0","id":1,"method":"eth_accounts","params":[]}'),
    "a thousand answers": _always(b"[" + b",".join([b'{"id":1,"result":1}'] * 1_000) + b"]"),
    **{f"lists nested {depth} deep": _always(_nested(depth, b"[", b"]")) for depth in _DEPTHS},
    **{f"objects nested {depth} deep": _always(_nested(depth, b'{"id":', b"}")) for depth in _DEPTHS},
}
"""In the place of a whole message, one answer or a batch of them."""


def _with_ids(honest: bytes, change: Callable[[bytes], bytes]) -> bytes:
    head, *rest = honest.split(b'"id":')
    changed = []
    for part in rest:
        end = next(at for at, byte in enumerate(part) if byte in b",}")
        changed.append(change(part[:end]) + part[end:])
    return b'"id":'.join([head, *changed])


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
    "status of 5,000 digits": _head(b"content-length: 0", status=b"2" * _DIGITS),
    "204 with a body": _head(b"content-length: 2", status=b"204 No Content") + b"{}",
    "a thousand interim answers": _head(status=b"100 Continue") * 1_000,
    "switching protocols": _head(
        b"upgrade: websocket", b"connection: upgrade", status=b"101 Switching Protocols"
    ),
    "a negative length": _head(b"content-length: -1") + b"{}",
    "a length of 5,000 digits": _head(b"content-length: " + b"9" * _DIGITS) + b"{}",
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
    "a chunk size of 5,000 digits": _head(b"transfer-encoding: chunked") + b"f" * _DIGITS + b"\r\n{}",
    "trailers without end": _head(b"transfer-encoding: chunked") + b"0\r\n" + b"a: b\r\n" * 10_000,
    "gzip": _head(b"content-length: 22", b"content-encoding: gzip") + b"\x1f\x8b\x08" + b"\0" * 19,
    "10,000 headers": _head(*[b"a: b"] * 10_000),
    "a header of a million bytes": _head(b"a: " + b"b" * _BIG_TEXT),
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
    "429 for ever": _head(b"retry-after: " + b"9" * _DIGITS, b"content-length: 0", status=b"429 Slow"),
    "two answers": (_head(b"content-length: 2") + b"{}") * 2,
}
"""In the place of all that a server sends on one connection."""

ENDLESS: Final[Mapping[str, bytes]] = {
    "a body without end": b"x" * 65_536,
    "chunks of one byte without end": b"1\r\nx\r\n" * 1_000,
    "a head without end": b"a: b\r\n" * 1_000,
}
"""What follows again and again behind the HTTP answer of that name."""

METADATA: Final[Mapping[str, Mapping[str, str]]] = {
    "no headers": {},
    "an empty attestation": {ATTESTATION_HEADER: ""},
    "an attestation nested 5,000 deep": {ATTESTATION_HEADER: '{"version":' + "[" * 5_000 + "]" * 5_000 + "}"},
    "objects nested 3,000 deep": {ATTESTATION_HEADER: '{"a":' * 3_000 + "1" + "}" * 3_000},
    "a version of 4,000 digits": {ATTESTATION_HEADER: '{"version":' + "1" * 4_000 + "}"},
    "a version of 2^63": {ATTESTATION_HEADER: '{"version":9223372036854775808}'},
    "a version that is true": {ATTESTATION_HEADER: '{"version":true}'},
    "duplicate keys": {ATTESTATION_HEADER: '{"version":1,"version":2,"version":1}'},
    "surrogates": {ATTESTATION_HEADER: '{"format":"\\ud800"}'},
    "a list": {ATTESTATION_HEADER: "[]"},
    "null": {ATTESTATION_HEADER: "null"},
    "a number": {ATTESTATION_HEADER: "1e999"},
    "numbers for texts": {
        ATTESTATION_HEADER: '{"version":1,"key_id":1,"ciphertext_digest":1,"sns_ciphertext_digest":1,"format":1,"signer":1,"signature":1}'
    },
    "empty texts": {
        ATTESTATION_HEADER: '{"version":1,"key_id":"","ciphertext_digest":"","sns_ciphertext_digest":"","format":"",'
        '"signer":"","signature":""}'
    },
    "a format of 20,000 letters": {FORMAT_HEADER: "x" * 20_000},
}
"""In the place of an object's metadata headers."""

BODIES: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "nothing": lambda _: b"",
    "half of it": lambda honest: honest[: len(honest) // 2],
    "twice of it": lambda honest: honest * 2,
    "one bit changed": lambda honest: bytes([honest[0] ^ 1]) + honest[1:],
    "an error document": lambda _: b"<Error><Code>NoSuchKey</Code></Error>",
    "a million bytes": lambda _: bytes(_BIG_TEXT),
}
"""In the place of an object's body."""


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


def _rewritten(change: Callable[[int, int, int | bytes], bytes], depth: int = 3) -> Message:
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


def _texts(text: bytes) -> Message:
    return _rewritten(lambda number, wire, raw: _field(number, wire, raw if isinstance(raw, int) else text))


def _numbers(value: int) -> Message:
    return _rewritten(lambda number, wire, raw: _field(number, wire, value if isinstance(raw, int) else raw))


def _nested_messages(depth: int) -> bytes:
    message = b""
    for _ in range(depth):
        message = _field(1, LENGTH, message)
    return message


PROTOBUF: Final[Mapping[str, Message]] = {
    "nothing": _always(b""),
    "a NUL byte": _always(b"\0"),
    "a key without a value": _always(b"\x08"),
    "a group": _always(b"\x0b\x0c"),
    "field number 0": _always(b"\x02\x00"),
    "field number 2^29": _always(_varint(1 << 32 | 2) + b"\0"),
    "a varint without end": _always(b"\x08" + b"\xff" * 1_000),
    "a varint of 2^64": _always(b"\x08" + b"\x80" * 9 + b"\x02"),
    "a length of 2^64-1": _always(b"\x0a" + _varint(2**64 - 1)),
    "a length of 2^31": _always(b"\x0a" + _varint(2**31)),
    "a packed list of a million": _always(_field(1, LENGTH, bytes(_BIG_TEXT))),
    "text": _always(b"pardon?"),
    "JSON": _always(b'{"request_id": null}'),
    "half of it": lambda honest: honest[: len(honest) // 2],
    "all but a byte": lambda honest: honest[:-1],
    "a byte more": lambda honest: honest + b"\x0a",
    "twice of it": lambda honest: honest + honest,
    "unknown fields beside it": lambda honest: (
        honest + _field(1_000, LENGTH, b"x" * 1_000) + _field(2_000, 0, 2**64 - 1)
    ),
    "its bits turned": lambda honest: bytes(byte ^ 0xFF for byte in honest),
    "every number 0": _numbers(0),
    "every number 2^31-1": _numbers(2**31 - 1),
    "every number 2^64-1": _numbers(2**64 - 1),
    "every text empty": _texts(b""),
    "every text invalid UTF-8": _texts(b"\xff\xfe\xc0"),
    "every text NUL bytes": _texts(bytes(32)),
    "every text ones": _texts(b"\xff" * 65),
    "every text 5,000 digits": _texts(b"9" * _DIGITS),
    "every text a million bytes": _texts(b"f" * _BIG_TEXT),
    "every number a text": _rewritten(
        lambda number, _, raw: _field(number, LENGTH, b"x" if isinstance(raw, int) else raw)
    ),
    "every text a number": _rewritten(
        lambda number, _, raw: _field(number, 0, raw if isinstance(raw, int) else 7)
    ),
    "every value fixed": _rewritten(lambda number, _wire, _raw: _field(number, FIXED64, b"\xff" * 8)),
    "every value twice": _rewritten(lambda number, wire, raw: _field(number, wire, raw) * 2),
    **{f"messages nested {depth} deep": _always(_nested_messages(depth)) for depth in (10, 987, 5_000)},
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
