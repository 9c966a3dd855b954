"""Protobuf messages, read strictly and written in pieces, by the generated classes; no I/O.

betterproto2 takes most truncated messages for whole ones, reads groups as fields, and lets the last of two
sub-messages win where the format says *merge*. So one walk over the whole wire structure makes the message here, and every byte is
accounted for: lengths in bounds, wire types known and those of the class, text valid UTF-8, a singular sub-message at most once,
nesting bounded. Unknown fields and unknown numbers of an enum are legal. Messages with kinds of fields that this
module does not read itself (maps, floats, oneofs) are parsed by the library once they were walked.

It serialises a request in 200 µs and copies its ciphertexts once for each level of nesting. Here the description of a class is
read once, and a large value stays the object that it is: the result is a list of pieces. Fields come in the order of their numbers;
proto3 defaults are left out unless the field has presence, as every proto3 serialiser does.

Source: protobuf encoding guide, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import betterproto2

from kmsconn.errors import Undecodable

M = TypeVar("M", bound=betterproto2.Message)

Octets = bytes | memoryview
SPLICED = 16 * 1024
"""Bytes from this size on stay a part of their own; smaller ones are copied: one frame is cheaper than two."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_DEPTH = 32
_LEAST_KEY, _LARGEST_KEY = 1 << 3, (1 << 32) - 1
_MAX_VARINT = (1 << 64) - 1
_VARINT_BYTES = 10
_CONTINUES = 0x80
_BY_VARINT = {VARINT, LENGTH}
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
_WIRE_TYPES = {
    **dict.fromkeys(("enum", "bool", "int32", "int64", "uint32", "uint64", "sint32", "sint64"), VARINT),
    **dict.fromkeys(("float", "fixed32", "sfixed32"), FIXED32),
    **dict.fromkeys(("double", "fixed64", "sfixed64"), FIXED64),
    **dict.fromkeys(("string", "bytes", "message", "map"), LENGTH),
}


def decode(message_type: type[M], data: Octets, depth: int = MAX_DEPTH) -> M:
    """Parse a whole message. Raises Undecodable when a byte is missing, too many or of the wrong kind."""
    if not depth:
        raise Undecodable("messages are nested too deeply")
    by_key, by_number, plain = _shape(message_type)
    values: dict[str, Any] = {}
    raw: Any
    for key, raw in fields(data):
        field = by_key.get(key)
        if field is None:
            if (field := by_number.get(key >> 3)) is None:
                continue
            if not field.repeated or key & 7 != LENGTH:
                raise Undecodable(f"{field.name} has wire type {key & 7}, not {field.wire}")
            values.setdefault(field.attribute, []).extend(map(field.read, _packed(field, raw)))
            continue
        try:
            value = field.read(raw) if field.sub is None else decode(field.sub, raw, depth - 1)
        except UnicodeDecodeError as error:
            raise Undecodable(f"{field.name} is not UTF-8") from error
        if field.repeated:
            values.setdefault(field.attribute, []).append(value)
        elif field.sub is not None and field.attribute in values:
            raise Undecodable(f"{field.name} occurs twice")
        else:
            values[field.attribute] = value
    return message_type(**values) if plain else message_type.parse(bytes(data))


def fields(data: Octets) -> Iterator[tuple[int, int | Octets]]:
    """Yield the key, which is field number << 3 | wire type, and the raw value of each field of a message.

    A varint is an int, the other wire types are their bytes, of a large message a view of them.

    Raises Undecodable at the first byte that does not fit.
    """
    view, at, end = data if len(data) < SPLICED else memoryview(data), 0, len(data)
    while at < end:
        key, at = view[at], at + 1
        if key >= _CONTINUES:
            key, at = _read_varint(view, at - 1)
        if not _LEAST_KEY <= key <= _LARGEST_KEY:
            raise Undecodable(f"field number {key >> 3} is out of range")
        wire = key & 7
        if wire in _BY_VARINT:
            if at < end and (size := view[at]) < _CONTINUES:  # most are one byte
                at += 1
            else:
                size, at = _read_varint(view, at)
            if wire == VARINT:
                yield key, size
                continue
        elif wire in _FIXED_SIZES:
            size = _FIXED_SIZES[wire]
        else:
            raise Undecodable(f"field {key >> 3} has wire type {wire}")
        begin, at = at, at + size
        if at > end:
            raise Undecodable(f"field {key >> 3} needs {size} bytes, {end - begin} are left")
        yield key, view[begin:at]


def _read_varint(view: Octets, at: int) -> tuple[int, int]:
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


@functools.cache
def _shape(
    message_type: type[betterproto2.Message],
) -> tuple[Mapping[int, _Field], Mapping[int, _Field], bool]:
    """Return the fields of a class by their keys and by their numbers, and whether the values of all are made here."""
    described: Any = dataclasses.fields(message_type)  # type: ignore[arg-type]
    known = {betterproto2.FieldMetadata.get(each).number: _describe(message_type, each) for each in described}
    by_key = {number << 3 | field.wire: field for number, field in known.items()}
    return by_key, known, all(field.plain for field in known.values())


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


def _packed(field: _Field, value: Octets) -> Iterator[int]:
    """Yield the numbers of a packed repeated field, varints only. Raises Undecodable where it does not end with its last number."""
    if size := _FIXED_SIZES.get(field.wire):
        if len(value) % size:
            raise Undecodable(f"{field.name} does not hold whole numbers")
        return
    at = 0
    while at < len(value):
        number, at = _read_varint(value, at)
        yield number


Parts = list[bytes]


class Chunks:
    """A protobuf message cut into pieces, so that large ciphertexts are never copied into one buffer."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: Iterable[bytes]) -> None:
        """Put parts together: adjacent parts that are small become one, large ones are not copied."""
        joined: Parts = []
        small: Parts = []
        for part in parts:
            if len(part) < SPLICED:
                small.append(part)
                continue
            joined += [b"".join(small), part] if small else [part]
            small = []
        self.parts = (*joined, b"".join(small)) if small else tuple(joined)
        self.size = sum(map(len, self.parts))

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


_INT64 = 1 << 64
_WHOLE = "_whole"  # where a message has its bytes that are written once
_ONE_BYTE = [bytes([number]) for number in range(_CONTINUES)]  # most are tags and small sizes

Write = Callable[[Any, Parts], None]
"""Appends the encoding of a value to the parts."""


def encode(message: betterproto2.Message) -> Chunks:
    """Return the bytes of a message in pieces. Raises TypeError for a kind of field that no request to the Core has."""
    return Chunks(_written(message))


def shared(message: M) -> M:
    """Return a message that stands in many others and never changes, with its bytes, which are written once."""
    setattr(message, _WHOLE, [b"".join(_written(message))])
    return message


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


_Writing = tuple[str, bool, Write]
"""An attribute, whether its default is written too since None says that there is no value, and how it is written."""


def _written(message: betterproto2.Message) -> Parts:
    whole: Parts | None = getattr(message, _WHOLE, None)
    if whole is not None:
        return whole
    parts: Parts = []
    for attribute, has_presence, write in _writings(type(message)):
        value = getattr(message, attribute)
        if value is not None if has_presence else value:
            write(value, parts)
    return parts


@functools.cache
def _writings(message_type: type[betterproto2.Message]) -> tuple[_Writing, ...]:
    described: Any = dataclasses.fields(message_type)  # type: ignore[arg-type]
    by_number = {betterproto2.FieldMetadata.get(one).number: one for one in described}
    return tuple(_writing_of(by_number[number]) for number in sorted(by_number))


def _writing_of(described: dataclasses.Field[Any]) -> _Writing:
    meta = betterproto2.FieldMetadata.get(described)
    make = _WRITES.get(meta.proto_type)
    if make is None or meta.group or meta.unwrap:
        raise TypeError(f"field {described.name} is of a kind that is not written: {meta.proto_type}")
    if not meta.repeated:
        return described.name, bool(meta.optional), make(meta.number)
    several = _octets(meta.number, _run) if make is _number else _each(make(meta.number))
    return described.name, False, several


def _each(write: Write) -> Write:
    def write_each(values: Sequence[Any], parts: Parts) -> None:
        for value in values:
            write(value, parts)

    return write_each


def _number(field: int) -> Write:
    """Return how an integer is written; negative ones as protobuf has them, in ten bytes."""
    tag = varint(field << 3 | VARINT)
    return lambda value, parts: parts.append(tag + varint(value % _INT64))


def _run(values: Sequence[int]) -> bytes:
    """Return the content of a list of integers: one after the other, zeros too."""
    return b"".join(varint(value % _INT64) for value in values)


def _octets(field: int, content: Callable[[Any], bytes] = bytes) -> Write:
    tag = varint(field << 3 | LENGTH)
    short = [tag + size for size in _ONE_BYTE]

    def write(value: Any, parts: Parts) -> None:
        data = content(value)
        size = len(data)
        head = short[size] if size < _CONTINUES else tag + varint(size)
        parts += (head + data,) if size < SPLICED else (head, data)

    return write


def _nested(field: int) -> Write:
    tag = varint(field << 3 | LENGTH)
    short = [tag + size for size in _ONE_BYTE]

    def write(value: betterproto2.Message, parts: Parts) -> None:
        inner = _written(value)
        size = sum(map(len, inner))
        head = short[size] if size < _CONTINUES else tag + varint(size)
        parts += (head + b"".join(inner),) if size < SPLICED else (head, *inner)

    return write


_WRITES: Mapping[str, Callable[[int], Write]] = {
    **dict.fromkeys(("enum", "bool", "int32", "int64", "uint32", "uint64"), _number),
    "bytes": _octets,
    "string": functools.partial(_octets, content=str.encode),
    "message": _nested,
}
