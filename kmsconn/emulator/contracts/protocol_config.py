"""``ProtocolConfig`` on Ethereum: contexts and epochs with their states. Knows no node and no block.

Contexts and epochs can be set by knobs at once, or come about by the ceremonies (``ceremonies``) as on the real contract.
"""

from __future__ import annotations

from typing import Any

from kmsconn.emulator.contracts import ceremonies
from kmsconn.emulator.contracts import protocol_slots as at
from kmsconn.emulator.contracts.ceremonies import Announcement
from kmsconn.emulator.contracts.contract import AbiContract, domain_teller
from kmsconn.emulator.contracts.gateway_config import NO_NODE, Committee
from kmsconn.emulator.contracts.generation_releases import LATER_KEY_TYPES
from kmsconn.emulator.contracts.protocol_slots import ContextState, EpochState
from kmsconn.emulator.execution import Frame, revert
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.protocols.fhevm.abi import DECRYPTION, PROTOCOL_CONFIG
from kmsconn.protocols.queries import mapping_slot


class ProtocolConfig(AbiContract):
    """The contract. The methods without underscore are knobs (for ``Chain.set_up`` and ``Chain.act``)."""

    def __init__(self, address: Address, chain_id: int) -> None:
        self.domain = Domain("ProtocolConfig", "1", chain_id, address)
        super().__init__(
            address,
            PROTOCOL_CONFIG,
            {
                "getCurrentKmsContextAndEpoch": lambda frame: (
                    frame.load(at.ACTIVE_CONTEXT),
                    frame.load(at.ACTIVE_EPOCH),
                ),
                "getCurrentKmsContextIdCounter": lambda frame: (frame.load(at.NEWEST_CONTEXT),),
                "isValidKmsContext": lambda frame, i: (self._state(frame, i) is ContextState.ACTIVE,),
                "isLiveKmsContext": lambda frame, i: (self._state(frame, i) is not ContextState.NONE,),
                "isValidEpochForContext": lambda frame, i, epoch: (self._is_valid_epoch(frame, i, epoch),),
                "getKmsNodeForContext": lambda frame, i, who: (
                    self.committee(frame, i).of_sender(who).as_abi,
                ),
                "getKmsNodesForContext": lambda frame, i: (
                    tuple(n.as_abi for n in self.committee(frame, i).nodes),
                ),
                "isKmsSignerForContext": lambda frame, i, who: (self.committee(frame, i).has_signer(who),),
                "isKmsTxSenderForContext": lambda frame, i, who: (
                    self.committee(frame, i).of_sender(who) != NO_NODE,
                ),
                "getKmsContextAnchor": self._anchor,
                "confirmKmsContextCreation": ceremonies.confirm_context,
                "confirmEpochActivation": ceremonies.epoch_confirmation(self.domain),
                "getVersion": lambda _: ("ProtocolConfig v0.2.0",),
            },
        )
        self.offer(DECRYPTION.function("eip712Domain"), domain_teller(self.domain))

    def redeploy(self, frame: Frame, key_types: int = LATER_KEY_TYPES) -> None:
        """Be compiled with so many key types from here on: until then type 3 reverts without data (fhevm-0.15.md, 1.9)."""
        frame.write(key_types, "key_types")

    def set_context(
        self, frame: Frame, context_id: int, committee: Committee, state: ContextState = ContextState.ACTIVE
    ) -> None:
        """Give a context its nodes and state; an active one becomes the current one."""
        frame.write(committee, "context", context_id)
        frame.store(mapping_slot(at.CONTEXT_STATE, context_id), state)
        frame.store(at.NEWEST_CONTEXT, max(context_id, frame.load(at.NEWEST_CONTEXT)))
        if state is ContextState.ACTIVE:
            frame.store(at.ACTIVE_CONTEXT, max(context_id, frame.load(at.ACTIVE_CONTEXT)))

    def set_epoch(
        self, frame: Frame, context_id: int, epoch_id: int, state: EpochState = EpochState.ACTIVE
    ) -> None:
        """Give an epoch its context and state; an active one becomes the current one."""
        frame.store(mapping_slot(at.EPOCH_STATE, epoch_id), state)
        frame.store(mapping_slot(at.EPOCH_CONTEXT, epoch_id), context_id)
        frame.store(at.NEWEST_EPOCH, max(epoch_id, frame.load(at.NEWEST_EPOCH)))
        if state is EpochState.ACTIVE:
            frame.store(at.ACTIVE_EPOCH, max(epoch_id, frame.load(at.ACTIVE_EPOCH)))

    def set_anchor(self, frame: Frame, context_id: int, block_number: int, info_hash: bytes) -> None:
        """Say in which block a context was announced, and the hash of its announcement."""
        frame.write((block_number, info_hash), "anchor", context_id)

    def destroy_context(self, frame: Frame, context_id: int) -> None:
        """Destroy a context; emits ``KmsContextDestroyed``. Its nodes stay readable."""
        frame.store(mapping_slot(at.CONTEXT_STATE, context_id), ContextState.NONE)
        frame.store(mapping_slot(at.DESTROYED, context_id), 1)
        frame.emit(PROTOCOL_CONFIG.event("KmsContextDestroyed"), context_id)

    def destroy_epoch(self, frame: Frame, epoch_id: int) -> None:
        """Destroy an epoch; emits ``KmsEpochDestroyed``."""
        frame.store(mapping_slot(at.EPOCH_STATE, epoch_id), EpochState.NONE)
        frame.emit(PROTOCOL_CONFIG.event("KmsEpochDestroyed"), epoch_id)

    def _state(self, frame: Frame, context_id: int) -> ContextState:
        return ContextState(frame.load(mapping_slot(at.CONTEXT_STATE, context_id)))

    def begin_context(self, frame: Frame, announcement: Announcement) -> int:
        """Announce a context that its nodes must confirm; emits E6 and returns its id. Raises Reverted while another ceremony is open."""
        return ceremonies.begin_context(frame, announcement)

    def begin_epoch(self, frame: Frame) -> int:
        """Ask for a new epoch of the active context; emits E7 and returns its id. Raises Reverted likewise."""
        return ceremonies.begin_epoch(frame)

    def active_committee(self, frame: Frame, context_id: int) -> Committee:
        """Return an active context's nodes. Raises Reverted."""
        if self._state(frame, context_id) is not ContextState.ACTIVE:
            revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
        return self.committee(frame, context_id)

    def committee(self, frame: Frame, context_id: int) -> Committee:
        """Return a context's nodes, whatever its state. Raises Reverted."""
        found: Committee | None = frame.read("context", context_id)
        if found is None:
            revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
        return found

    def _is_valid_epoch(self, frame: Frame, context_id: int, epoch_id: int) -> bool:
        state = EpochState(frame.load(mapping_slot(at.EPOCH_STATE, epoch_id)))
        return (
            state is EpochState.ACTIVE and frame.load(mapping_slot(at.EPOCH_CONTEXT, epoch_id)) == context_id
        )

    def _anchor(self, frame: Frame, context_id: int) -> tuple[Any, ...]:
        found: tuple[Any, ...] | None = frame.read("anchor", context_id)
        if found is None:
            revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
        return found
