"""What a chain asks for: the typed content of request events, and a request as the journal knows it."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import attrs

from kmsconn.ethereum.addresses import Address


class Kind(StrEnum):
    """What can be asked for. A generation says for each what it needs (``protocols.port.Operation``)."""

    PUBLIC_DECRYPTION = "public_decryption"
    USER_DECRYPTION = "user_decryption"
    PREP_KEYGEN = "prep_keygen"
    KEYGEN = "keygen"
    CRSGEN = "crsgen"
    PREP_KSKGEN = "prep_kskgen"  # like the next one of the first generation only
    KSKGEN = "kskgen"
    ABORT_KEYGEN = "abort_keygen"
    ABORT_CRSGEN = "abort_crsgen"
    NEW_KMS_CONTEXT = "new_kms_context"
    NEW_KMS_EPOCH = "new_kms_epoch"
    KMS_CONTEXT_DESTROYED = "kms_context_destroyed"
    KMS_EPOCH_DESTROYED = "kms_epoch_destroyed"


class PoolName(StrEnum):
    """The pools of workers, so that no kind of work starves another: an abort never queues behind what it aborts."""

    PUBLIC_DECRYPTION = "public_decryption"
    USER_DECRYPTION = "user_decryption"
    KEY_GENERATION = "key_generation"
    ABORTS = "aborts"
    PROTOCOL_CONFIG = "protocol_config"


IN_ORDER = frozenset({PoolName.PROTOCOL_CONFIG})
"""Pools whose requests may wait for earlier ones and be ended by later ones, as ``Profile.order_of`` says."""


class Content(Protocol):
    """What an event asks for, as the profile that decoded it knows it; the tree needs no more than this of it."""

    @property
    def id(self) -> int:
        """The on-chain id."""
        ...

    @property
    def kind(self) -> Kind:
        """What is asked for."""
        ...


@attrs.frozen
class Material:
    """One ciphertext that a request names: its handle, key, Keccak-256 digest, and the coprocessors that committed it."""

    handle: bytes
    key_id: int
    digest: bytes
    coprocessors: tuple[Address, ...]

    @classmethod
    def bare(cls, handle: bytes) -> Material:
        """Return what is known where the chain names the handle and nothing else: the coprocessors' attestations say the rest."""
        return cls(handle, 0, b"", ())

    @property
    def is_bare(self) -> bool:
        """Whether the chain names the handle only."""
        return not self.digest


@attrs.frozen
class HandleEntry:
    """A handle of a unified request with the contract it is used in and the account that owns it."""

    handle: bytes
    contract: Address
    owner: Address


@attrs.frozen
class PublicDecryption:
    """A request to reveal values to everybody (G1)."""

    id: int
    materials: tuple[Material, ...]
    extra_data: bytes

    kind = Kind.PUBLIC_DECRYPTION


@attrs.frozen
class LegacyUserDecryption:
    """A request to reveal values to one user (G2); owners and contracts stand in the calldata of its transaction."""

    id: int
    materials: tuple[Material, ...]
    user: Address
    public_key: bytes
    extra_data: bytes

    kind = Kind.USER_DECRYPTION


@attrs.frozen
class UnifiedUserDecryption:
    """A request to reveal values to one user that carries all that is to be checked (G3). Times in Unix seconds."""

    id: int
    materials: tuple[Material, ...]
    handles: tuple[HandleEntry, ...]
    user: Address
    public_key: bytes
    allowed_contracts: tuple[Address, ...]
    start: int
    duration: int
    extra_data: bytes
    signature: bytes

    kind = Kind.USER_DECRYPTION


UserDecryption = LegacyUserDecryption | UnifiedUserDecryption
Decryption = PublicDecryption | LegacyUserDecryption | UnifiedUserDecryption


@attrs.frozen
class Place:
    """Where on its chain a request stands at present; a reorganisation may move it."""

    block: int
    block_hash: bytes
    transaction_hash: bytes
    log_index: int


@attrs.frozen
class Request:
    """A request with its identity: chain, contract, id *and* the digest of its content (design: idea 5).

    ``rid`` is the row of the journal. ``deadline`` is in Unix seconds of chain time.
    """

    rid: int
    chain_id: int
    contract: Address
    content: Content
    digest: bytes
    place: Place
    deadline: float

    @property
    def id(self) -> int:
        """The on-chain id; not unique over reorganisations."""
        return self.content.id

    @property
    def kind(self) -> Kind:
        """What is asked for."""
        return self.content.kind
