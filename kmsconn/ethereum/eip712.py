"""EIP-712 digests from type strings. Never signs; that is for ``signing``.

Source: EIP-712; the domain has name, version, chainId and verifyingContract, no salt (fhevm-0.14.md, 2.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import attrs

from kmsconn.ethereum.abi_types import parse_type
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256

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
    return _struct(type_string).hash(values)


def signing_digest(domain: Domain, struct_hash: bytes) -> bytes:
    """Return what is signed: keccak(0x1901 ‖ domainSeparator ‖ structHash)."""
    return signing_digest_under(domain.separator, struct_hash)


def signing_digest_under(separator: bytes, struct_hash: bytes) -> bytes:
    """Return the same where the domain's separator is known, as of a domain with other fields."""
    return keccak256(b"\x19\x01" + separator + struct_hash)


@attrs.frozen
class _Struct:
    """A struct's type hash, and what encodes each of its members."""

    type_string: str
    type_hash: bytes
    members: tuple[Callable[[Any], bytes], ...]

    def hash(self, values: Sequence[Any]) -> bytes:
        if len(values) != len(self.members):
            raise ValueError(f"{self.type_string} has {len(self.members)} values")
        pairs = zip(self.members, values, strict=True)
        return keccak256(self.type_hash + b"".join(encode(value) for encode, value in pairs))


@cache
def _struct(type_string: str) -> _Struct:
    parts = [(match[1], match[0]) for match in _STRUCT.finditer(type_string)]
    if not parts or "".join(text for _, text in parts) != type_string or parts[1:] != sorted(parts[1:]):
        raise ValueError(f"{type_string!r} is no type string of a struct")
    return _of_parts(parts[0][0], dict(parts))


def _of_parts(name: str, texts: Mapping[str, str]) -> _Struct:
    """Return a struct of those whose own texts are given; its type hash covers all that it refers to, in alphabetical order."""
    needed = _needed(name, texts)
    type_string = texts[name] + "".join(texts[one] for one in sorted(needed - {name}))
    structs = {one: _of_parts(one, texts) for one in needed - {name}}
    members = tuple(_encoder(kind, structs) for kind in _members(texts[name]))
    return _Struct(type_string, keccak256(type_string.encode()), members)


def _members(text: str) -> list[str]:
    inside = text[text.index("(") + 1 : -1]
    return [field.split(" ")[0] for field in inside.split(",")] if inside else []


def _needed(name: str, texts: Mapping[str, str]) -> set[str]:
    direct = {kind.removesuffix("[]") for kind in _members(texts[name])} & set(texts)
    if name in direct:
        raise ValueError(f"{name} refers to itself")
    return {name}.union(*(_needed(one, texts) for one in direct))


def _encoder(kind: str, structs: Mapping[str, _Struct]) -> Callable[[Any], bytes]:
    if kind.endswith("[]"):
        item = _encoder(kind[:-2], structs)
        return lambda values: keccak256(b"".join(item(value) for value in values))
    if kind in structs:
        return structs[kind].hash
    if kind == "bytes":
        return keccak256
    if kind == "string":
        return lambda text: keccak256(text.encode())
    return parse_type(kind).encode
