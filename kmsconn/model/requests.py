"""What a chain asks for: the typed content of request events, and a request as the journal knows it; its trace; names of generations.

The id of a trace follows from the request alone, so every process of every node gives it the same one: the first half of
``SHA-256("kmsconn:<Gateway chain id>:<kind>:<id, 64 hex digits>")``, the id of the request's own span the eight bytes after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from hashlib import sha256
from typing import ClassVar, Final

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen


class Kind(StrEnum):
    """What can be asked for. A generation says for each what it needs (``protocols.port.Operation``)."""

    PUBLIC_DECRYPTION = "public_decryption"
    USER_DECRYPTION = "user_decryption"
    HTTP_PUBLIC_DECRYPTION = "http_public_decryption"
    HTTP_USER_DECRYPTION = "http_user_decryption"
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


DECRYPTION_KINDS = frozenset(
    {
        Kind.PUBLIC_DECRYPTION,
        Kind.USER_DECRYPTION,
        Kind.HTTP_PUBLIC_DECRYPTION,
        Kind.HTTP_USER_DECRYPTION,
    }
)
"""What reveals values; all else is key management."""

NO_BLOCK = -1
"""Where a request over HTTP stands: below all blocks, so that no read, no rewind and no proof of completeness ever meets it."""


class PoolName(StrEnum):
    """The pools of workers, so that no kind of work starves another: an abort never queues behind what it aborts."""

    PUBLIC_DECRYPTION = "public_decryption"
    USER_DECRYPTION = "user_decryption"
    HTTP_PUBLIC_DECRYPTION = "http_public_decryption"
    HTTP_USER_DECRYPTION = "http_user_decryption"
    KEY_GENERATION = "key_generation"
    ABORTS = "aborts"
    PROTOCOL_CONFIG = "protocol_config"


IN_ORDER = frozenset({PoolName.PROTOCOL_CONFIG})
"""Pools whose requests may wait for earlier ones and be ended by later ones, as ``Content.order`` says."""


@frozen
class CiphertextReference:
    """One ciphertext that a request names: its handle, key, Keccak-256 digest, and the coprocessors that committed it."""

    handle: bytes
    key_id: int
    digest: bytes
    coprocessors: tuple[Address, ...]

    @classmethod
    def bare(cls, handle: bytes) -> CiphertextReference:
        """Return what is known where the chain names the handle and nothing else: the coprocessors' attestations say the rest."""
        return cls(handle, 0, b"", ())

    @property
    def is_bare(self) -> bool:
        """Whether the chain names the handle only."""
        return not self.digest


@frozen
class Order:
    """How a request stands to what else is asked, by the ids of contexts and epochs. Most stand to nothing.

    ``under``: it is over once one of these was destroyed. ``ends``: these it destroys.
    ``holds``: while it is open, later requests that are ``behind`` one of these wait for it.
    """

    under: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()
    holds: frozenset[int] = frozenset()
    behind: frozenset[int] = frozenset()


class Content(ABC):
    """What an event asks for. A kind of request has its own values, and says where it differs from what stands here.

    All of it follows from the event alone; what must be asked of a chain or of the Core is for ``protocols.port.Operation``.
    """

    __slots__ = ()

    kind: ClassVar[Kind]
    needs_transaction: ClassVar[bool] = False
    """Whether the checks need the transaction that carried the request."""

    @property
    @abstractmethod
    def id(self) -> int:
        """The on-chain id."""

    @property
    def references(self) -> tuple[CiphertextReference, ...]:
        """The ciphertexts that must be gathered, in event order."""
        return ()

    @property
    def context(self) -> tuple[int | None, int | None]:
        """Context and epoch that must be valid, None where none must. Raises Rejected where they cannot be read."""
        return None, None

    @property
    def valid_until(self) -> int | None:
        """The chain time that is the last at which it is valid; None where it names none."""
        return None

    @property
    def order(self) -> Order:
        """What it waits for, what it holds up, what ends it and what it ends. Raises Rejected as ``context`` does."""
        return Order()


@frozen
class EventPlace:
    """Where on its chain a request stands at present; a reorganisation may move it."""

    block: int
    block_hash: bytes
    transaction_hash: bytes
    log_index: int


@frozen
class Request:
    """A request with its identity: chain, contract, id *and* the digest of its content (design: idea 5).

    ``rid`` is the row of the journal. ``deadline`` is in Unix seconds of chain time.
    """

    rid: int
    chain_id: int
    contract: Address
    content: Content
    digest: bytes
    place: EventPlace
    deadline: float
    id: int = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(lambda self: self.content.id, takes_self=True)
    )
    """The on-chain id; not unique over reorganisations."""
    kind: Kind = attrs.field(
        init=False,
        eq=False,
        repr=False,
        default=attrs.Factory(lambda self: self.content.kind, takes_self=True),
    )
    """What is asked for."""

    @property
    def answered_until(self) -> float:
        """The chain time until which an answer is of use: the deadline, or the end of the request's own window."""
        until = self.content.valid_until
        return self.deadline if until is None else min(self.deadline, until)


FHEVM: Final = "fhevm"
HTTPZ_RC7: Final = "httpz-rc7"
PROFILES: Final = (FHEVM, HTTPZ_RC7)
"""The generations, the default first."""

PROFILE_ALIASES: Final = {"fhevm-0.14": FHEVM, "fhevm-0.15": FHEVM}
"""Other names of a generation: one profile finds out at each contract and Core which release it faces."""


def profile_named(text: str) -> str:
    """Return the generation that a name or an alias means, in any case. Raises ValueError for another name."""
    written = text.strip().lower()
    name = PROFILE_ALIASES.get(written, written)
    if name not in PROFILES:
        raise ValueError(f"must be {' or '.join(PROFILES)}, not {text!r}")
    return name


TRACE_BYTES, SPAN_BYTES = 16, 8


@attrs.frozen
class TraceContext:
    """A trace and the span of its request, as numbers of 128 and 64 bits."""

    trace_id: int
    span_id: int

    @property
    def trace_hex(self) -> str:
        """The trace id as collectors show it."""
        return f"{self.trace_id:032x}"

    def traceparent(self, *, sampled: bool) -> str:
        """Return the header of W3C Trace Context, version 00."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{sampled:02x}"


def trace_of(gateway_chain_id: int, kind: Kind, identifier: int) -> TraceContext:
    """Return the trace of the request with this id in the deployment of a Gateway."""
    digest = sha256(f"kmsconn:{gateway_chain_id}:{kind.value}:{identifier:064x}".encode()).digest()
    rest = digest[TRACE_BYTES:]
    return TraceContext(int.from_bytes(digest[:TRACE_BYTES]), int.from_bytes(rest[:SPAN_BYTES]))
