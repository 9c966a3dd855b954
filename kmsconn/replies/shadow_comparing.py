"""Compares a reply with the one that another connector sent for the same request, byte by byte. Pure.

Equal is what is expected: a Core keeps its result and gives the same bytes to everybody who asks for the same request. Two replies may
differ all the same where the Core computed twice (it was restarted, or had dropped the result in between): a share for a user is
encrypted with fresh randomness, and a signature need not be deterministic. The operation says which values may differ so
(``Operation.may_vary``). The contract took the other reply, so it verified its signature: both are answers of this node's Core.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import SELECTOR_BYTES, Function
from kmsconn.protocols.port import Operation

SHOWN_BYTES = 8
"""Bytes of both replies that are shown from the first difference on."""
SELECTOR, ENCODING = "selector", "encoding"
"""What differs where it is no argument: the function, or the way in which equal arguments are written."""


class Likeness(StrEnum):
    """How two replies to one request stand to each other."""

    EQUAL = "equal"  # all bytes
    RECOMPUTED = "recomputed"  # the Core computed twice, and only what it may give otherwise differs
    DIFFERENT = "different"


@attrs.frozen
class ReplyDifference:
    """Where two replies differ first: the offset in the calldata, the argument, and some bytes of each from there on."""

    at: int
    field: str
    ours: bytes
    theirs: bytes


@attrs.frozen
class ReplyComparison:
    """What comparing came to; ``difference`` is None for equal replies."""

    likeness: Likeness
    difference: ReplyDifference | None = None


def compare(operation: Operation[Any], ours: bytes, theirs: bytes) -> ReplyComparison:
    """Compare the calldata of this connector with that of another one."""
    if ours == theirs:
        return ReplyComparison(Likeness.EQUAL)
    fields = differing_fields(operation, ours, theirs)
    wrong = [field for field, may_vary in fields if not may_vary]
    likeness = Likeness.DIFFERENT if wrong else Likeness.RECOMPUTED
    at = first_difference(ours, theirs)
    shown = slice(at, at + SHOWN_BYTES)
    field = wrong[0] if wrong else fields[0][0]
    return ReplyComparison(likeness, ReplyDifference(at, field, ours[shown], theirs[shown]))


def first_difference(one: bytes, other: bytes) -> int:
    """Return the first offset at which two texts differ; the length of the shorter one where it is the beginning of the other."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def differing_fields(operation: Operation[Any], ours: bytes, theirs: bytes) -> list[tuple[str, bool]]:
    """Return the arguments that differ, each with whether a Core may give it otherwise; never nothing for other bytes."""
    function = operation.reply
    if function is None or ours[:SELECTOR_BYTES] != theirs[:SELECTOR_BYTES]:
        return [(SELECTOR, False)]
    try:
        values = zip(function.parameters, function.decode(ours), _decoded(function, theirs), strict=True)
        found = [(name, operation.may_vary(name, one, two)) for name, one, two in values if one != two]
    except Undecodable:
        found = []
    return found or [(ENCODING, False)]


def _decoded(function: Function, calldata: bytes) -> tuple[Any, ...]:
    """Read what a contract reads, which takes more than one way of writing."""
    return function.decode(calldata, exact=False)
