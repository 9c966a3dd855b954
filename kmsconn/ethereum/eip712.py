"""EIP-712 digests from type strings. Never signs; that is for ``signing``.

Source: EIP-712; the domain has name, version, chainId and verifyingContract, no salt (fhevm-0.14.md, 2.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import attrs

from kmsconn.ethereum.abi_types import parse_type
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256

DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_STRUCT = re.compile(r"\w+\(([^()]*)\)")


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
    """Return keccak(typeHash ‖ encodeData(values)).

    Raises ValueError for a value that does not fit, and for nested structs, which this subset does not know.
    """
    type_hash, encoders = _parse(type_string)
    if len(values) != len(encoders):
        raise ValueError(f"{type_string} has {len(encoders)} values")
    return keccak256(
        type_hash + b"".join(encode(value) for encode, value in zip(encoders, values, strict=True))
    )


def signing_digest(domain: Domain, struct_hash: bytes) -> bytes:
    """Return what is signed: keccak(0x1901 ‖ domainSeparator ‖ structHash)."""
    return keccak256(b"\x19\x01" + domain.separator + struct_hash)


@cache
def _parse(type_string: str) -> tuple[bytes, tuple[Callable[[Any], bytes], ...]]:
    match = _STRUCT.fullmatch(type_string)
    if not match:
        raise ValueError(f"{type_string!r} is no type string of one flat struct")
    fields = match[1].split(",") if match[1] else []
    return keccak256(type_string.encode()), tuple(_encoder(field.split(" ")[0]) for field in fields)


def _encoder(kind: str) -> Callable[[Any], bytes]:
    if kind.endswith("[]"):
        item = _encoder(kind[:-2])
        return lambda values: keccak256(b"".join(item(value) for value in values))
    if kind == "bytes":
        return keccak256
    if kind == "string":
        return lambda text: keccak256(text.encode())
    return parse_type(kind).encode
