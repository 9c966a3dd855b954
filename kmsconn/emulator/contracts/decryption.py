"""``DecryptionContract`` on the Gateway: takes requests, which it announces by G1 to G3, and takes and counts replies, with the real rules.

Storage is laid out as in the real contract where somebody may look (fhevm-0.14.md, 6.2 and E.1); the checks are in the order of annex A.
Who asks, for how long and with which signature is not looked at. Knows no node and no block.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kmsconn.emulator.contracts.gateway_config import (
    Committee,
    GatewayConfig,
    Material,
    check_handles,
    read_materials,
)
from kmsconn.emulator.contracts.request_calls import DIRECT_CALL, UNIFIED_CALL, Pairs
from kmsconn.emulator.execution import (
    AbiContract,
    Frame,
    Handler,
    consensus_senders,
    domain_teller,
    is_set,
    revert,
    set_once,
)
from kmsconn.ethereum.abi import ContractEvent, Domain, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.protocols.fhevm.contracts import DECRYPTION, LATER_EVENTS
from kmsconn.protocols.queries import base_slot, mapping_slot

BASE = base_slot("fhevm_gateway.storage.Decryption")
DONE, ANSWERED, DIGEST, PINNED = BASE, BASE + 1, BASE + 3, BASE + 9
PUBLIC_COUNTER, USER_COUNTER = BASE + 6, BASE + 8
_CONTEXT_END = 33


def named_context(frame: Frame, config: GatewayConfig, extra_data: bytes) -> int:
    """Return the context that extraData names; the current one for version 0 (6.2). Raises Reverted."""
    version = extra_data[0] if extra_data else 0
    if version == 0:
        return config.current(frame)
    if version not in {1, 2}:
        revert(DECRYPTION.error("UnsupportedExtraDataVersion"), version)
    if len(extra_data) < _CONTEXT_END:
        revert(DECRYPTION.error("InvalidExtraDataLength"), len(extra_data), _CONTEXT_END)
    context_id = int.from_bytes(extra_data[1:_CONTEXT_END])
    if not context_id:
        revert(DECRYPTION.error("InvalidNullContextId"))
    return context_id


_MATERIALS = "(bytes32,uint256,bytes32,address[])[]"
_PAYLOAD = "(address,bytes,address[],(uint256,uint256),bytes,bytes)"
_G1 = DECRYPTION.event("PublicDecryptionRequest")
_G2 = DECRYPTION.event(f"UserDecryptionRequest(uint256,{_MATERIALS},address,bytes,bytes)")
_G3 = DECRYPTION.event(f"UserDecryptionRequest(uint256,{_MATERIALS},(bytes32,address,address)[],{_PAYLOAD})")
_LATER = {event.signature: event for event in LATER_EVENTS.values()}
_G1_LATER = _LATER["PublicDecryptionRequest(uint256,bytes32[],bytes)"]
_G2_LATER = _LATER["UserDecryptionRequest(uint256,bytes32[],address,bytes,bytes)"]
_G3_LATER = _LATER[f"UserDecryptionRequest(uint256,(bytes32,address,address)[],{_PAYLOAD})"]

UNHEARD_OF = ContractEvent.from_item(
    {
        "name": "UserDecryptionRequest",
        "inputs": [
            {"name": "decryptionId", "type": "uint256", "indexed": True},
            {"name": "handles", "type": "bytes32[]", "indexed": False},
            {"name": "userPublicKey", "type": "bytes32", "indexed": False},
        ],
    }
)
"""A request of users in a form that no release has: it has its number in the same place, and shares the counter."""

# Seen on the real contract, without calldata and logs (fhevm-0.14.md, E.1, and the proofs of the vectors).
_PUBLIC_REQUEST_GAS, _USER_REQUEST_GAS = 150_000, 250_000
_HANDLE_GAS = 2_300

PUBLIC_TYPE = "PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)"
USER_TYPE = "UserDecryptResponseVerification(bytes publicKey,bytes32[] ctHandles,bytes userDecryptedShare,bytes extraData)"

_NO_DIGEST = bytes(32)  # user shares differ, so they are counted under no digest

_PUBLIC_REPLY_GAS, _USER_REPLY_GAS = 208_000, 180_000
_FIRST_REPLY_GAS = 17_100  # a list begins, two for public replies
_PUBLIC_CONSENSUS_GAS, _SIGNATURE_GAS, _USER_CONSENSUS_GAS = 33_000, 9_500, 20_000


def unheard_of_request(frame: Frame) -> None:
    """Take a user's request that no version of a connector knows."""
    name = (frame.load(USER_COUNTER) or make_id(USER_DECRYPTION_TAG, 0)) + 1
    frame.store(USER_COUNTER, name)
    frame.emit(UNHEARD_OF, name, (), bytes(32))


class DecryptionContract(AbiContract):
    """The contract, with the contexts and signers of ``config``.

    Those of its methods that no function runs are knobs (for ``EmulatedEvm.set_up`` and ``ActorQueue.act``).
    """

    def __init__(self, address: Address, chain_id: int, config: GatewayConfig) -> None:
        self.domain = Domain("Decryption", "1", chain_id, address)
        self._config = config
        handlers: dict[str, Handler] = {
            "publicDecryptionRequest": self.public_request,
            DIRECT_CALL: lambda frame, pairs, _validity, _chain, user, key, _signature, extra: (
                self._legacy_request(frame, pairs, user, key, extra)
            ),
            "delegatedUserDecryptionRequest": lambda frame, pairs, _validity, both, _chain, key, _signature, extra: (
                self._legacy_request(frame, pairs, both[1], key, extra)
            ),
            UNIFIED_CALL: self.unified_request,
            "publicDecryptionResponse": self.public_response,
            "userDecryptionResponse": self.user_response,
            "isDecryptionDone": lambda frame, i: (is_set(frame, DONE, i),),
            "getDecryptionConsensusTxSenders": partial(consensus_senders, DIGEST),
            "eip712Domain": domain_teller(self.domain),
            "getVersion": lambda frame: (f"Decryption v0.{7 if frame.read('later') else 6}.0",),
        }
        super().__init__(address, DECRYPTION, handlers)

    def initialize(self, frame: Frame) -> None:
        """Set the counters to their bare tags, as a fresh deployment does."""
        frame.store(PUBLIC_COUNTER, make_id(PUBLIC_DECRYPTION_TAG, 0))
        frame.store(USER_COUNTER, make_id(USER_DECRYPTION_TAG, 0))

    def commit(self, frame: Frame, material: Material) -> None:
        """Let the coprocessors have committed a ciphertext."""
        frame.write(material, "material", material.handle)

    def pause(self, frame: Frame, *, paused: bool = True) -> None:
        """Refuse requests, or take them again; replies are always taken."""
        frame.write(paused, "paused")

    def emit_later_events(self, frame: Frame, *, later: bool = True, only: bool = False) -> None:
        """Emit each request a second time in its form of the next generation, as 0.15 does, or in that form ``only`` (annex C)."""
        frame.write(later, "later")
        frame.write(only, "only later")

    def pin(self, frame: Frame, decryption_id: int, context_id: int) -> None:
        """Pin another context; 0 makes the request one from before pinning."""
        frame.store(mapping_slot(PINNED, decryption_id), context_id)

    def public_request(self, frame: Frame, handles: tuple[bytes, ...], extra_data: bytes) -> None:
        """Take a request for everybody. Raises Reverted."""
        _check_open(frame)
        if not handles:
            revert(DECRYPTION.error("EmptyCtHandles"))
        frame.meter.burn(_PUBLIC_REQUEST_GAS + _HANDLE_GAS * len(handles))
        name, materials = self._record(frame, PUBLIC_COUNTER, PUBLIC_DECRYPTION_TAG, handles, extra_data)
        _emit_forms(frame, (_G1, name, materials, extra_data), (_G1_LATER, name, handles, extra_data))

    def _legacy_request(self, frame: Frame, pairs: Pairs, *rest: Any) -> None:
        """Take a request; ``rest`` is the user, the public key and the extraData. Raises Reverted."""
        _check_open(frame)
        frame.meter.burn(_USER_REQUEST_GAS + _HANDLE_GAS * len(pairs))
        handles = tuple(handle for handle, _ in pairs)
        name, materials = self._record_user(frame, handles, *rest[1:])
        _emit_forms(frame, (_G2, name, materials, *rest), (_G2_LATER, name, handles, *rest))

    def unified_request(self, frame: Frame, *arguments: Any) -> None:
        """Take a request in the unified form. Raises Reverted."""
        entries, user, public_key, contracts, validity, signature, extra_data = arguments
        _check_open(frame)
        frame.meter.burn(_USER_REQUEST_GAS + _HANDLE_GAS * len(entries))
        handles = tuple(entry[0] for entry in entries)
        name, materials = self._record_user(frame, handles, public_key, extra_data)
        payload = (user, public_key, contracts, validity, extra_data, signature)
        _emit_forms(frame, (_G3, name, materials, entries, payload), (_G3_LATER, name, entries, payload))

    def _record_user(
        self, frame: Frame, handles: tuple[bytes, ...], public_key: bytes, extra_data: bytes
    ) -> tuple[int, tuple[Any, ...]]:
        recorded = self._record(frame, USER_COUNTER, USER_DECRYPTION_TAG, handles, extra_data)
        frame.write(public_key, "public_key", recorded[0])
        return recorded

    def _record(
        self, frame: Frame, counter: int, tag: int, handles: tuple[bytes, ...], extra_data: bytes
    ) -> tuple[int, tuple[Any, ...]]:
        """Give a request its id, pin its context and keep its handles; return the id and the materials."""
        check_handles(frame, self._config, handles)
        materials = read_materials(frame, handles)
        context_id = named_context(frame, self._config, extra_data)
        self._config.committee(frame, context_id)
        decryption_id = (frame.load(counter) or make_id(tag, 0)) + 1
        frame.store(counter, decryption_id)
        frame.store(mapping_slot(PINNED, decryption_id), context_id)
        frame.write(handles, "handles", decryption_id)
        return decryption_id, tuple(material.as_abi for material in materials)

    def public_response(
        self, frame: Frame, decryption_id: int, result: bytes, signature: bytes, extra_data: bytes
    ) -> None:
        """Take a reply for everybody; enough of them for one result complete the request. Raises Reverted."""
        counter = PUBLIC_COUNTER, PUBLIC_DECRYPTION_TAG
        committee = self._committee_for(frame, *counter, decryption_id, extra_data)
        handles = frame.read("handles", decryption_id)
        frame.meter.burn(_PUBLIC_REPLY_GAS + _HANDLE_GAS * len(handles))
        digest = signing_digest(self.domain, hash_struct(PUBLIC_TYPE, handles, result, extra_data))
        self._take_signature(frame, committee, decryption_id, digest, signature)
        signatures = _append(frame, signature, "signatures", decryption_id, digest)
        _append(frame, frame.sender, "senders", decryption_id, digest)
        call = (decryption_id, result, signature, frame.sender, extra_data)
        frame.emit(DECRYPTION.event("PublicDecryptionResponseCall"), *call)
        if _reaches(frame, decryption_id, len(signatures), committee.thresholds.public):
            frame.meter.burn(_PUBLIC_CONSENSUS_GAS + _SIGNATURE_GAS * len(signatures))
            frame.store(mapping_slot(DIGEST, decryption_id), int.from_bytes(digest))
            consensus = (decryption_id, result, signatures, extra_data)
            frame.emit(DECRYPTION.event("PublicDecryptionResponse"), *consensus)

    def user_response(
        self, frame: Frame, decryption_id: int, share: bytes, signature: bytes, extra_data: bytes
    ) -> None:
        """Take a reply with a user's share; enough of them complete the request. Raises Reverted."""
        committee = self._committee_for(frame, USER_COUNTER, USER_DECRYPTION_TAG, decryption_id, extra_data)
        handles = frame.read("handles", decryption_id)
        frame.meter.burn(_USER_REPLY_GAS + _HANDLE_GAS * len(handles))
        public_key = frame.read("public_key", decryption_id)
        digest = signing_digest(self.domain, hash_struct(USER_TYPE, public_key, handles, share, extra_data))
        self._take_signature(frame, committee, decryption_id, digest, signature)
        senders = _append(frame, frame.sender, "senders", decryption_id, _NO_DIGEST)
        event = (decryption_id, len(senders) - 1, share, signature, extra_data)
        frame.emit(DECRYPTION.event("UserDecryptionResponse"), *event)
        if _reaches(frame, decryption_id, len(senders), committee.thresholds.user):
            frame.meter.burn(_USER_CONSENSUS_GAS)
            frame.emit(DECRYPTION.event("UserDecryptionResponseThresholdReached"), decryption_id)

    def _committee_for(
        self, frame: Frame, counter: int, tag: int, decryption_id: int, extra_data: bytes
    ) -> Committee:
        """Check id, context of the extraData and pinned context, in this order; return the committee. Raises Reverted."""
        if not make_id(tag, 0) < decryption_id <= frame.load(counter):
            revert(DECRYPTION.error("DecryptionNotRequested"), decryption_id)
        context_id = named_context(frame, self._config, extra_data)
        pinned = frame.load(mapping_slot(PINNED, decryption_id))
        if pinned not in {0, context_id}:
            revert(DECRYPTION.error("DecryptionContextMismatch"), decryption_id, pinned, context_id)
        return self._config.committee(frame, context_id)

    def _take_signature(
        self, frame: Frame, committee: Committee, decryption_id: int, digest: bytes, signature: bytes
    ) -> None:
        """Check signature, signer, sender and that it is the signer's first; note the answer. Raises Reverted."""
        signer = committee.signer_of(frame, digest, signature, DECRYPTION)
        if not set_once(frame, mapping_slot(ANSWERED, decryption_id), signer):
            revert(DECRYPTION.error("KmsNodeAlreadySigned"), decryption_id, signer)


def _emit_forms(frame: Frame, first: tuple[Any, ...], later: tuple[Any, ...]) -> None:
    """Emit a request in the forms that the contract is set to; each an event with its values."""
    if not frame.read("only later"):
        frame.emit(*first)
    if frame.read("later"):
        frame.emit(*later)


def _append(frame: Frame, item: Any, *key: Any) -> tuple[Any, ...]:
    items: tuple[Any, ...] = (*frame.read(*key, default=()), item)
    frame.meter.burn(_FIRST_REPLY_GAS if len(items) == 1 else 0)
    frame.write(items, *key)
    return items


def _check_open(frame: Frame) -> None:
    if frame.read("paused"):
        revert(DECRYPTION.error("EnforcedPause"))


def _reaches(frame: Frame, decryption_id: int, count: int, threshold: int) -> bool:
    """Tell whether this answer completes the request, and note it."""
    return count >= threshold and set_once(frame, DONE, decryption_id)
