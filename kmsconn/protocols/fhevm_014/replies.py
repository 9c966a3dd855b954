"""Answers of the Core, and the replies made from them. Never trusts an answer further than its bytes go.

An answer that no honest Core gives raises Broken: another id or extraData, another number of values, no payload, a
signature that the contract would not take. Whose the signature is, is for the caller to compare.
Source: fhevm-0.14.md, 2.1-2.4; outcomes: row "answer".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kmsconn.errors import Broken
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.handles import PLAINTEXT_BITS
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Decryption, PublicDecryption, UserDecryption
from kmsconn.model.steps import Answer
from kmsconn.protocols import bincode
from kmsconn.protocols.answers import NEIGHBOUR, expect_count, payload_of, read_message, signer_of
from kmsconn.protocols.fhevm_014.abi import DECRYPTION
from kmsconn.protocols.fhevm_014.extra_data import normalise

PUBLIC_TYPE = "PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)"
USER_TYPE = (
    "UserDecryptResponseVerification("
    "bytes publicKey,bytes32[] ctHandles,bytes userDecryptedShare,bytes extraData)"
)
PUBLIC_RESPONSE = DECRYPTION.function("publicDecryptionResponse")
USER_RESPONSE = DECRYPTION.function("userDecryptionResponse")

WORD = 32


def read_answer(domain: Domain, content: Decryption, reply: bytes) -> Answer:
    """Read an answer strictly, recover its signer and build the calldata of the reply. Raises Broken."""
    if isinstance(content, PublicDecryption):
        return _read_public(domain, content, reply)
    return _read_user(domain, content, reply)


def _read_public(domain: Domain, content: PublicDecryption, reply: bytes) -> Answer:
    from kmsconn._generated.fhevm_014.kms.v1 import PublicDecryptionResponse

    message = read_message(PublicDecryptionResponse, reply)
    payload = payload_of(message)
    if payload.request_id is None or payload.request_id.request_id != id_hex(content.id):
        raise Broken(NEIGHBOUR, f"the answer to {id_hex(content.id)} names another request")
    expect_count(len(content.materials), payload.plaintexts)
    result = decrypted_result([(entry.fhe_type, entry.bytes) for entry in payload.plaintexts])
    extra_data = _extra_data(content, message)
    digest = public_digest(domain, _handles(content), result, extra_data)
    signature = message.external_signature
    signer = signer_of(digest, signature)
    return Answer(PUBLIC_RESPONSE.encode(content.id, result, signature, extra_data), signer)


def _read_user(domain: Domain, content: UserDecryption, reply: bytes) -> Answer:
    from kmsconn._generated.fhevm_014.kms.v1 import UserDecryptionResponse

    message = read_message(UserDecryptionResponse, reply)
    payload = payload_of(message)
    expect_count(len(content.materials), payload.signcrypted_ciphertexts)
    if [entry.external_handle for entry in payload.signcrypted_ciphertexts] != _handles(content):
        raise Broken(NEIGHBOUR, f"the answer to {id_hex(content.id)} is for other handles")
    share = bincode.encode(share_payload(payload))
    extra_data = _extra_data(content, message)
    digest = user_digest(domain, content.public_key, _handles(content), share, extra_data)
    signature = message.external_signature
    signer = signer_of(digest, signature)
    return Answer(USER_RESPONSE.encode(content.id, share, signature, extra_data), signer)


def decrypted_result(plaintexts: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the words of (FHE type, little-endian bytes) one after the other (2.2).

    Raises Broken for a type that the Gateway does not take, or more than 32 bytes.
    """
    return b"".join(_word(fhe_type, plaintext) for fhe_type, plaintext in plaintexts)


def public_digest(domain: Domain, handles: Sequence[bytes], result: bytes, extra_data: bytes) -> bytes:
    """Return what a node signs for a public decryption (2.4)."""
    return signing_digest(domain, hash_struct(PUBLIC_TYPE, handles, result, extra_data))


def user_digest(
    domain: Domain, public_key: bytes, handles: Sequence[bytes], share: bytes, extra_data: bytes
) -> bytes:
    """Return what a node signs for a user decryption; ``share`` is the bincode image (2.4)."""
    return signing_digest(domain, hash_struct(USER_TYPE, public_key, handles, share, extra_data))


def share_payload(message: Any) -> bincode.SharePayload:
    """Return a kms.v1.UserDecryptionResponsePayload as the values that are signed."""
    shares = tuple(
        bincode.Share(
            entry.fhe_type, entry.signcrypted_ciphertext, entry.external_handle, entry.packing_factor
        )
        for entry in message.signcrypted_ciphertexts
    )
    return bincode.SharePayload(
        message.verification_key, message.digest, shares, message.party_id, message.degree
    )


def _extra_data(content: Decryption, message: Any) -> bytes:
    extra_data: bytes = message.extra_data
    if extra_data != normalise(content.extra_data):
        raise Broken(NEIGHBOUR, "the answer carries other extraData than the request")
    return extra_data


def _word(fhe_type: int, plaintext: bytes) -> bytes:
    if fhe_type not in PLAINTEXT_BITS:
        raise Broken(NEIGHBOUR, f"a plaintext has FHE type {fhe_type}, which the Gateway does not take")
    if len(plaintext) > WORD:
        raise Broken(NEIGHBOUR, f"a plaintext has {len(plaintext)} bytes, more than a word")
    return plaintext[::-1].rjust(WORD, b"\0")


def _handles(content: Decryption) -> list[bytes]:
    return [material.handle for material in content.materials]
