"""The functions of ``Decryption`` that take replies and count them, with the real rules.

The order of the checks is that of annex A of fhevm-0.14.md.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.emulator.contracts import decryption_slots as at
from kmsconn.emulator.contracts.contract import Handler
from kmsconn.emulator.contracts.decryption_slots import named_context
from kmsconn.emulator.contracts.gateway_config import Committee, GatewayConfig
from kmsconn.emulator.contracts.recovery import recover_strictly
from kmsconn.emulator.execution import Frame, revert
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.protocols.fhevm.abi import DECRYPTION
from kmsconn.protocols.queries import mapping_slot

PUBLIC_TYPE = "PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)"
USER_TYPE = "UserDecryptResponseVerification(bytes publicKey,bytes32[] ctHandles,bytes userDecryptedShare,bytes extraData)"

_NO_DIGEST = bytes(32)  # user shares differ, so they are counted under no digest

# Seen on the real contract, without calldata and logs (fhevm-0.14.md, E.1, and the proofs of the vectors).
_PUBLIC_REPLY_GAS, _USER_REPLY_GAS, _HANDLE_GAS = 208_000, 180_000, 2_300
_FIRST_REPLY_GAS = 17_100  # a list begins, two for public replies
_PUBLIC_CONSENSUS_GAS, _SIGNATURE_GAS, _USER_CONSENSUS_GAS = 33_000, 9_500, 20_000


@attrs.frozen
class DecryptionReplies:
    """The handlers of both kinds of reply; what is signed is under ``domain``, signers are those of ``config``."""

    _domain: Domain
    _config: GatewayConfig

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers by the functions of the contract."""
        return {
            "publicDecryptionResponse": self.public_response,
            "userDecryptionResponse": self.user_response,
            "isDecryptionDone": lambda frame, i: (bool(frame.load(mapping_slot(at.DONE, i))),),
            "getDecryptionConsensusTxSenders": self.consensus_senders,
        }

    def public_response(
        self, frame: Frame, decryption_id: int, result: bytes, signature: bytes, extra_data: bytes
    ) -> None:
        """Take a reply for everybody; enough of them for one result complete the request. Raises Reverted."""
        committee = self._committee_for(
            frame, at.PUBLIC_COUNTER, PUBLIC_DECRYPTION_TAG, decryption_id, extra_data
        )
        handles = frame.read("handles", decryption_id)
        frame.meter.burn(_PUBLIC_REPLY_GAS + _HANDLE_GAS * len(handles))
        digest = signing_digest(self._domain, hash_struct(PUBLIC_TYPE, handles, result, extra_data))
        self._take_signature(frame, committee, decryption_id, digest, signature)
        signatures = _append(frame, signature, "signatures", decryption_id, digest)
        _append(frame, frame.sender, "senders", decryption_id, digest)
        call = (decryption_id, result, signature, frame.sender, extra_data)
        frame.emit(DECRYPTION.event("PublicDecryptionResponseCall"), *call)
        if self._reaches(frame, decryption_id, len(signatures), committee.thresholds.public):
            frame.meter.burn(_PUBLIC_CONSENSUS_GAS + _SIGNATURE_GAS * len(signatures))
            frame.store(mapping_slot(at.DIGEST, decryption_id), int.from_bytes(digest))
            consensus = (decryption_id, result, signatures, extra_data)
            frame.emit(DECRYPTION.event("PublicDecryptionResponse"), *consensus)

    def user_response(
        self, frame: Frame, decryption_id: int, share: bytes, signature: bytes, extra_data: bytes
    ) -> None:
        """Take a reply with a user's share; enough of them complete the request. Raises Reverted."""
        committee = self._committee_for(
            frame, at.USER_COUNTER, USER_DECRYPTION_TAG, decryption_id, extra_data
        )
        handles = frame.read("handles", decryption_id)
        frame.meter.burn(_USER_REPLY_GAS + _HANDLE_GAS * len(handles))
        public_key = frame.read("public_key", decryption_id)
        digest = signing_digest(self._domain, hash_struct(USER_TYPE, public_key, handles, share, extra_data))
        self._take_signature(frame, committee, decryption_id, digest, signature)
        senders = _append(frame, frame.sender, "senders", decryption_id, _NO_DIGEST)
        event = (decryption_id, len(senders) - 1, share, signature, extra_data)
        frame.emit(DECRYPTION.event("UserDecryptionResponse"), *event)
        if self._reaches(frame, decryption_id, len(senders), committee.thresholds.user):
            frame.meter.burn(_USER_CONSENSUS_GAS)
            frame.emit(DECRYPTION.event("UserDecryptionResponseThresholdReached"), decryption_id)

    def _committee_for(
        self, frame: Frame, counter: int, tag: int, decryption_id: int, extra_data: bytes
    ) -> Committee:
        """Check id, context of the extraData and pinned context, in this order; return the committee. Raises Reverted."""
        if not make_id(tag, 0) < decryption_id <= frame.load(counter):
            revert(DECRYPTION.error("DecryptionNotRequested"), decryption_id)
        context_id = named_context(frame, self._config, extra_data)
        pinned = frame.load(mapping_slot(at.PINNED, decryption_id))
        if pinned not in {0, context_id}:
            revert(DECRYPTION.error("DecryptionContextMismatch"), decryption_id, pinned, context_id)
        return self._config.committee(frame, context_id)

    def _take_signature(
        self, frame: Frame, committee: Committee, decryption_id: int, digest: bytes, signature: bytes
    ) -> None:
        """Check signature, signer, sender and that it is the signer's first; note the answer. Raises Reverted."""
        signer = recover_strictly(digest, signature)
        if not committee.has_signer(signer):
            revert(DECRYPTION.error("NotKmsSigner"), signer)
        if committee.of_sender(frame.sender).signer != signer:
            revert(DECRYPTION.error("KmsSignerDoesNotMatchTxSender"), signer, frame.sender)
        slot = mapping_slot(mapping_slot(at.ANSWERED, decryption_id), signer)
        if frame.load(slot):
            revert(DECRYPTION.error("KmsNodeAlreadySigned"), decryption_id, signer)
        frame.store(slot, 1)

    def _reaches(self, frame: Frame, decryption_id: int, count: int, threshold: int) -> bool:
        """Tell whether this answer completes the request, and note it."""
        slot = mapping_slot(at.DONE, decryption_id)
        if frame.load(slot) or count < threshold:
            return False
        frame.store(slot, 1)
        return True

    def consensus_senders(self, frame: Frame, decryption_id: int) -> tuple[Any, ...]:
        """Return who sent the replies that completed a public request."""
        digest = frame.load(mapping_slot(at.DIGEST, decryption_id)).to_bytes(32)
        return (frame.read("senders", decryption_id, digest, default=()),)


def _append(frame: Frame, item: Any, *key: Any) -> tuple[Any, ...]:
    items: tuple[Any, ...] = (*frame.read(*key, default=()), item)
    frame.meter.burn(_FIRST_REPLY_GAS if len(items) == 1 else 0)
    frame.write(items, *key)
    return items
