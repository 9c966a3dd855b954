"""Key management events of KMSGeneration and ProtocolConfig, E1 to E8, as contents. Never judges what they say.

Source: fhevm-0.14.md, 1.2-1.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import CONTEXT_TAG, make_id
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm_014.abi import KMS_GENERATION, PROTOCOL_CONFIG

NO_PREDECESSOR = make_id(CONTEXT_TAG, 0)
"""What the first context, and one that an upgrade of the contract announces again, have as their previous one (0.2)."""

_PARAMS = {0, 1}


@attrs.frozen
class PrepKeygen:
    """A request to prepare the generation of a key (E1). ``params``: 0 default, 1 test."""

    id: int
    params: int
    extra_data: bytes

    kind = Kind.PREP_KEYGEN


@attrs.frozen
class Keygen:
    """A request to generate a key (E2)."""

    prep_id: int
    id: int
    extra_data: bytes

    kind = Kind.KEYGEN


@attrs.frozen
class Crsgen:
    """A request to generate a common reference string for up to ``max_bits`` bits (E3)."""

    id: int
    max_bits: int
    params: int
    extra_data: bytes

    kind = Kind.CRSGEN


@attrs.frozen
class AbortKeygen:
    """Stop a key generation, prepared or running; the id is that of the preparation (E4)."""

    id: int

    kind = Kind.ABORT_KEYGEN


@attrs.frozen
class AbortCrsgen:
    """Stop the generation of a common reference string (E5)."""

    id: int

    kind = Kind.ABORT_CRSGEN


@attrs.frozen
class Node:
    """A member of a context."""

    tx_sender: Address
    signer: Address
    ip_address: str
    storage_url: str
    party_id: int
    mpc_identity: str
    ca_cert: bytes
    storage_prefix: str


@attrs.frozen
class NewContext:
    """A new set of nodes (E6). ``threshold`` is that of the MPC protocol; the contract counts by the other three."""

    id: int
    previous_id: int
    nodes: tuple[Node, ...]
    threshold: int
    software_version: str
    pcr_values: tuple[tuple[bytes, bytes, bytes], ...]

    kind = Kind.NEW_KMS_CONTEXT


@attrs.frozen
class NewEpoch:
    """New shares of the keys as of ``material_block``, in a new context or in the same (E7)."""

    context_id: int
    id: int
    previous_context_id: int
    previous_epoch_id: int
    material_block: int

    kind = Kind.NEW_KMS_EPOCH


@attrs.frozen
class ContextDestroyed:
    """A context is over (E8)."""

    id: int

    kind = Kind.KMS_CONTEXT_DESTROYED


@attrs.frozen
class EpochDestroyed:
    """An epoch is over (1.5; listened to against P1)."""

    id: int

    kind = Kind.KMS_EPOCH_DESTROYED


KeyContent = (
    PrepKeygen
    | Keygen
    | Crsgen
    | AbortKeygen
    | AbortCrsgen
    | NewContext
    | NewEpoch
    | ContextDestroyed
    | EpochDestroyed
)

NEW_CONTEXT = PROTOCOL_CONFIG.event("NewKmsContext")


def new_context(*values: Any) -> NewContext:
    """Return a context from the values of its event."""
    identifier, previous_id, nodes, thresholds, software_version, pcr_values = values
    _public, _user, _generation, mpc = thresholds
    return NewContext(
        identifier, previous_id, tuple(Node(*node) for node in nodes), mpc, software_version, pcr_values
    )


_GENERATION: dict[str, Callable[..., KeyContent]] = {
    "PrepKeygenRequest": PrepKeygen,
    "KeygenRequest": Keygen,
    "CrsgenRequest": Crsgen,
    "AbortKeygen": AbortKeygen,
    "AbortCrsgen": AbortCrsgen,
}
_CONFIG: dict[str, Callable[..., KeyContent]] = {
    "NewKmsContext": new_context,
    "NewKmsEpoch": NewEpoch,
    "KmsContextDestroyed": ContextDestroyed,
    "KmsEpochDestroyed": EpochDestroyed,
}
_READERS: dict[bytes, tuple[Any, Callable[..., KeyContent]]] = {
    abi.event(name).topic0: (abi.event(name), make)
    for abi, makers in ((KMS_GENERATION, _GENERATION), (PROTOCOL_CONFIG, _CONFIG))
    for name, make in makers.items()
}

GENERATION_TOPICS = tuple(KMS_GENERATION.event(name).topic0 for name in _GENERATION)
CONFIG_TOPICS = tuple(PROTOCOL_CONFIG.event(name).topic0 for name in _CONFIG)
"""What to listen to, by contract."""


def is_key_event(log: Log) -> bool:
    """Say whether a log is one of these events, well formed or not."""
    return bool(log.topics) and log.topics[0] in _READERS


def decode(log: Log) -> KeyContent | None:
    """Read an event strictly; None for a context without predecessor, from which there is nothing to reshare. Raises Undecodable."""
    event, make = _READERS[log.topics[0]]
    content = make(*event.decode(log.topics, log.data))
    if isinstance(content, PrepKeygen | Crsgen) and content.params not in _PARAMS:
        raise Undecodable(f"parameters of type {content.params} are not known")
    if isinstance(content, NewContext) and content.previous_id == NO_PREDECESSOR:
        return None
    return content


def id_of(log: Log) -> int | None:
    """Return the id that a numbered request names, even where the rest of it cannot be read; None for aborts and ends."""
    topic = _ID_TOPICS.get(log.topics[0])
    if topic is not None:
        return int.from_bytes(log.topics[topic]) if len(log.topics) > topic else None
    word = log.data[:_WORD] if log.topics[0] in _ID_FIRST else b""
    return int.from_bytes(word) if len(word) == _WORD else None


_ID_TOPICS = {NEW_CONTEXT.topic0: 1, PROTOCOL_CONFIG.event("NewKmsEpoch").topic0: 2}
_ID_FIRST = {KMS_GENERATION.event(name).topic0 for name in ("PrepKeygenRequest", "CrsgenRequest")}
_WORD = 32
