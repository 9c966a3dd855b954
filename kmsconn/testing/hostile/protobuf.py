"""Protobuf messages that no honest Core sends, made of an honest one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import FIXED64, LENGTH, fields
from kmsconn.testing.hostile.json_rpc import Message, _always
from kmsconn.testing.hostile.json_values import _BIG_TEXT, _DIGITS


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
