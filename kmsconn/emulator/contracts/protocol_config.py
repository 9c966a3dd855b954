"""``ProtocolConfig`` on Ethereum: contexts and epochs with their states, set by knobs or by ceremonies with the real rules.

Storage is laid out as in the real contract. Knows no node, no block and no owner: who may begin a ceremony is for the caller.
Source: fhevm-0.14.md, 1.3 (E6, E7), 2.5 and annexes A and E.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

import attrs

from kmsconn.emulator.contracts.gateway_config import NO_NODE, Committee, KmsNode, Thresholds
from kmsconn.emulator.contracts.generation_releases import (
    FIRST_KEY_TYPES,
    LATER_KEY_TYPES,
    check_types,
    crsgen_hash,
    keygen_hash,
    named_pair,
)
from kmsconn.emulator.execution import (
    AbiContract,
    Frame,
    Handler,
    domain_teller,
    recover_strictly,
    revert,
    set_once,
)
from kmsconn.ethereum.abi import Domain, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.ethereum.keccak import keccak256
from kmsconn.protocols.fhevm.contracts import DECRYPTION, PROTOCOL_CONFIG
from kmsconn.protocols.queries import base_slot, mapping_slot

BASE = base_slot("fhevm.storage.ProtocolConfig")
NEWEST_CONTEXT, DESTROYED, ACTIVE_CONTEXT = BASE, BASE + 10, BASE + 11
NEWEST_EPOCH, ACTIVE_EPOCH = BASE + 12, BASE + 13
CONTEXT_STATE, EPOCH_STATE, EPOCH_CONTEXT = BASE + 14, BASE + 15, BASE + 16
CONTEXT_CONFIRMED, EPOCH_CONFIRMED = BASE + 17, BASE + 18


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


FIRST_PREDECESSOR = make_id(CONTEXT_TAG, 0)
"""What stands for "no context before this one"."""
_CONFIRMATION_GAS, _EPOCH_GAS, _QUORUM_GAS = 60_000, 90_000, 65_000
_NEW_CONTEXT = PROTOCOL_CONFIG.event("NewKmsContext")
_NEW_EPOCH = PROTOCOL_CONFIG.event("NewKmsEpoch")
Key = tuple[int, int, tuple[tuple[int, bytes], ...], bytes]
Crs = tuple[int, int, bytes, bytes]


@attrs.frozen
class NodeParams:
    """One node of a new context, as it is announced."""

    node: KmsNode
    party_id: int
    mpc_identity: str = ""
    ca_cert: bytes = b""
    storage_prefix: str = ""

    @property
    def as_abi(self) -> tuple[Any, ...]:
        """Return the struct ``KmsNodeParams``."""
        rest = (self.party_id, self.mpc_identity, self.ca_cert, self.storage_prefix)
        return (*self.node.as_abi, *rest)


@attrs.frozen
class Announcement:
    """A new context as it is announced: what ``NewKmsContext`` says beside the ids."""

    nodes: tuple[NodeParams, ...]
    thresholds: Thresholds = attrs.field(factory=Thresholds)
    software_version: str = "v0.14.0"
    pcr_values: tuple[tuple[bytes, bytes, bytes], ...] = ()

    @property
    def committee(self) -> Committee:
        """Return the context's nodes and thresholds."""
        return Committee(tuple(params.node for params in self.nodes), self.thresholds)

    @property
    def as_abi(self) -> tuple[Any, ...]:
        """Return the four values that the anchor's hash covers."""
        limits = self.thresholds
        numbers = (limits.public, limits.user, limits.kms_gen, limits.mpc)
        return tuple(n.as_abi for n in self.nodes), numbers, self.software_version, self.pcr_values


def announce(frame: Frame, context_id: int, previous: int, announcement: Announcement) -> None:
    """Emit E6, and keep the block and the hash of what it says (3.6)."""
    frame.emit(_NEW_CONTEXT, context_id, previous, *announcement.as_abi)
    frame.write((frame.block.number, keccak256(frame.logs[-1].data)), "anchor", context_id)


def begin_context(frame: Frame, announcement: Announcement) -> int:
    """Announce a context that must be confirmed; return its id. Raises Reverted while another ceremony is open."""
    _check_idle(frame)
    context_id = frame.load(NEWEST_CONTEXT) + 1
    frame.write(announcement.committee, "context", context_id)
    frame.store(NEWEST_CONTEXT, context_id)
    frame.store(mapping_slot(CONTEXT_STATE, context_id), ContextState.PENDING)
    announce(frame, context_id, frame.load(ACTIVE_CONTEXT), announcement)
    return context_id


def begin_epoch(frame: Frame, context_id: int | None = None) -> int:
    """Ask for a new epoch of a context, the active one if none is named; return its id. Raises Reverted likewise."""
    if context_id is None:
        _check_idle(frame)
    new_context = frame.load(ACTIVE_CONTEXT) if context_id is None else context_id
    epoch_id = (frame.load(NEWEST_EPOCH) or make_id(EPOCH_TAG, 0)) + 1
    frame.store(NEWEST_EPOCH, epoch_id)
    frame.store(mapping_slot(EPOCH_STATE, epoch_id), EpochState.PENDING)
    frame.store(mapping_slot(EPOCH_CONTEXT, epoch_id), new_context)
    old = (frame.load(ACTIVE_CONTEXT), frame.load(ACTIVE_EPOCH))
    frame.emit(_NEW_EPOCH, new_context, epoch_id, *old, frame.block.number - 1)
    return epoch_id


def confirm_context(frame: Frame, context_id: int) -> None:
    """Take one node's word that it knows a new context; the quorum asks for its first epoch. Raises Reverted."""
    frame.meter.burn(_CONFIRMATION_GAS)
    if _context_state(frame, context_id) is not ContextState.PENDING:
        revert(PROTOCOL_CONFIG.error("KmsContextNotPending"), context_id)
    outgoing: Committee = frame.read("context", frame.load(ACTIVE_CONTEXT), default=Committee(()))
    incoming: Committee = frame.read("context", context_id)
    sides = (outgoing.of_sender(frame.sender) != NO_NODE, incoming.of_sender(frame.sender) != NO_NODE)
    if not any(sides):
        revert(PROTOCOL_CONFIG.error("KmsContextCreationUnauthorized"), frame.sender, context_id)
    if not set_once(frame, mapping_slot(CONTEXT_CONFIRMED, context_id), frame.sender):
        revert(PROTOCOL_CONFIG.error("KmsContextCreationAlreadyConfirmed"), frame.sender, context_id)
    frame.emit(PROTOCOL_CONFIG.event("KmsContextCreationConfirmation"), context_id, frame.sender, *sides)
    if _is_quorum(frame, context_id, outgoing, incoming):
        frame.meter.burn(_QUORUM_GAS)
        frame.store(mapping_slot(CONTEXT_STATE, context_id), ContextState.CREATED)
        begin_epoch(frame, context_id)


def epoch_confirmation(domain: Domain) -> Callable[[Frame, int, tuple[Key, ...], tuple[Crs, ...]], None]:
    """Return ``confirmEpochActivation`` for a contract of this domain."""

    def confirm(frame: Frame, epoch_id: int, keys: tuple[Key, ...], crs_list: tuple[Crs, ...]) -> None:
        frame.meter.burn(_EPOCH_GAS)
        context_id, node = _epoch_member(frame, epoch_id)
        if not keys or not crs_list:
            revert(PROTOCOL_CONFIG.error("EmptyEpochActivationAttestation"), epoch_id)
        for struct_hash, signature in _attested(frame, named_pair(context_id, epoch_id), keys, crs_list):
            signer = recover_strictly(signing_digest(domain, struct_hash), signature)
            if signer != node.signer:
                error = PROTOCOL_CONFIG.error("EpochActivationSignerDoesNotMatchTxSender")
                revert(error, signer, frame.sender)
        _count_activation(frame, epoch_id, node, keys, crs_list)
        _activate(frame, context_id, epoch_id, keys, crs_list)

    return confirm


def _check_idle(frame: Frame) -> None:
    context_id, epoch_id = frame.load(NEWEST_CONTEXT), frame.load(NEWEST_EPOCH)
    context = _context_state(frame, context_id)
    epoch = frame.load(mapping_slot(EPOCH_STATE, epoch_id))
    if context in {ContextState.PENDING, ContextState.CREATED} or epoch == EpochState.PENDING:
        revert(PROTOCOL_CONFIG.error("KmsLifecycleOperationInFlight"), context_id, epoch_id)


def _context_state(frame: Frame, context_id: int) -> ContextState:
    return ContextState(frame.load(mapping_slot(CONTEXT_STATE, context_id)))


def _is_quorum(frame: Frame, context_id: int, outgoing: Committee, incoming: Committee) -> bool:
    """Tell whether all incoming nodes and n − t outgoing ones have confirmed."""

    def confirmed(committee: Committee) -> int:
        table = mapping_slot(CONTEXT_CONFIRMED, context_id)
        return sum(frame.load(mapping_slot(table, node.tx_sender)) for node in committee.nodes)

    needed = max(1, len(outgoing.nodes) - outgoing.thresholds.mpc) if outgoing.nodes else 0
    return confirmed(incoming) == len(incoming.nodes) and confirmed(outgoing) >= needed


def _epoch_member(frame: Frame, epoch_id: int) -> tuple[int, KmsNode]:
    """Return an open epoch's context and the sender's node in it. Raises Reverted."""
    if frame.load(mapping_slot(EPOCH_STATE, epoch_id)) != EpochState.PENDING:
        revert(PROTOCOL_CONFIG.error("InvalidKmsEpoch"), epoch_id)
    context_id = frame.load(mapping_slot(EPOCH_CONTEXT, epoch_id))
    state = _context_state(frame, context_id)
    if state is ContextState.NONE:
        revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
    if state is ContextState.PENDING:
        revert(PROTOCOL_CONFIG.error("KmsContextNotCreated"), context_id)
    committee: Committee = frame.read("context", context_id)
    node = committee.of_sender(frame.sender)
    if node == NO_NODE:
        revert(PROTOCOL_CONFIG.error("EpochActivationUnauthorized"), frame.sender, epoch_id)
    return context_id, node


def _attested(
    frame: Frame, extra_data: bytes, keys: tuple[Key, ...], crs_list: tuple[Crs, ...]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield what was signed, and each signature. Raises Reverted, without data, at a key type that is not known."""
    for prep_id, key_id, digests, signature in keys:
        check_types(digests, frame.read("key_types", default=FIRST_KEY_TYPES))
        yield keygen_hash(prep_id, key_id, digests, extra_data), signature
    for crs_id, bits, digest, signature in crs_list:
        yield crsgen_hash(crs_id, bits, digest, extra_data), signature


def _count_activation(
    frame: Frame, epoch_id: int, node: KmsNode, keys: tuple[Key, ...], crs_list: tuple[Crs, ...]
) -> None:
    """Note one node's word, with the hash over what it says in its order. Raises Reverted for a second word."""
    if not set_once(frame, mapping_slot(EPOCH_CONFIRMED, epoch_id), node.signer):
        revert(PROTOCOL_CONFIG.error("EpochActivationAlreadyConfirmed"), node.signer, epoch_id)
    said = repr(([key[:3] for key in keys], [crs[:3] for crs in crs_list]))
    data_hash = keccak256(said.encode())
    frame.write(data_hash, "activation", epoch_id, node.signer)
    frame.emit(PROTOCOL_CONFIG.event("EpochActivationConfirmation"), epoch_id, node.signer, data_hash)


def _activate(
    frame: Frame, context_id: int, epoch_id: int, keys: tuple[Key, ...], crs_list: tuple[Crs, ...]
) -> None:
    """Activate an epoch once all nodes of its context have said the same of it."""
    committee: Committee = frame.read("context", context_id)
    said = {frame.read("activation", epoch_id, node.signer) for node in committee.nodes}
    if len(said) != 1 or None in said:
        return
    frame.meter.burn(_QUORUM_GAS)
    frame.store(mapping_slot(EPOCH_STATE, epoch_id), EpochState.ACTIVE)
    frame.store(mapping_slot(CONTEXT_STATE, context_id), ContextState.ACTIVE)
    frame.store(ACTIVE_EPOCH, epoch_id)
    frame.store(ACTIVE_CONTEXT, context_id)
    urls = tuple(node.storage_url for node in committee.nodes)
    frame.emit(PROTOCOL_CONFIG.event("ActivateEpoch"), context_id, epoch_id, keys, crs_list, urls)


class ProtocolConfig(AbiContract):
    """The contract. The methods without underscore are knobs (for ``EmulatedEvm.set_up`` and ``ActorQueue.act``)."""

    def __init__(self, address: Address, chain_id: int) -> None:
        self.domain = Domain("ProtocolConfig", "1", chain_id, address)
        handlers: dict[str, Handler] = {
            "getCurrentKmsContextAndEpoch": lambda f: (f.load(ACTIVE_CONTEXT), f.load(ACTIVE_EPOCH)),
            "isValidKmsContext": lambda frame, i: (_context_state(frame, i) is ContextState.ACTIVE,),
            "isValidEpochForContext": lambda frame, i, epoch: (self._is_valid_epoch(frame, i, epoch),),
            "getKmsContextAnchor": self._anchor,
            "confirmKmsContextCreation": confirm_context,
            "confirmEpochActivation": epoch_confirmation(self.domain),
            "getKmsNodeForContext": lambda f, i, who: (self.committee(f, i).of_sender(who).as_abi,),
            "getVersion": lambda _: ("ProtocolConfig v0.2.0",),
        }
        super().__init__(address, PROTOCOL_CONFIG, handlers)
        self.offer(DECRYPTION.function("eip712Domain"), domain_teller(self.domain))

    def redeploy(self, frame: Frame, key_types: int = LATER_KEY_TYPES) -> None:
        """Be compiled with so many key types from here on: until then type 3 reverts without data (fhevm-0.15.md, 1.9)."""
        frame.write(key_types, "key_types")

    def set_context(
        self, frame: Frame, context_id: int, committee: Committee, state: ContextState = ContextState.ACTIVE
    ) -> None:
        """Give a context its nodes and state; an active one becomes the current one."""
        frame.write(committee, "context", context_id)
        frame.store(mapping_slot(CONTEXT_STATE, context_id), state)
        frame.store(NEWEST_CONTEXT, max(context_id, frame.load(NEWEST_CONTEXT)))
        if state is ContextState.ACTIVE:
            frame.store(ACTIVE_CONTEXT, max(context_id, frame.load(ACTIVE_CONTEXT)))

    def set_epoch(
        self, frame: Frame, context_id: int, epoch_id: int, state: EpochState = EpochState.ACTIVE
    ) -> None:
        """Give an epoch its context and state; an active one becomes the current one."""
        frame.store(mapping_slot(EPOCH_STATE, epoch_id), state)
        frame.store(mapping_slot(EPOCH_CONTEXT, epoch_id), context_id)
        frame.store(NEWEST_EPOCH, max(epoch_id, frame.load(NEWEST_EPOCH)))
        if state is EpochState.ACTIVE:
            frame.store(ACTIVE_EPOCH, max(epoch_id, frame.load(ACTIVE_EPOCH)))

    def destroy_context(self, frame: Frame, context_id: int) -> None:
        """Destroy a context; emits ``KmsContextDestroyed``. Its nodes stay readable."""
        frame.store(mapping_slot(CONTEXT_STATE, context_id), ContextState.NONE)
        frame.store(mapping_slot(DESTROYED, context_id), 1)
        frame.emit(PROTOCOL_CONFIG.event("KmsContextDestroyed"), context_id)

    def destroy_epoch(self, frame: Frame, epoch_id: int) -> None:
        """Destroy an epoch; emits ``KmsEpochDestroyed``."""
        frame.store(mapping_slot(EPOCH_STATE, epoch_id), EpochState.NONE)
        frame.emit(PROTOCOL_CONFIG.event("KmsEpochDestroyed"), epoch_id)

    begin_context = staticmethod(begin_context)
    begin_epoch = staticmethod(begin_epoch)

    def active_committee(self, frame: Frame, context_id: int) -> Committee:
        """Return an active context's nodes. Raises Reverted."""
        if _context_state(frame, context_id) is not ContextState.ACTIVE:
            revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
        return self.committee(frame, context_id)

    def committee(self, frame: Frame, context_id: int) -> Committee:
        """Return a context's nodes, whatever its state. Raises Reverted."""
        found: Committee | None = frame.read("context", context_id)
        if found is None:
            revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
        return found

    def _is_valid_epoch(self, frame: Frame, context_id: int, epoch_id: int) -> bool:
        state = EpochState(frame.load(mapping_slot(EPOCH_STATE, epoch_id)))
        return state is EpochState.ACTIVE and frame.load(mapping_slot(EPOCH_CONTEXT, epoch_id)) == context_id

    def _anchor(self, frame: Frame, context_id: int) -> tuple[Any, ...]:
        found: tuple[Any, ...] | None = frame.read("anchor", context_id)
        if found is None:
            revert(PROTOCOL_CONFIG.error("InvalidKmsContext"), context_id)
        return found
