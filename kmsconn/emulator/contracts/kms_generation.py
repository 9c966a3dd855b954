"""``KMSGeneration`` on Ethereum: key and CRS generation; emits E1 to E5. Knows no node and no block.

Storage is laid out as in the real contract (fhevm-0.14.md, E.2). The requests and aborts, which only the owner makes there, are knobs;
replies are taken in ``generation_replies``.
"""

from __future__ import annotations

from typing import Any

from kmsconn.emulator.contracts import generation_slots as at
from kmsconn.emulator.contracts import protocol_slots
from kmsconn.emulator.contracts.contract import AbiContract, domain_teller
from kmsconn.emulator.contracts.generation_replies import GenerationReplies
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.execution import Frame, revert
from kmsconn.emulator.generation_hashes import named_pair
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import make_id
from kmsconn.protocols.fhevm.abi import DECRYPTION, KMS_GENERATION
from kmsconn.protocols.storage import mapping_slot


class KmsGeneration(AbiContract):
    """The contract. The methods without underscore are knobs (for ``Chain.set_up`` and ``Chain.act``)."""

    def __init__(self, address: Address, chain_id: int, config: ProtocolConfig) -> None:
        self.domain = Domain("KMSGeneration", "1", chain_id, address)
        self._config, self._replies = config, GenerationReplies(self.domain, config)
        super().__init__(
            address,
            KMS_GENERATION,
            {
                **self._replies.handlers,
                "getKeyCounter": lambda frame: (frame.load(at.KEY_COUNTER),),
                "getCrsCounter": lambda frame: (frame.load(at.CRS_COUNTER),),
                "getActiveKeyId": lambda frame: (frame.read("active", at.KEY_TAG, default=0),),
                "getActiveCrsId": lambda frame: (frame.read("active", at.CRS_TAG, default=0),),
                "getCompletedKeyIds": lambda frame: (frame.read("completed", at.KEY_TAG, default=()),),
                "getCompletedCrsIds": lambda frame: (frame.read("completed", at.CRS_TAG, default=()),),
                "getKeyInfo": self._key_info,
                "getCrsMaterials": self._crs_materials,
                "isRequestDone": lambda frame, i: (bool(frame.load(mapping_slot(at.DONE, i))),),
                "getVersion": lambda _: ("KMSGeneration v0.5.0",),
            },
        )
        self.offer(DECRYPTION.function("eip712Domain"), domain_teller(self.domain))

    def initialize(self, frame: Frame) -> None:
        """Set the counters to their bare tags, as a fresh deployment does."""
        for slot, tag in (
            (at.PREP_COUNTER, at.PREP_TAG),
            (at.KEY_COUNTER, at.KEY_TAG),
            (at.CRS_COUNTER, at.CRS_TAG),
        ):
            frame.store(slot, make_id(tag, 0))

    def request_keygen(self, frame: Frame, params: int = 0) -> int:
        """Begin a key: take both its ids and emit E1; return the prep-keygen id. Raises Reverted while another is open."""
        self._check_finished(frame, at.KEY_COUNTER, "KeygenOngoing")
        prep_id, key_id = (_next(frame, slot) for slot in (at.PREP_COUNTER, at.KEY_COUNTER))
        frame.store(mapping_slot(at.PAIR, prep_id), key_id)
        frame.store(mapping_slot(at.PAIR, key_id), prep_id)
        extra_data = self._name_current(frame, prep_id, key_id)
        frame.write(params, "params", key_id)
        frame.emit(KMS_GENERATION.event("PrepKeygenRequest"), prep_id, params, extra_data)
        return prep_id

    def request_crsgen(self, frame: Frame, max_bit_length: int = 2048, params: int = 0) -> int:
        """Begin a CRS and emit E3; return its id. Raises Reverted while another is open."""
        self._check_finished(frame, at.CRS_COUNTER, "CrsgenOngoing")
        crs_id = _next(frame, at.CRS_COUNTER)
        extra_data = self._name_current(frame, crs_id)
        frame.write(max_bit_length, "bits", crs_id)
        frame.emit(KMS_GENERATION.event("CrsgenRequest"), crs_id, max_bit_length, params, extra_data)
        return crs_id

    def abort_keygen(self, frame: Frame, prep_id: int) -> None:
        """End a key that is not done, with its preprocessing; emits E4. Raises Reverted."""
        if not make_id(at.PREP_TAG, 0) < prep_id <= frame.load(at.PREP_COUNTER):
            revert(KMS_GENERATION.error("AbortKeygenInvalidId"), prep_id)
        key_id = frame.load(mapping_slot(at.PAIR, prep_id))
        if frame.load(mapping_slot(at.DONE, key_id)):
            revert(KMS_GENERATION.error("AbortKeygenAlreadyDone"), prep_id)
        for request in (prep_id, key_id):
            frame.store(mapping_slot(at.DONE, request), 1)
        frame.emit(KMS_GENERATION.event("AbortKeygen"), prep_id)

    def abort_crsgen(self, frame: Frame, crs_id: int) -> None:
        """End a CRS that is not done; emits E5. Raises Reverted."""
        if not make_id(at.CRS_TAG, 0) < crs_id <= frame.load(at.CRS_COUNTER):
            revert(KMS_GENERATION.error("AbortCrsgenInvalidId"), crs_id)
        if frame.load(mapping_slot(at.DONE, crs_id)):
            revert(KMS_GENERATION.error("AbortCrsgenAlreadyDone"), crs_id)
        frame.store(mapping_slot(at.DONE, crs_id), 1)
        frame.emit(KMS_GENERATION.event("AbortCrsgen"), crs_id)

    def _check_finished(self, frame: Frame, counter: int, error: str) -> None:
        newest = frame.load(counter)
        if newest != make_id(newest >> at.TAG_SHIFT, 0) and not frame.load(mapping_slot(at.DONE, newest)):
            revert(KMS_GENERATION.error(error), newest)

    def _name_current(self, frame: Frame, *requests: int) -> bytes:
        """Keep with the requests the context and epoch that are current now."""
        there = frame.at(self._config.address)
        active = (protocol_slots.ACTIVE_CONTEXT, protocol_slots.ACTIVE_EPOCH)
        extra_data = named_pair(*(there.load(slot) for slot in active))
        for request in requests:
            frame.write(extra_data, "extra_data", request)
        return extra_data

    def _key_info(self, frame: Frame, key_id: int) -> tuple[Any, ...]:
        self._check_complete(frame, key_id, "KeyAborted", "KeyNotGenerated")
        prep_id, params = frame.load(mapping_slot(at.PAIR, key_id)), frame.read("params", key_id)
        return ((prep_id, key_id, params, frame.read("material", key_id)),)

    def _crs_materials(self, frame: Frame, crs_id: int) -> tuple[Any, ...]:
        self._check_complete(frame, crs_id, "CrsAborted", "CrsNotGenerated")
        context_id = int.from_bytes(frame.read("extra_data", crs_id)[at.CONTEXT])
        committee = self._config.committee(frame.at(self._config.address), context_id)
        return self._replies.urls(frame, committee, crs_id), frame.read("material", crs_id)

    def _check_complete(self, frame: Frame, request: int, aborted: str, missing: str) -> None:
        if frame.load(mapping_slot(at.DIGEST, request)):
            return
        done = frame.load(mapping_slot(at.DONE, request))
        revert(KMS_GENERATION.error(aborted if done else missing), request)


def _next(frame: Frame, counter: int) -> int:
    """Count one further and return the new id."""
    frame.store(counter, frame.load(counter) + 1)
    return frame.load(counter)
