"""What a protocol generation is to the pipeline: data and pure functions. The tree knows nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import Content, Kind
from kmsconn.model.steps import Answer, Ciphertext

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Question(Protocol[T_co]):
    """One read of a chain: what to ask, and how to understand what comes back."""

    @property
    def chain_id(self) -> int:
        """The chain to ask."""
        ...

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        ...

    def understand(self, result: bytes) -> T_co:
        """Read the result. Raises Undecodable; a check raises Rejected or NotYet when the answer is no."""
        ...

    def refused(self, message: str, data: bytes | None) -> T_co | None:
        """Read a JSON-RPC error that is an answer; None (the default) means that it is none: ask again later."""
        ...


class Instead(Exception):  # noqa: N818 - no error: the contract is of another revision
    """Raised by a question that found the other revision of a contract: another question is to be asked instead."""

    def __init__(self, question: Question[Any]) -> None:
        super().__init__()
        self.question = question


@attrs.frozen
class View(Generic[T]):
    """An ``eth_call`` at ``latest``, without a sender."""

    chain_id: int
    to: Address
    data: bytes
    read: Callable[[bytes], T]
    gas: int | None = None
    on_error: Callable[[str, bytes | None], T | None] | None = None

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        message = {"to": to_hex(self.to), "data": to_hex(self.data)}
        if self.gas is not None:
            message["gas"] = quantity(self.gas)
        return "eth_call", (message, "latest")

    def understand(self, result: bytes) -> T:
        """Read the return data."""
        return self.read(result)

    def refused(self, message: str, data: bytes | None) -> T | None:
        """Read a revert where it is an answer."""
        return None if self.on_error is None else self.on_error(message, data)


@attrs.frozen
class Slot(Generic[T]):
    """An ``eth_getStorageAt`` at ``latest``."""

    chain_id: int
    to: Address
    slot: int
    read: Callable[[bytes], T]

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        return "eth_getStorageAt", (to_hex(self.to), f"0x{self.slot:064x}", "latest")

    def understand(self, result: bytes) -> T:
        """Read the 32-byte word."""
        return self.read(result)

    def refused(self, message: str, data: bytes | None) -> T | None:  # noqa: ARG002 - storage has no reverts
        """Nothing that a node says instead of a word is an answer."""
        return None


@attrs.frozen
class Facts:
    """What a check knows beside the content: chain time, seconds since admission, the legacy transaction's ``to`` and input."""

    chain_time: float
    age: float
    to: Address | None = None
    input: bytes = b""


@attrs.frozen
class Coprocessor:
    """Where a coprocessor keeps its ciphertexts and with which key it attests them."""

    tx_sender: Address
    signer: Address
    bucket: str


@attrs.frozen
class Subscription:
    """One contract to listen to and the topic0 values that matter there."""

    chain_id: int
    contract: Address
    topics: tuple[bytes, ...]


class Chunks:
    """A protobuf message cut into pieces, so that large ciphertexts are never copied into one buffer."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = tuple(parts)
        self.size = sum(len(part) for part in self.parts)

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


@attrs.frozen
class CoreCall:
    """One gRPC call of the Core: the method's bare name (``PublicDecrypt``), the message, the id that chooses the endpoint."""

    method: str
    message: Chunks
    shard: int


class Verdict(StrEnum):
    """What a revert of a reply means (fhevm-0.14.md, annex A)."""

    DONE = "done"
    RETRY = "retry"
    FINAL = "final"
    SKIP = "skip"


@attrs.frozen
class Revert:
    """A decoded revert: ``KmsNodeAlreadySigned``, its arguments as text, and what to do."""

    name: str
    arguments: tuple[str, ...]
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.arguments)})"


class Profile(Protocol):
    """One generation."""

    name: str

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the contracts to listen to."""
        ...

    def decode(self, log: Log) -> Content:
        """Read a request event. Raises Undecodable."""
        ...

    def digest(self, log: Log) -> bytes:
        """Return what tells this content from other content under the same id."""
        ...

    def newest_ids(self, subscription: Subscription) -> Mapping[int, Question[int]]:
        """Return, by type tag, the question for the newest id of a contract's requests (annex E.1); 0 or the bare tag: none yet."""
        ...

    def id_of(self, log: Log) -> int | None:
        """Return the id that a request event names, even where the rest of it cannot be read; None where it names none."""
        ...

    # --- may it be answered?

    def context_of(self, content: Content) -> tuple[int | None, int | None]:
        """Return context and epoch as extraData names them. Raises Rejected for extraData of no known form (section 6)."""
        ...

    def valid_until(self, content: Content) -> int | None:
        """Return the chain time that is the last at which a request is valid; None where it names none."""
        ...

    def needs_transaction(self, content: Content) -> bool:
        """Say whether the checks need the transaction that carried the request (3.3)."""
        ...

    def checks(self, content: Content, facts: Facts) -> tuple[Question[None], ...]:
        """Return what the host chains must be asked (3.2-3.4). Raises Rejected or NotYet where no question is needed."""
        ...

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> tuple[Question[None], ...]:
        """Return what must be asked about context and epoch (3.5)."""
        ...

    def pinned_context(self, content: Content) -> Question[int]:
        """Return the question for the context pinned at request time; 0 when none was (annex E.1, base + 9)."""
        ...

    def current_context(self) -> Question[int]:
        """Return the question for the context that is current on the Gateway."""
        ...

    def node_signer(self, context_id: int, tx_sender: Address) -> Question[Address]:
        """Return the question for the signer of the node that sends as ``tx_sender`` in a context; zero: not a member (3.9)."""
        ...

    def has_answered(self, content: Content, signer: Address) -> Question[bool]:
        """Return the question whether a signer's answer is in the contract (annex E.1, base + 1)."""
        ...

    # --- the registry of coprocessors

    def coprocessor_senders(self) -> Question[tuple[Address, ...]]:
        """Return the question for the coprocessors' tx senders (3.1)."""
        ...

    def coprocessor(self, tx_sender: Address) -> Question[Coprocessor]:
        """Return the question for one coprocessor (3.1)."""
        ...

    def coprocessor_threshold(self) -> Question[int]:
        """Return the question for the majority threshold (3.1)."""
        ...

    # --- the Core and the reply

    def start_call(
        self,
        content: Content,
        context_id: int | None,
        epoch_id: int | None,
        ciphertexts: Sequence[Ciphertext],
    ) -> CoreCall:
        """Build the start call of a request (spec 5.4). Raises Rejected when the content cannot be put into one."""
        ...

    def result_call(self, content: Content) -> CoreCall:
        """Build the long poll for the same request."""
        ...

    def read_answer(self, content: Content, reply: bytes) -> Answer:
        """Read a Core's answer strictly, recover its signer and build the reply's calldata (2.2, 2.3, 2.4).

        Raises Broken for an answer that no honest Core gives: other id, other number of values, empty payload, signature that is
        not 65 bytes or recovers nothing. That the signer is this node's is for the caller to compare.
        """
        ...

    def revert(self, kind: Kind, data: bytes | None) -> Revert:
        """Name a revert of this kind's reply and say what it means; unknown ones are RETRY."""
        ...
