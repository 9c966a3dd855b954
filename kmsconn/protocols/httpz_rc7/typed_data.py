"""What users' contracts and the Core sign in the first generation, as EIP-712 digests. Never signs and never recovers.

Handles enter as the same words in both revisions of the contracts; only the name of their type differs, hence the hash of the struct.
Source: httpz-rc7.md, 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest

HANDLE_BYTES = 32
PUBLIC_TYPE = "PublicDecryptVerification({kind}[] ctHandles,bytes decryptedResult)"
USER_TYPE = "UserDecryptResponseVerification(bytes publicKey,{kind}[] ctHandles,bytes reencryptedShare)"
LINKER_TYPE = "UserDecryptionLinker(bytes publicKey,{kind}[] handles,address userAddress)"
OBJECT_TYPES = {
    "PublicKey": "FhePubKey(bytes pubkey)",
    "ServerKey": "FheServerKey(bytes server_key)",
    "SnsKey": "SnsKey(bytes sns_key)",
    "CRS": "CRS(bytes crs)",
}
"""Name of a generated object in the Core's answers → the struct that is signed for it; a decompression key has none."""


def public_digest(domain: Domain, handles: Sequence[bytes], result: bytes, *, numeric: bool) -> bytes:
    """Return what a node signs for a public decryption."""
    kind, words = _handles(handles, numeric=numeric)
    return signing_digest(domain, hash_struct(PUBLIC_TYPE.format(kind=kind), words, result))


def user_digest(
    domain: Domain, public_key: bytes, handles: Sequence[bytes], share: bytes, *, numeric: bool
) -> bytes:
    """Return what a node signs for a user decryption; ``share`` is the bincode image (2.4)."""
    kind, words = _handles(handles, numeric=numeric)
    return signing_digest(domain, hash_struct(USER_TYPE.format(kind=kind), public_key, words, share))


def link_digest(
    domain: Domain, public_key: bytes, handles: Sequence[bytes], user: Address, *, numeric: bool
) -> bytes:
    """Return what ties a Core's answer to the request of its user (3.4)."""
    kind, words = _handles(handles, numeric=numeric)
    return signing_digest(domain, hash_struct(LINKER_TYPE.format(kind=kind), public_key, words, user))


def object_digest(domain: Domain, name: str, key_handle: bytes) -> bytes:
    """Return what a node signs for a key or a CRS, whose SHA3-256 is its handle. Raises KeyError for a name without a struct."""
    return signing_digest(domain, hash_struct(OBJECT_TYPES[name], key_handle))


def _handles(handles: Sequence[bytes], *, numeric: bool) -> tuple[str, list[Any]]:
    """Return the name of the handles' type, and the handles as its values; short ones are filled up on the left."""
    if numeric:
        return "uint256", [int.from_bytes(handle) for handle in handles]
    return "bytes32", [handle.rjust(HANDLE_BYTES, b"\0") for handle in handles]
