"""Key generation: the preparation (E1) and the key (E2).

Source: fhevm-0.14.md, 1.5, 2.4, 5.4; annexes A and E.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Broken, Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.ids import PREP_KEYGEN_TAG
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answer, Ciphertext
from kmsconn.protocols.answers import DEPENDENCY, read_message, signature_of, signer_of
from kmsconn.protocols.fhevm.abi import KMS_GENERATION
from kmsconn.protocols.fhevm.key_management import (
    GENERATION_VERDICTS,
    LONG_POLL,
    PARAMETERS,
    Generation,
    expect_id,
)
from kmsconn.protocols.fhevm.messages import (
    SIGNING_SCHEMES,
    domain_message,
    long_poll,
    optional_id,
    request_id,
)
from kmsconn.protocols.fhevm.operations import UnderContext
from kmsconn.protocols.port import CoreCall, Numbering, RequestEvent, Verdict, id_in_data
from kmsconn.protocols.proto_writer import encode

PREP_RESPONSE = KMS_GENERATION.function("prepKeygenResponse")
KEY_RESPONSE = KMS_GENERATION.function("keygenResponse")
PREP_TYPE = "PrepKeygenVerification(uint256 prepKeygenId,bytes extraData)"
KEY_TYPE = (
    "KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests,bytes extraData)"
    "KeyDigest(uint8 keyType,bytes digest)"
)
KEY_TYPES = {0: "ServerKey", 1: "PublicKey", 3: "CompressedXofKeySet"}
"""The contract's numbers of key types with their names; the last one is of compressed key sets (annex C)."""

_NUMBERS = {name: number for number, name in KEY_TYPES.items()}
Digests = tuple[tuple[int, bytes], ...]


@attrs.frozen
class PrepKeygen(UnderContext):
    """A request to prepare the generation of a key. ``params``: 0 default, 1 test."""

    id: int
    params: int
    extra_data: bytes

    kind = Kind.PREP_KEYGEN

    @classmethod
    def read(cls, identifier: int, params: int, extra_data: bytes) -> PrepKeygen:
        """Return what the event asks for. Raises Undecodable for parameters that have no name."""
        if params not in PARAMETERS:
            raise Undecodable(f"parameters of type {params} are not known")
        return cls(identifier, params, extra_data)


class PrepKeygens(Generation[PrepKeygen]):
    """The row of preparations."""

    kind = Kind.PREP_KEYGEN
    events = (RequestEvent(KMS_GENERATION.event("PrepKeygenRequest"), PrepKeygen.read, id_in_data),)
    stages: ClassVar[Mapping[str, float]] = LONG_POLL
    reply = PREP_RESPONSE
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KmsAlreadySignedForPrepKeygen": Verdict.DONE,
        "PrepKeygenNotRequested": Verdict.RETRY,
        **GENERATION_VERDICTS,
    }

    def numbering(self) -> Numbering:
        """Return the counter of preparations; a key has an event only if its preparation succeeds (annex E.2)."""
        return Numbering(self.kind, PREP_KEYGEN_TAG, self.ask.generation.newest_prep_id())

    def start_calls(
        self,
        content: PrepKeygen,
        ciphertexts: Sequence[Ciphertext],
        found: Any,
    ) -> tuple[CoreCall, ...]:
        """Return the start of a preparation."""
        context_id, epoch_id = content.context
        message = kms.KeyGenPreprocRequest(
            request_id=request_id(content.id),
            params=kms.FheParameter(content.params),
            keyset_config=self.deployment.key_set,
            domain=domain_message(self.deployment.generation),
            context_id=optional_id(context_id),
            epoch_id=optional_id(epoch_id),
            extra_data=content.extra_data,
            signing_schemes=SIGNING_SCHEMES,
        )
        return (CoreCall("KeyGenPreproc", encode(message), content.id),)

    def result_call(self, content: PrepKeygen) -> CoreCall:
        """Return the long poll."""
        return long_poll("GetKeyGenPreprocResult", content.id, content.id)

    def read_answer(self, content: PrepKeygen, reply: bytes | None, expected: Address | None) -> Answer:
        """Read the signature over the preparation. Raises Broken."""
        message = read_message(kms.KeyGenPreprocResult, reply or b"")
        expect_id(message.preprocessing_id, content.id)
        signature = signature_of(message)
        signer = signer_of(prep_digest(self.deployment.generation, content.id, content.extra_data), signature)
        return Answer(PREP_RESPONSE.encode(content.id, signature), signer)


@attrs.frozen
class Keygen(UnderContext):
    """A request to generate the key that was prepared as ``prep_id``."""

    prep_id: int
    id: int
    extra_data: bytes

    kind = Kind.KEYGEN


class Keygens(Generation[Keygen]):
    """The row of keys."""

    kind = Kind.KEYGEN
    events = (RequestEvent(KMS_GENERATION.event("KeygenRequest"), Keygen),)
    stages: ClassVar[Mapping[str, float]] = {
        **LONG_POLL,
        "submit": 120.0,
    }  # its start waits for a preparation that is still under way
    reply = KEY_RESPONSE
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KmsAlreadySignedForKeygen": Verdict.DONE,
        "KeygenNotRequested": Verdict.RETRY,
        "KeyManagementRequestPending": Verdict.RETRY,
        "EmptyKeyDigests": Verdict.FINAL,
        **GENERATION_VERDICTS,
    }

    def start_calls(
        self,
        content: Keygen,
        ciphertexts: Sequence[Ciphertext],
        found: Any,
    ) -> tuple[CoreCall, ...]:
        """Return the start of a key generation; it meets the endpoint that has its preparation."""
        context_id, epoch_id = content.context
        message = kms.KeyGenRequest(
            request_id=request_id(content.id),
            preproc_id=request_id(content.prep_id),
            domain=domain_message(self.deployment.generation),
            keyset_config=self.deployment.key_set,
            context_id=optional_id(context_id),
            epoch_id=optional_id(epoch_id),
            extra_data=content.extra_data,
            signing_schemes=SIGNING_SCHEMES,
        )
        return (CoreCall("KeyGen", encode(message), content.prep_id),)

    def result_call(self, content: Keygen) -> CoreCall:
        """Return the long poll; it goes where the start went (5.5)."""
        return long_poll("GetKeyGenResult", content.id, content.prep_id)

    def read_answer(self, content: Keygen, reply: bytes | None, expected: Address | None) -> Answer:
        """Read the digests of the key and the signature over them. Raises Broken."""
        message = read_message(kms.KeyGenResult, reply or b"")
        expect_id(message.request_id, content.id)
        expect_id(message.preprocessing_id, content.prep_id)
        digests, signature = digests_of(message), signature_of(message)
        signed = key_digest(
            self.deployment.generation, content.prep_id, content.id, digests, content.extra_data
        )
        return Answer(KEY_RESPONSE.encode(content.id, digests, signature), signer_of(signed, signature))


def prep_digest(domain: Domain, identifier: int, carried: bytes) -> bytes:
    """Return what a node signs for a preparation; ``carried`` is the event's extraData (2.4)."""
    return signing_digest(domain, hash_struct(PREP_TYPE, identifier, carried))


def key_digest(domain: Domain, prep_id: int, identifier: int, digests: Digests, carried: bytes) -> bytes:
    """Return what a node signs for a key; the digests in the order of the answer (2.4)."""
    return signing_digest(domain, hash_struct(KEY_TYPE, prep_id, identifier, digests, carried))


def digests_of(message: Any) -> Digests:
    """Return the digests with the contract's numbers of their types. Raises Broken for a type that it does not have."""
    for one in message.key_digests:
        if one.key_type not in _NUMBERS:
            raise Broken(DEPENDENCY, f"the contract has no key type {one.key_type[:64]!r}")
    return tuple((_NUMBERS[one.key_type], one.digest) for one in message.key_digests)
