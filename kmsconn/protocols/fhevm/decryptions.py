"""What decryptions for everybody and for users have in common, from the event to the reply on the Gateway.

From 0.15 on the contract tells of each request twice, in one transaction: as before, and in a later form that names the handles only
(annex C). Both are one request: what tells requests apart is what both forms say.
Source: fhevm-0.14.md, 1.2-1.4, 2.1-2.4, 5.2-5.5, annexes A, C and E.1; outcomes: row "answer".
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from betterproto2 import Message

from kmsconn.errors import Broken, Rejected
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.answers import DEPENDENCY, expect_whole
from kmsconn.protocols.fhevm import views
from kmsconn.protocols.fhevm.abi import LATER_EVENTS
from kmsconn.protocols.fhevm.messages import long_poll
from kmsconn.protocols.fhevm.operations import (
    SIGNATURE,
    FhevmOperation,
    FollowUp,
    UnderContext,
    normalise_extra_data,
)
from kmsconn.protocols.port import CoreCall, Verdict
from kmsconn.protocols.proto_writer import encode
from kmsconn.protocols.queries import ContractQuery, StorageRead

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
    """A request of the Decryption contract; the subclass has its event, its checks, its message and its answer.

    ``start``, ``result`` and ``at_once`` are the methods of the Core.
    """

    start: str
    result: str
    at_once: str
    expires = True
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
        return self.deployment.gateway, self.deployment.decryption.verifying_contract

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
        pinned = views.pinned_context(*self.contract, content.id)
        return pinned, views.current_context(self.deployment.gateway, self.deployment.gateway_config)

    def node_signer(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        """Ask GatewayConfig for the signer of a tx sender in a context."""
        where = (self.deployment.gateway, self.deployment.gateway_config)
        return views.node_signer(*where, context_id, tx_sender)

    def has_answered(
        self, content: D, signer: Address | None, tx_sender: Address
    ) -> StorageRead[bool] | None:
        """Ask whether this node's answer is in the contract."""
        assert signer is not None, "decryptions are signed"
        return views.has_answered(*self.contract, content.id, signer)

    @abstractmethod
    def request(self, content: D, ciphertexts: Sequence[Ciphertext]) -> Message:
        """Return the message that hands a request over. Raises Rejected for ciphertexts under different keys."""

    def start_calls(
        self,
        content: D,
        ciphertexts: Sequence[Ciphertext],
        found: Any,
    ) -> tuple[CoreCall, ...]:
        """Return the call that hands a request over, ``ciphertexts`` in the order of its references.

        Raises Rejected for a request without references, or under different keys; ValueError
        when the ciphertexts are not those of the references.
        """
        expect_whole(content.references, ciphertexts)
        message = encode(self.request(content, ciphertexts))
        return (CoreCall(self.start, message, content.id, at_once=self.at_once),)

    def result_call(self, content: D) -> CoreCall:
        """Return the long poll for a request's result; it goes where the request went (5.5)."""
        return long_poll(self.result, content.id, content.id)

    def follow_up(self, error: str) -> FollowUp | None:
        """Ask whether a context that the Gateway does not take was destroyed."""
        return self.deployment.contexts.after_invalid if error == "InvalidKmsContext" else None


def references_of(values: tuple[Any, ...]) -> tuple[CiphertextReference, ...]:
    """Return the references of an event."""
    return tuple(CiphertextReference(*value) for value in values)


def bare_references(handles: Iterable[bytes]) -> tuple[CiphertextReference, ...]:
    """Return the references of an event that names handles only."""
    return tuple(map(CiphertextReference.bare, handles))


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
