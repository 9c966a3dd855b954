"""What all operations of the first generation have in common: one set of nodes, one Core of that era, the errors of its contracts.

Source: httpz-rc7.md, 2.1, 2.2 and 8.4; outcomes: deadlines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from kmsconn.errors import Broken
from kmsconn.ethereum.abi import Function
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import Content
from kmsconn.protocols.answers import DEPENDENCY, signer_of
from kmsconn.protocols.httpz_rc7 import views
from kmsconn.protocols.httpz_rc7.abi import ALL_ERRORS
from kmsconn.protocols.httpz_rc7.deployment import HttpzDeployment
from kmsconn.protocols.port import Meaning, Operation, Reading, Revert, Verdict
from kmsconn.protocols.published import name_revert
from kmsconn.protocols.queries import ContractQuery

NO_TAG = 0
THE_CONTEXT = 0
"""There is one set of nodes; the contracts give it no number."""

SENDER_VERDICTS: Mapping[str, Verdict] = {
    "NotKmsTxSender": Verdict.FINAL,
    "AccessControlUnauthorizedAccount": Verdict.FINAL,  # the same in rc7: the role is that of a KMS tx sender
}
"""What every function says to a sender that is no node."""

_STORING, _KNOWN_ID, _FULL = "into meta store:", "The element with ID", "Error in"
C = TypeVar("C", bound=Content)
Signed = tuple[bytes, bytes]
"""Bytes that may be the result, and the digest that a node signs for them."""


class HttpzOperation(Operation[C]):
    """A row of this generation. ``reply``: the function that takes a reply."""

    reply: Function

    def __init__(self, deployment: HttpzDeployment) -> None:
        self.deployment = deployment

    def replying_context(self, content: C) -> int:
        """Return the one set of nodes."""
        return THE_CONTEXT

    def node_signer(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        """Ask HTTPZ for the signer of a tx sender."""
        return views.node_signer(*self.deployment.at_httpz, tx_sender)

    def revert(self, data: bytes | None) -> Revert:
        """Name a revert and say what it means."""
        return name_revert(ALL_ERRORS, self.verdicts, data)


def aborted(text: str) -> Meaning | None:
    """Say what ABORTED means on a start call: that Core has it for known ids, a full table and bad requests alike (8.4).

    Its texts are cut short, so that only their beginnings count.
    """
    _, stored, reason = text.partition(_STORING)
    if not stored:
        return Meaning.REFUSED
    if reason.lstrip().startswith(_KNOWN_ID):
        return Meaning.SUCCESS
    return None if reason.lstrip().startswith(_FULL) else Meaning.REFUSED


MEANS: Mapping[str, Reading] = {"ABORTED": aborted}
"""What statuses of start calls mean in that era, where they mean something else than later."""


def first_signed(candidates: Iterable[Signed], signature: bytes, expected: Address) -> tuple[bytes, Address]:
    """Return the first candidate that ``expected`` signed, else the first with whoever signed that; for the caller to refuse.

    That era had several ways to write a result and a share, and no version tells which a Core has. The signature does.
    """
    first: tuple[bytes, Address] | None = None
    for result, digest in candidates:
        signer = signer_of(digest, signature)
        if signer == expected:
            return result, signer
        first = first or (result, signer)
    if first is None:
        raise Broken(DEPENDENCY, "the answer has values that no encoding of that generation can hold")
    return first
