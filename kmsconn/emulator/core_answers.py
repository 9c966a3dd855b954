"""The answers of one KMS node: decrypted values and sealed shares, genuinely signed. A pure function of job and key.

Source: kms-core-grpc.md, sections 7-11; 11.2 for nodes of a threshold set, which all hold the same share here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs

from kmsconn._generated.fhevm.kms.v1 import (
    PublicDecryptionResponse,
    PublicDecryptionResponsePayload,
    RequestId,
    TypedPlaintext,
    TypedSigncryptedCiphertext,
    UserDecryptionResponse,
    UserDecryptionResponsePayload,
)
from kmsconn.emulator.core_requests import CoreRelease, Item, Job, SignatureFields, User, signature_fields
from kmsconn.emulator.plaintexts import abi_word, constant_share, little_endian, public_payload
from kmsconn.emulator.signcryption import Randomness, sign_sha256, signcrypt, verification_key
from kmsconn.ethereum.eip712 import hash_struct, signing_digest
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols import bincode
from kmsconn.protocols.fhevm.decryptions import public_digest
from kmsconn.protocols.fhevm.user_decryption import user_digest
from kmsconn.protocols.protobuf import encode

LINKER_TYPE = "UserDecryptionLinker(bytes publicKey,bytes32[] handles,address userAddress)"
_PUBLIC_DECRYPTION, _USER_DECRYPTION = b"PUBL_DEC", b"USER_DEC"
_HANDLE_BYTES = 32


class JobFailed(Exception):  # noqa: N818 - it did
    """The job ends with this error text, which only the Core's log shows."""


@attrs.frozen
class SigningNode:
    """Who answers: its signer key, its number in the committee, the sharing degree (0: a centralised Core), its Core's release."""

    key: PrivateKey
    party_id: int = 1
    degree: int = 0
    release: CoreRelease = CoreRelease.V0_14

    @property
    def verification_key(self) -> bytes:
        """The 41 bytes that name the key in answers."""
        return verification_key(self.key.public_key)

    def sign(self, digest: bytes, schemes: Sequence[int]) -> SignatureFields:
        """Sign a digest, for a request that names these signing schemes."""
        return signature_fields(self.release, schemes, self.key.sign(digest))

    def sign_inner(self, signed: bytes) -> bytes:
        """Return what nobody on chain reads, and no Core from 0.16 on gives."""
        return b"" if self.release is CoreRelease.V0_16 else sign_sha256(self.key, signed)


def answer(node: SigningNode, job: Job, randomness: Callable[[int], Randomness]) -> bytes:
    """Return the protobuf bytes of a job's answer; ``randomness`` serves each share by its place. Raises JobFailed."""
    try:
        if job.user is None:
            return bytes(encode(public_answer(node, job)))
        return bytes(encode(user_answer(node, job, job.user, randomness)))
    except ValueError as error:
        raise JobFailed(str(error)) from error


def public_answer(node: SigningNode, job: Job) -> PublicDecryptionResponse:
    """Decrypt for everybody. Raises ValueError for what cannot be decrypted or written for the contract."""
    values = [(item.fhe_type, _value(item)) for item in job.items]
    payload = PublicDecryptionResponsePayload(
        verification_key=node.verification_key,
        plaintexts=[
            TypedPlaintext(bytes=little_endian(value, kind), fhe_type=kind) for kind, value in values
        ],
        request_id=RequestId(request_id=job.request_id.hex()),
    )
    result = b"".join(abi_word(value, kind) for kind, value in values)
    signed = node.sign(public_digest(job.domain, job.handles, result, job.extra_data), job.schemes)
    return PublicDecryptionResponse(
        signature=node.sign_inner(_PUBLIC_DECRYPTION + public_payload(payload)),
        external_signature=signed.external,
        payload=payload,
        extra_data=job.extra_data,
        signatures=signed.by_scheme,
    )


def user_answer(
    node: SigningNode, job: Job, user: User, randomness: Callable[[int], Randomness]
) -> UserDecryptionResponse:
    """Seal for one user. Raises ValueError for what cannot be decrypted."""
    link = link_digest(job, user)
    seal = partial(_share, node, user, link)
    payload = UserDecryptionResponsePayload(
        verification_key=node.verification_key,
        digest=link,
        signcrypted_ciphertexts=[seal(item, randomness(place)) for place, item in enumerate(job.items)],
        party_id=node.party_id,
        degree=node.degree,
    )
    image = bincode.encode(bincode.payload_of(payload))
    digest = user_digest(job.domain, user.enc_key, job.handles, image, job.extra_data)
    signed = node.sign(digest, job.schemes)
    return UserDecryptionResponse(
        signature=node.sign_inner(_USER_DECRYPTION + image),
        external_signature=signed.external,
        payload=payload,
        extra_data=job.extra_data,
        signatures=signed.by_scheme,
    )


def link_digest(job: Job, user: User) -> bytes:
    """Return what ties an answer to its request (section 6.4)."""
    return signing_digest(job.domain, hash_struct(LINKER_TYPE, user.enc_key, job.handles, user.client))


def _share(
    node: SigningNode, user: User, link: bytes, item: Item, randomness: Randomness
) -> TypedSigncryptedCiphertext:
    value = _value(item)
    plaintext = little_endian(value, item.fhe_type)
    sealed = signcrypt(
        constant_share(value, item.fhe_type) if node.degree else plaintext,
        item.fhe_type,
        link=link,
        client=user.client,
        enc_key=user.enc_key,
        key=node.key,
        randomness=randomness,
    )
    return TypedSigncryptedCiphertext(
        fhe_type=item.fhe_type,
        signcrypted_ciphertext=sealed,
        external_handle=item.handle,
        packing_factor=1,
    )


def _value(item: Item) -> int:
    if len(item.handle) > _HANDLE_BYTES:
        raise ValueError("a handle is longer than 32 bytes")
    if item.value is None:
        raise ValueError("the ciphertext cannot be deserialised")
    return item.value
