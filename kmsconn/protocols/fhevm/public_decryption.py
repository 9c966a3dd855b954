"""Public decryption (G1): reveal values to everybody.

Source: fhevm-0.14.md, 1.2, 2.1-2.4, 3.2, 5.2; annexes C and E.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Broken
from kmsconn.ethereum.abi import Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.ids import PLAINTEXT_BITS, PUBLIC_DECRYPTION_TAG, id_hex
from kmsconn.model.requests import CiphertextReference, Kind, PoolName
from kmsconn.model.steps import Answer, Ciphertext
from kmsconn.protocols.answers import (
    DEPENDENCY,
    expect_count,
    payload_of,
    read_message,
    signature_of,
    signer_of,
)
from kmsconn.protocols.fhevm import views
from kmsconn.protocols.fhevm.abi import DECRYPTION
from kmsconn.protocols.fhevm.access import handles_of
from kmsconn.protocols.fhevm.decryptions import (
    LATER,
    REFERENCES,
    Decryption,
    DecryptionOperation,
    bare_references,
    extra_data_of,
    key_id,
    references_of,
)
from kmsconn.protocols.fhevm.messages import (
    SIGNING_SCHEMES,
    domain_message,
    optional_id,
    request_id,
    typed_ciphertexts,
)
from kmsconn.protocols.fhevm.operations import normalise_extra_data
from kmsconn.protocols.port import Facts, Numbering, RequestEvent, id_in_topic
from kmsconn.protocols.queries import ViewCall

EVENT = DECRYPTION.event(f"PublicDecryptionRequest(uint256,{REFERENCES},bytes)")
LATER_EVENT = LATER["PublicDecryptionRequest(uint256,bytes32[],bytes)"]
RESPONSE = DECRYPTION.function("publicDecryptionResponse")
SIGNED_TYPE = "PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)"
WORD = 32


@attrs.frozen
class PublicDecryption(Decryption):
    """A request to reveal values to everybody."""

    id: int
    references: tuple[CiphertextReference, ...]
    extra_data: bytes

    kind = Kind.PUBLIC_DECRYPTION

    @classmethod
    def read(
        cls, identifier: int, references: tuple[tuple[object, ...], ...], extra_data: bytes
    ) -> PublicDecryption:
        """Return what the event asks for."""
        return cls(identifier, references_of(references), extra_data)

    @classmethod
    def read_later(cls, identifier: int, handles: tuple[bytes, ...], extra_data: bytes) -> PublicDecryption:
        """Return what the later form of the event asks for."""
        return cls(identifier, bare_references(handles), extra_data)

    def later_form(self) -> tuple[tuple[bytes, ...], bytes]:
        """Return topics and data of the later form of the event."""
        return LATER_EVENT.encode(self.id, tuple(self.raw_handles), self.extra_data)


class PublicDecryptions(DecryptionOperation[PublicDecryption]):
    """The row of public decryption.

    Replies of several nodes share a block, so an estimate does not tell who will be the one that completes a request, and pays for the
    lists and events of all: recorded were 43,000 more for each signature. What is not used is not paid.
    """

    kind = Kind.PUBLIC_DECRYPTION
    pool = PoolName.PUBLIC_DECRYPTION
    events: tuple[RequestEvent, ...] = (
        RequestEvent(EVENT, PublicDecryption.read, id_in_topic(1)),
        RequestEvent(LATER_EVENT, PublicDecryption.read_later, id_in_topic(1)),
    )
    reply: Function | None = RESPONSE
    spare_gas = 250_000
    start, result, at_once = "PublicDecrypt", "GetPublicDecryptionResult", "PublicDecryptSync"

    def numbering(self) -> Numbering | None:
        """Return the counter of public requests."""
        return Numbering(self.kind, PUBLIC_DECRYPTION_TAG, views.newest_public_id(*self.contract))

    def checks(self, content: PublicDecryption, facts: Facts) -> tuple[ViewCall[None], ...]:
        """Ask for each handle whether everybody may see its value (3.2). Raises Rejected, Misconfigured."""
        return tuple(self.deployment.access.public(handle) for handle in handles_of(content.references))

    def request(
        self, content: PublicDecryption, ciphertexts: Sequence[Ciphertext]
    ) -> kms.PublicDecryptionRequest:
        """Return the message for the Core (5.2). Raises Rejected."""
        context_id, epoch_id = content.context
        return kms.PublicDecryptionRequest(
            request_id=request_id(content.id),
            ciphertexts=typed_ciphertexts(ciphertexts),
            key_id=request_id(key_id(content, ciphertexts)),
            domain=domain_message(self.deployment.decryption),
            extra_data=normalise_extra_data(content.extra_data),
            context_id=optional_id(context_id),
            epoch_id=optional_id(epoch_id),
            signing_schemes=SIGNING_SCHEMES,
        )

    def read_answer(
        self,
        content: PublicDecryption,
        reply: bytes | None,
        expected: Address | None,
    ) -> Answer:
        """Read the values, recover who signed them and build the reply (2.2, 2.4). Raises Broken."""
        message = read_message(kms.PublicDecryptionResponse, reply or b"")
        payload = payload_of(message)
        if payload.request_id is None or payload.request_id.request_id != id_hex(content.id):
            raise Broken(DEPENDENCY, f"the answer to {id_hex(content.id)} names another request")
        expect_count(len(content.references), payload.plaintexts)
        result = decrypted_result([(entry.fhe_type, entry.bytes) for entry in payload.plaintexts])
        extra_data = extra_data_of(content, message)
        digest = public_digest(self.deployment.decryption, content.raw_handles, result, extra_data)
        signature = signature_of(message)
        signer = signer_of(digest, signature)
        return Answer(RESPONSE.encode(content.id, result, signature, extra_data), signer)


def public_digest(domain: Domain, handles: Sequence[bytes], result: bytes, extra_data: bytes) -> bytes:
    """Return what a node signs for a public decryption (2.4)."""
    return signing_digest(domain, hash_struct(SIGNED_TYPE, handles, result, extra_data))


def decrypted_result(plaintexts: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the words of (FHE type, little-endian bytes) one after the other (2.2).

    Raises Broken for a type that the Gateway does not take, or more than 32 bytes.
    """
    return b"".join(_word(fhe_type, plaintext) for fhe_type, plaintext in plaintexts)


def _word(fhe_type: int, plaintext: bytes) -> bytes:
    if fhe_type not in PLAINTEXT_BITS:
        raise Broken(DEPENDENCY, f"a plaintext has FHE type {fhe_type}, which the Gateway does not take")
    if len(plaintext) > WORD:
        raise Broken(DEPENDENCY, f"a plaintext has {len(plaintext)} bytes, more than a word")
    return plaintext[::-1].rjust(WORD, b"\0")
