"""Encoding of protobuf messages: the mirror image of ``protobuf``, driven by the same generated classes. Never reads a message.

betterproto2 serialises a request in 200 µs and copies its ciphertexts once for each level of nesting. Here the description of a class is
read once, and a large value stays the object that it is: the result is a list of pieces. Fields come in the order of their numbers;
proto3 defaults are left out unless the field has presence, as every proto3 serialiser does.
Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import betterproto2


class Chunks:
    """A protobuf message cut into pieces, so that large ciphertexts are never copied into one buffer."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = tuple(parts)
        self.size = sum(map(len, self.parts))

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


_VARINT, _LENGTH_DELIMITED = 0, 2
_CONTINUES = 0x80
_INT64 = 1 << 64
_ONE_BYTE = [bytes([number]) for number in range(_CONTINUES)]  # most are tags and small sizes

SPLICED = 16 * 1024
"""Bytes from this size on stay a part of their own; smaller ones are copied: one frame is cheaper than two."""

Parts = list[bytes]
Write = Callable[[Any, Parts], None]
"""Appends the encoding of a value to the parts."""


def encode(message: betterproto2.Message) -> Chunks:
    """Return the bytes of a message in pieces. Raises TypeError for a kind of field that no request to the Core has."""
    parts: Parts = []
    _write_message(message, parts)
    return splice(parts)


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


def header(field: int, size: int) -> bytes:
    """Write what stands before ``size`` bytes of a field."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(size)


def splice(parts: Sequence[bytes]) -> Chunks:
    """Put parts together: adjacent parts that are small become one, large ones are not copied."""
    joined: Parts = []
    small: Parts = []
    for part in parts:
        if len(part) < SPLICED:
            small.append(part)
            continue
        joined += [b"".join(small), part] if small else [part]
        small = []
    return Chunks([*joined, b"".join(small)] if small else joined)


_Field = tuple[str, bool, Write]
"""An attribute, whether its default is written too since None says that there is no value, and how it is written."""


def _write_message(message: betterproto2.Message, parts: Parts) -> None:
    for attribute, has_presence, write in _fields(type(message)):
        value = getattr(message, attribute)
        if value is not None if has_presence else value:
            write(value, parts)


@functools.cache
def _fields(message_type: type[betterproto2.Message]) -> tuple[_Field, ...]:
    described: Any = dataclasses.fields(message_type)  # type: ignore[arg-type]
    by_number = {betterproto2.FieldMetadata.get(one).number: one for one in described}
    return tuple(_describe(by_number[number]) for number in sorted(by_number))


def _describe(described: dataclasses.Field[Any]) -> _Field:
    meta = betterproto2.FieldMetadata.get(described)
    make = _WRITES.get(meta.proto_type)
    if make is None or meta.group or meta.unwrap:
        raise TypeError(f"field {described.name} is of a kind that is not written: {meta.proto_type}")
    if not meta.repeated:
        return described.name, bool(meta.optional), make(meta.number)
    return described.name, False, _packed(meta.number) if make is _number else _each(make(meta.number))


def _each(write: Write) -> Write:
    def write_each(values: Sequence[Any], parts: Parts) -> None:
        for value in values:
            write(value, parts)

    return write_each


def _number(field: int) -> Write:
    """Return how an integer is written; negative ones as protobuf has them, in ten bytes."""
    tag = varint(field << 3 | _VARINT)
    return lambda value, parts: parts.append(tag + varint(value % _INT64))


def _packed(field: int) -> Write:
    """Return how a list of integers is written: one after the other behind one length, zeros too."""
    write = _octets(field)
    return lambda values, parts: write(b"".join(varint(value % _INT64) for value in values), parts)


def _octets(field: int) -> Write:
    tag = varint(field << 3 | _LENGTH_DELIMITED)

    def write(value: bytes, parts: Parts) -> None:
        head = tag + varint(len(value))
        parts += (head + value,) if len(value) < SPLICED else (head, value)

    return write


def _text(field: int) -> Write:
    write = _octets(field)
    return lambda value, parts: write(value.encode(), parts)


def _nested(field: int) -> Write:
    tag = varint(field << 3 | _LENGTH_DELIMITED)

    def write(value: betterproto2.Message, parts: Parts) -> None:
        inner: Parts = []
        _write_message(value, inner)
        parts += (tag + varint(sum(map(len, inner))), *inner)

    return write


_WRITES: Mapping[str, Callable[[int], Write]] = {
    **dict.fromkeys(("enum", "bool", "int32", "int64", "uint32", "uint64"), _number),
    "bytes": _octets,
    "string": _text,
    "message": _nested,
}
