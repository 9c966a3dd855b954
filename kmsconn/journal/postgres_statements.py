"""Statements of operations as PostgreSQL takes them, with their values as psycopg writes them. Never opens a connection.

Operations keep to SQL that SQLite and PostgreSQL both speak (``journal.database``): only how a value is marked differs, and the index that
SQLite is told to use, which is left out. Values go without a type, so that the server takes them as the column beside them has it: one
prepared statement for one text, whatever its values are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from psycopg.abc import Buffer, Transformer

Values = Mapping[str, Any] | Sequence[Any]

_MARK: Final = re.compile(r"\s+INDEXED BY \w+|'(?:[^']|'')*'|::|(?<!:):(?P<name>[a-zA-Z_]\w*)|(?P<mark>\?)")
_STATEMENTS: Final = (
    1024  # more than all operations have; an operator's searches have some dozens of their own
)
_LARGEST: Final = 2**63
_NAMES: Final = count()


class PreparedStatement(NamedTuple):
    """A statement of PostgreSQL under a name of its own, and the names of its values in their order; None where they are counted."""

    name: bytes
    text: bytes
    names: tuple[str, ...] | None

    def in_order(self, values: Values) -> Sequence[Any]:
        """Return the values as the statement counts them. Raises KeyError where one is missing."""
        return values if not isinstance(values, Mapping) else [values[name] for name in self.names or ()]


class BoundStatement(NamedTuple):
    """A statement with its values, as operations say them and as they go over the wire: ``binary`` says which of them are no text."""

    statement: str
    values: Values
    prepared: PreparedStatement
    dumped: Sequence[Buffer | None]
    binary: Sequence[int]


def call_of(statement: str, values: Values = ()) -> BoundStatement:
    """Return a statement with its values, ready to be sent.

    Raises KeyError for a value that is missing, OverflowError for a number that no column holds, UnicodeEncodeError for text that is none,
    and psycopg's ProgrammingError for anything else that no column holds.
    """
    prepared = prepare(statement)
    ordered = prepared.in_order(values)
    if not ordered:
        return BoundStatement(statement, values, prepared, (), ())
    transformer, automatic = _writing()  # of all threads: nothing but its answer is read
    dumped = transformer.dump_sequence(ordered, [automatic] * len(ordered))
    return BoundStatement(statement, values, prepared, dumped, [isinstance(one, bytes) for one in ordered])


@lru_cache(maxsize=_STATEMENTS)
def prepare(statement: str) -> PreparedStatement:
    """Return a statement as PostgreSQL takes it: ``:name`` and ``?`` are ``$1`` and so on, names that repeat share one."""
    names: dict[str, int] = {}
    marks = count(1)

    def counted(found: re.Match[str]) -> str:
        if found["mark"]:
            return f"${next(marks)}"
        if found["name"]:
            return f"${names.setdefault(found['name'], len(names) + 1)}"
        return "" if found[0].lstrip().startswith("INDEXED") else found[0]

    text = _MARK.sub(counted, statement).encode()
    return PreparedStatement(b"s%d" % next(_NAMES), text, tuple(names) or None)


def storable(text: str) -> str:
    """Return text as PostgreSQL stores it: without the zero character, which only a dependency's message may have."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


@cache
def _writing() -> tuple[Transformer, Any]:
    """Return what writes values: numbers and truth as text of an integer, text without zero characters, the rest as psycopg does."""
    import psycopg
    from psycopg.adapt import AdaptersMap, PyFormat
    from psycopg.adapt import Transformer as NewTransformer
    from psycopg.types.numeric import FloatDumper, Int8Dumper
    from psycopg.types.string import BytesBinaryDumper, StrDumperUnknown

    class Number(Int8Dumper):
        def dump(self, obj: int) -> Buffer:
            if not -_LARGEST <= obj < _LARGEST:
                raise OverflowError("a number beyond 64 bits")
            return b"%d" % obj

    class Text(StrDumperUnknown):
        def dump(self, obj: str) -> Buffer | None:
            return super().dump(storable(obj))

    adapters = AdaptersMap(psycopg.adapters)
    for kind, dumper in (
        (int, Number),
        (bool, Number),
        (float, FloatDumper),
        (str, Text),
        (bytes, BytesBinaryDumper),
    ):
        adapters.register_dumper(kind, dumper)
    return NewTransformer(SimpleNamespace(adapters=adapters, connection=None)), PyFormat.AUTO
