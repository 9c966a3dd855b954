"""Functions, events and errors of a contract, made from its JSON ABI, and EIP-712 digests from type strings. Knows the bytes of no type.

Values are Python's own: address → 20 bytes, integers → int, ``bytes``/``bytesN`` → bytes, ``string`` → str,
arrays and structs → tuple. Data without the announced form raises Undecodable; a value that does not fit its
type raises ValueError. Never signs; that is for ``signing``.

Source: EIP-712; the domain has name, version, chainId and verifyingContract, no salt (fhevm-0.14.md, 2.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import compress
from operator import not_
from typing import Any, TypeVar

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi_types import WORD, AbiType, TupleType, parse_type, tuple_type
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.frozen import frozen


@frozen(cache_hash=True)
class Log:
    """Where a log stands and what it says. ``removed`` logs never get this far."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    transaction_hash: bytes
    log_index: int


SELECTOR_BYTES = 4
Item = Mapping[str, Any]
Entry = TypeVar("Entry", "Function", "ContractEvent")


def canonical(parameter: Item) -> str:
    """Return the canonical type name of one JSON parameter; a struct becomes the tuple of its components."""
    kind = str(parameter["type"])
    return arguments(parameter["components"]) + kind[len("tuple") :] if kind.startswith("tuple") else kind


def arguments(parameters: Iterable[Item]) -> str:
    """Return the canonical type list of JSON parameters, in brackets."""
    return f"({','.join(canonical(parameter) for parameter in parameters)})"


def _names(parameters: Iterable[Item]) -> tuple[str, ...]:
    return tuple(str(one.get("name") or place) for place, one in enumerate(parameters))


def decode_exactly(kind: TupleType, data: bytes) -> tuple[Any, ...]:
    """Read values that fill ``data`` completely. Raises Undecodable."""
    values, end = kind.decode(data, 0, exact=True)
    if end != len(data):
        raise Undecodable(f"{len(data) - end} bytes too many")
    return values


def _body(data: bytes, selector: bytes, signature: str) -> bytes:
    if data[:SELECTOR_BYTES] != selector:
        raise Undecodable(f"not the selector of {signature}")
    return data[SELECTOR_BYTES:]


def _selector(signature: str) -> bytes:
    return keccak256(signature.encode())[:SELECTOR_BYTES]


@attrs.frozen(slots=False)
class Function:
    """A function, or a custom error, whose calldata is the data of a revert: encodes and decodes its calldata and its result."""

    name: str
    signature: str
    selector: bytes
    outputs: str
    parameters: tuple[str, ...] = ()
    """The names of its arguments; the place of one that has none."""

    @classmethod
    def named(cls, signature: str, outputs: str = "()") -> Function:
        """Make a function, or an error, from its signature and the types of its results; its arguments have no names."""
        return cls(signature.partition("(")[0], signature, _selector(signature), outputs)

    @classmethod
    def from_item(cls, item: Item) -> Function:
        """Make a function, or an error, from a JSON ABI item."""
        signature, names = item["name"] + arguments(item["inputs"]), _names(item["inputs"])
        return cls(item["name"], signature, _selector(signature), arguments(item.get("outputs", ())), names)

    @cached_property
    def _inputs(self) -> TupleType:
        return tuple_type(self.signature[len(self.name) :])

    def encode(self, *values: Any) -> bytes:
        """Return the calldata of a call with these values. Raises ValueError."""
        return self.selector + self._inputs.encode(values)

    def decode(self, calldata: bytes, *, exact: bool = True) -> tuple[Any, ...]:
        """Read the values of a call; ``exact=False`` takes all that a contract takes. Raises Undecodable."""
        body = _body(calldata, self.selector, self.signature)
        return decode_exactly(self._inputs, body) if exact else self._inputs.decode(body, 0, exact=False)[0]

    @cached_property
    def _outputs(self) -> TupleType:
        return tuple_type(self.outputs)

    def encode_result(self, *values: Any) -> bytes:
        """Return what ``eth_call`` gives for these results. Raises ValueError."""
        return self._outputs.encode(values)

    def decode_result(self, data: bytes) -> tuple[Any, ...]:
        """Read the result of ``eth_call``. Raises Undecodable, also for the nothing of an account without code."""
        return decode_exactly(self._outputs, data)


@attrs.frozen(slots=False)
class ContractEvent:
    """An event that is not anonymous: encodes and decodes topics and data.

    An indexed parameter of dynamic type stands in its topic as a hash, and is given as those 32 bytes.
    """

    name: str
    signature: str
    topic0: bytes
    indexed: tuple[bool, ...]
    parameters: tuple[str, ...] = ()
    """As those of a function."""

    @classmethod
    def from_item(cls, item: Item) -> ContractEvent:
        """Make an event from a JSON ABI item."""
        signature = item["name"] + arguments(item["inputs"])
        indexed = tuple(bool(parameter["indexed"]) for parameter in item["inputs"])
        return cls(item["name"], signature, keccak256(signature.encode()), indexed, _names(item["inputs"]))

    def encode(self, *values: Any) -> tuple[tuple[bytes, ...], bytes]:
        """Return the topics and the data of a log with these values. Raises ValueError."""
        topics, body = self._layout
        if len(values) != len(self.indexed):
            raise ValueError(f"{self.signature} has {len(self.indexed)} values")
        named = [
            kind.encode(value) for kind, value in zip(topics, compress(values, self.indexed), strict=True)
        ]
        return (self.topic0, *named), body.encode([*compress(values, map(not_, self.indexed))])

    def decode(self, topics: Sequence[bytes], data: bytes) -> tuple[Any, ...]:
        """Read a log's values in the order of their declaration. Raises Undecodable."""
        kinds, body = self._layout
        if len(topics) != len(kinds) + 1 or topics[0] != self.topic0:
            raise Undecodable(f"not the topics of {self.signature}")
        if any(len(topic) != WORD for topic in topics):
            raise Undecodable("a topic has 32 bytes")
        named = iter(
            [kind.decode(topic, 0, exact=True)[0] for kind, topic in zip(kinds, topics[1:], strict=True)]
        )
        rest = iter(decode_exactly(body, data))
        return tuple(next(named) if indexed else next(rest) for indexed in self.indexed)

    @cached_property
    def _layout(self) -> tuple[tuple[AbiType, ...], TupleType]:
        """The types of the topics behind the first, and of the data."""
        items = tuple_type(self.signature[len(self.name) :]).items
        kinds = list(zip(items, self.indexed, strict=True))
        topics = tuple(parse_type("bytes32") if kind.dynamic else kind for kind, named in kinds if named)
        return topics, TupleType([kind for kind, named in kinds if not named])


class Abi:
    """All that the JSON ABI of a contract offers, by name, signature, selector and topic0; constructor and fallback are passed over."""

    def __init__(self, items: Sequence[Item]) -> None:
        functions, errors = (
            [Function.from_item(one) for one in items if one["type"] == kind]
            for kind in ("function", "error")
        )
        events = [ContractEvent.from_item(one) for one in items if one["type"] == "event"]
        self.functions_by_selector = {function.selector: function for function in functions}
        self.events_by_topic = {event.topic0: event for event in events}
        self.errors_by_selector = {error.selector: error for error in errors}

    def function(self, name: str) -> Function:
        """Return a function by name, or by signature where the name is overloaded. Raises KeyError."""
        return _only(name, self.functions_by_selector.values())

    def event(self, name: str) -> ContractEvent:
        """Return an event by name or signature. Raises KeyError."""
        return _only(name, self.events_by_topic.values())

    def error(self, name: str) -> Function:
        """Return an error by name or signature. Raises KeyError."""
        return _only(name, self.errors_by_selector.values())


def _only(name: str, entries: Iterable[Entry]) -> Entry:
    found = [entry for entry in entries if name in {entry.name, entry.signature}]
    if len(found) != 1:
        raise KeyError(f"{name}: {'no such entry' if not found else 'ambiguous, give the signature'}")
    return found[0]


DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_STRUCT = re.compile(r"(\w+)\(([^()]*)\)")


@attrs.frozen(slots=False)
class Domain:
    """Who signs what where."""

    name: str
    version: str
    chain_id: int
    verifying_contract: Address

    @cached_property
    def separator(self) -> bytes:
        """The domain's struct hash."""
        return hash_struct(DOMAIN_TYPE, self.name, self.version, self.chain_id, self.verifying_contract)


def hash_struct(type_string: str, *values: Any) -> bytes:
    """Return keccak(typeHash ‖ encodeData(values)); a value of another struct is the sequence of its members.

    ``type_string`` is the struct's followed by those that it refers to, as EIP-712 encodes a type.
    Raises ValueError for a value that does not fit, and for a text that is no type string.
    """
    return _struct(type_string)(values)


def signing_digest(domain: Domain, struct_hash: bytes) -> bytes:
    """Return what is signed: keccak(0x1901 ‖ domainSeparator ‖ structHash)."""
    return keccak256(b"\x19\x01" + domain.separator + struct_hash)


def signing_digest_under(separator: bytes, struct_hash: bytes) -> bytes:
    """Return the same where the domain's separator is known, as of a domain with other fields."""
    return keccak256(b"\x19\x01" + separator + struct_hash)


@cache
def _struct(type_string: str) -> Callable[[Sequence[Any]], bytes]:
    parts = [(match[1], match[0]) for match in _STRUCT.finditer(type_string)]
    if not parts or "".join(text for _, text in parts) != type_string or parts[1:] != sorted(parts[1:]):
        raise ValueError(f"{type_string!r} is no type string of a struct")
    return _of_parts(parts[0][0], dict(parts))


def _of_parts(name: str, texts: Mapping[str, str]) -> Callable[[Sequence[Any]], bytes]:
    """Return what hashes a struct of those whose own texts are given: its type with all that it refers to, in alphabetical order."""
    type_string = texts[name] + "".join(texts[one] for one in sorted(_needed(name, texts) - {name}))
    type_hash = keccak256(type_string.encode())
    members = [_encoder(kind, texts) for kind in _members(texts[name])]

    def struct_hash(values: Sequence[Any]) -> bytes:
        if len(values) != len(members):
            raise ValueError(f"{type_string} has {len(members)} values")
        return keccak256(
            type_hash + b"".join([encode(value) for encode, value in zip(members, values, strict=True)])
        )

    return struct_hash


def _members(text: str) -> list[str]:
    inside = text[text.index("(") + 1 : -1]
    return [field.split(" ")[0] for field in inside.split(",")] if inside else []


def _needed(name: str, texts: Mapping[str, str]) -> set[str]:
    direct = {kind.removesuffix("[]") for kind in _members(texts[name])} & set(texts)
    if name in direct:
        raise ValueError(f"{name} refers to itself")
    return {name}.union(*(_needed(one, texts) for one in direct))


def _encoder(kind: str, texts: Mapping[str, str]) -> Callable[[Any], bytes]:
    if kind.endswith("[]"):
        item = _encoder(kind[:-2], texts)
        return lambda values: keccak256(b"".join([item(value) for value in values]))
    if kind in texts:
        return _of_parts(kind, texts)
    if kind == "bytes":
        return keccak256
    if kind == "string":
        return lambda text: keccak256(text.encode())
    return parse_type(kind).encode
