"""A smart-contract wallet that answers ERC-1271, well or badly. Holds nothing and pays nothing."""

from __future__ import annotations

from enum import StrEnum

from kmsconn.emulator.contracts.contract import SELECTOR_BYTES
from kmsconn.emulator.execution import Frame, Reverted
from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import recover
from kmsconn.protocols.fhevm.abi import ERC1271

MAGIC = bytes.fromhex("1626ba7e")
_CHECK_GAS = 8_000
_IS_VALID = ERC1271.function("isValidSignature")


class Mood(StrEnum):
    """How a wallet answers."""

    HONEST = "honest"
    """By the owner's signature."""
    NO = "no"
    """Never valid."""
    REVERT = "revert"
    """A revert without data."""
    BURN = "burn"
    """All gas is used up."""
    SHORT = "short"
    """Four bytes, which is no ABI result."""


class WalletContract:
    """A wallet at ``address`` that accepts what ``owner`` signed."""

    def __init__(self, address: Address, owner: Address) -> None:
        self.address = address
        self.owner = owner

    def set_mood(self, frame: Frame, mood: Mood) -> None:
        """Change how it answers (a knob for ``Chain.set_up`` and ``Chain.act``)."""
        frame.write(mood, "mood")

    def execute(self, frame: Frame) -> bytes:
        """Answer ``isValidSignature``; other calls do nothing. Raises Reverted or OutOfGas, as its mood is."""
        if frame.data[:SELECTOR_BYTES] != _IS_VALID.selector:
            return b""
        match frame.read("mood", default=Mood.HONEST):
            case Mood.NO:
                return _IS_VALID.encode_result(b"\xff" * 4)
            case Mood.REVERT:
                raise Reverted
            case Mood.BURN:
                frame.meter.burn(frame.meter.limit)
            case Mood.SHORT:
                return MAGIC
        return self._check(frame)

    def _check(self, frame: Frame) -> bytes:
        frame.meter.burn(_CHECK_GAS)
        try:
            digest, signature = _IS_VALID.decode(frame.data, exact=False)
        except Undecodable as error:
            raise Reverted from error
        return _IS_VALID.encode_result(MAGIC if recover(digest, signature) == self.owner else b"\xff" * 4)
