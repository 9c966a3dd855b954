"""EIP-712 hashes of what a Core signs about keys and CRS. Knows neither domains nor signers.

Written out here and not shared with the connector, so that an error of one is seen by the other. Source: fhevm-0.14.md, 2.4.
"""

from __future__ import annotations

from kmsconn.ethereum.eip712 import hash_struct
from kmsconn.ethereum.keccak import keccak256

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
    listed = b"".join(
        keccak256(keccak256(_KEY_DIGEST) + kind.to_bytes(32) + keccak256(digest)) for kind, digest in digests
    )
    words = prep_id.to_bytes(32) + key_id.to_bytes(32) + keccak256(listed) + keccak256(extra_data)
    return keccak256(keccak256(_KEYGEN + _KEY_DIGEST) + words)


def crsgen_hash(crs_id: int, max_bit_length: int, digest: bytes, extra_data: bytes) -> bytes:
    """Return the hash of a CRS."""
    return hash_struct(_CRS, crs_id, max_bit_length, digest, extra_data)


def named_pair(context_id: int, epoch_id: int) -> bytes:
    """Return the extraData that names a context and an epoch (section 6, version 2)."""
    return b"\x02" + context_id.to_bytes(32) + epoch_id.to_bytes(32)
