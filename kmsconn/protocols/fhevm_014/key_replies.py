"""Answers of the Core to key management, and the replies made from them. Never trusts an answer further than its bytes go.

An answer that no honest Core gives raises Broken. Whose its signatures are, is for the caller to compare.
Source: fhevm-0.14.md, 2.1-2.5.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.errors import Broken, Rejected
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.steps import Answer
from kmsconn.protocols.answers import NEIGHBOUR, read_message, signer_of
from kmsconn.protocols.fhevm_014 import extra_data
from kmsconn.protocols.fhevm_014.abi import KMS_GENERATION, PROTOCOL_CONFIG
from kmsconn.protocols.fhevm_014.key_events import Crsgen, Keygen, NewContext, NewEpoch, PrepKeygen
from kmsconn.protocols.fhevm_014.key_messages import KEY_TYPES

_NUMBERS = {name: number for number, name in KEY_TYPES.items()}

PREP_TYPE = "PrepKeygenVerification(uint256 prepKeygenId,bytes extraData)"
KEY_TYPE = (
    "KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests,bytes extraData)"
    "KeyDigest(uint8 keyType,bytes digest)"
)
CRS_TYPE = "CrsgenVerification(uint256 crsId,uint256 maxBitLength,bytes crsDigest,bytes extraData)"

PREP_RESPONSE = KMS_GENERATION.function("prepKeygenResponse")
KEY_RESPONSE = KMS_GENERATION.function("keygenResponse")
CRS_RESPONSE = KMS_GENERATION.function("crsgenResponse")
CONFIRM_CONTEXT = PROTOCOL_CONFIG.function("confirmKmsContextCreation")
CONFIRM_EPOCH = PROTOCOL_CONFIG.function("confirmEpochActivation")

Digests = tuple[tuple[int, bytes], ...]


def prep_digest(domain: Domain, identifier: int, carried: bytes) -> bytes:
    """Return what a node signs for a preparation; ``carried`` is the event's extraData (2.4)."""
    return signing_digest(domain, hash_struct(PREP_TYPE, identifier, carried))


def key_digest(domain: Domain, prep_id: int, identifier: int, digests: Digests, carried: bytes) -> bytes:
    """Return what a node signs for a key; the digests in the order of the answer (2.4)."""
    return signing_digest(domain, hash_struct(KEY_TYPE, prep_id, identifier, digests, carried))


def crs_digest(domain: Domain, identifier: int, max_bits: int, digest: bytes, carried: bytes) -> bytes:
    """Return what a node signs for a common reference string (2.4)."""
    return signing_digest(domain, hash_struct(CRS_TYPE, identifier, max_bits, digest, carried))


def read_prep(domain: Domain, content: PrepKeygen, reply: bytes) -> Answer:
    """Read a KeyGenPreprocResult. Raises Broken."""
    from kmsconn._generated.fhevm_014.kms.v1 import KeyGenPreprocResult

    message = read_message(KeyGenPreprocResult, reply)
    _expect_id(message.preprocessing_id, content.id)
    signature = message.external_signature
    signer = signer_of(prep_digest(domain, content.id, content.extra_data), signature)
    return Answer(PREP_RESPONSE.encode(content.id, signature), signer)


def read_key(domain: Domain, content: Keygen, reply: bytes) -> Answer:
    """Read a KeyGenResult. Raises Broken."""
    from kmsconn._generated.fhevm_014.kms.v1 import KeyGenResult

    message = read_message(KeyGenResult, reply)
    _expect_id(message.request_id, content.id)
    _expect_id(message.preprocessing_id, content.prep_id)
    digests = _digests(message)
    signature = message.external_signature
    signed = key_digest(domain, content.prep_id, content.id, digests, content.extra_data)
    return Answer(KEY_RESPONSE.encode(content.id, digests, signature), signer_of(signed, signature))


def read_crs(domain: Domain, content: Crsgen, reply: bytes) -> Answer:
    """Read a CrsGenResult; its size must be the requested one, which the contract hashes. Raises Broken."""
    from kmsconn._generated.fhevm_014.kms.v1 import CrsGenResult

    message = read_message(CrsGenResult, reply)
    _expect_id(message.request_id, content.id)
    if message.max_num_bits != content.max_bits:
        raise Broken(NEIGHBOUR, f"the CRS is for {message.max_num_bits} bits, not {content.max_bits}")
    signature = message.external_signature
    signed = crs_digest(domain, content.id, content.max_bits, message.crs_digest, content.extra_data)
    return Answer(
        CRS_RESPONSE.encode(content.id, message.crs_digest, signature), signer_of(signed, signature)
    )


def confirm_context(content: NewContext) -> Answer:
    """Return the confirmation of a context; that the Core took it is all that it says, so nobody signs it."""
    return Answer(CONFIRM_CONTEXT.encode(content.id), None)


@attrs.frozen
class _Reshared:
    """What an epoch's answer comes to: the two arrays of the reply in the answer's order, and who signed their members."""

    keys: tuple[tuple[int, int, Digests, bytes], ...]
    crs: tuple[tuple[int, int, bytes, bytes], ...]
    signers: frozenset[Address]


def read_epoch(domain: Domain, content: NewEpoch, reply: bytes) -> Answer:
    """Read an EpochResultResponse. The contract hashes the arrays in their order, which is that of the answer (2.5).

    Raises Broken; Rejected for one without a key or without a CRS, which no contract takes.
    """
    found = _reshared(domain, extra_data.build(content.context_id, content.id), reply)
    if not found.keys or not found.crs:
        raise Rejected("an epoch without a key, or without a common reference string, cannot be activated")
    if len(found.signers) != 1:
        raise Broken(NEIGHBOUR, f"the epoch's keys are signed by {len(found.signers)} different signers")
    [signer] = found.signers
    return Answer(CONFIRM_EPOCH.encode(content.id, found.keys, found.crs), signer)


def _reshared(domain: Domain, carried: bytes, reply: bytes) -> _Reshared:
    from kmsconn._generated.fhevm_014.kms.v1 import EpochResultResponse

    message = read_message(EpochResultResponse, reply)
    keys, crs, signers = [], [], set()
    for one in message.reshare_responses:
        prep_id, identifier, digests = _id(one.preprocessing_id), _id(one.request_id), _digests(one)
        signature = one.external_signature
        signers.add(signer_of(key_digest(domain, prep_id, identifier, digests, carried), signature))
        keys.append((prep_id, identifier, digests, signature))
    for one in message.crs_responses:
        identifier, bits, digest = _id(one.request_id), one.max_num_bits, one.crs_digest
        signature = one.external_signature
        signers.add(signer_of(crs_digest(domain, identifier, bits, digest, carried), signature))
        crs.append((identifier, bits, digest, signature))
    return _Reshared(tuple(keys), tuple(crs), frozenset(signers))


def _digests(message: Any) -> Digests:
    """Return the digests with the contract's numbers of their types. Raises Broken for a type that it does not have."""
    for one in message.key_digests:
        if one.key_type not in _NUMBERS:
            raise Broken(NEIGHBOUR, f"the contract has no key type {one.key_type[:64]!r}")
    return tuple((_NUMBERS[one.key_type], one.digest) for one in message.key_digests)


def _expect_id(message: Any, expected: int) -> None:
    if _id(message) != expected:
        raise Broken(NEIGHBOUR, f"the answer to {id_hex(expected)} names {id_hex(_id(message))}")


def _id(message: Any) -> int:
    text = "" if message is None else message.request_id
    if len(text) != _DIGITS or not set(text) <= set("0123456789abcdef"):
        raise Broken(NEIGHBOUR, "the answer has no id where one belongs")
    return int(text, 16)


_DIGITS = 64
