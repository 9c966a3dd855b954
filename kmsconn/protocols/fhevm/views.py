"""Questions to GatewayConfig, and to the two contracts on Ethereum. They decide little: what an invalid context means for a reply.

GatewayConfig says the same of a context that it does not know and of one that was destroyed (3.9); numbers tell them apart.
Source: fhevm-0.14.md, 3.1, 3.5-3.7, 3.9, annexes A and E.2.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum
from typing import Any

import attrs

from kmsconn.errors import ContextInvalid, Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.ids import CONTEXT_TAG, counter_of, id_hex, tag_of
from kmsconn.protocols.fhevm.contracts import GATEWAY_CONFIG, KMS_GENERATION, PROTOCOL_CONFIG
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.profile import Coprocessor
from kmsconn.protocols.queries import (
    ContractViews,
    LogsAt,
    QueryPlan,
    StorageRead,
    ViewCall,
    base_slot,
    flag,
    mapping_slot,
)

GENERATION_BASE = base_slot("fhevm.storage.KMSGeneration")
CONFIG_BASE = base_slot("fhevm.storage.ProtocolConfig")

_NEW_CONTEXT = PROTOCOL_CONFIG.event("NewKmsContext")
_ANCHOR = PROTOCOL_CONFIG.function("getKmsContextAnchor")
_CURRENT = PROTOCOL_CONFIG.function("getCurrentKmsContextAndEpoch")
_IS_CONTEXT = PROTOCOL_CONFIG.function("isValidKmsContext")
_IS_EPOCH = PROTOCOL_CONFIG.function("isValidEpochForContext")
_GATEWAY_CONTEXT = GATEWAY_CONFIG.function("getCurrentKmsContextId")
_NODE = GATEWAY_CONFIG.function("getKmsNodeForContext")
_INVALID_CONTEXT = GATEWAY_CONFIG.error("InvalidKmsContext")
_COPROCESSOR = GATEWAY_CONFIG.function("getCoprocessor")
_COPROCESSORS = GATEWAY_CONFIG.function("getCoprocessorTxSenders")
_MAJORITY = GATEWAY_CONFIG.function("getCoprocessorMajorityThreshold")
_RECENT = 8  # contexts; two or three are valid at a time, and the Gateway may skip numbers
_ACTIVE_KEY = KMS_GENERATION.function("getActiveKeyId")
_ACTIVE_CRS = KMS_GENERATION.function("getActiveCrsId")
_KEYS = KMS_GENERATION.function("getCompletedKeyIds")
_ALL_CRS = KMS_GENERATION.function("getCompletedCrsIds")
_KEY = KMS_GENERATION.function("getKeyInfo")
_CRS = KMS_GENERATION.function("getCrsMaterials")

FINALIZED = "finalized"


class Standing(IntEnum):
    """The state of a context or epoch. 0 has two meanings: not issued yet, and destroyed."""

    NONE = 0
    PENDING = 1
    CREATED = 2  # of an epoch: active
    ACTIVE = 3


class Relation(IntEnum):
    """How ids of KMSGeneration belong together, by the slot of the mapping that says so."""

    PAIR = 6
    """A preparation and its key, either way; both are given together."""
    MIGRATION = 18
    """A key and the newest request that migrates it, since 0.3.0."""


@attrs.frozen
class NodeViews(ContractViews):
    """Questions about the nodes of contexts, which GatewayConfig and ProtocolConfig answer alike."""

    def node_signer(self, context_id: int, tx_sender: Address) -> ViewCall[Address]:
        """Ask who signs for the node that sends as ``tx_sender`` in a context; zero when it is no member (3.9).

        Its answer raises NotYet for a context that the contract does not know, or no longer (GatewayConfig).
        """

        def unknown(_message: str, data: bytes | None) -> None:
            if _is_invalid_context(data):
                raise ContextInvalid(f"context {id_hex(context_id)} is unknown to the contract, or destroyed")

        return attrs.evolve(self._node(context_id, tx_sender, 1), on_error=unknown)

    def node_storage(self, context_id: int, tx_sender: Address) -> ViewCall[str]:
        """Ask where the public storage of a node is; empty when it is no member of the context."""
        return self._node(context_id, tx_sender, 3)

    def _node(self, context_id: int, tx_sender: Address, field: int) -> ViewCall[Any]:
        asked = self.view(_NODE, context_id, tx_sender)
        return attrs.evolve(asked, read=lambda data: asked.read(data)[field])


@attrs.frozen
class GatewayViews(NodeViews):
    """Questions to the contract GatewayConfig."""

    def current_context(self) -> ViewCall[int]:
        """Ask which context is current on the Gateway (3.9)."""
        return self.view(_GATEWAY_CONTEXT)

    def coprocessor_senders(self) -> ViewCall[tuple[Address, ...]]:
        """Ask which accounts commit ciphertexts (3.1)."""
        return self.view(_COPROCESSORS)

    def coprocessor_threshold(self) -> ViewCall[int]:
        """Ask how many coprocessors are a majority (3.1)."""
        return self.view(_MAJORITY)

    def coprocessor(self, tx_sender: Address) -> ViewCall[Coprocessor]:
        """Ask where a coprocessor keeps its ciphertexts (3.1)."""
        asked = self.view(_COPROCESSOR, tx_sender)
        return attrs.evolve(asked, read=lambda data: Coprocessor(*asked.read(data)))

    def is_member(self, tx_sender: Address, known: Collection[int]) -> QueryPlan[bool]:
        """Ask whether a tx sender is a node of the current context, one just before it, or a ``known`` one, that is still valid."""
        [current] = yield [self.current_context()]
        recent = {one for one in range(current - _RECENT + 1, current + 1) if _is_context(one)}
        signers = yield [self._signer_if_valid(one, tx_sender) for one in sorted(recent | {*known})]
        return any(signer != ZERO_ADDRESS for signer in signers)

    def after_invalid(self, context_id: int) -> QueryPlan[Verdict]:
        """Say what "invalid context" means for a reply: final for one that was issued, and so was destroyed since (annex A, bounded)."""
        [current] = yield [self.current_context()]
        was_there = _is_context(context_id) and context_id <= current
        return Verdict.FINAL if was_there else Verdict.RETRY

    def _signer_if_valid(self, context_id: int, tx_sender: Address) -> ViewCall[Address]:
        def gone(_message: str, data: bytes | None) -> Address | None:
            return ZERO_ADDRESS if _is_invalid_context(data) else None

        return attrs.evolve(self._node(context_id, tx_sender, 1), on_error=gone)


def _is_invalid_context(data: bytes | None) -> bool:
    """Say whether a contract refuses a context: it does not know it, or no longer (GatewayConfig)."""
    return data is not None and data[:4] == _INVALID_CONTEXT.selector


def _is_context(identifier: int) -> bool:
    return tag_of(identifier) == CONTEXT_TAG and counter_of(identifier) > 0


@attrs.frozen
class GenerationViews(ContractViews):
    """Questions to the contract KMSGeneration."""

    def has_answered(self, identifier: int, signer: Address) -> StorageRead[bool]:
        """Ask whether a signer's answer to a preparation, key or CRS is in the contract (+0)."""
        return self.slot(mapping_slot(mapping_slot(GENERATION_BASE, identifier), signer), flag)

    def is_over(self, identifier: int) -> StorageRead[bool]:
        """Ask whether a generation reached consensus or was aborted (+1)."""
        return self.slot(mapping_slot(GENERATION_BASE + 1, identifier), flag)

    def has_consensus(self, identifier: int) -> StorageRead[bool]:
        """Ask whether a generation reached consensus, so that it was not aborted (+3)."""
        return self.slot(mapping_slot(GENERATION_BASE + 3, identifier), any)  # a digest

    def newest_prep_id(self) -> StorageRead[int]:
        """Ask which preparation is the newest, as of the finalized block (+4)."""
        return attrs.evolve(self.slot(GENERATION_BASE + 4), block=FINALIZED)

    def related(self, relation: Relation, identifier: int) -> StorageRead[int]:
        """Ask which other id stands in a relation to an id; 0: none."""
        return self.slot(mapping_slot(GENERATION_BASE + relation, identifier))

    def newest_crs_id(self) -> StorageRead[int]:
        """Ask which common reference string is the newest, as of the finalized block (+9)."""
        return attrs.evolve(self.slot(GENERATION_BASE + 9), block=FINALIZED)

    def active_key(self) -> ViewCall[int]:
        """Ask which key is in use; 0 before the first."""
        return self.view(_ACTIVE_KEY)

    def active_crs(self) -> ViewCall[int]:
        """Ask which common reference string is in use; 0 before the first."""
        return self.view(_ACTIVE_CRS)

    def completed_keys(self, block: int | None = None) -> ViewCall[tuple[int, ...]]:
        """Ask which keys there were at a block, or are now, in the order in which an activation lists them (3.7)."""
        return self.view(_KEYS, block=block)

    def completed_crs(self, block: int | None = None) -> ViewCall[tuple[int, ...]]:
        """Ask which common reference strings there were at a block, or are now, in the order of an activation (3.7)."""
        return self.view(_ALL_CRS, block=block)

    def key(self, key_id: int, block: int | None = None) -> ViewCall[tuple[Any, ...]]:
        """Ask for a key's preparation, id, parameters and digests, as of a block or of now (3.7)."""
        return self.view(_KEY, key_id, block=block)

    def crs_digest(self, crs_id: int, block: int) -> ViewCall[bytes]:
        """Ask for the digest of a common reference string (3.7)."""
        return self.view(_CRS, crs_id, block=block, place=1)


@attrs.frozen
class ConfigViews(NodeViews):
    """Questions to the contract ProtocolConfig."""

    def current_context(self) -> ViewCall[int]:
        """Ask which context is current (3.1)."""
        return self.view(_CURRENT)

    def current_context_and_epoch(self) -> ViewCall[tuple[int, int]]:
        """Ask which context and epoch are current (3.1)."""
        return attrs.evolve(self.view(_CURRENT), read=_CURRENT.decode_result)

    def is_valid_context(self, context_id: int) -> ViewCall[bool]:
        """Ask whether a context is active (3.5)."""
        return self.view(_IS_CONTEXT, context_id)

    def is_valid_epoch(self, context_id: int, epoch_id: int) -> ViewCall[bool]:
        """Ask whether an epoch is active in a context (3.5)."""
        return self.view(_IS_EPOCH, context_id, epoch_id)

    def anchor(self, context_id: int) -> ViewCall[tuple[int, bytes]]:
        """Ask in which block a context was announced, and for the hash of what was said then (3.6)."""
        return attrs.evolve(self.view(_ANCHOR, context_id), read=_ANCHOR.decode_result)

    def announcements(self, context_id: int, block: int) -> LogsAt[Sequence[Log]]:
        """Ask for the events that announced a context; by its id, since another may stand in the same block (3.6, P6)."""
        topics = (_NEW_CONTEXT.topic0, context_id.to_bytes(32))
        return LogsAt(self.chain_id, self.address, topics, block, tuple)

    def context_standing(self, context_id: int) -> StorageRead[Standing]:
        """Ask for the state of a context (+14)."""
        return self.slot(mapping_slot(CONFIG_BASE + 14, context_id), _standing)

    def is_context_destroyed(self, context_id: int) -> StorageRead[bool]:
        """Ask whether a context was destroyed (+10)."""
        return self.slot(mapping_slot(CONFIG_BASE + 10, context_id), flag)

    def epoch_standing(self, epoch_id: int) -> StorageRead[Standing]:
        """Ask for the state of an epoch (+15)."""
        return self.slot(mapping_slot(CONFIG_BASE + 15, epoch_id), _standing)

    def context_of_epoch(self, epoch_id: int) -> StorageRead[int]:
        """Ask for the context of an epoch (+16)."""
        return self.slot(mapping_slot(CONFIG_BASE + 16, epoch_id))

    def newest_context_id(self) -> StorageRead[int]:
        """Ask which context is the newest that was issued, as of the finalized block (+0)."""
        return attrs.evolve(self.slot(CONFIG_BASE), block=FINALIZED)

    def newest_epoch_id(self) -> StorageRead[int]:
        """Ask which epoch is the newest that was issued (+12)."""
        return self.slot(CONFIG_BASE + 12)

    def has_confirmed_context(self, context_id: int, tx_sender: Address) -> StorageRead[bool]:
        """Ask whether a sender's confirmation of a context is in the contract (+17)."""
        return self.slot(mapping_slot(mapping_slot(CONFIG_BASE + 17, context_id), tx_sender), flag)

    def has_confirmed_epoch(self, epoch_id: int, signer: Address) -> StorageRead[bool]:
        """Ask whether a signer's activation of an epoch is in the contract (+18)."""
        return self.slot(mapping_slot(mapping_slot(CONFIG_BASE + 18, epoch_id), signer), flag)


@attrs.frozen
class KeyViews:
    """Questions to both contracts."""

    generation: GenerationViews
    config: ConfigViews

    @classmethod
    def at(cls, chain_id: int, generation: Address, config: Address) -> KeyViews:
        """Return the questions to the contracts at these addresses of one chain."""
        return cls(GenerationViews(chain_id, generation), ConfigViews(chain_id, config))

    @property
    def chain_id(self) -> int:
        """The chain of both contracts."""
        return self.config.chain_id


def _standing(word: bytes) -> Standing:
    try:
        return Standing(int.from_bytes(word))
    except ValueError as error:
        raise Undecodable(f"a state of {word.hex()}") from error
