"""Names a revert by its data and looks up what it means. Never holds a table of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import SELECTOR_BYTES, Error
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.protocols.port import Revert, Verdict

_BUILT_IN = {
    error.selector: error
    for error in (
        Error.from_item({"name": "Error", "inputs": [{"type": "string"}]}),
        Error.from_item({"name": "Panic", "inputs": [{"type": "uint256"}]}),
    )
}
NO_DATA = "no revert data"
"""The name of a revert that says nothing."""

_PLAIN_NUMBER = 1 << 64


class ExplainsSilence(ABC):
    """An operation that knows what a revert without data may mean for a reply; a mixin of ``port.Operation``."""

    @abstractmethod
    def explain_silence(self, calldata: bytes) -> Revert | None:
        """Return what a revert without data means for a reply with this calldata; None: that is not known."""


def name_revert(errors: Mapping[bytes, Error], verdicts: Mapping[str, Verdict], data: bytes | None) -> Revert:
    """Name the revert by its data; what is not known, or not there, is RETRY."""
    if not data:
        return Revert(NO_DATA, (), Verdict.RETRY)
    error = errors.get(data[:SELECTOR_BYTES]) or _BUILT_IN.get(data[:SELECTOR_BYTES])
    try:
        values = error.decode(data) if error else None
    except Undecodable:
        values = None
    if error is None or values is None:
        return Revert(to_hex(data[:SELECTOR_BYTES]), (), Verdict.RETRY)
    verdict = verdicts.get(error.name, Verdict.RETRY)
    return Revert(error.name, tuple(show_value(value) for value in values), verdict)


def show_value(value: Any) -> str:
    """Write one value: ids and bytes as hex, addresses by EIP-55, small numbers and the rest plainly."""
    if isinstance(value, bytes):
        return checksum(Address(value)) if len(value) == ADDRESS_BYTES else to_hex(value)
    if isinstance(value, int) and value >= _PLAIN_NUMBER:
        return f"0x{value:064x}"
    if isinstance(value, tuple):
        return f"({', '.join(show_value(part) for part in value)})"
    return "".join(character if character.isprintable() else "�" for character in str(value))
