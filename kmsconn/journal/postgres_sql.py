"""Statements of operations as PostgreSQL takes them, and values between Python and its wire. Pure; never opens a connection.

Operations keep to SQL that SQLite and PostgreSQL both speak (``journal.database``); the few words that differ are changed here. Values go
without a type, so that the server takes them as the column beside them has it; results come in binary.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import attrs

Values = Mapping[str, Any] | Sequence[Any]

_TOKEN: Final = re.compile(r"'(?:[^']|'')*'|::|:(?P<name>[a-zA-Z_]\w*)|(?P<mark>\?)")
_WORDS: Final = (
    (re.compile(r"\s+INDEXED BY \w+"), ""),
    (
        re.compile(r"SELECT value FROM json_each\(([^()]+)\)"),
        r"SELECT value::bigint FROM json_array_elements_text(\1::json)",
    ),
    (re.compile(r"CAST\((\w+) AS BLOB\)"), r"convert_to(\1, 'UTF8')"),
)

_STATEMENTS: Final = (
    1024  # more than all operations have; an operator's searches have some dozens of their own
)
_LARGEST: Final = 2**63

_EPOCH: Final = 946_684_800  # seconds from 1970 to 2000, where PostgreSQL's clock begins
_NUMERIC_BASE: Final = 10_000
_NUMERIC_HEADER: Final = struct.Struct("!HhHH")
_DOUBLE: Final = struct.Struct("!d")


@attrs.frozen
class Translated:
    """A statement of PostgreSQL, and the names of its values in their order; None where they are counted."""

    text: bytes
    names: tuple[str, ...] | None

    def in_order(self, values: Values) -> Sequence[Any]:
        """Return the values as the statement counts them. Raises KeyError where one is missing."""
        if self.names is None or not isinstance(values, Mapping):
            return list(values)
        return [values[name] for name in self.names]


class BoundStatement(NamedTuple):
    """A statement with its values, as operations say it and as it goes over the wire."""

    statement: str
    values: Values
    text: bytes
    encoded: list[bytes | None]
    formats: list[int]


def call_of(statement: str, values: Values = ()) -> BoundStatement:
    """Return a statement with its values, ready to be sent. Raises what ``encode`` raises, and KeyError for a value that is missing."""
    translated = translate(statement)
    return BoundStatement(statement, values, translated.text, *encode(translated.in_order(values)))


@lru_cache(maxsize=_STATEMENTS)
def translate(statement: str) -> Translated:
    """Return a statement as PostgreSQL takes it: ``:name`` and ``?`` are ``$1`` and so on, names that repeat share one."""
    for pattern, words in _WORDS:
        statement = pattern.sub(words, statement)
    names: dict[str, int] = {}
    marks = 0

    def counted(found: re.Match[str]) -> str:
        nonlocal marks
        if found["mark"]:
            marks += 1
            return f"${marks}"
        if found["name"]:
            return f"${names.setdefault(found['name'], len(names) + 1)}"
        return found[0]

    text = _TOKEN.sub(counted, statement).encode()
    return Translated(text, None if marks or not names else tuple(names))


def encode(values: Sequence[Any]) -> tuple[list[bytes | None], list[int]]:
    """Return values as they go over the wire, and the format of each (1: binary).

    Raises OverflowError for a number that no column holds, UnicodeEncodeError for text that is none, TypeError for anything else.
    """
    encoded = [_encoder_of(value)(value) for value in values]
    return encoded, [1 if isinstance(value, bytes) else 0 for value in values]


def _encoder_of(value: Any) -> Callable[[Any], bytes | None]:
    found = _ENCODERS.get(type(value))
    return found if found is not None else _encoder_of_subclass(value)


def _encoder_of_subclass(value: Any) -> Callable[[Any], bytes | None]:
    for kind, encoder in _ENCODERS.items():
        if isinstance(value, kind):
            return encoder
    raise TypeError(f"no column holds a {type(value).__name__}")


def _integer(value: int) -> bytes:
    if not -_LARGEST <= value < _LARGEST:
        raise OverflowError("a number beyond 64 bits")
    return b"%d" % value


def storable(text: str) -> str:
    """Return text as PostgreSQL stores it: without the zero character, which only a dependency's message may have."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def _text(value: str) -> bytes:
    return storable(value).encode()


_ENCODERS: Final[dict[type, Callable[[Any], bytes | None]]] = {
    str: _text,
    bytes: bytes,
    bool: lambda value: b"1" if value else b"0",
    int: _integer,
    float: lambda value: repr(float(value)).encode(),
    type(None): lambda _: None,
}


def _numeric(value: bytes) -> int | float:
    digits, weight, sign, _scale = _NUMERIC_HEADER.unpack_from(value)
    numbers = struct.unpack_from(f"!{digits}H", value, _NUMERIC_HEADER.size)
    total: int | float = sum(one * _NUMERIC_BASE ** (weight - n) for n, one in enumerate(numbers))
    return -total if sign else total


_DECODERS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    16: lambda value: value != b"\0",
    17: bytes,
    20: lambda value: int.from_bytes(value, signed=True),
    21: lambda value: int.from_bytes(value, signed=True),
    23: lambda value: int.from_bytes(value, signed=True),
    19: bytes.decode,
    25: bytes.decode,
    1043: bytes.decode,
    701: lambda value: _DOUBLE.unpack(value)[0],
    1184: lambda value: int.from_bytes(value, signed=True) / 1e6 + _EPOCH,
    1700: _numeric,
    2278: lambda _: None,
}
"""By the type's number in PostgreSQL's catalogue: bool, bytea, the integers, name, text, varchar, double, timestamptz, numeric, void."""


def decoder_of(oid: int) -> Callable[[bytes], Any]:
    """Return what reads a value of a type. Raises TypeError for one that no statement of ours returns."""
    try:
        return _DECODERS[oid]
    except KeyError:
        raise TypeError(f"a result has the type {oid}, which nothing here reads") from None
