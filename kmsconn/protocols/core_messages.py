"""What every generation sees to at the Core: a request is whole, an answer is read strictly, or Broken.

What the messages of both generations have alike is made here, in the classes of one: ``kms`` is its generated module.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from kmsconn.errors import Broken, Rejected, Undecodable
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.ids import fhe_type_of, id_hex
from kmsconn.ethereum.signing import SIGNATURE_BYTES, is_canonical, recover
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.protobuf import decode, shared

DEPENDENCY = "core"
ECDSA256K1 = 0
"""The number of the signing scheme whose signatures the contracts take (0.15: 4.1)."""

_TWO_SIGNATURES = "report it with the Core's version: no Core signs an answer twice in different ways"


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


def signature_of(message: Any) -> bytes:
    """Return the ECDSA signature of an answer: the one by its scheme, or else ``external_signature``, which Cores before 0.15 fill.

    Signatures of other schemes, also of unknown ones, are ignored. Raises Broken where there is none, or the two differ (0.15: 4.3).
    """
    by_scheme = next((one.signature for one in message.signatures if one.scheme == ECDSA256K1), None)
    external: bytes = message.external_signature
    if by_scheme is not None and external and by_scheme != external:
        raise Broken(
            DEPENDENCY, "the answer has two ECDSA signatures: signatures and external_signature differ"
        ).of(remedy=_TWO_SIGNATURES)
    signature: bytes = external if by_scheme is None else by_scheme
    if not signature:
        schemes = ", ".join(str(int(one.scheme)) for one in message.signatures) or "none"
        raise Broken(DEPENDENCY, f"the answer has no ECDSA signature; schemes of its signatures: {schemes}")
    return signature


def signer_of(digest: bytes, signature: bytes) -> Address:
    """Return who made a signature. Raises Broken for one that no contract takes."""
    if len(signature) != SIGNATURE_BYTES:
        raise Broken(DEPENDENCY, f"the signature has {len(signature)} bytes, not {SIGNATURE_BYTES}")
    signer = recover(digest, signature) if is_canonical(signature) else None
    if signer is None:
        raise Broken(DEPENDENCY, "the contract does not accept signatures of this form")
    return signer


@lru_cache
def domain_message(kms: Any, domain: Domain) -> Any:
    """Return a domain with its chain id in 32 bytes, its address by EIP-55, and no salt (5.3)."""
    message = kms.Eip712DomainMsg(
        name=domain.name,
        version=domain.version,
        chain_id=domain.chain_id.to_bytes(32),
        verifying_contract=checksum(domain.verifying_contract),
    )
    return shared(message)


def expect_id(message: Any, expected: int) -> None:
    """See that a RequestId of an answer is the one of the request. Raises Broken."""
    if message is None or message.request_id != id_hex(expected):
        raise Broken(DEPENDENCY, f"the answer to {id_hex(expected)} names another request")


def typed_ciphertexts(
    kms: Any, references: Sequence[CiphertextReference], ciphertexts: Sequence[Ciphertext]
) -> list[Any]:
    """Return the ciphertexts of references, each with the FHE type that its handle names; their bytes are not copied.

    Raises Rejected for a request without references; ValueError when the ciphertexts are not those of the references.
    """
    if not references:
        raise Rejected("the request names no ciphertext")
    if [entry.handle for entry in ciphertexts] != [reference.handle for reference in references]:
        raise ValueError("the ciphertexts are not those of the request")
    return [
        kms.TypedCiphertext(
            ciphertext=entry.body,
            fhe_type=fhe_type_of(entry.handle),
            external_handle=entry.handle,
            ciphertext_format=kms.CiphertextFormat(entry.format),
        )
        for entry in ciphertexts
    ]
