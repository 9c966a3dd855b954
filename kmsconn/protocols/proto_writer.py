"""Protobuf fields written by hand, so that large bytes are spliced between small parts. Never reads a message.

Fields come in the order of their calls; proto3 defaults are left out, as every proto3 serialiser does.
Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Sequence

from kmsconn.protocols.port import Chunks

_VARINT, _LENGTH_DELIMITED = 0, 2
_CONTINUES = 0x80
_INT64 = 1 << 64
_ONE_BYTE = [bytes([number]) for number in range(_CONTINUES)]  # most are tags and small sizes

SPLICED = 16 * 1024
"""Bytes from this size on stay a part of their own; smaller ones are copied: one frame is cheaper than two."""


def varint(number: int) -> bytes:
    """Write an integer below 2^64, seven bits to a byte, lowest first."""
    if number < _CONTINUES:
        return _ONE_BYTE[number]
    out = bytearray()
    while number >= _CONTINUES:
        out.append(number & 0x7F | _CONTINUES)
        number >>= 7
    out.append(number)
    return bytes(out)


def int_field(field: int, value: int) -> bytes:
    """Write an int32, uint32 or enum field; nothing for 0; negative ones as protobuf has them, in ten bytes."""
    return varint(field << 3 | _VARINT) + varint(value % _INT64) if value else b""


def message_field(field: int, message: bytes) -> bytes:
    """Write a message field that is present, empty or not."""
    return header(field, len(message)) + message


def bytes_field(field: int, value: bytes) -> bytes:
    """Write a bytes field; nothing for no bytes."""
    return message_field(field, value) if value else b""


def text_field(field: int, value: str) -> bytes:
    """Write a string field; nothing for the empty text."""
    return bytes_field(field, value.encode())


def header(field: int, size: int) -> bytes:
    """Write what stands before ``size`` bytes of a field."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(size)


def splice(parts: Sequence[bytes]) -> Chunks:
    """Put parts together: neighbours that are small become one, large ones are not copied."""
    joined: list[bytes] = []
    small: list[bytes] = []
    for part in parts:
        if len(part) < SPLICED:
            small.append(part)
            continue
        joined += [b"".join(small), part] if small else [part]
        small = []
    return Chunks([*joined, b"".join(small)] if small else joined)
