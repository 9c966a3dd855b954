"""What requests to the Core of the first generation have in common, and the typed data that users' contracts and the Core sign.

Never a whole request, and never a signature. Handles enter typed data as the same words in both revisions of the contracts; only the name
of their type differs, hence the hash of the struct. Source: httpz-rc7.md, 3.2, 3.3, 8.2 and 8.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.ids import fhe_type_of, id_hex
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.port import CoreCall
from kmsconn.protocols.proto_writer import encode


def request_id(identifier: int) -> kms.RequestId:
    """Return an id as the Core knows it."""
    return kms.RequestId(id_hex(identifier))


@lru_cache
def domain_message(domain: Domain) -> kms.Eip712DomainMsg:
    """Return a domain with its chain id in 32 bytes, its address by EIP-55, and no salt (3.2)."""
    return kms.Eip712DomainMsg(
        name=domain.name,
        version=domain.version,
        chain_id=domain.chain_id.to_bytes(32),
        verifying_contract=checksum(domain.verifying_contract),
    )


def typed_ciphertexts(ciphertexts: Sequence[Ciphertext]) -> list[kms.TypedCiphertext]:
    """Return ciphertexts in their order, each with the FHE type that its handle names; their bytes are not copied."""
    return [
        kms.TypedCiphertext(
            ciphertext=entry.body,
            fhe_type=kms.FheType(fhe_type_of(entry.handle)),
            external_handle=entry.handle,
            ciphertext_format=kms.CiphertextFormat(entry.format),
        )
        for entry in ciphertexts
    ]


def long_poll(method: str, identifier: int) -> CoreCall:
    """Return the call that waits for a result."""
    return CoreCall(method, encode(request_id(identifier)), identifier)


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
