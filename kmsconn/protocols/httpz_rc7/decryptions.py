"""What decryptions for everybody and for users have in common. The contract has checked the users' rights, and tells no window.

The main revision has ``bytes32`` handles, rc7 ``uint256`` ones: the same 32 bytes on the wire, and another type where they are signed.
Source: httpz-rc7.md, 1.2, 2.2 and 8.3.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from betterproto2 import Message

from kmsconn.errors import Rejected
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import HANDLE_BYTES, fhe_type_of
from kmsconn.model.requests import CiphertextReference, Content
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.answers import expect_whole
from kmsconn.protocols.httpz_rc7.messages import long_poll
from kmsconn.protocols.httpz_rc7.operations import MEANS, SENDER_VERDICTS, HttpzOperation
from kmsconn.protocols.httpz_rc7.plaintexts import SIZES
from kmsconn.protocols.port import CoreCall, Facts, Verdict
from kmsconn.protocols.proto_writer import encode
from kmsconn.protocols.queries import ContractQuery


class HttpzDecryption(Content):
    """A request to reveal the values of ciphertexts."""

    __slots__ = ()

    @property
    def handles(self) -> list[bytes]:
        """The handles in event order."""
        return [reference.handle for reference in self.references]


D = TypeVar("D", bound=HttpzDecryption)


class HttpzDecryptionOperation(HttpzOperation[D]):
    """A request of the DecryptionManager; the subclass has its event, its message and its answer.

    ``start`` and ``result`` are the methods of the Core.
    """

    start: str
    result: str
    expires = True
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KmsSignerAlreadyResponded": Verdict.DONE,
        "NotKmsSigner": Verdict.FINAL,
        "ECDSAInvalidSignature": Verdict.FINAL,
        "ECDSAInvalidSignatureLength": Verdict.FINAL,
        "ECDSAInvalidSignatureS": Verdict.FINAL,
        **SENDER_VERDICTS,
    }

    @property
    def contract(self) -> tuple[int, Address]:
        """The DecryptionManager."""
        return self.deployment.at_manager

    def checks(self, content: D, facts: Facts) -> tuple[ContractQuery[None], ...]:
        """See that the Core can do it. Raises Rejected for a request without ciphertexts or with an unknown FHE type."""
        if not content.references:
            raise Rejected("the request names no ciphertext")
        check_types(content)
        return ()

    @abstractmethod
    def request(self, content: D, ciphertexts: Sequence[Ciphertext]) -> Message:
        """Return the message that hands a request over."""

    def start_calls(
        self,
        content: D,
        ciphertexts: Sequence[Ciphertext],
        found: Any,
    ) -> tuple[CoreCall, ...]:
        """Return the call that hands a request over, ``ciphertexts`` in the order of its references.

        Raises Rejected for a request without references; ValueError when the ciphertexts are not those of the references.
        """
        expect_whole(content.references, ciphertexts)
        return (CoreCall(self.start, encode(self.request(content, ciphertexts)), content.id, MEANS),)

    def result_call(self, content: D) -> CoreCall:
        """Return the long poll for a request's result."""
        return long_poll(self.result, content.id)


def references_of(values: tuple[Any, ...], *, numeric: bool) -> tuple[CiphertextReference, ...]:
    """Return references with their handles as the 32 bytes that they are on the wire in both revisions."""
    return tuple(
        CiphertextReference(handle.to_bytes(HANDLE_BYTES) if numeric else handle, *rest)
        for handle, *rest in values
    )


def check_types(content: HttpzDecryption) -> None:
    """See that the Core of that era can decrypt every handle. Raises Rejected: a wrong type would only waste its place there."""
    for reference in content.references:
        if (fhe_type := fhe_type_of(reference.handle)) not in SIZES:
            raise Rejected(f"handle {reference.handle.hex()} has FHE type {fhe_type}, which is not known")
