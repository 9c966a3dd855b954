"""How two replies to one request stand to each other: this connector's and another one's, as a contract reads them. Asks nobody."""

from __future__ import annotations

from enum import StrEnum
from os.path import commonprefix
from typing import Any, NamedTuple

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import SELECTOR_BYTES
from kmsconn.ethereum.hexes import to_hex
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


class ReplyComparison(NamedTuple):
    """How two replies stand to each other; ``at``: the offset of the first difference, with its argument and some bytes of each."""

    likeness: Likeness
    at: int | None = None
    field: str | None = None
    ours: str | None = None
    theirs: str | None = None


def compare(operation: Operation[Any], ours: bytes, theirs: bytes) -> ReplyComparison:
    """Compare the calldata of this connector with that of another one."""
    if ours == theirs:
        return ReplyComparison(Likeness.EQUAL)
    fields = differing_fields(operation, ours, theirs)
    wrong = [field for field, may_vary in fields if not may_vary]
    likeness = Likeness.DIFFERENT if wrong else Likeness.RECOMPUTED
    at = len(commonprefix([ours, theirs]))  # noqa: RUF071 - byte by byte is what is meant
    shown = slice(at, at + SHOWN_BYTES)
    field = wrong[0] if wrong else fields[0][0]
    return ReplyComparison(likeness, at, field, to_hex(ours[shown]), to_hex(theirs[shown]))


def differing_fields(operation: Operation[Any], ours: bytes, theirs: bytes) -> list[tuple[str, bool]]:
    """Return the arguments that differ, each with whether a Core may give it otherwise; never nothing for other bytes."""
    function = operation.reply
    if function is None or ours[:SELECTOR_BYTES] != theirs[:SELECTOR_BYTES]:
        return [(SELECTOR, False)]
    try:
        decoded = function.decode(ours), function.decode(theirs, exact=False)  # as a contract reads it
        values = zip(function.parameters, *decoded, strict=True)
        found = [(name, operation.may_vary(name, one, two)) for name, one, two in values if one != two]
    except Undecodable:
        found = []
    return found or [(ENCODING, False)]
