"""``KMSGeneration`` on Ethereum: key and CRS generation with the real rules; emits E1 to E5. Knows no node and no block.

Storage is laid out as in the real contract (fhevm-0.14.md, E.2); the order of the checks is that of annex A. The requests and aborts,
which only the owner makes there, are knobs.
"""

from __future__ import annotations

from typing import Any

from kmsconn.emulator.contracts import protocol_slots
from kmsconn.emulator.contracts.contract import AbiContract
from kmsconn.emulator.contracts.gateway_config import NO_NODE, Committee
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.contracts.recovery import recover_strictly
from kmsconn.emulator.execution import Frame, revert
from kmsconn.emulator.generation_hashes import (
    KeyDigests,
    crsgen_hash,
    keygen_hash,
    named_pair,
    prep_keygen_hash,
)
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, signing_digest
from kmsconn.ethereum.ids import make_id
from kmsconn.protocols.fhevm_014.abi import KMS_GENERATION
from kmsconn.protocols.storage import base_slot, mapping_slot

PREP_TAG, KEY_TAG, CRS_TAG = 0x03, 0x04, 0x05
BASE = base_slot("fhevm.storage.KMSGeneration")
_ANSWERED, _DONE, _DIGEST, _PAIR = BASE, BASE + 1, BASE + 3, BASE + 6
_PREP_COUNTER, _KEY_COUNTER, _CRS_COUNTER = BASE + 4, BASE + 5, BASE + 9
_REPLY_GAS, _CONSENSUS_GAS = 130_000, 175_000
_CONTEXT = slice(1, 33)
_TAG_SHIFT = 248
_SIGNED_ALREADY = {
    PREP_TAG: KMS_GENERATION.error("KmsAlreadySignedForPrepKeygen"),
    KEY_TAG: KMS_GENERATION.error("KmsAlreadySignedForKeygen"),
    CRS_TAG: KMS_GENERATION.error("KmsAlreadySignedForCrsgen"),
}


class KmsGeneration(AbiContract):
    """The contract. The methods without underscore are knobs (for ``Chain.set_up`` and ``Chain.act``)."""

    def __init__(self, address: Address, chain_id: int, config: ProtocolConfig) -> None:
        super().__init__(
            address,
            KMS_GENERATION,
            {
                "prepKeygenResponse": self._prep_response,
                "keygenResponse": self._key_response,
                "crsgenResponse": self._crs_response,
                "getKeyCounter": lambda frame: (frame.load(_KEY_COUNTER),),
                "getCrsCounter": lambda frame: (frame.load(_CRS_COUNTER),),
                "getActiveKeyId": lambda frame: (frame.read("active", KEY_TAG, default=0),),
                "getActiveCrsId": lambda frame: (frame.read("active", CRS_TAG, default=0),),
                "getCompletedKeyIds": lambda frame: (frame.read("completed", KEY_TAG, default=()),),
                "getCompletedCrsIds": lambda frame: (frame.read("completed", CRS_TAG, default=()),),
                "getKeyInfo": self._key_info,
                "getCrsMaterials": self._crs_materials,
                "isRequestDone": lambda frame, i: (bool(frame.load(mapping_slot(_DONE, i))),),
                "getConsensusTxSenders": self._consensus_senders,
                "getVersion": lambda _: ("KMSGeneration v0.5.0",),
            },
        )
        self.domain = Domain("KMSGeneration", "1", chain_id, address)
        self._config = config

    def initialize(self, frame: Frame) -> None:
        """Set the counters to their bare tags, as a fresh deployment does."""
        for slot, tag in ((_PREP_COUNTER, PREP_TAG), (_KEY_COUNTER, KEY_TAG), (_CRS_COUNTER, CRS_TAG)):
            frame.store(slot, make_id(tag, 0))

    def request_keygen(self, frame: Frame, params: int = 0) -> int:
        """Begin a key: take both its ids and emit E1; return the prep-keygen id. Raises Reverted while another is open."""
        self._check_finished(frame, _KEY_COUNTER, "KeygenOngoing")
        prep_id, key_id = (_next(frame, slot) for slot in (_PREP_COUNTER, _KEY_COUNTER))
        frame.store(mapping_slot(_PAIR, prep_id), key_id)
        frame.store(mapping_slot(_PAIR, key_id), prep_id)
        extra_data = self._name_current(frame, prep_id, key_id)
        frame.write(params, "params", key_id)
        frame.emit(KMS_GENERATION.event("PrepKeygenRequest"), prep_id, params, extra_data)
        return prep_id

    def request_crsgen(self, frame: Frame, max_bit_length: int = 2048, params: int = 0) -> int:
        """Begin a CRS and emit E3; return its id. Raises Reverted while another is open."""
        self._check_finished(frame, _CRS_COUNTER, "CrsgenOngoing")
        crs_id = _next(frame, _CRS_COUNTER)
        extra_data = self._name_current(frame, crs_id)
        frame.write(max_bit_length, "bits", crs_id)
        frame.emit(KMS_GENERATION.event("CrsgenRequest"), crs_id, max_bit_length, params, extra_data)
        return crs_id

    def abort_keygen(self, frame: Frame, prep_id: int) -> None:
        """End a key that is not done, with its preprocessing; emits E4. Raises Reverted."""
        if not make_id(PREP_TAG, 0) < prep_id <= frame.load(_PREP_COUNTER):
            revert(KMS_GENERATION.error("AbortKeygenInvalidId"), prep_id)
        key_id = frame.load(mapping_slot(_PAIR, prep_id))
        if frame.load(mapping_slot(_DONE, key_id)):
            revert(KMS_GENERATION.error("AbortKeygenAlreadyDone"), prep_id)
        for request in (prep_id, key_id):
            frame.store(mapping_slot(_DONE, request), 1)
        frame.emit(KMS_GENERATION.event("AbortKeygen"), prep_id)

    def abort_crsgen(self, frame: Frame, crs_id: int) -> None:
        """End a CRS that is not done; emits E5. Raises Reverted."""
        if not make_id(CRS_TAG, 0) < crs_id <= frame.load(_CRS_COUNTER):
            revert(KMS_GENERATION.error("AbortCrsgenInvalidId"), crs_id)
        if frame.load(mapping_slot(_DONE, crs_id)):
            revert(KMS_GENERATION.error("AbortCrsgenAlreadyDone"), crs_id)
        frame.store(mapping_slot(_DONE, crs_id), 1)
        frame.emit(KMS_GENERATION.event("AbortCrsgen"), crs_id)

    def _check_finished(self, frame: Frame, counter: int, error: str) -> None:
        newest = frame.load(counter)
        if newest != make_id(newest >> _TAG_SHIFT, 0) and not frame.load(mapping_slot(_DONE, newest)):
            revert(KMS_GENERATION.error(error), newest)

    def _name_current(self, frame: Frame, *requests: int) -> bytes:
        """Keep with the requests the context and epoch that are current now."""
        there = frame.at(self._config.address)
        active = (protocol_slots.ACTIVE_CONTEXT, protocol_slots.ACTIVE_EPOCH)
        extra_data = named_pair(*(there.load(slot) for slot in active))
        for request in requests:
            frame.write(extra_data, "extra_data", request)
        return extra_data

    def _prep_response(self, frame: Frame, prep_id: int, signature: bytes) -> None:
        self._check_requested(frame, _PREP_COUNTER, PREP_TAG, prep_id, "PrepKeygenNotRequested")
        committee, extra_data = self._membership(frame, prep_id)
        struct_hash = prep_keygen_hash(prep_id, extra_data)
        digest = self._take(frame, committee, prep_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("PrepKeygenResponse"), prep_id, signature, frame.sender)
        if self._reaches(frame, committee, prep_id, digest):
            key_id = frame.load(mapping_slot(_PAIR, prep_id))
            frame.emit(KMS_GENERATION.event("KeygenRequest"), prep_id, key_id, extra_data)

    def _key_response(self, frame: Frame, key_id: int, digests: KeyDigests, signature: bytes) -> None:
        self._check_requested(frame, _KEY_COUNTER, KEY_TAG, key_id, "KeygenNotRequested")
        if not digests:
            revert(KMS_GENERATION.error("EmptyKeyDigests"), key_id)
        committee, extra_data = self._membership(frame, key_id)
        prep_id = frame.load(mapping_slot(_PAIR, key_id))
        if not frame.load(mapping_slot(_DONE, prep_id)):
            revert(KMS_GENERATION.error("KeyManagementRequestPending"))
        struct_hash = keygen_hash(prep_id, key_id, digests, extra_data)
        digest = self._take(frame, committee, key_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("KeygenResponse"), key_id, digests, signature, frame.sender)
        if self._reaches(frame, committee, key_id, digest):
            self._complete(frame, KEY_TAG, key_id, digests)
            urls = self._urls(frame, committee, key_id)
            frame.emit(KMS_GENERATION.event("ActivateKey"), key_id, urls, digests)

    def _crs_response(self, frame: Frame, crs_id: int, crs_digest: bytes, signature: bytes) -> None:
        self._check_requested(frame, _CRS_COUNTER, CRS_TAG, crs_id, "CrsgenNotRequested")
        committee, extra_data = self._membership(frame, crs_id)
        struct_hash = crsgen_hash(crs_id, frame.read("bits", crs_id), crs_digest, extra_data)
        digest = self._take(frame, committee, crs_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("CrsgenResponse"), crs_id, crs_digest, signature, frame.sender)
        if self._reaches(frame, committee, crs_id, digest):
            self._complete(frame, CRS_TAG, crs_id, crs_digest)
            urls = self._urls(frame, committee, crs_id)
            frame.emit(KMS_GENERATION.event("ActivateCrs"), crs_id, urls, crs_digest)

    def _check_requested(self, frame: Frame, counter: int, tag: int, request: int, error: str) -> None:
        frame.meter.burn(_REPLY_GAS)
        if not make_id(tag, 0) < request <= frame.load(counter):
            revert(KMS_GENERATION.error(error), request)

    def _membership(self, frame: Frame, request: int) -> tuple[Committee, bytes]:
        """Return the committee that the request names, and its extraData; the sender must belong to it. Raises Reverted."""
        extra_data: bytes = frame.read("extra_data", request)
        context_id = int.from_bytes(extra_data[_CONTEXT])
        committee = self._config.active_committee(frame.at(self._config.address), context_id)
        if committee.of_sender(frame.sender) == NO_NODE:
            revert(KMS_GENERATION.error("NotKmsTxSender"), frame.sender)
        return committee, extra_data

    def _take(
        self, frame: Frame, committee: Committee, request: int, struct_hash: bytes, signature: bytes
    ) -> bytes:
        """Check signature, signer, sender and that it is the signer's first; note and return the digest. Raises Reverted."""
        digest = signing_digest(self.domain, struct_hash)
        signer = recover_strictly(digest, signature)
        if not committee.has_signer(signer):
            revert(KMS_GENERATION.error("NotKmsSigner"), signer)
        if committee.of_sender(frame.sender).signer != signer:
            revert(KMS_GENERATION.error("KmsSignerDoesNotMatchTxSender"), signer, frame.sender)
        slot = mapping_slot(mapping_slot(_ANSWERED, request), signer)
        if frame.load(slot):
            revert(_SIGNED_ALREADY[request >> _TAG_SHIFT], request, signer)
        frame.store(slot, 1)
        senders = (*frame.read("senders", request, digest, default=()), frame.sender)
        frame.write(senders, "senders", request, digest)
        return digest

    def _reaches(self, frame: Frame, committee: Committee, request: int, digest: bytes) -> bool:
        """Tell whether this answer completes the request, and note it."""
        senders = frame.read("senders", request, digest)
        if frame.load(mapping_slot(_DONE, request)) or len(senders) < committee.thresholds.kms_gen:
            return False
        frame.meter.burn(_CONSENSUS_GAS)
        frame.store(mapping_slot(_DONE, request), 1)
        frame.store(mapping_slot(_DIGEST, request), int.from_bytes(digest))
        return True

    def _complete(self, frame: Frame, tag: int, request: int, material: Any) -> None:
        frame.write(material, "material", request)
        frame.write((*frame.read("completed", tag, default=()), request), "completed", tag)
        frame.write(request, "active", tag)

    def _urls(self, frame: Frame, committee: Committee, request: int) -> tuple[str, ...]:
        senders = self._consensus_senders(frame, request)[0]
        return tuple(committee.of_sender(sender).storage_url for sender in senders)

    def _key_info(self, frame: Frame, key_id: int) -> tuple[Any, ...]:
        self._check_complete(frame, key_id, "KeyAborted", "KeyNotGenerated")
        prep_id, params = frame.load(mapping_slot(_PAIR, key_id)), frame.read("params", key_id)
        return ((prep_id, key_id, params, frame.read("material", key_id)),)

    def _crs_materials(self, frame: Frame, crs_id: int) -> tuple[Any, ...]:
        self._check_complete(frame, crs_id, "CrsAborted", "CrsNotGenerated")
        context_id = int.from_bytes(frame.read("extra_data", crs_id)[_CONTEXT])
        committee = self._config.committee(frame.at(self._config.address), context_id)
        return self._urls(frame, committee, crs_id), frame.read("material", crs_id)

    def _check_complete(self, frame: Frame, request: int, aborted: str, missing: str) -> None:
        if frame.load(mapping_slot(_DIGEST, request)):
            return
        done = frame.load(mapping_slot(_DONE, request))
        revert(KMS_GENERATION.error(aborted if done else missing), request)

    def _consensus_senders(self, frame: Frame, request: int) -> tuple[Any, ...]:
        digest = frame.load(mapping_slot(_DIGEST, request)).to_bytes(32)
        return (frame.read("senders", request, digest, default=()),)


def _next(frame: Frame, counter: int) -> int:
    """Count one further and return the new id."""
    frame.store(counter, frame.load(counter) + 1)
    return frame.load(counter)
