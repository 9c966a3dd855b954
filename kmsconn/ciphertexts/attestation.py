"""Attestations of ciphertexts (RFC-023; fhevm-0.14.md 4.4, 4.5): read, hash, verify, and find the quorum. Never does I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Literal, Self

import msgspec

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address
from kmsconn.ethereum.hexes import from_hex, from_quantity
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import recover
from kmsconn.frozen import frozen

ATTESTATION_HEADER = "x-amz-meta-ct-attestation"
FORMAT_HEADER = "x-amz-meta-ct-format"
COPROCESSOR_CONTEXT_ID = 1
VERSION = 1

REMEMBERED_ATTESTATIONS = (
    1024  # attestations: a bucket's is read twice, and judged anew with each that comes in beside it
)

_DOMAIN = b"FHEVMCTA"
_WORD = 32
_SIGNATURE_BYTES = 65


BIG_COMPRESSED = 2
BIG_EXPANDED = 3


class StoredFormat(IntEnum):
    """How the coprocessor stored a ciphertext; the numbers are those of the signed bytes.

    ``as_core``: the number of kms.v1.CiphertextFormat (4.4), whether it must decompress it.
    """

    UNCOMPRESSED_ON_CPU = 10, BIG_EXPANDED
    COMPRESSED_ON_CPU = 11, BIG_COMPRESSED
    UNCOMPRESSED_ON_GPU = 20, BIG_EXPANDED
    COMPRESSED_ON_GPU = 21, BIG_COMPRESSED

    as_core: int

    def __new__(cls, number: int, as_core: int) -> Self:
        """Make a format."""
        made = int.__new__(cls, number)
        made._value_, made.as_core = number, as_core
        return made


_FORMATS = {member.name.lower(): member for member in StoredFormat}


class _Header(msgspec.Struct):
    version: Literal[1]
    key_id: str
    ciphertext_digest: str
    sns_ciphertext_digest: str
    format: str
    signer: str
    signature: str


@frozen
class Attestation:
    """What one coprocessor says about one ciphertext. Handle and context come from the object's path, not from here."""

    key_id: int
    ciphertext_digest: bytes
    sns_ciphertext_digest: bytes
    format: StoredFormat
    signer: Address
    signature: bytes

    @property
    def claim(self) -> tuple[int, bytes, bytes, int]:
        """What attestations must agree on; also the order that breaks a tie."""
        return (self.key_id, self.ciphertext_digest, self.sns_ciphertext_digest, int(self.format))


@lru_cache(REMEMBERED_ATTESTATIONS)
def parse_attestation(text: str) -> Attestation:
    """Read the JSON of the metadata header. Raises Undecodable: every key is needed, unknown keys are ignored."""
    try:
        header = msgspec.json.decode(text, type=_Header)
        return Attestation(
            key_id=from_quantity(header.key_id),
            ciphertext_digest=from_hex(header.ciphertext_digest, _WORD),
            sns_ciphertext_digest=from_hex(header.sns_ciphertext_digest, _WORD),
            format=_FORMATS[header.format],
            signer=Address(from_hex(header.signer, ADDRESS_BYTES)),
            signature=from_hex(f"0x{header.signature.removeprefix('0x')}"),
        )
    except (msgspec.DecodeError, ValueError, KeyError, RecursionError) as error:
        raise Undecodable(f"attestation header: {error}") from error


def signed_digest(handle: bytes, attestation: Attestation) -> bytes:
    """Return the Keccak-256 of the 170 bytes that the coprocessor signed (4.5; vector B.4)."""
    return keccak256(signed_bytes(handle, attestation))


def signed_bytes(handle: bytes, attestation: Attestation) -> bytes:
    """Return the 170 bytes that the coprocessor signed."""
    return b"".join(
        (
            _DOMAIN,
            bytes([VERSION]),
            handle,
            attestation.key_id.to_bytes(_WORD, "big"),
            COPROCESSOR_CONTEXT_ID.to_bytes(_WORD, "big"),
            attestation.ciphertext_digest,
            attestation.sns_ciphertext_digest,
            bytes([attestation.format]),
        )
    )


@lru_cache(REMEMBERED_ATTESTATIONS)
def is_genuine(handle: bytes, attestation: Attestation) -> bool:
    """Say whether the signature recovers to the signer it names."""
    if len(attestation.signature) != _SIGNATURE_BYTES:
        return False
    return recover(signed_digest(handle, attestation), attestation.signature) == attestation.signer


def consensus(
    handle: bytes, attestations: Iterable[Attestation], signers: frozenset[Address], threshold: int
) -> tuple[Attestation, ...]:
    """Return the winning group, one attestation of each signer; nothing when none of distinct genuine signers reaches the threshold.

    The largest group wins; of equally large ones that with the smallest claim (4.5).
    """
    groups: dict[tuple[int, bytes, bytes, int], dict[Address, Attestation]] = {}
    for attestation in attestations:
        if attestation.signer in signers and is_genuine(handle, attestation):
            groups.setdefault(attestation.claim, {})[attestation.signer] = attestation
    if not groups:
        return ()
    _, winner = min(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(winner.values()) if len(winner) >= threshold else ()


def ciphertext_format(headers: Mapping[str, str]) -> int:
    """Return the kms.v1.CiphertextFormat for an object's headers, lower-case names (4.4); no signature is checked for this."""
    try:
        return parse_attestation(headers.get(ATTESTATION_HEADER, "")).format.as_core
    except Undecodable:
        stored = _FORMATS.get(headers.get(FORMAT_HEADER, ""))
        return BIG_EXPANDED if stored is None else stored.as_core
