"""The releases of ``KMSGeneration``, what sets each apart (version, events, key types, migrations), and the hashes of what a Core signs.

Two releases say that they are 0.2.0: the one of the tag v0.14.0, and a later one whose only difference is the key types that it knows.
The EIP-712 hashes are written out here and not shared with the connector, so that an error of one is seen by the other. Knows neither
domains nor signers. Source: fhevm-0.15.md, 1.1, 1.2, 1.5 and 8; fhevm-0.14.md, 2.4.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.emulator.execution import Frame, Reverted
from kmsconn.ethereum.abi import Abi, hash_struct
from kmsconn.ethereum.keccak import keccak256
from kmsconn.protocols.fhevm.contracts import KMS_GENERATION, LATER_KMS_GENERATION

KeyDigests = tuple[tuple[int, bytes], ...]

_PREP = "PrepKeygenVerification(uint256 prepKeygenId,bytes extraData)"
_CRS = "CrsgenVerification(uint256 crsId,uint256 maxBitLength,bytes crsDigest,bytes extraData)"
_KEY_DIGEST = b"KeyDigest(uint8 keyType,bytes digest)"
_KEYGEN = b"KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests,bytes extraData)"


def prep_keygen_hash(prep_id: int, extra_data: bytes) -> bytes:
    """Return the hash of a finished preprocessing."""
    return hash_struct(_PREP, prep_id, extra_data)


def keygen_hash(prep_id: int, key_id: int, digests: KeyDigests, extra_data: bytes) -> bytes:
    """Return the hash of a key; the order of the digests is part of it."""
    pairs = (kind.to_bytes(32) + keccak256(digest) for kind, digest in digests)
    listed = b"".join(keccak256(keccak256(_KEY_DIGEST) + pair) for pair in pairs)
    words = prep_id.to_bytes(32) + key_id.to_bytes(32) + keccak256(listed) + keccak256(extra_data)
    return keccak256(keccak256(_KEYGEN + _KEY_DIGEST) + words)


def crsgen_hash(crs_id: int, max_bit_length: int, digest: bytes, extra_data: bytes) -> bytes:
    """Return the hash of a CRS."""
    return hash_struct(_CRS, crs_id, max_bit_length, digest, extra_data)


def named_pair(context_id: int, epoch_id: int) -> bytes:
    """Return the extraData that names a context and an epoch (section 6, version 2)."""
    return b"\x02" + context_id.to_bytes(32) + epoch_id.to_bytes(32)


FIRST_KEY_TYPES, LATER_KEY_TYPES = 2, 4
"""How many key types a contract knows, by its number: server and public; then also a reserved one and compressed key sets."""
COMPRESSED = 3
"""The key type of compressed key sets."""


@attrs.frozen
class GenerationRelease:
    """One release. ``key_types``: how many it knows. ``migrates``: whether a key may be made of an existing one."""

    version: str
    key_types: int
    migrates: bool = False

    @property
    def abi(self) -> Abi:
        """The interface, with the form of the events."""
        return LATER_KMS_GENERATION if self.migrates else KMS_GENERATION

    def named(self, existing: int) -> tuple[int, ...]:
        """Return what an event says of the key that is migrated: nothing before migrations."""
        return (existing,) if self.migrates else ()


TAGGED_0_2 = GenerationRelease("KMSGeneration v0.2.0", FIRST_KEY_TYPES)
"""0.2.0 as tagged with v0.14.0."""
LATER_0_2 = GenerationRelease("KMSGeneration v0.2.0", LATER_KEY_TYPES)
"""0.2.0 as on the branch after the tag."""
MIGRATING_0_3 = GenerationRelease("KMSGeneration v0.3.0", LATER_KEY_TYPES, migrates=True)
"""0.3.0."""


def check_types(digests: KeyDigests, key_types: int) -> None:
    """Refuse a key type that has no number among so many, as compiled code does: without data. Raises Reverted."""
    if any(kind >= key_types for kind, _ in digests):
        raise Reverted


def release_of(frame: Frame) -> GenerationRelease:
    """Return the release that runs at the address."""
    found: Any = frame.read("release", default=TAGGED_0_2)
    assert isinstance(found, GenerationRelease), "only `upgrade` writes it"
    return found
