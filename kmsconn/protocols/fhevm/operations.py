"""What all operations of fhevm have in common: their deployment, the errors of its contracts, the form of extraData.

Source: fhevm-0.14.md, section 6 and annex A.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from kmsconn.model.requests import Content, Order
from kmsconn.protocols.fhevm import extra_data
from kmsconn.protocols.fhevm.abi import ALL_ERRORS
from kmsconn.protocols.fhevm.deployment import Deployment
from kmsconn.protocols.port import Operation, Revert, Verdict
from kmsconn.protocols.published import name_revert
from kmsconn.protocols.queries import QueryPlan

SIGNATURE: Mapping[str, Verdict] = {
    "ECDSAInvalidSignature": Verdict.FINAL,
    "ECDSAInvalidSignatureLength": Verdict.FINAL,
    "ECDSAInvalidSignatureS": Verdict.FINAL,
}
"""What every function says of a signature that it does not take."""

C = TypeVar("C", bound=Content)
FollowUp = Callable[[int], QueryPlan[Verdict]]


class UnderContext(Content):
    """A request whose extraData names the context and the epoch that must be valid; it ends with them."""

    __slots__ = ()

    @property
    @abstractmethod
    def extra_data(self) -> bytes:
        """What the event says of the context."""

    @property
    def context(self) -> tuple[int | None, int | None]:
        """Context and epoch as extraData names them. Raises Rejected for extraData of no known form."""
        return extra_data.parse(self.extra_data)

    @property
    def order(self) -> Order:
        """It is over once its context or its epoch was destroyed."""
        return Order(under=frozenset(one for one in self.context if one is not None))


class FhevmOperation(Operation[C]):
    """A row of this generation."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def revert(self, data: bytes | None) -> Revert:
        """Name a revert, with the question that tells what it means where its name alone does not (annex A)."""
        revert = name_revert(ALL_ERRORS, self.verdicts, data)
        follow_up = self.follow_up(revert.name)
        if follow_up is None:
            return revert
        identifier = int(revert.arguments[0], 16)
        return attrs.evolve(revert, plan=lambda: follow_up(identifier))

    def follow_up(self, error: str) -> FollowUp | None:
        """Return what must be asked of the id in an error before it has a verdict; None where its name is enough."""
        return None
