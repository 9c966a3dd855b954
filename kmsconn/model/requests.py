"""What a chain asks for: the typed content of request events, and a request as the journal knows it."""

from __future__ import annotations

from enum import StrEnum

import attrs

from kmsconn.ethereum.addresses import Address


class Kind(StrEnum):
    """The kinds of work; each has a pool of its own, so that none starves another."""

    PUBLIC_DECRYPTION = "public_decryption"
    USER_DECRYPTION = "user_decryption"


@attrs.frozen
class Material:
    """One ciphertext that a request names: its handle, key, Keccak-256 digest, and the coprocessors that committed it."""

    handle: bytes
    key_id: int
    digest: bytes
    coprocessors: tuple[Address, ...]


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


@attrs.frozen
class HttpzPublicDecryption:
    """A request of the first generation to reveal values to everybody.

    ``numeric``: its contract knows handles as ``uint256``, which is how they are then signed.
    """

    id: int
    materials: tuple[Material, ...]
    numeric: bool

    kind = Kind.PUBLIC_DECRYPTION


@attrs.frozen
class HttpzUserDecryption:
    """A request of the first generation to reveal values to one user, whose right to them the contract has checked."""

    id: int
    materials: tuple[Material, ...]
    numeric: bool
    user: Address
    public_key: bytes

    kind = Kind.USER_DECRYPTION


UserDecryption = LegacyUserDecryption | UnifiedUserDecryption
Content = PublicDecryption | LegacyUserDecryption | UnifiedUserDecryption


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
        """The kind of work, hence the pool."""
        return self.content.kind
