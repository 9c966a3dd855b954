"""Strict decoding of protobuf messages: the whole wire structure is walked before the library parses; no I/O.

betterproto2 takes most truncated messages for whole ones, reads groups as fields, and lets the last of two
sub-messages win where the format says *merge*. So every byte is accounted for here first: lengths in
bounds, wire types known and those of the class, text valid UTF-8, a singular sub-message at most once,
nesting bounded. Unknown fields are legal and skipped.

Source: protobuf encoding guide, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, TypeVar

import attrs
import betterproto2

from kmsconn.errors import Undecodable

M = TypeVar("M", bound=betterproto2.Message)

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_DEPTH = 32
_MAX_FIELD_NUMBER = (1 << 29) - 1
_MAX_VARINT = (1 << 64) - 1
_VARINT_BYTES = 10
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
_WIRE_TYPES = {
    **dict.fromkeys(("enum", "bool", "int32", "int64", "uint32", "uint64", "sint32", "sint64"), VARINT),
    **dict.fromkeys(("float", "fixed32", "sfixed32"), FIXED32),
    **dict.fromkeys(("double", "fixed64", "sfixed64"), FIXED64),
    **dict.fromkeys(("string", "bytes", "message", "map"), LENGTH),
}


def decode(message_type: type[M], data: bytes) -> M:
    """Parse a whole message. Raises Undecodable when a byte is missing, too many or of the wrong kind."""
    _walk(message_type, memoryview(data), MAX_DEPTH)
    return message_type.parse(data)


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield field number, wire type and raw value of each field of a message.

    A varint is an int, the other wire types are views of their bytes.

    Raises Undecodable at the first byte that does not fit.
    """
    view, at = memoryview(data), 0
    while at < len(view):
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        if not 1 <= number <= _MAX_FIELD_NUMBER:
            raise Undecodable(f"field number {number} is out of range")
        if wire == VARINT:
            value, at = _varint(view, at)
            yield number, wire, value
        else:
            start, at = _span(view, at, number, wire)
            yield number, wire, view[start:at]


def _span(view: memoryview, at: int, number: int, wire: int) -> tuple[int, int]:
    """Return where the value of a field that is no varint starts and ends."""
    if wire == LENGTH:
        size, at = _varint(view, at)
    elif wire in _FIXED_SIZES:
        size = _FIXED_SIZES[wire]
    else:
        raise Undecodable(f"field {number} has wire type {wire}")
    if size > len(view) - at:
        raise Undecodable(f"field {number} needs {size} bytes, {len(view) - at} are left")
    return at, at + size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(view[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            if value > _MAX_VARINT:
                break
            return value, at + index + 1
    raise Undecodable(f"no varint at byte {at}")


@attrs.frozen
class _Field:
    """What the class says about one field; ``sub`` is the class of a sub-message or of a map's entries."""

    name: str
    wire: int
    text: bool
    repeated: bool
    sub: type[betterproto2.Message] | None


@functools.cache
def _shape(message_type: type[betterproto2.Message]) -> dict[int, _Field]:
    described: Any = dataclasses.fields(message_type)  # type: ignore[arg-type]
    return {betterproto2.FieldMetadata.get(each).number: _describe(message_type, each) for each in described}


def _describe(message_type: type[betterproto2.Message], described: dataclasses.Field[Any]) -> _Field:
    meta = betterproto2.FieldMetadata.get(described)
    nested = meta.proto_type in {"message", "map"}
    classes: Any = message_type._betterproto  # type: ignore[arg-type]  # noqa: SLF001 - the library's own table
    return _Field(
        name=f"{message_type.__name__}.{described.name}",
        wire=_WIRE_TYPES[meta.proto_type],
        text=meta.proto_type == "string",
        repeated=bool(meta.repeated) or meta.proto_type == "map",
        sub=classes.cls_by_field[described.name] if nested else None,
    )


def _walk(message_type: type[betterproto2.Message], view: memoryview, depth: int) -> None:
    if not depth:
        raise Undecodable("messages are nested too deeply")
    shape, seen = _shape(message_type), set()
    for number, wire, value in fields(view):
        field = shape.get(number)
        if field is None:
            continue
        if field.sub is not None and not field.repeated and number in seen:
            raise Undecodable(f"{field.name} occurs twice")
        seen.add(number)
        _check(field, wire, value, depth)


def _check(field: _Field, wire: int, value: int | memoryview, depth: int) -> None:
    if wire != field.wire:
        if wire == LENGTH and field.repeated and isinstance(value, memoryview):
            _check_packed(field, value)
            return
        raise Undecodable(f"{field.name} has wire type {wire}, not {field.wire}")
    if isinstance(value, int):
        return
    if field.sub is not None:
        _walk(field.sub, value, depth - 1)
    elif field.text:
        _check_text(field, value)


def _check_text(field: _Field, value: memoryview) -> None:
    try:
        str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise Undecodable(f"{field.name} is not UTF-8") from error


def _check_packed(field: _Field, value: memoryview) -> None:
    """Check that a packed repeated field ends with its last number."""
    if size := _FIXED_SIZES.get(field.wire):
        if len(value) % size:
            raise Undecodable(f"{field.name} does not hold whole numbers")
        return
    at = 0
    while at < len(value):
        _, at = _varint(value, at)
