"""Request events of the Decryption contract, G1 to G3, as contents. Never judges what they say: that is for ``rules``.

From 0.15 on the contract tells of each request twice, in one transaction: as before, and in a later form that names the handles only
(annex C). Both are one request: what tells requests apart is what both forms say.
Source: fhevm-0.14.md, 1.2-1.4, annex C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import attrs

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
from kmsconn.protocols.fhevm_014.abi import DECRYPTION, LATER_EVENTS

_MATERIALS = "(bytes32,uint256,bytes32,address[])[]"
_PAYLOAD = "(address,bytes,address[],(uint256,uint256),bytes,bytes)"

PUBLIC = DECRYPTION.event(f"PublicDecryptionRequest(uint256,{_MATERIALS},bytes)")
LEGACY = DECRYPTION.event(f"UserDecryptionRequest(uint256,{_MATERIALS},address,bytes,bytes)")
UNIFIED = DECRYPTION.event(
    f"UserDecryptionRequest(uint256,{_MATERIALS},(bytes32,address,address)[],{_PAYLOAD})"
)

_later = {event.signature: event for event in LATER_EVENTS.values()}
LATER_PUBLIC = _later["PublicDecryptionRequest(uint256,bytes32[],bytes)"]
LATER_LEGACY = _later["UserDecryptionRequest(uint256,bytes32[],address,bytes,bytes)"]
LATER_UNIFIED = _later[f"UserDecryptionRequest(uint256,(bytes32,address,address)[],{_PAYLOAD})"]

TOPICS = (
    PUBLIC.topic0,
    LEGACY.topic0,
    UNIFIED.topic0,
    LATER_PUBLIC.topic0,
    LATER_LEGACY.topic0,
    LATER_UNIFIED.topic0,
)
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
    """Return the Keccak-256 of topics and data of the later form: equal for the same content, wherever and in whichever form it stands.

    What it leaves out, where the ciphertexts are and what proves them, is nothing that the user asked for or the Core signs.
    Raises Undecodable.
    """
    topics, data = _later_form(decode(log))
    return keccak256(b"".join(topics) + data)


def _later_form(content: Decryption) -> tuple[tuple[bytes, ...], bytes]:
    handles = tuple(material.handle for material in content.materials)
    match content:
        case PublicDecryption():
            return LATER_PUBLIC.encode(content.id, handles, content.extra_data)
        case LegacyUserDecryption():
            rest = (content.user, content.public_key, content.extra_data)
            return LATER_LEGACY.encode(content.id, handles, *rest)
        case UnifiedUserDecryption():
            return LATER_UNIFIED.encode(content.id, *_entries_and_payload(content))


def _entries_and_payload(content: UnifiedUserDecryption) -> tuple[Any, ...]:
    entries = tuple((entry.handle, entry.contract, entry.owner) for entry in content.handles)
    payload = (
        content.user,
        content.public_key,
        content.allowed_contracts,
        (content.start, content.duration),
        content.extra_data,
        content.signature,
    )
    return entries, payload


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


def _later_public(identifier: int, handles: tuple[bytes, ...], extra_data: bytes) -> PublicDecryption:
    return PublicDecryption(identifier, _bare(handles), extra_data)


def _later_legacy(
    identifier: int, handles: tuple[bytes, ...], user: Any, public_key: bytes, extra_data: bytes
) -> LegacyUserDecryption:
    return LegacyUserDecryption(identifier, _bare(handles), user, public_key, extra_data)


def _later_unified(
    identifier: int, entries: tuple[Any, ...], payload: tuple[Any, ...]
) -> UnifiedUserDecryption:
    content = _unified(identifier, (), entries, payload)
    return attrs.evolve(content, materials=_bare(handle for handle, _, _ in entries))


def _materials(values: tuple[Any, ...]) -> tuple[Material, ...]:
    return tuple(Material(*value) for value in values)


def _bare(handles: Iterable[bytes]) -> tuple[Material, ...]:
    return tuple(map(Material.bare, handles))


_READERS: dict[bytes, tuple[Any, Callable[..., Decryption]]] = {
    PUBLIC.topic0: (PUBLIC, _public),
    LEGACY.topic0: (LEGACY, _legacy),
    UNIFIED.topic0: (UNIFIED, _unified),
    LATER_PUBLIC.topic0: (LATER_PUBLIC, _later_public),
    LATER_LEGACY.topic0: (LATER_LEGACY, _later_legacy),
    LATER_UNIFIED.topic0: (LATER_UNIFIED, _later_unified),
}
