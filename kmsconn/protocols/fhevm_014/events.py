"""Request events of the Decryption contract, G1 to G3, as contents. Never judges what they say: that is for ``rules``.

Source: fhevm-0.14.md, 1.2-1.4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from kmsconn.errors import Undecodable
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import (
    Decryption,
    HandleEntry,
    LegacyUserDecryption,
    Material,
    PublicDecryption,
    UnifiedUserDecryption,
)
from kmsconn.protocols.fhevm_014.abi import DECRYPTION

_MATERIALS = "(bytes32,uint256,bytes32,address[])[]"
_PAYLOAD = "(address,bytes,address[],(uint256,uint256),bytes,bytes)"

PUBLIC = DECRYPTION.event(f"PublicDecryptionRequest(uint256,{_MATERIALS},bytes)")
LEGACY = DECRYPTION.event(f"UserDecryptionRequest(uint256,{_MATERIALS},address,bytes,bytes)")
UNIFIED = DECRYPTION.event(
    f"UserDecryptionRequest(uint256,{_MATERIALS},(bytes32,address,address)[],{_PAYLOAD})"
)

TOPICS = (PUBLIC.topic0, LEGACY.topic0, UNIFIED.topic0)
"""What to listen to."""

REMEMBERED = 256
"""Contents. Who hears of a request and who works on it read the same event, mostly within moments."""


def decode(log: Log) -> Decryption:
    """Read a request event strictly. Raises Undecodable."""
    return _read(log.topics, log.data)


@lru_cache(REMEMBERED)
def _read(topics: tuple[bytes, ...], data: bytes) -> Decryption:
    topic0 = topics[0] if topics else b""
    if topic0 not in _READERS:
        raise Undecodable("no request event of this generation")
    event, read = _READERS[topic0]
    return read(*event.decode(topics, data))


def content_digest(log: Log) -> bytes:
    """Return the Keccak-256 of topics and data: equal for the same content, wherever it stands."""
    return keccak256(b"".join(log.topics) + log.data)


def _public(identifier: int, materials: tuple[Any, ...], extra_data: bytes) -> PublicDecryption:
    return PublicDecryption(identifier, _materials(materials), extra_data)


def _legacy(
    identifier: int, materials: tuple[Any, ...], user: Any, public_key: bytes, extra_data: bytes
) -> LegacyUserDecryption:
    return LegacyUserDecryption(identifier, _materials(materials), user, public_key, extra_data)


def _unified(
    identifier: int, materials: tuple[Any, ...], handles: tuple[Any, ...], payload: tuple[Any, ...]
) -> UnifiedUserDecryption:
    user, public_key, allowed_contracts, (start, duration), extra_data, signature = payload
    return UnifiedUserDecryption(
        id=identifier,
        materials=_materials(materials),
        handles=tuple(HandleEntry(*entry) for entry in handles),
        user=user,
        public_key=public_key,
        allowed_contracts=allowed_contracts,
        start=start,
        duration=duration,
        extra_data=extra_data,
        signature=signature,
    )


def _materials(values: tuple[Any, ...]) -> tuple[Material, ...]:
    return tuple(Material(*value) for value in values)


_READERS: dict[bytes, tuple[Any, Callable[..., Decryption]]] = {
    PUBLIC.topic0: (PUBLIC, _public),
    LEGACY.topic0: (LEGACY, _legacy),
    UNIFIED.topic0: (UNIFIED, _unified),
}
