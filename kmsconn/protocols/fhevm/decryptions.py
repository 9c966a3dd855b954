"""Decryptions for everybody (G1), and what those for users have in common with them, from the event to the reply on the Gateway.

From 0.15 on the contract tells of each request twice, in one transaction: as before, and in a later form that names the handles only
(annex C). Both are one request: what tells requests apart is what both forms say.
Source: fhevm-0.14.md, 1.2-1.4, 2.1-2.4, 5.2-5.5, annexes A, C and E.1; outcomes: row "answer".
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Broken, Rejected
from kmsconn.ethereum.abi import Domain, Function, Log, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import PLAINTEXT_BITS, PUBLIC_DECRYPTION_TAG
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.life import Answer, Ciphertext
from kmsconn.model.requests import CiphertextReference, Kind, PoolName
from kmsconn.protocols.core_messages import (
    DEPENDENCY,
    expect_count,
    expect_id,
    payload_of,
    read_message,
    signature_of,
    signer_of,
    typed_ciphertexts,
)
from kmsconn.protocols.deployments import SIGNATURE
from kmsconn.protocols.fhevm.access import handles_of
from kmsconn.protocols.fhevm.contracts import DECRYPTION, LATER_EVENTS
from kmsconn.protocols.fhevm.operations import (
    FhevmOperation,
    IdCounter,
    UnderContext,
    normalise_extra_data,
    request_id,
    under_context,
)
from kmsconn.protocols.port import Facts, RequestEvent, Verdict, id_in_topic
from kmsconn.protocols.queries import ContractQuery, QueryPlan

REFERENCES = "(bytes32,uint256,bytes32,address[])[]"
"""The ABI type of ciphertext references."""

LATER = {event.signature: event for event in LATER_EVENTS.values()}
"""The later forms of the request events by their signatures."""


class Decryption(UnderContext):
    """A request to reveal the values of ciphertexts."""

    __slots__ = ()

    @property
    def raw_handles(self) -> list[bytes]:
        """The handles in event order."""
        return [reference.handle for reference in self.references]

    @abstractmethod
    def later_form(self) -> tuple[tuple[bytes, ...], bytes]:
        """Return topics and data of the event of the next generation that asks for the same."""


D = TypeVar("D", bound=Decryption)


class DecryptionOperation(FhevmOperation[D]):
    """A request of the Decryption contract; the subclass has its event, its checks, its message and its answer."""

    expires = True
    in_doubt = "InvalidKmsContext"
    harmless_twice = True  # ALREADY_EXISTS counts as accepted, and everybody gets the one result
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KmsNodeAlreadySigned": Verdict.DONE,
        "DecryptionNotRequested": Verdict.RETRY,
        "DecryptionContextMismatch": Verdict.FINAL,
        "InvalidKmsContext": Verdict.RETRY,
        "NotKmsSigner": Verdict.FINAL,
        "KmsSignerDoesNotMatchTxSender": Verdict.FINAL,
        "UnsupportedExtraDataVersion": Verdict.FINAL,
        "InvalidExtraDataLength": Verdict.FINAL,
        "InvalidNullContextId": Verdict.FINAL,
        **SIGNATURE,
    }

    @property
    def contract(self) -> tuple[int, Address]:
        """Decryption on the Gateway."""
        return self.deployment.decryptions.at

    @staticmethod
    def digest(log: Log, content: Decryption) -> bytes:  # noqa: ARG004 - both forms of an event have the same
        """Return the Keccak-256 of topics and data of the later form: equal for the same content, in whichever form it stands.

        What it leaves out, where the ciphertexts are and what proves them, is nothing that the user asked for or the Core signs.
        """
        topics, data = content.later_form()
        return keccak256(b"".join(topics) + data)

    def replying_context(self, content: D) -> int | Sequence[ContractQuery[int]]:
        """Return the context of extraData; else ask for the one pinned at request time, or the Gateway's current one."""
        named, _ = content.context
        if named is not None:
            return named
        pinned = self.deployment.decryptions.pinned_context(content.id)
        return pinned, self.deployment.gateway_config.current_context()

    def node_signer(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        """Ask GatewayConfig for the signer of a tx sender in a context."""
        return self.deployment.gateway_config.node_signer(context_id, tx_sender)

    def has_answered(
        self, content: D, signer: Address | None, tx_sender: Address
    ) -> ContractQuery[bool] | None:
        """Ask whether this node's answer is in the contract."""
        assert signer is not None, "decryptions are signed"
        return self.deployment.decryptions.has_answered(content.id, signer)

    def verdict_on(self, identifier: int) -> QueryPlan[Verdict]:
        """Ask whether a context that the Gateway does not take was destroyed."""
        return self.deployment.gateway_config.after_invalid(identifier)


def references_of(values: Iterable[Any]) -> tuple[CiphertextReference, ...]:
    """Return the references of an event, of which the later form names the handles only."""
    return tuple(
        CiphertextReference.bare(value) if isinstance(value, bytes) else CiphertextReference(*value)
        for value in values
    )


def key_id(content: Decryption, ciphertexts: Sequence[Ciphertext]) -> int:
    """Return the key of a request: the chain names it for each ciphertext, or else the coprocessors attest it. Raises Rejected.

    All ciphertexts must be under the same one.
    """
    named: Sequence[CiphertextReference | Ciphertext] = content.references
    keys = {one.key_id for one in (ciphertexts if content.references[0].is_bare else named)}
    if len(keys) > 1:
        raise Rejected("the ciphertexts of the request are under different keys")
    return keys.pop()


def extra_data_of(content: Decryption, message: Any) -> bytes:
    """Return the extraData of an answer. Raises Broken where it is not the request's."""
    extra_data: bytes = message.extra_data
    if extra_data != normalise_extra_data(content.extra_data):
        raise Broken(DEPENDENCY, "the answer carries other extraData than the request")
    return extra_data


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
    def read(cls, identifier: int, references: tuple[Any, ...], extra_data: bytes) -> Self:
        """Return what the event asks for, in either form."""
        return cls(identifier, references_of(references), extra_data)

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
        RequestEvent(LATER_EVENT, PublicDecryption.read, id_in_topic(1)),
    )
    reply: Function | None = RESPONSE
    counter: ClassVar[IdCounter | None] = PUBLIC_DECRYPTION_TAG, lambda at: at.decryptions.newest_public_id()
    spare_gas = 250_000
    start, result, at_once = "PublicDecrypt", "GetPublicDecryptionResult", "PublicDecryptSync"

    def checks(self, content: PublicDecryption, facts: Facts) -> tuple[ContractQuery[None], ...]:
        """Ask for each handle whether everybody may see its value (3.2). Raises Rejected, Misconfigured."""
        return tuple(self.deployment.access.public(handle) for handle in handles_of(content.references))

    def request(
        self, content: PublicDecryption, gathered: Sequence[Ciphertext]
    ) -> kms.PublicDecryptionRequest:
        """Return the message for the Core (5.2). Raises Rejected also for ciphertexts under different keys."""
        return kms.PublicDecryptionRequest(
            **under_context(content, self.deployment.decryption),
            ciphertexts=typed_ciphertexts(kms, content.references, gathered),
            key_id=request_id(key_id(content, gathered)),
            extra_data=normalise_extra_data(content.extra_data),
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
        expect_id(payload.request_id, content.id)
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
    for fhe_type, plaintext in plaintexts:
        if fhe_type not in PLAINTEXT_BITS:
            raise Broken(DEPENDENCY, f"a plaintext has FHE type {fhe_type}, which the Gateway does not take")
        if len(plaintext) > WORD:
            raise Broken(DEPENDENCY, f"a plaintext has {len(plaintext)} bytes, more than a word")
    return b"".join(plaintext[::-1].rjust(WORD, b"\0") for _, plaintext in plaintexts)
