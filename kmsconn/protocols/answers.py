"""How an answer of the Core is read in every generation: strictly, or Broken. Never knows a message's fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kmsconn.errors import Broken, Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import SIGNATURE_BYTES, is_canonical, recover
from kmsconn.protocols.protobuf import decode

DEPENDENCY = "core"


def read_message(kind: Any, reply: bytes) -> Any:
    """Parse a message of a class strictly. Raises Broken."""
    try:
        return decode(kind, reply)
    except Undecodable as error:
        raise Broken(DEPENDENCY, f"the answer is no {kind.__name__}: {error}") from error


def payload_of(message: Any) -> Any:
    """Return the payload of an answer. Raises Broken where there is none."""
    if message.payload is None:
        raise Broken(DEPENDENCY, "the answer has no payload")
    return message.payload


def expect_count(expected: int, values: Sequence[object]) -> None:
    """See that there is one value for each handle. Raises Broken."""
    if len(values) != expected:
        raise Broken(DEPENDENCY, f"the answer has {len(values)} values for {expected} handles")


def expect_signature(signature: bytes) -> None:
    """See that a signature is one that a contract takes. Raises Broken."""
    if len(signature) != SIGNATURE_BYTES:
        raise Broken(DEPENDENCY, f"the signature has {len(signature)} bytes, not {SIGNATURE_BYTES}")
    if not is_canonical(signature):
        raise Broken(DEPENDENCY, "the contract does not accept signatures of this form")


def signer_of(digest: bytes, signature: bytes) -> Address:
    """Return who made a signature. Raises Broken for one that no contract takes."""
    expect_signature(signature)
    signer = recover(digest, signature)
    if signer is None:
        raise Broken(DEPENDENCY, "the contract does not accept signatures of this form")
    return signer
