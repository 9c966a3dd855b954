"""Request events of DecryptionManager and KeyManager as contents; decryptions in both revisions of the handle. Never judges them.

Source: httpz-rc7.md, section 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Event
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import Material
from kmsconn.protocols.httpz_rc7.abi import DECRYPTION_MANAGER, KEY_MANAGER, RC4, RC7
from kmsconn.protocols.httpz_rc7.contents import (
    Crsgen,
    Decryption,
    Keygen,
    KeyManagement,
    Kskgen,
    PrepKeygen,
    PrepKskgen,
    PublicDecryption,
    UserDecryption,
)

PUBLIC = DECRYPTION_MANAGER.event("PublicDecryptionRequest")
USER = DECRYPTION_MANAGER.event("UserDecryptionRequest")
NUMERIC_PUBLIC = RC7["DecryptionManager"].event("PublicDecryptionRequest")
NUMERIC_USER = RC7["DecryptionManager"].event("UserDecryptionRequest")
NAMELESS_USER = RC4["DecryptionManager"].event("UserDecryptionRequest")
"""A user request of March that names no user: heard, so that its coming is told, and never answered."""

_WORD = 32


def decode(log: Log) -> Decryption | KeyManagement:
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


def id_of(log: Log) -> int | None:
    """Return the id, which decryptions have as a topic and key requests as their first word; None where there is none."""
    if len(log.topics) > 1:
        return int.from_bytes(log.topics[1])
    return int.from_bytes(log.data[:_WORD]) if len(log.data) >= _WORD else None


def content_digest(log: Log) -> bytes:
    """Return the Keccak-256 of topics and data: equal for the same content, wherever it stands."""
    return keccak256(b"".join(log.topics) + log.data)


def _public(identifier: int, materials: tuple[Any, ...], *, numeric: bool) -> PublicDecryption:
    return PublicDecryption(identifier, _materials(materials, numeric=numeric), numeric)


def _user(
    identifier: int, materials: tuple[Any, ...], user: Any, public_key: bytes, *, numeric: bool
) -> UserDecryption:
    return UserDecryption(identifier, _materials(materials, numeric=numeric), numeric, user, public_key)


def _materials(values: tuple[Any, ...], *, numeric: bool) -> tuple[Material, ...]:
    """Return materials with their handles as the 32 bytes that they are on the wire in both revisions."""
    return tuple(Material(handle.to_bytes(_WORD) if numeric else handle, *rest) for handle, *rest in values)


_DECRYPTIONS: dict[bytes, tuple[Event, Callable[..., Decryption]]] = {
    PUBLIC.topic0: (PUBLIC, partial(_public, numeric=False)),
    USER.topic0: (USER, partial(_user, numeric=False)),
    NUMERIC_PUBLIC.topic0: (NUMERIC_PUBLIC, partial(_public, numeric=True)),
    NUMERIC_USER.topic0: (NUMERIC_USER, partial(_user, numeric=True)),
}
_KEY_EVENTS: dict[str, Callable[..., KeyManagement]] = {
    "PreprocessKeygenRequest": PrepKeygen,
    "KeygenRequest": Keygen,
    "PreprocessKskgenRequest": PrepKskgen,
    "KskgenRequest": Kskgen,
    "CrsgenRequest": Crsgen,
}
_KEYS = {
    KEY_MANAGER.event(name).topic0: (KEY_MANAGER.event(name), read) for name, read in _KEY_EVENTS.items()
}
_READERS: dict[bytes, tuple[Event, Callable[..., Decryption | KeyManagement]]] = {**_DECRYPTIONS, **_KEYS}

DECRYPTION_TOPICS = (*_DECRYPTIONS, NAMELESS_USER.topic0)
"""What to listen to at the DecryptionManager."""

KEY_TOPICS = tuple(_KEYS)
"""What to listen to at the KeyManager. Activation is no business of a node: coprocessors answer it."""
