"""The functions of ``KMSGeneration`` that take replies and count them, with the real rules.

The order of the checks is that of annex A of fhevm-0.14.md, and of 1.4 of fhevm-0.15.md.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.emulator.contracts import generation_slots as at
from kmsconn.emulator.contracts.contract import Handler
from kmsconn.emulator.contracts.gateway_config import NO_NODE, Committee
from kmsconn.emulator.contracts.generation_releases import release_of
from kmsconn.emulator.contracts.generation_views import EmulatedGenerationViews
from kmsconn.emulator.contracts.migrations import add_compressed, check_reply, existing_key
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.contracts.recovery import recover_strictly
from kmsconn.emulator.execution import Frame, revert
from kmsconn.emulator.generation_hashes import KeyDigests, crsgen_hash, keygen_hash, prep_keygen_hash
from kmsconn.ethereum.eip712 import Domain, signing_digest
from kmsconn.ethereum.ids import make_id
from kmsconn.protocols.fhevm.abi import KMS_GENERATION
from kmsconn.protocols.queries import mapping_slot

_REPLY_GAS, _CONSENSUS_GAS = 130_000, 175_000
_SIGNED_ALREADY = {
    at.PREP_TAG: KMS_GENERATION.error("KmsAlreadySignedForPrepKeygen"),
    at.KEY_TAG: KMS_GENERATION.error("KmsAlreadySignedForKeygen"),
    at.CRS_TAG: KMS_GENERATION.error("KmsAlreadySignedForCrsgen"),
}


@attrs.frozen
class GenerationReplies:
    """The handlers of the three kinds of reply; what is signed is under ``domain``, signers are those of ``config``."""

    _domain: Domain
    _config: ProtocolConfig
    _views: EmulatedGenerationViews

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers by the functions of the contract."""
        return {
            "prepKeygenResponse": self.prep_response,
            "keygenResponse": self.key_response,
            "crsgenResponse": self.crs_response,
        }

    def prep_response(self, frame: Frame, prep_id: int, signature: bytes) -> None:
        """Take a reply for a preparation; enough of them ask for the key. Raises Reverted."""
        self._check_requested(frame, at.PREP_COUNTER, at.PREP_TAG, prep_id, "PrepKeygenNotRequested")
        committee, extra_data = self._membership(frame, prep_id)
        struct_hash = prep_keygen_hash(prep_id, extra_data)
        digest = self._take(frame, committee, prep_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("PrepKeygenResponse"), prep_id, signature, frame.sender)
        if self._reaches(frame, committee, prep_id, digest):
            key_id, release = frame.load(mapping_slot(at.PAIR, prep_id)), release_of(frame)
            named = release.named(existing_key(frame, key_id))
            frame.emit(release.event("KeygenRequest"), prep_id, key_id, *named, extra_data)

    def key_response(self, frame: Frame, key_id: int, digests: KeyDigests, signature: bytes) -> None:
        """Take a reply for a key or a migration; enough of them activate the key, or complete the existing one. Raises Reverted."""
        self._check_requested(frame, at.KEY_COUNTER, at.KEY_TAG, key_id, "KeygenNotRequested")
        if not digests:
            revert(KMS_GENERATION.error("EmptyKeyDigests"), key_id)
        if existing_key(frame, key_id):
            check_reply(key_id, digests)
        committee, extra_data = self._membership(frame, key_id)
        prep_id = frame.load(mapping_slot(at.PAIR, key_id))
        if not frame.load(mapping_slot(at.DONE, prep_id)):
            revert(KMS_GENERATION.error("KeyManagementRequestPending"))
        release_of(frame).check_types(digests)
        struct_hash = keygen_hash(prep_id, key_id, digests, extra_data)
        digest = self._take(frame, committee, key_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("KeygenResponse"), key_id, digests, signature, frame.sender)
        if self._reaches(frame, committee, key_id, digest):
            self._finish_key(frame, key_id, digests)

    def _finish_key(self, frame: Frame, key_id: int, digests: KeyDigests) -> None:
        existing, release = existing_key(frame, key_id), release_of(frame)
        if existing:
            add_compressed(frame, existing, digests)
        else:
            self._complete(frame, at.KEY_TAG, key_id, digests)
        urls = self._views.urls(frame, key_id)
        frame.emit(release.event("ActivateKey"), key_id, *release.named(existing), urls, digests)

    def crs_response(self, frame: Frame, crs_id: int, crs_digest: bytes, signature: bytes) -> None:
        """Take a reply for a CRS; enough of them activate it. Raises Reverted."""
        self._check_requested(frame, at.CRS_COUNTER, at.CRS_TAG, crs_id, "CrsgenNotRequested")
        committee, extra_data = self._membership(frame, crs_id)
        struct_hash = crsgen_hash(crs_id, frame.read("bits", crs_id), crs_digest, extra_data)
        digest = self._take(frame, committee, crs_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("CrsgenResponse"), crs_id, crs_digest, signature, frame.sender)
        if self._reaches(frame, committee, crs_id, digest):
            self._complete(frame, at.CRS_TAG, crs_id, crs_digest)
            urls = self._views.urls(frame, crs_id)
            frame.emit(KMS_GENERATION.event("ActivateCrs"), crs_id, urls, crs_digest)

    def _check_requested(self, frame: Frame, counter: int, tag: int, request: int, error: str) -> None:
        frame.meter.burn(_REPLY_GAS)
        if not make_id(tag, 0) < request <= frame.load(counter):
            revert(KMS_GENERATION.error(error), request)

    def _membership(self, frame: Frame, request: int) -> tuple[Committee, bytes]:
        """Return the committee that the request names, and its extraData; the sender must belong to it. Raises Reverted."""
        extra_data: bytes = frame.read("extra_data", request)
        context_id = int.from_bytes(extra_data[at.CONTEXT])
        committee = self._config.active_committee(frame.at(self._config.address), context_id)
        if committee.of_sender(frame.sender) == NO_NODE:
            revert(KMS_GENERATION.error("NotKmsTxSender"), frame.sender)
        return committee, extra_data

    def _take(
        self, frame: Frame, committee: Committee, request: int, struct_hash: bytes, signature: bytes
    ) -> bytes:
        """Check signature, signer, sender and that it is the signer's first; note and return the digest. Raises Reverted."""
        digest = signing_digest(self._domain, struct_hash)
        signer = recover_strictly(digest, signature)
        if not committee.has_signer(signer):
            revert(KMS_GENERATION.error("NotKmsSigner"), signer)
        if committee.of_sender(frame.sender).signer != signer:
            revert(KMS_GENERATION.error("KmsSignerDoesNotMatchTxSender"), signer, frame.sender)
        slot = mapping_slot(mapping_slot(at.ANSWERED, request), signer)
        if frame.load(slot):
            revert(_SIGNED_ALREADY[request >> at.TAG_SHIFT], request, signer)
        frame.store(slot, 1)
        senders = (*frame.read("senders", request, digest, default=()), frame.sender)
        frame.write(senders, "senders", request, digest)
        return digest

    def _reaches(self, frame: Frame, committee: Committee, request: int, digest: bytes) -> bool:
        """Tell whether this answer completes the request, and note it."""
        senders = frame.read("senders", request, digest)
        if frame.load(mapping_slot(at.DONE, request)) or len(senders) < committee.thresholds.kms_gen:
            return False
        frame.meter.burn(_CONSENSUS_GAS)
        frame.store(mapping_slot(at.DONE, request), 1)
        frame.store(mapping_slot(at.DIGEST, request), int.from_bytes(digest))
        return True

    def _complete(self, frame: Frame, tag: int, request: int, material: Any) -> None:
        frame.write(material, "material", request)
        frame.write((*frame.read("completed", tag, default=()), request), "completed", tag)
        frame.write(request, "active", tag)
