"""Strict decoding of protobuf messages: one walk over the whole wire structure, which makes the message on its way; no I/O.

betterproto2 takes most truncated messages for whole ones, reads groups as fields, and lets the last of two
sub-messages win where the format says *merge*. So every byte is accounted for here: lengths in
bounds, wire types known and those of the class, text valid UTF-8, a singular sub-message at most once,
nesting bounded. Unknown fields and unknown numbers of an enum are legal. Messages with kinds of fields that this
module does not read itself (maps, floats, oneofs) are parsed by the library once they were walked.

Source: protobuf encoding guide, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
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
_CONTINUES = 0x80
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
_WIRE_TYPES = {
    **dict.fromkeys(("enum", "bool", "int32", "int64", "uint32", "uint64", "sint32", "sint64"), VARINT),
    **dict.fromkeys(("float", "fixed32", "sfixed32"), FIXED32),
    **dict.fromkeys(("double", "fixed64", "sfixed64"), FIXED64),
    **dict.fromkeys(("string", "bytes", "message", "map"), LENGTH),
}


def decode(message_type: type[M], data: bytes) -> M:
    """Parse a whole message. Raises Undecodable when a byte is missing, too many or of the wrong kind."""
    return _walk(message_type, memoryview(data), MAX_DEPTH)


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield field number, wire type and raw value of each field of a message.

    A varint is an int, the other wire types are views of their bytes.

    Raises Undecodable at the first byte that does not fit.
    """
    view, at, end = memoryview(data), 0, len(data)
    while at < end:
        key, at = view[at], at + 1
        if key >= _CONTINUES:
            key, at = _varint(view, at - 1)
        number, wire = key >> 3, key & 7
        if not 1 <= number <= _MAX_FIELD_NUMBER:
            raise Undecodable(f"field number {number} is out of range")
        if wire == VARINT:
            value, at = _varint(view, at)
            yield number, wire, value
            continue
        if wire == LENGTH:
            size, at = _varint(view, at)
        elif wire in _FIXED_SIZES:
            size = _FIXED_SIZES[wire]
        else:
            raise Undecodable(f"field {number} has wire type {wire}")
        if size > end - at:
            raise Undecodable(f"field {number} needs {size} bytes, {end - at} are left")
        yield number, wire, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    if at < len(view) and (first := view[at]) < _CONTINUES:  # most are one byte
        return first, at + 1
    value = 0
    for index, byte in enumerate(view[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < _CONTINUES:
            if value > _MAX_VARINT:
                break
            return value, at + index + 1
    raise Undecodable(f"no varint at byte {at}")


def _signed(bits: int) -> Callable[[int], int]:
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)
    return lambda value: ((value & mask) ^ sign) - sign


def _number_of(kind: type[betterproto2.Enum]) -> Callable[[int], betterproto2.Enum]:
    """Return how a number of an enum is read: as an int32, one without a name too."""
    signed = _signed(32)
    return lambda value: kind(signed(value))


_READS: Mapping[str, Callable[[Any], Any]] = {
    "int32": _signed(32),
    "int64": _signed(64),
    "uint32": lambda value: value & 0xFFFF_FFFF,
    "uint64": int,
    "bool": bool,
    "bytes": bytes,
    "string": functools.partial(str, encoding="utf-8"),
}
"""How a value off the wire becomes that of a field; numbers that are too wide lose their upper bits, as protobuf has it."""


@attrs.frozen
class _Field:
    """What the class says about one field; ``sub`` is the class of a sub-message or of a map's entries."""

    name: str
    attribute: str
    wire: int
    read: Callable[[Any], Any]
    repeated: bool
    sub: type[betterproto2.Message] | None
    plain: bool
    """Whether its value is made here."""


@attrs.frozen
class _Shape:
    fields: Mapping[int, _Field]
    plain: bool


@functools.cache
def _shape(message_type: type[betterproto2.Message]) -> _Shape:
    described: Any = dataclasses.fields(message_type)  # type: ignore[arg-type]
    known = {betterproto2.FieldMetadata.get(each).number: _describe(message_type, each) for each in described}
    return _Shape(known, all(field.plain for field in known.values()))


def _describe(message_type: type[betterproto2.Message], described: dataclasses.Field[Any]) -> _Field:
    meta = betterproto2.FieldMetadata.get(described)
    nested = meta.proto_type in {"message", "map"}
    classes: Any = message_type._betterproto  # type: ignore[arg-type]  # noqa: SLF001 - the library's own table
    return _Field(
        name=f"{message_type.__name__}.{described.name}",
        attribute=described.name,
        wire=_WIRE_TYPES[meta.proto_type],
        read=_number_of(classes.cls_by_field[described.name])
        if meta.proto_type == "enum"
        else _READS.get(meta.proto_type, lambda value: value),
        repeated=bool(meta.repeated) or meta.proto_type == "map",
        sub=classes.cls_by_field[described.name] if nested else None,
        plain=(meta.proto_type in _READS or meta.proto_type in {"message", "enum"})
        and not meta.group
        and not meta.unwrap,
    )


def _walk(message_type: type[M], view: memoryview, depth: int) -> M:
    if not depth:
        raise Undecodable("messages are nested too deeply")
    shape = _shape(message_type)
    values: dict[str, Any] = {}
    for number, wire, raw in fields(view):
        field = shape.fields.get(number)
        if field is None:
            continue
        if field.repeated:
            values.setdefault(field.attribute, []).extend(_several(field, wire, raw, depth))
        elif field.sub is not None and field.attribute in values:
            raise Undecodable(f"{field.name} occurs twice")
        else:
            values[field.attribute] = _one(field, wire, raw, depth)
    return message_type(**values) if shape.plain else message_type.parse(bytes(view))


def _one(field: _Field, wire: int, raw: int | memoryview, depth: int) -> Any:
    if wire != field.wire:
        raise Undecodable(f"{field.name} has wire type {wire}, not {field.wire}")
    if field.sub is not None and isinstance(raw, memoryview):
        return _walk(field.sub, raw, depth - 1)
    try:
        return field.read(raw)
    except UnicodeDecodeError as error:
        raise Undecodable(f"{field.name} is not UTF-8") from error


def _several(field: _Field, wire: int, raw: int | memoryview, depth: int) -> list[Any]:
    """Read one element of a repeated field, or a packed run of them."""
    if wire == LENGTH != field.wire and isinstance(raw, memoryview):
        return [field.read(number) for number in _packed(field, raw)]
    return [_one(field, wire, raw, depth)]


def _packed(field: _Field, value: memoryview) -> Iterator[int]:
    """Yield the numbers of a packed repeated field, varints only. Raises Undecodable where it does not end with its last number."""
    if size := _FIXED_SIZES.get(field.wire):
        if len(value) % size:
            raise Undecodable(f"{field.name} does not hold whole numbers")
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number
