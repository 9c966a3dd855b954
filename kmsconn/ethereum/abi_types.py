"""The contract ABI's types: values to bytes and back. Never knows functions, events or errors.

Exact decoding takes only what the encoder here (and solc's) makes of a value: padding zero, offsets in order
without gaps. Lenient decoding takes any offset inside the data and any padding behind byte strings, as contracts
do with their calldata; it is not for types with arrays of dynamic items, where a few bytes can name much work.

Source: Solidity documentation, "Contract ABI Specification".
"""

# ruff: noqa: D102, ARG002 - the methods of every type are described once, at AbiType

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import ADDRESS_BYTES

WORD = 32
_SHORT = "the data ends before its values do"
_PADDING = "padding is not zero"
_ZEROS = bytes(WORD)


class AbiType:
    """A type: its canonical name, the size of its head, and whether its value stands behind an offset."""

    name: str
    head: int = WORD
    dynamic: bool = False

    def encode(self, value: Any) -> bytes:
        """Write a value; a dynamic one without its offset. Raises ValueError for a value of another type."""
        raise NotImplementedError

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[Any, int]:
        """Read the value at ``at``; return it and the position behind it. Raises Undecodable.

        A static type may rely on its head being inside ``data``.
        """
        raise NotImplementedError


class IntegerType(AbiType):
    """``uintN`` or ``intN``: an int, the latter in two's complement over the whole word."""

    def __init__(self, bits: int, *, signed: bool) -> None:
        self.name, self._signed = f"{'' if signed else 'u'}int{bits}", signed
        self._least, self._limit = (-1 << (bits - 1), 1 << (bits - 1)) if signed else (0, 1 << bits)

    def encode(self, value: int) -> bytes:
        if not isinstance(value, int) or not self._least <= value < self._limit:
            raise ValueError(f"{value!r} is no {self.name}")
        return value.to_bytes(WORD, signed=self._signed)

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[int, int]:
        end = at + WORD
        value = int.from_bytes(data[at:end], signed=self._signed)
        if not self._least <= value < self._limit:
            raise Undecodable(f"{self.name}: {_PADDING}")
        return value, end


class BoolType(AbiType):
    """``bool``: a bool."""

    name = "bool"

    def encode(self, value: bool) -> bytes:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is no bool")
        return int(value).to_bytes(WORD)

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[bool, int]:
        end = at + WORD
        value = int.from_bytes(data[at:end])
        if value > 1:
            raise Undecodable("bool: neither 0 nor 1")
        return value == 1, end


class AddressType(AbiType):
    """``address``: 20 raw bytes."""

    name = "address"
    _padding = bytes(WORD - ADDRESS_BYTES)

    def encode(self, value: bytes) -> bytes:
        if not isinstance(value, bytes) or len(value) != ADDRESS_BYTES:
            raise ValueError("an address is 20 bytes")
        return self._padding + value

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[bytes, int]:
        end = at + WORD
        split = end - ADDRESS_BYTES
        if data[at:split] != self._padding:
            raise Undecodable(f"address: {_PADDING}")
        return data[split:end], end


class FixedBytesType(AbiType):
    """``bytesN``: N raw bytes, padded at the right."""

    def __init__(self, size: int) -> None:
        self.name, self._size, self._padding = f"bytes{size}", size, bytes(WORD - size)

    def encode(self, value: bytes) -> bytes:
        if not isinstance(value, bytes) or len(value) != self._size:
            raise ValueError(f"{self.name} is {self._size} bytes")
        return value + self._padding

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[bytes, int]:
        end, split = at + WORD, at + self._size
        if data[split:end] != self._padding:
            raise Undecodable(f"{self.name}: {_PADDING}")
        return data[at:split], end


class BytesType(AbiType):
    """``bytes``: a length and the bytes, padded to whole words."""

    name = "bytes"
    dynamic = True

    def encode(self, value: bytes) -> bytes:
        if not isinstance(value, bytes):
            raise ValueError("bytes are expected")
        return len(value).to_bytes(WORD) + value + bytes(-len(value) % WORD)

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[bytes, int]:
        start = at + WORD
        end = start + read_length(data, at, 1)
        padded = end + (start - end) % WORD
        if exact and data[end:padded] != _ZEROS[: padded - end]:
            raise Undecodable(f"bytes: {_PADDING}" if padded <= len(data) else _SHORT)
        return data[start:end], padded


class StringType(BytesType):
    """``string``: UTF-8 text."""

    name = "string"

    def encode(self, value: str) -> bytes:  # type: ignore[override]
        if not isinstance(value, str):
            raise ValueError("a string is expected")
        return super().encode(value.encode())

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[str, int]:  # type: ignore[override]
        raw, end = super().decode(data, at, exact=exact)
        try:
            return raw.decode(), end
        except UnicodeDecodeError as error:
            raise Undecodable("a string is not UTF-8") from error


class TupleType(AbiType):
    """``(T,U,…)``, also the argument list of a function: a tuple."""

    def __init__(self, items: Sequence[AbiType]) -> None:
        self.items = tuple(items)
        self.name = f"({','.join(item.name for item in items)})"
        self.dynamic = any(item.dynamic for item in items)
        self._heads = sum(item.head for item in items)
        self.head = WORD if self.dynamic else self._heads

    def encode(self, value: Sequence[Any]) -> bytes:
        if isinstance(value, (str, bytes)) or len(value) != len(self.items):
            raise ValueError(f"{self.name} has {len(self.items)} values")
        return encode_all(self.items, value, self._heads)

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[tuple[Any, ...], int]:
        if at + self._heads > len(data):
            raise Undecodable(_SHORT)
        return decode_all(self.items, data, at, at + self._heads, exact=exact)


class ArrayType(AbiType):
    """``T[]``: a tuple of any length."""

    dynamic = True

    def __init__(self, item: AbiType) -> None:
        if not item.head:
            raise ValueError("an array of nothing has no bounded length")
        self.item, self.name = item, f"{item.name}[]"

    def encode(self, value: Sequence[Any]) -> bytes:
        if isinstance(value, (str, bytes)):
            raise ValueError(f"{self.name} is a sequence")
        count = len(value)
        return count.to_bytes(WORD) + encode_all([self.item] * count, value, count * self.item.head)

    def decode(self, data: bytes, at: int, *, exact: bool) -> tuple[tuple[Any, ...], int]:
        count = read_length(data, at, self.item.head)
        base = at + WORD
        return decode_all([self.item] * count, data, base, base + count * self.item.head, exact=exact)


def read_length(data: bytes, at: int, unit: int) -> int:
    """Read a length word and see that so many units still follow. Raises Undecodable."""
    start = at + WORD
    if start > len(data):
        raise Undecodable(_SHORT)
    length = int.from_bytes(data[at:start])
    if length * unit > len(data) - start:
        raise Undecodable(_SHORT)
    return length


def encode_all(types: Sequence[AbiType], values: Sequence[Any], tail: int) -> bytes:
    """Write values one after the other: heads, ``tail`` bytes of them, then what the offsets in them point to."""
    heads: list[bytes] = []
    tails: list[bytes] = []
    for item, value in zip(types, values, strict=True):
        encoded = item.encode(value)
        if not item.dynamic:
            heads.append(encoded)
            continue
        heads.append(tail.to_bytes(WORD))
        tails.append(encoded)
        tail += len(encoded)
    return b"".join(heads + tails)


def decode_all(
    types: Sequence[AbiType], data: bytes, base: int, tail: int, *, exact: bool
) -> tuple[tuple[Any, ...], int]:
    """Read values whose heads stand between ``base`` and ``tail``; return them and where their tails end."""
    values: list[Any] = []
    at = base
    for item in types:
        if item.dynamic:
            place = base + int.from_bytes(data[at : at + WORD])
            if exact and place != tail:
                raise Undecodable("an offset does not point behind the value before it")
            value, tail = item.decode(data, place, exact=exact)
            at += WORD
        else:
            value, at = item.decode(data, at, exact=exact)
        values.append(value)
    return tuple(values), tail


_ELEMENTARY = re.compile(r"(uint|int|bytes)(\d+)")
_PLAIN: dict[str, AbiType] = {
    item.name: item for item in (BoolType(), AddressType(), BytesType(), StringType())
}
_MAX_BITS = 256


@cache
def parse_type(text: str) -> AbiType:
    """Read a canonical type name, ``(bytes32,address[])[]`` say. Raises ValueError, also for ``T[n]``, which no contract here has."""
    if text.endswith("[]"):
        return ArrayType(parse_type(text[:-2]))
    if text.startswith("(") and text.endswith(")"):
        return TupleType([parse_type(part) for part in split_types(text[1:-1])])
    return _PLAIN.get(text) or _elementary(text)


def tuple_type(text: str) -> TupleType:
    """Read the type of an argument list, ``(uint256,bytes)`` say. Raises ValueError."""
    parsed = parse_type(text)
    if not isinstance(parsed, TupleType):
        raise ValueError(f"{text!r} is no argument list")
    return parsed


def _elementary(text: str) -> AbiType:
    match = _ELEMENTARY.fullmatch(text)
    size = int(match[2]) if match else 0
    if match and match[1] == "bytes" and 0 < size <= WORD:
        return FixedBytesType(size)
    if match and match[1] != "bytes" and 0 < size <= _MAX_BITS and size % 8 == 0:
        return IntegerType(size, signed=match[1] == "int")
    raise ValueError(f"{text!r} is no ABI type")


def split_types(text: str) -> list[str]:
    """Cut a list of type names at its outer commas."""
    parts: list[str] = []
    depth, start = 0, 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]] if text else []
