"""What all operations of fhevm have in common: their deployment, the errors of its contracts, the form of extraData.

Source: fhevm-0.14.md, section 6 and annex A.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from kmsconn.errors import Rejected
from kmsconn.model.requests import Content, Order
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
        return parse_extra_data(self.extra_data)

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


_CONTEXT_ONLY, _CONTEXT_AND_EPOCH = 1, 2
_CONTEXT, _EPOCH = slice(1, 33), slice(33, 65)


def parse_extra_data(extra_data: bytes) -> tuple[int | None, int | None]:
    """Return context and epoch, None where not named. Raises Rejected for an unknown version or too few bytes."""
    version = extra_data[0] if extra_data else 0
    if version == 0:
        return None, None
    if version == _CONTEXT_ONLY:
        return _id_in(extra_data, _CONTEXT), None
    if version == _CONTEXT_AND_EPOCH:
        return _id_in(extra_data, _CONTEXT), _id_in(extra_data, _EPOCH)
    raise Rejected(f"extraData version {version} is not known")


def build_extra_data(context_id: int | None, epoch_id: int | None) -> bytes:
    """Return the shortest extraData that names these. Raises ValueError for an epoch without context."""
    if context_id is None:
        if epoch_id is not None:
            raise ValueError("an epoch needs its context")
        return b""
    if epoch_id is None:
        return bytes([_CONTEXT_ONLY]) + context_id.to_bytes(32)
    return bytes([_CONTEXT_AND_EPOCH]) + context_id.to_bytes(32) + epoch_id.to_bytes(32)


def normalise_extra_data(extra_data: bytes) -> bytes:
    """Return what a decryption's Core request carries: the single byte 0x00 becomes empty, all else stays (6.3)."""
    return b"" if extra_data == b"\0" else extra_data


def _id_in(extra_data: bytes, place: slice) -> int:
    if len(extra_data) < place.stop:
        raise Rejected(f"extraData of version {extra_data[0]} ends after {len(extra_data)} bytes")
    return int.from_bytes(extra_data[place])
