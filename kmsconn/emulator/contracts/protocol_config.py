"""``ProtocolConfig`` on Ethereum: contexts and epochs with their states, as far as decryptions need them.

Storage is laid out as in the real contract (fhevm-0.14.md, E.2). The ceremonies (confirmations, activations) are not emulated:
knobs set their results.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from kmsconn.emulator.contracts.contract import AbiContract
from kmsconn.emulator.contracts.gateway_config import NO_NODE, Committee
from kmsconn.emulator.execution import Frame, revert
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm_014.abi import PROTOCOL_CONFIG
from kmsconn.protocols.storage import base_slot, mapping_slot

BASE = base_slot("fhevm.storage.ProtocolConfig")
_NEWEST_CONTEXT, _DESTROYED, _ACTIVE_CONTEXT = BASE, BASE + 10, BASE + 11
_NEWEST_EPOCH, _ACTIVE_EPOCH = BASE + 12, BASE + 13
_CONTEXT_STATE, _EPOCH_STATE, _EPOCH_CONTEXT = BASE + 14, BASE + 15, BASE + 16


class ContextState(IntEnum):
    """A context's state."""

    NONE = 0
    PENDING = 1
    CREATED = 2
    ACTIVE = 3


class EpochState(IntEnum):
    """An epoch's state."""

    NONE = 0
    PENDING = 1
    ACTIVE = 2


class ProtocolConfig(AbiContract):
    """The contract. The methods without underscore are knobs (for ``Chain.set_up`` and ``Chain.act``)."""

    def __init__(self, address: Address) -> None:
        super().__init__(
            address,
            PROTOCOL_CONFIG,
            {
                "getCurrentKmsContextAndEpoch": lambda frame: (
                    frame.load(_ACTIVE_CONTEXT),
                    frame.load(_ACTIVE_EPOCH),
                ),
                "getCurrentKmsContextIdCounter": lambda frame: (frame.load(_NEWEST_CONTEXT),),
                "isValidKmsContext": lambda frame, i: (self._state(frame, i) is ContextState.ACTIVE,),
                "isLiveKmsContext": lambda frame, i: (self._state(frame, i) is not ContextState.NONE,),
                "isValidEpochForContext": lambda frame, i, epoch: (self._is_valid_epoch(frame, i, epoch),),
                "getKmsNodeForContext": lambda frame, i, who: (
                    self._committee(frame, i).of_sender(who).as_abi,
                ),
                "getKmsNodesForContext": lambda frame, i: (
                    tuple(n.as_abi for n in self._committee(frame, i).nodes),
                ),
                "isKmsSignerForContext": lambda frame, i, who: (self._committee(frame, i).has_signer(who),),
                "isKmsTxSenderForContext": lambda frame, i, who: (
                    self._committee(frame, i).of_sender(who) != NO_NODE,
                ),
                "getKmsContextAnchor": self._anchor,
                "getVersion": lambda _: ("ProtocolConfig v0.3.0",),
            },
        )

    def set_context(
        self, frame: Frame, context_id: int, committee: Committee, state: ContextState = ContextState.ACTIVE
    ) -> None:
        """Give a context its nodes and state; an active one becomes the current one."""
        frame.write(committee, "context", context_id)
        frame.store(mapping_slot(_CONTEXT_STATE, context_id), state)
        frame.store(_NEWEST_CONTEXT, max(context_id, frame.load(_NEWEST_CONTEXT)))
        if state is ContextState.ACTIVE:
            frame.store(_ACTIVE_CONTEXT, max(context_id, frame.load(_ACTIVE_CONTEXT)))

    def set_epoch(
        self, frame: Frame, context_id: int, epoch_id: int, state: EpochState = EpochState.ACTIVE
    ) -> None:
        """Give an epoch its context and state; an active one becomes the current one."""
        frame.store(mapping_slot(_EPOCH_STATE, epoch_id), state)
        frame.store(mapping_slot(_EPOCH_CONTEXT, epoch_id), context_id)
        frame.store(_NEWEST_EPOCH, max(epoch_id, frame.load(_NEWEST_EPOCH)))
        if state is EpochState.ACTIVE:
            frame.store(_ACTIVE_EPOCH, max(epoch_id, frame.load(_ACTIVE_EPOCH)))

    def set_anchor(self, frame: Frame, context_id: int, block_number: int, info_hash: bytes) -> None:
        """Say in which block a context was announced, and the hash of its announcement."""
        frame.write((block_number, info_hash), "anchor", context_id)

    def destroy_context(self, frame: Frame, context_id: int) -> None:
        """Destroy a context; emits ``KmsContextDestroyed``. Its nodes stay readable."""
        frame.store(mapping_slot(_CONTEXT_STATE, context_id), ContextState.NONE)
        frame.store(mapping_slot(_DESTROYED, context_id), 1)
        frame.emit(PROTOCOL_CONFIG.event("KmsContextDestroyed"), context_id)

    def destroy_epoch(self, frame: Frame, epoch_id: int) -> None:
        """Destroy an epoch; emits ``KmsEpochDestroyed``."""
        frame.store(mapping_slot(_EPOCH_STATE, epoch_id), EpochState.NONE)
        frame.emit(PROTOCOL_CONFIG.event("KmsEpochDestroyed"), epoch_id)

    def _state(self, frame: Frame, context_id: int) -> ContextState:
        return ContextState(frame.load(mapping_slot(_CONTEXT_STATE, context_id)))

    def _committee(self, frame: Frame, context_id: int) -> Committee:
        found: Committee | None = frame.read("context", context_id)
        if found is None:
            revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
        return found

    def _is_valid_epoch(self, frame: Frame, context_id: int, epoch_id: int) -> bool:
        state = EpochState(frame.load(mapping_slot(_EPOCH_STATE, epoch_id)))
        return state is EpochState.ACTIVE and frame.load(mapping_slot(_EPOCH_CONTEXT, epoch_id)) == context_id

    def _anchor(self, frame: Frame, context_id: int) -> tuple[Any, ...]:
        found: tuple[Any, ...] | None = frame.read("anchor", context_id)
        if found is None:
            revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
        return found
