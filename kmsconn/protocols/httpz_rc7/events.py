"""Request events of the DecryptionManager, in both revisions of the handle, as contents. Never judges what they say.

Source: httpz-rc7.md, section 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Event
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import HttpzPublicDecryption, HttpzUserDecryption, Material
from kmsconn.protocols.httpz_rc7.abi import DECRYPTION_MANAGER, RC4, RC7

PUBLIC = DECRYPTION_MANAGER.event("PublicDecryptionRequest")
USER = DECRYPTION_MANAGER.event("UserDecryptionRequest")
NUMERIC_PUBLIC = RC7["DecryptionManager"].event("PublicDecryptionRequest")
NUMERIC_USER = RC7["DecryptionManager"].event("UserDecryptionRequest")
NAMELESS_USER = RC4["DecryptionManager"].event("UserDecryptionRequest")
"""A user request of March that names no user: heard, so that its coming is told, and never answered."""

Decryption = HttpzPublicDecryption | HttpzUserDecryption


def decode(log: Log) -> Decryption:
    """Read a request event strictly. Raises Undecodable."""
    topic0 = log.topics[0] if log.topics else b""
    if topic0 == NAMELESS_USER.topic0:
        raise Undecodable(
            "a user request of the interface rc4, which names no user address: nobody can answer it"
        )
    if topic0 not in _READERS:
        raise Undecodable("no request event of this generation")
    event, read = _READERS[topic0]
    return read(*event.decode(log.topics, log.data))


def content_digest(log: Log) -> bytes:
    """Return the Keccak-256 of topics and data: equal for the same content, wherever it stands."""
    return keccak256(b"".join(log.topics) + log.data)


def _public(identifier: int, materials: tuple[Any, ...]) -> Decryption:
    return HttpzPublicDecryption(identifier, _materials(materials), numeric=False)


def _numeric_public(identifier: int, materials: tuple[Any, ...]) -> Decryption:
    return HttpzPublicDecryption(identifier, _materials(_as_bytes(materials)), numeric=True)


def _user(identifier: int, materials: tuple[Any, ...], user: Any, public_key: bytes) -> Decryption:
    return HttpzUserDecryption(identifier, _materials(materials), False, user, public_key)


def _numeric_user(identifier: int, materials: tuple[Any, ...], user: Any, public_key: bytes) -> Decryption:
    return HttpzUserDecryption(identifier, _materials(_as_bytes(materials)), True, user, public_key)


def _materials(values: tuple[Any, ...]) -> tuple[Material, ...]:
    return tuple(Material(*value) for value in values)


def _as_bytes(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return materials with their handles as the 32 bytes that they are on the wire."""
    return tuple((handle.to_bytes(32), *rest) for handle, *rest in values)


_READERS: dict[bytes, tuple[Event, Callable[..., Decryption]]] = {
    PUBLIC.topic0: (PUBLIC, _public),
    USER.topic0: (USER, _user),
    NUMERIC_PUBLIC.topic0: (NUMERIC_PUBLIC, _numeric_public),
    NUMERIC_USER.topic0: (NUMERIC_USER, _numeric_user),
}

TOPICS = (*_READERS, NAMELESS_USER.topic0)
"""What to listen to."""
