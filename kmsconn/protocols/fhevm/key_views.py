"""Questions about keys, contexts and epochs to the two contracts on Ethereum. Never decides what an answer means for a request.

Source: fhevm-0.14.md, 3.6, 3.7 and annex E.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Function, Log
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm.contracts import KMS_GENERATION, PROTOCOL_CONFIG
from kmsconn.protocols.queries import LogsAt, StorageRead, ViewCall, base_slot, flag, mapping_slot, view

GENERATION_BASE = base_slot("fhevm.storage.KMSGeneration")
CONFIG_BASE = base_slot("fhevm.storage.ProtocolConfig")

_NEW_CONTEXT = PROTOCOL_CONFIG.event("NewKmsContext")
_ANCHOR = PROTOCOL_CONFIG.function("getKmsContextAnchor")
_CURRENT = PROTOCOL_CONFIG.function("getCurrentKmsContextAndEpoch")
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
class GenerationViews:
    """Questions to the contract KMSGeneration."""

    chain_id: int
    address: Address

    def has_answered(self, identifier: int, signer: Address) -> StorageRead[bool]:
        """Ask whether a signer's answer to a preparation, key or CRS is in the contract (+0)."""
        return self._slot(mapping_slot(mapping_slot(GENERATION_BASE, identifier), signer), flag)

    def is_over(self, identifier: int) -> StorageRead[bool]:
        """Ask whether a generation reached consensus or was aborted (+1)."""
        return self._slot(mapping_slot(GENERATION_BASE + 1, identifier), flag)

    def has_consensus(self, identifier: int) -> StorageRead[bool]:
        """Ask whether a generation reached consensus, so that it was not aborted (+3)."""
        return self._slot(mapping_slot(GENERATION_BASE + 3, identifier), any)  # a digest

    def newest_prep_id(self) -> StorageRead[int]:
        """Ask which preparation is the newest, as of the finalized block (+4)."""
        return attrs.evolve(self._slot(GENERATION_BASE + 4, _number), block=FINALIZED)

    def related(self, relation: Relation, identifier: int) -> StorageRead[int]:
        """Ask which other id stands in a relation to an id; 0: none."""
        return self._slot(mapping_slot(GENERATION_BASE + relation, identifier), _number)

    def newest_crs_id(self) -> StorageRead[int]:
        """Ask which common reference string is the newest, as of the finalized block (+9)."""
        return attrs.evolve(self._slot(GENERATION_BASE + 9, _number), block=FINALIZED)

    def active_key(self) -> ViewCall[int]:
        """Ask which key is in use; 0 before the first."""
        return self._view(_ACTIVE_KEY)

    def active_crs(self) -> ViewCall[int]:
        """Ask which common reference string is in use; 0 before the first."""
        return self._view(_ACTIVE_CRS)

    def completed_keys(self, block: int | None = None) -> ViewCall[tuple[int, ...]]:
        """Ask which keys there were at a block, or are now, in the order in which an activation lists them (3.7)."""
        return self._view(_KEYS, block=block)

    def completed_crs(self, block: int | None = None) -> ViewCall[tuple[int, ...]]:
        """Ask which common reference strings there were at a block, or are now, in the order of an activation (3.7)."""
        return self._view(_ALL_CRS, block=block)

    def key(self, key_id: int, block: int | None = None) -> ViewCall[tuple[Any, ...]]:
        """Ask for a key's preparation, id, parameters and digests, as of a block or of now (3.7)."""
        return self._view(_KEY, key_id, block=block)

    def crs_digest(self, crs_id: int, block: int) -> ViewCall[bytes]:
        """Ask for the digest of a common reference string (3.7)."""
        return self._view(_CRS, crs_id, block=block, place=1)

    def _slot(self, slot: int, read: Any) -> StorageRead[Any]:
        return StorageRead(self.chain_id, self.address, slot, read)

    def _view(
        self, function: Function, *values: int, block: int | None = None, place: int = 0
    ) -> ViewCall[Any]:
        return view(self.chain_id, self.address, function, *values, block=block, place=place)


@attrs.frozen
class ConfigViews:
    """Questions to the contract ProtocolConfig."""

    chain_id: int
    address: Address

    def current_context(self) -> ViewCall[int]:
        """Ask which context is current (3.1)."""
        return view(self.chain_id, self.address, _CURRENT)

    def anchor(self, context_id: int) -> ViewCall[tuple[int, bytes]]:
        """Ask in which block a context was announced, and for the hash of what was said then (3.6)."""
        return ViewCall(self.chain_id, self.address, _ANCHOR.encode(context_id), _anchor)

    def announcements(self, context_id: int, block: int) -> LogsAt[Sequence[Log]]:
        """Ask for the events that announced a context; by its id, since another may stand in the same block (3.6, P6)."""
        topics = (_NEW_CONTEXT.topic0, context_id.to_bytes(32))
        return LogsAt(self.chain_id, self.address, topics, block, tuple)

    def context_standing(self, context_id: int) -> StorageRead[Standing]:
        """Ask for the state of a context (+14)."""
        return self._slot(mapping_slot(CONFIG_BASE + 14, context_id), _standing)

    def is_context_destroyed(self, context_id: int) -> StorageRead[bool]:
        """Ask whether a context was destroyed (+10)."""
        return self._slot(mapping_slot(CONFIG_BASE + 10, context_id), flag)

    def epoch_standing(self, epoch_id: int) -> StorageRead[Standing]:
        """Ask for the state of an epoch (+15)."""
        return self._slot(mapping_slot(CONFIG_BASE + 15, epoch_id), _standing)

    def context_of_epoch(self, epoch_id: int) -> StorageRead[int]:
        """Ask for the context of an epoch (+16)."""
        return self._slot(mapping_slot(CONFIG_BASE + 16, epoch_id), _number)

    def newest_context_id(self) -> StorageRead[int]:
        """Ask which context is the newest that was issued, as of the finalized block (+0)."""
        return attrs.evolve(self._slot(CONFIG_BASE, _number), block=FINALIZED)

    def newest_epoch_id(self) -> StorageRead[int]:
        """Ask which epoch is the newest that was issued (+12)."""
        return self._slot(CONFIG_BASE + 12, _number)

    def has_confirmed_context(self, context_id: int, tx_sender: Address) -> StorageRead[bool]:
        """Ask whether a sender's confirmation of a context is in the contract (+17)."""
        return self._slot(mapping_slot(mapping_slot(CONFIG_BASE + 17, context_id), tx_sender), flag)

    def has_confirmed_epoch(self, epoch_id: int, signer: Address) -> StorageRead[bool]:
        """Ask whether a signer's activation of an epoch is in the contract (+18)."""
        return self._slot(mapping_slot(mapping_slot(CONFIG_BASE + 18, epoch_id), signer), flag)

    def _slot(self, slot: int, read: Any) -> StorageRead[Any]:
        return StorageRead(self.chain_id, self.address, slot, read)


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


def _anchor(data: bytes) -> tuple[int, bytes]:
    block, digest = _ANCHOR.decode_result(data)
    return block, digest


def _number(word: bytes) -> int:
    return int.from_bytes(word)


def _standing(word: bytes) -> Standing:
    try:
        return Standing(int.from_bytes(word))
    except ValueError as error:
        raise Undecodable(f"a state of {word.hex()}") from error
