"""What a protocol generation is to the pipeline: data and pure functions. The tree knows nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import Content, Kind
from kmsconn.model.steps import Answer, Ciphertext


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
        """Read a request event. Raises Undecodable; may raise Rejected with ``content`` unknown never."""
        ...

    def start_call(
        self, content: Content, context_id: int | None, epoch_id: int | None, ciphertexts: Sequence[Ciphertext]
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
