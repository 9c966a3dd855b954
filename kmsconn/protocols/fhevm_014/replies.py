"""Answers of the Core, and the replies made from them. Never trusts an answer further than its bytes go.

An answer that no honest Core gives raises Broken: another id or extraData, another number of values, no payload, a
signature that the contract would not take. Whose the signature is, is for the caller to compare.
Source: fhevm-0.14.md, 2.1-2.4; outcomes: row "answer".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kmsconn.errors import Broken, Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.handles import PLAINTEXT_BITS
from kmsconn.ethereum.ids import id_hex
from kmsconn.ethereum.signing import SIGNATURE_BYTES, is_canonical, recover
from kmsconn.model.requests import Content, PublicDecryption, UserDecryption
from kmsconn.model.steps import Answer
from kmsconn.protocols.fhevm_014 import bincode
from kmsconn.protocols.fhevm_014.abi import DECRYPTION
from kmsconn.protocols.fhevm_014.extra_data import normalise
from kmsconn.protocols.protobuf import decode

PUBLIC_TYPE = "PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)"
USER_TYPE = (
    "UserDecryptResponseVerification("
    "bytes publicKey,bytes32[] ctHandles,bytes userDecryptedShare,bytes extraData)"
)
PUBLIC_RESPONSE = DECRYPTION.function("publicDecryptionResponse")
USER_RESPONSE = DECRYPTION.function("userDecryptionResponse")

WORD = 32
_NEIGHBOUR = "core"


def read_answer(domain: Domain, content: Content, reply: bytes) -> Answer:
    """Read an answer strictly, recover its signer and build the calldata of the reply. Raises Broken."""
    if isinstance(content, PublicDecryption):
        return _read_public(domain, content, reply)
    return _read_user(domain, content, reply)


def _read_public(domain: Domain, content: PublicDecryption, reply: bytes) -> Answer:
    from kmsconn._generated.fhevm_014.kms.v1 import PublicDecryptionResponse

    message = _decode(PublicDecryptionResponse, reply)
    payload = _payload(message)
    if payload.request_id is None or payload.request_id.request_id != id_hex(content.id):
        raise Broken(_NEIGHBOUR, f"the answer to {id_hex(content.id)} names another request")
    _expect_count(content, payload.plaintexts)
    result = decrypted_result([(entry.fhe_type, entry.bytes) for entry in payload.plaintexts])
    extra_data = _extra_data(content, message)
    digest = public_digest(domain, _handles(content), result, extra_data)
    signature = message.external_signature
    signer = _signer(digest, signature)
    return Answer(PUBLIC_RESPONSE.encode(content.id, result, signature, extra_data), signer)


def _read_user(domain: Domain, content: UserDecryption, reply: bytes) -> Answer:
    from kmsconn._generated.fhevm_014.kms.v1 import UserDecryptionResponse

    message = _decode(UserDecryptionResponse, reply)
    payload = _payload(message)
    _expect_count(content, payload.signcrypted_ciphertexts)
    if [entry.external_handle for entry in payload.signcrypted_ciphertexts] != _handles(content):
        raise Broken(_NEIGHBOUR, f"the answer to {id_hex(content.id)} is for other handles")
    share = bincode.encode(share_payload(payload))
    extra_data = _extra_data(content, message)
    digest = user_digest(domain, content.public_key, _handles(content), share, extra_data)
    signature = message.external_signature
    signer = _signer(digest, signature)
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


def _decode(kind: Any, reply: bytes) -> Any:
    try:
        return decode(kind, reply)
    except Undecodable as error:
        raise Broken(_NEIGHBOUR, f"the answer is no {kind.__name__}: {error}") from error


def _payload(message: Any) -> Any:
    if message.payload is None:
        raise Broken(_NEIGHBOUR, "the answer has no payload")
    return message.payload


def _expect_count(content: Content, values: Sequence[object]) -> None:
    if len(values) != len(content.materials):
        raise Broken(_NEIGHBOUR, f"the answer has {len(values)} values for {len(content.materials)} handles")


def _extra_data(content: Content, message: Any) -> bytes:
    extra_data: bytes = message.extra_data
    if extra_data != normalise(content.extra_data):
        raise Broken(_NEIGHBOUR, "the answer carries other extraData than the request")
    return extra_data


def _signer(digest: bytes, signature: bytes) -> Address:
    if len(signature) != SIGNATURE_BYTES:
        raise Broken(_NEIGHBOUR, f"the signature has {len(signature)} bytes, not {SIGNATURE_BYTES}")
    signer = recover(digest, signature) if is_canonical(signature) else None
    if signer is None:
        raise Broken(_NEIGHBOUR, "the signature is none that the contract takes")
    return signer


def _word(fhe_type: int, plaintext: bytes) -> bytes:
    if fhe_type not in PLAINTEXT_BITS:
        raise Broken(_NEIGHBOUR, f"a plaintext has FHE type {fhe_type}, which the Gateway does not take")
    if len(plaintext) > WORD:
        raise Broken(_NEIGHBOUR, f"a plaintext has {len(plaintext)} bytes, more than a word")
    return plaintext[::-1].rjust(WORD, b"\0")


def _handles(content: Content) -> list[bytes]:
    return [material.handle for material in content.materials]
