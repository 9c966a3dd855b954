"""What all operations of the first generation have in common: where the contracts are, one set of nodes, one Core of that era, errors.

Source: httpz-rc7.md, 2.1, 2.2 and 8.4; outcomes: deadlines.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.config.settings import Settings
from kmsconn.errors import Broken
from kmsconn.ethereum.abi import Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.requests import Content
from kmsconn.protocols.core_messages import DEPENDENCY, signer_of
from kmsconn.protocols.deployments import name_revert
from kmsconn.protocols.httpz_rc7.contracts import (
    ALL_ERRORS,
    DECRYPTION_MANAGER_BASE,
    KEY_MANAGER_BASE,
    HttpzViews,
    RequestViews,
)
from kmsconn.protocols.httpz_rc7.messages import PlaintextForm, request_id
from kmsconn.protocols.port import Meaning, Numbering, Operation, Reading, Revert, Verdict
from kmsconn.protocols.queries import ContractQuery

AUTO = (PlaintextForm.P3, PlaintextForm.P1, PlaintextForm.P2, PlaintextForm.RAW)
"""All forms of a public result, in the order in which they are tried."""


@attrs.frozen
class HttpzDeployment:
    """DecryptionManager and HTTPZ, as their domains and as what they are asked, and KeyManager, on one gateway.

    ``forms`` of public results are tried in their order. ``parameters`` says which FHE parameters a digest means, none: always the
    default. ``preprocessing``: the Core knows preparations. ``keys_at_finality``: key management counts in finalized blocks only.
    """

    manager: Domain
    httpz: Domain
    decryptions: RequestViews
    registry: HttpzViews
    keys: RequestViews
    forms: Sequence[PlaintextForm] = AUTO
    parameters: Mapping[bytes, int] = attrs.field(factory=dict)
    preprocessing: bool = True
    keys_at_finality: bool = False

    @classmethod
    def of(cls, settings: Settings) -> HttpzDeployment:
        """Return the deployment that the settings name."""
        gateway, options = settings.chains.gateway.chain_id, settings.protocol.httpz
        auto = options.plaintext_encoding == "auto"
        manager, httpz, keys = (
            settings.protocol.decryption_contract,
            settings.protocol.gateway_config_contract,
            settings.protocol.kms_generation_contract,
        )
        return cls(
            manager=manager.domain(gateway),
            httpz=httpz.domain(gateway),
            decryptions=RequestViews(gateway, manager.address, DECRYPTION_MANAGER_BASE),
            registry=HttpzViews(gateway, httpz.address),
            keys=RequestViews(gateway, keys.address, KEY_MANAGER_BASE),
            forms=AUTO if auto else (PlaintextForm(options.plaintext_encoding),),
            parameters=options.fhe_parameters,
            preprocessing=options.preprocessing,
            keys_at_finality=options.key_management_at_finality,
        )


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


class HttpzOperation(Operation[C]):
    """A row of this generation. ``reply``: the function that takes a reply.

    ``counter`` and ``answers`` are slots of its contract: the newest request, None where it is named by its preparation, and who has told
    of which id.
    """

    reply: Function
    means = MEANS
    counter: int | None = None
    answers: int

    def __init__(self, deployment: HttpzDeployment) -> None:
        self.deployment = deployment

    @property
    @abstractmethod
    def views(self) -> RequestViews:
        """The questions to its contract."""

    @property
    def contract(self) -> tuple[int, Address]:
        """Where its contract is."""
        return self.views.at

    def numbering(self) -> Numbering | None:
        """Return the counter of these requests."""
        return None if self.counter is None else Numbering(self.kind, NO_TAG, self.views.newest(self.counter))

    def identified(self, identifier: int) -> kms.RequestId:
        """Return an id as the Core knows it."""
        return request_id(identifier)

    def replying_context(self, content: C) -> int:
        """Return the one set of nodes."""
        return THE_CONTEXT

    def node_signer(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        """Ask HTTPZ for the signer of a tx sender."""
        return self.deployment.registry.node_signer(tx_sender)

    def revert(self, data: bytes | None) -> Revert:
        """Name a revert and say what it means."""
        return name_revert(ALL_ERRORS, self.verdicts, data)


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
