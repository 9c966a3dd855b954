"""Requests and Cores for the tests of the emulated Core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kmsconn._generated.fhevm.kms.v1 import (
    CiphertextFormat,
    Eip712DomainMsg,
    PublicDecryptionRequest,
    RequestId,
    TypedCiphertext,
    UserDecryptionRequest,
)
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, make_ciphertext
from kmsconn.emulator.core import CoreOperation, EmulatedCore
from kmsconn.emulator.core_keys import SigningNode
from kmsconn.emulator.core_requests import DEFAULT_KEY, CoreRelease
from kmsconn.emulator.signcryption import UserKey
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey

SIGNER = PrivateKey(bytes(31) + b"\x01")
CLIENT = PrivateKey(bytes(31) + b"\x41").address
DOMAIN = Domain("Decryption", "1", 54321, Address(bytes(range(0xC0, 0xD4))))
USER_KEY = UserKey.from_seed(bytes(64))
ONE = make_ciphertext("one", 123_456_789, 5, chain_id=12345)
TWO = make_ciphertext("two", 1, 0, chain_id=12345)
PLAINTEXTS = {each.body: each.value for each in (ONE, TWO)}


def core(release: CoreRelease = CoreRelease.V0_14, **knobs: Any) -> EmulatedCore:
    return EmulatedCore(SigningNode(SIGNER, release=release), PLAINTEXTS, **knobs)


def threshold_core(release: CoreRelease = CoreRelease.V0_14, **knobs: Any) -> EmulatedCore:
    return EmulatedCore(SigningNode(SIGNER, 2, 1, release), PLAINTEXTS, **knobs)


def public_id(number: int) -> bytes:
    return make_id(PUBLIC_DECRYPTION_TAG, number).to_bytes(32)


def user_id(number: int) -> bytes:
    return make_id(USER_DECRYPTION_TAG, number).to_bytes(32)


def name(raw: bytes) -> RequestId:
    return RequestId(request_id=raw.hex())


def domain_message() -> Eip712DomainMsg:
    return Eip712DomainMsg(
        name=DOMAIN.name,
        version=DOMAIN.version,
        chain_id=DOMAIN.chain_id.to_bytes(32),
        verifying_contract=checksum(DOMAIN.verifying_contract),
    )


def typed(ciphertext: EmulatedCiphertext) -> TypedCiphertext:
    return TypedCiphertext(
        ciphertext=ciphertext.body,
        fhe_type=ciphertext.fhe_type,
        external_handle=ciphertext.handle,
        ciphertext_format=CiphertextFormat.BigExpanded,
    )


def public_request(
    number: int = 1, ciphertexts: Sequence[EmulatedCiphertext] = (ONE, TWO), **members: Any
) -> PublicDecryptionRequest:
    content: dict[str, Any] = {
        "request_id": name(public_id(number)),
        "ciphertexts": [typed(each) for each in ciphertexts],
        "key_id": name(DEFAULT_KEY),
        "domain": domain_message(),
        "extra_data": b"",
    }
    return PublicDecryptionRequest(**(content | members))


def user_request(
    number: int = 1, ciphertexts: Sequence[EmulatedCiphertext] = (ONE, TWO), **members: Any
) -> UserDecryptionRequest:
    content: dict[str, Any] = {
        "request_id": name(user_id(number)),
        "typed_ciphertexts": [typed(each) for each in ciphertexts],
        "key_id": name(DEFAULT_KEY),
        "client_address": checksum(CLIENT),
        "enc_key": USER_KEY.enc_key,
        "domain": domain_message(),
        "extra_data": b"",
    }
    return UserDecryptionRequest(**(content | members))


async def poll(emulated: EmulatedCore, operation: CoreOperation, request_id: bytes) -> bytes:
    return await emulated.result(operation, bytes(name(request_id)))
