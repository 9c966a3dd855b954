"""``ACL`` of a host chain: who may decrypt what, with knobs to grant and to deny; and a wallet that answers ERC-1271, well or badly.

Keeps no deny list and no pause.
"""

from __future__ import annotations

from enum import StrEnum

from kmsconn.emulator.execution import SELECTOR_BYTES, AbiContract, Frame, Handler, Reverted
from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import recover
from kmsconn.protocols.fhevm.contracts import ACL as ACL_ABI
from kmsconn.protocols.fhevm.contracts import ERC1271

EVERY_CONTRACT = Address(b"\xff" * 20)
"""The wildcard of a delegation."""
FOR_EVER = 2**64 - 1


class Acl(AbiContract):
    """The contract. The methods without underscore are knobs (for ``EmulatedEvm.set_up`` and ``ActorQueue.act``).

    ``denies``: it says no to everything while this holds, on every block.
    """

    denies = False

    def __init__(self, address: Address) -> None:
        views: dict[str, Handler] = {
            "isAllowedForDecryption": lambda frame, handle: (self._is_public(frame, handle),),
            "isAllowed": lambda frame, handle, who: (self._is_allowed(frame, handle, who),),
            "isHandleDelegatedForUserDecryption": lambda frame, *who: (self._is_delegated(frame, *who),),
            "decryptionSignatureInvalidatedBefore": lambda f, who: (f.read("invalid", who, default=0),),
            "getVersion": lambda _: ("ACL v0.5.0",),
        }
        super().__init__(address, ACL_ABI, views)

    def allow_for_decryption(self, frame: Frame, handle: bytes, *, allowed: bool = True) -> None:
        """Let everybody decrypt a handle, or no longer."""
        frame.write(allowed, "decryptable", handle)
        if allowed:
            frame.emit(ACL_ABI.event("AllowedForDecryption"), frame.sender, (handle,))

    def allow(self, frame: Frame, handle: bytes, account: Address, *, allowed: bool = True) -> None:
        """Give an account a handle for good, or take it away."""
        frame.write(allowed, "allowed", handle, account)
        if allowed:
            frame.emit(ACL_ABI.event("Allowed"), frame.sender, account, handle)

    def delegate(
        self,
        frame: Frame,
        delegator: Address,
        delegate: Address,
        contract: Address = EVERY_CONTRACT,
        expiry: int = FOR_EVER,
    ) -> None:
        """Let ``delegate`` decrypt for ``delegator`` what ``contract`` may, until ``expiry`` (Unix seconds, 0 revokes)."""
        frame.write(expiry, "delegation", delegator, delegate, contract)

    def _is_public(self, frame: Frame, handle: bytes) -> bool:
        return not self.denies and bool(frame.read("decryptable", handle, default=False))

    def _is_allowed(self, frame: Frame, handle: bytes, account: Address) -> bool:
        return not self.denies and bool(frame.read("allowed", handle, account, default=False))

    def _is_delegated(
        self, frame: Frame, delegator: Address, delegate: Address, contract: Address, handle: bytes
    ) -> bool:
        if not (self._is_allowed(frame, handle, delegator) and self._is_allowed(frame, handle, contract)):
            return False
        places = (("delegation", delegator, delegate, place) for place in (contract, EVERY_CONTRACT))
        expiries = (int(frame.read(*place, default=0)) for place in places)
        return any(expiry > frame.block.timestamp for expiry in expiries)


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
        """Change how it answers (a knob for ``EmulatedEvm.set_up`` and ``ActorQueue.act``)."""
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
