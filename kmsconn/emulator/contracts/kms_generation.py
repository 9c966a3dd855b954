"""``KMSGeneration`` on Ethereum: key and CRS generation, and migrations; emits E1 to E5, and takes replies. Knows no node and no block.

Storage is laid out as in the real contract (fhevm-0.14.md, E.2). The requests and aborts, which only the owner makes there, are knobs.
A migration makes compressed material for the key that is in use, under an id that never becomes a key.
The order of the checks is that of annex A of fhevm-0.14.md, and of 1.4 of fhevm-0.15.md; see also its 1.1 to 1.5 and 8.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kmsconn.emulator.contracts.gateway_config import NO_NODE, Committee
from kmsconn.emulator.contracts.generation_releases import (
    COMPRESSED,
    LATER_KEY_TYPES,
    MIGRATING_0_3,
    GenerationRelease,
    KeyDigests,
    check_types,
    crsgen_hash,
    keygen_hash,
    named_pair,
    prep_keygen_hash,
    release_of,
)
from kmsconn.emulator.contracts.protocol_config import ACTIVE_CONTEXT, ACTIVE_EPOCH, ProtocolConfig
from kmsconn.emulator.execution import (
    AbiContract,
    Frame,
    Handler,
    Reverted,
    consensus_senders,
    count,
    domain_teller,
    is_set,
    revert,
    set_once,
    told,
)
from kmsconn.ethereum.abi import Domain, Function, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import make_id
from kmsconn.protocols.fhevm.contracts import DECRYPTION, KMS_GENERATION, LATER_KMS_GENERATION
from kmsconn.protocols.queries import base_slot, content_slot, mapping_slot

PREP_TAG, KEY_TAG, CRS_TAG = 0x03, 0x04, 0x05
TAG_SHIFT = 248
BASE = base_slot("fhevm.storage.KMSGeneration")
ANSWERED, DONE, DIGEST, PAIR = BASE, BASE + 1, BASE + 3, BASE + 6
PREP_COUNTER, KEY_COUNTER, CRS_COUNTER = BASE + 4, BASE + 5, BASE + 9
EXTRA_DATA = BASE + 14
EXISTING_BY_REQUEST, REQUEST_BY_EXISTING = BASE + 17, BASE + 18
CONTEXT = slice(1, 33)
"""Where extraData has the context."""
_WORD = 32


def existing_key(frame: Frame, request: int) -> int:
    """Return the key that a request migrates; 0 for a key of its own."""
    return frame.load(mapping_slot(EXISTING_BY_REQUEST, request))


def material_request(frame: Frame, key_id: int) -> int:
    """Return the request whose replies gave a key its newest material: its migration, or the key itself."""
    request = frame.load(mapping_slot(REQUEST_BY_EXISTING, key_id))
    return request if request and frame.load(mapping_slot(DIGEST, request)) else key_id


def check_generated(frame: Frame, key_id: int) -> None:
    """Refuse what is no key: a request that has no consensus, or that migrates another key. Raises Reverted."""
    if existing_key(frame, key_id):
        revert(LATER_KMS_GENERATION.error("KeyNotGenerated"), key_id)
    check_complete(frame, key_id, "KeyAborted", "KeyNotGenerated")


def check_complete(frame: Frame, request: int, aborted: str, missing: str) -> None:
    """Refuse a request without consensus. Raises Reverted."""
    if frame.load(mapping_slot(DIGEST, request)):
        return
    done = frame.load(mapping_slot(DONE, request))
    revert(LATER_KMS_GENERATION.error(aborted if done else missing), request)


def check_migration(frame: Frame, params: int, existing: int) -> None:
    """Refuse a migration of what is not the key in use, under other parameters, or done already. Raises Reverted."""
    error = LATER_KMS_GENERATION.error
    check_generated(frame, existing)
    if existing != frame.read("active", KEY_TAG, default=0):
        revert(error("NotActiveKey"), existing)
    expected = frame.read("params", existing)
    if params != expected:
        revert(error("InvalidMigrationParamsType"), existing, expected, params)
    if _compressed(frame.read("material", existing)) or material_request(frame, existing) != existing:
        revert(error("CompressedKeyMaterialsAlreadyAdded"), existing)


def check_reply(request: int, digests: KeyDigests) -> None:
    """Refuse a reply to a migration without exactly one compressed key set. Raises Reverted."""
    check_types(digests, LATER_KEY_TYPES)
    found = _compressed(digests)
    if len(found) != 1 or not found[0][1]:
        revert(LATER_KMS_GENERATION.error("InvalidCompressedKeySetDigest"), request)


def _compressed(digests: KeyDigests) -> KeyDigests:
    return tuple(one for one in digests if one[0] == COMPRESSED)


_REPLY_GAS, _CONSENSUS_GAS = 130_000, 175_000
_SIGNED_ALREADY = {
    PREP_TAG: KMS_GENERATION.error("KmsAlreadySignedForPrepKeygen"),
    KEY_TAG: KMS_GENERATION.error("KmsAlreadySignedForKeygen"),
    CRS_TAG: KMS_GENERATION.error("KmsAlreadySignedForCrsgen"),
}


def abort_keygen(frame: Frame, prep_id: int) -> None:
    """End a key that is not done, with its preprocessing; emits E4. Raises Reverted."""
    if not make_id(PREP_TAG, 0) < prep_id <= frame.load(PREP_COUNTER):
        revert(KMS_GENERATION.error("AbortKeygenInvalidId"), prep_id)
    key_id = frame.load(mapping_slot(PAIR, prep_id))
    if is_set(frame, DONE, key_id):
        revert(KMS_GENERATION.error("AbortKeygenAlreadyDone"), prep_id)
    for request in (prep_id, key_id):
        set_once(frame, DONE, request)
    frame.emit(KMS_GENERATION.event("AbortKeygen"), prep_id)


def abort_crsgen(frame: Frame, crs_id: int) -> None:
    """End a CRS that is not done; emits E5. Raises Reverted."""
    if not make_id(CRS_TAG, 0) < crs_id <= frame.load(CRS_COUNTER):
        revert(KMS_GENERATION.error("AbortCrsgenInvalidId"), crs_id)
    if is_set(frame, DONE, crs_id):
        revert(KMS_GENERATION.error("AbortCrsgenAlreadyDone"), crs_id)
    set_once(frame, DONE, crs_id)
    frame.emit(KMS_GENERATION.event("AbortCrsgen"), crs_id)


def _check_finished(frame: Frame, counter: int, error: str) -> None:
    newest = frame.load(counter)
    if newest != make_id(newest >> TAG_SHIFT, 0) and not is_set(frame, DONE, newest):
        revert(KMS_GENERATION.error(error), newest)


def _check_requested(frame: Frame, counter: int, tag: int, request: int, error: str) -> None:
    frame.meter.burn(_REPLY_GAS)
    if not make_id(tag, 0) < request <= frame.load(counter):
        revert(KMS_GENERATION.error(error), request)


def _reaches(frame: Frame, committee: Committee, request: int, digest: bytes) -> bool:
    """Tell whether this answer completes the request, and note it."""
    senders = frame.read("senders", request, digest)
    if len(senders) < committee.thresholds.kms_gen or not set_once(frame, DONE, request):
        return False
    frame.meter.burn(_CONSENSUS_GAS)
    frame.store(mapping_slot(DIGEST, request), int.from_bytes(digest))
    return True


def _complete(frame: Frame, tag: int, request: int, material: Any) -> None:
    frame.write(material, "material", request)
    frame.write((*frame.read("completed", tag, default=()), request), "completed", tag)
    frame.write(request, "active", tag)


def _key_info(frame: Frame, key_id: int) -> tuple[Any, ...]:
    check_generated(frame, key_id)
    prep_id, params = frame.load(mapping_slot(PAIR, key_id)), frame.read("params", key_id)
    return ((prep_id, key_id, params, frame.read("material", key_id)),)


def _name_current(frame: Frame, config: ProtocolConfig, *requests: int) -> bytes:
    """Keep with the requests the context and epoch that are current now."""
    there = frame.at(config.address)
    extra_data = named_pair(there.load(ACTIVE_CONTEXT), there.load(ACTIVE_EPOCH))
    for request in requests:
        _store_bytes(frame, mapping_slot(EXTRA_DATA, request), extra_data)
    return extra_data


def _extra_data(frame: Frame, request: int) -> bytes:
    return _load_bytes(frame, mapping_slot(EXTRA_DATA, request))


def _store_bytes(frame: Frame, slot: int, data: bytes) -> None:
    """Store more than a word as Solidity does: twice the length and one in the slot, and the words from its hash on."""
    frame.store(slot, 2 * len(data) + 1)
    words = (data[start : start + _WORD] for start in range(0, len(data), _WORD))
    for place, word in enumerate(words, content_slot(slot)):
        frame.store(place, int.from_bytes(word.ljust(_WORD, b"\0")))


def _load_bytes(frame: Frame, slot: int) -> bytes:
    size, first = frame.load(slot) // 2, content_slot(slot)
    places = range(first, first + -(-size // _WORD))
    return b"".join(frame.load(place).to_bytes(_WORD) for place in places)[:size]


_FIRST_KEYGEN = Function.from_item({"name": "keygen", "inputs": ({"type": "uint8"},), "outputs": ()})
"""The function with which the owner of 0.2.0 begins a key."""


class KmsGeneration(AbiContract):
    """The contract; who is a node, and where its storage is, ``config`` says.

    Its requests and aborts are knobs too (for ``EmulatedEvm.set_up`` and ``ActorQueue.act``).
    It begins as 0.2.0 of the tag v0.14.0; what only its owner may call there, anybody may call here.
    """

    def __init__(self, address: Address, chain_id: int, config: ProtocolConfig) -> None:
        self.domain = Domain("KMSGeneration", "1", chain_id, address)
        self._config = config
        handlers: dict[str, Handler] = {
            "keygen": partial(self._keygen, migrates=True),
            "crsgenRequest": lambda *given: () if self.request_crsgen(*given) else None,
            "abortKeygen": abort_keygen,
            "abortCrsgen": abort_crsgen,
            "prepKeygenResponse": self.prep_response,
            "keygenResponse": self.key_response,
            "crsgenResponse": self.crs_response,
            "getKeyCounter": lambda frame: (frame.load(KEY_COUNTER),),
            "getActiveKeyId": told("active", KEY_TAG),
            "getActiveCrsId": told("active", CRS_TAG),
            "getCompletedKeyIds": told("completed", KEY_TAG, default=()),
            "getCompletedCrsIds": told("completed", CRS_TAG, default=()),
            "getConsensusTxSenders": partial(consensus_senders, DIGEST),
            "getKeyInfo": _key_info,
            "getKeyMaterials": self._key_materials,
            "getKeyParamsType": lambda frame, i: (_key_info(frame, i)[0][2],),
            "getCrsMaterials": self._crs_materials,
            "isRequestDone": lambda frame, i: (is_set(frame, DONE, i),),
            "getVersion": lambda frame: (release_of(frame).version,),
        }
        super().__init__(address, LATER_KMS_GENERATION, handlers)
        self.offer(_FIRST_KEYGEN, partial(self._keygen, migrates=False))
        self.offer(DECRYPTION.function("eip712Domain"), domain_teller(self.domain))

    def _keygen(self, frame: Frame, params: int, existing: int = 0, *, migrates: bool) -> None:
        """Begin a key by the function that the release has. Raises Reverted, without data for the function of another one."""
        if release_of(frame).migrates is not migrates:
            raise Reverted
        self.request_keygen(frame, params, existing)

    def initialize(self, frame: Frame) -> None:
        """Set the counters to their bare tags, as a fresh deployment does."""
        for slot, tag in ((PREP_COUNTER, PREP_TAG), (KEY_COUNTER, KEY_TAG), (CRS_COUNTER, CRS_TAG)):
            frame.store(slot, make_id(tag, 0))

    def upgrade(self, frame: Frame, release: GenerationRelease = MIGRATING_0_3) -> None:
        """Run another release from here on, whatever ceremony is open."""
        frame.write(release, "release")

    abort_keygen = staticmethod(abort_keygen)
    abort_crsgen = staticmethod(abort_crsgen)

    def request_keygen(self, frame: Frame, params: int = 0, existing: int = 0) -> int:
        """Begin a key, or the migration of an existing one: take both ids and emit E1; return the prep-keygen id.

        Raises Reverted while another is open, and for what cannot be migrated.
        """
        release = release_of(frame)
        _check_finished(frame, KEY_COUNTER, "KeygenOngoing")
        if existing and not release.migrates:
            raise Reverted
        if existing:
            check_migration(frame, params, existing)
        prep_id, key_id = (count(frame, slot) for slot in (PREP_COUNTER, KEY_COUNTER))
        frame.store(mapping_slot(PAIR, prep_id), key_id)
        frame.store(mapping_slot(PAIR, key_id), prep_id)
        if existing:  # a repeated migration takes the place of the aborted one
            frame.store(mapping_slot(EXISTING_BY_REQUEST, key_id), existing)
            frame.store(mapping_slot(REQUEST_BY_EXISTING, existing), key_id)
        extra_data = _name_current(frame, self._config, prep_id, key_id)
        frame.write(params, "params", key_id)
        event, named = release.abi.event("PrepKeygenRequest"), release.named(existing)
        frame.emit(event, prep_id, params, *named, extra_data)
        return prep_id

    def request_crsgen(self, frame: Frame, max_bit_length: int = 2048, params: int = 0) -> int:
        """Begin a CRS and emit E3; return its id. Raises Reverted while another is open."""
        _check_finished(frame, CRS_COUNTER, "CrsgenOngoing")
        crs_id = count(frame, CRS_COUNTER)
        extra_data = _name_current(frame, self._config, crs_id)
        frame.write(max_bit_length, "bits", crs_id)
        frame.emit(KMS_GENERATION.event("CrsgenRequest"), crs_id, max_bit_length, params, extra_data)
        return crs_id

    def prep_response(self, frame: Frame, prep_id: int, signature: bytes) -> None:
        """Take a reply for a preparation; enough of them ask for the key. Raises Reverted."""
        _check_requested(frame, PREP_COUNTER, PREP_TAG, prep_id, "PrepKeygenNotRequested")
        committee, extra_data = self._membership(frame, prep_id)
        struct_hash = prep_keygen_hash(prep_id, extra_data)
        digest = self._take(frame, committee, prep_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("PrepKeygenResponse"), prep_id, signature, frame.sender)
        if _reaches(frame, committee, prep_id, digest):
            key_id, release = frame.load(mapping_slot(PAIR, prep_id)), release_of(frame)
            named = release.named(existing_key(frame, key_id))
            frame.emit(release.abi.event("KeygenRequest"), prep_id, key_id, *named, extra_data)

    def key_response(self, frame: Frame, key_id: int, digests: KeyDigests, signature: bytes) -> None:
        """Take a reply for a key or a migration; enough of them activate the key, or complete the existing one. Raises Reverted."""
        _check_requested(frame, KEY_COUNTER, KEY_TAG, key_id, "KeygenNotRequested")
        if not digests:
            revert(KMS_GENERATION.error("EmptyKeyDigests"), key_id)
        if existing_key(frame, key_id):
            check_reply(key_id, digests)
        committee, extra_data = self._membership(frame, key_id)
        prep_id = frame.load(mapping_slot(PAIR, key_id))
        if not is_set(frame, DONE, prep_id):
            revert(KMS_GENERATION.error("KeyManagementRequestPending"))
        check_types(digests, release_of(frame).key_types)
        struct_hash = keygen_hash(prep_id, key_id, digests, extra_data)
        digest = self._take(frame, committee, key_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("KeygenResponse"), key_id, digests, signature, frame.sender)
        if _reaches(frame, committee, key_id, digest):
            self._finish_key(frame, key_id, digests)

    def _finish_key(self, frame: Frame, key_id: int, digests: KeyDigests) -> None:
        existing, release = existing_key(frame, key_id), release_of(frame)
        if existing:
            frame.write((*frame.read("material", existing), *_compressed(digests)), "material", existing)
        else:
            _complete(frame, KEY_TAG, key_id, digests)
        urls = self._urls(frame, key_id)
        frame.emit(release.abi.event("ActivateKey"), key_id, *release.named(existing), urls, digests)

    def crs_response(self, frame: Frame, crs_id: int, crs_digest: bytes, signature: bytes) -> None:
        """Take a reply for a CRS; enough of them activate it. Raises Reverted."""
        _check_requested(frame, CRS_COUNTER, CRS_TAG, crs_id, "CrsgenNotRequested")
        committee, extra_data = self._membership(frame, crs_id)
        struct_hash = crsgen_hash(crs_id, frame.read("bits", crs_id), crs_digest, extra_data)
        digest = self._take(frame, committee, crs_id, struct_hash, signature)
        frame.emit(KMS_GENERATION.event("CrsgenResponse"), crs_id, crs_digest, signature, frame.sender)
        if _reaches(frame, committee, crs_id, digest):
            _complete(frame, CRS_TAG, crs_id, crs_digest)
            urls = self._urls(frame, crs_id)
            frame.emit(KMS_GENERATION.event("ActivateCrs"), crs_id, urls, crs_digest)

    def _membership(self, frame: Frame, request: int) -> tuple[Committee, bytes]:
        """Return the committee that the request names, and its extraData; the sender must belong to it. Raises Reverted."""
        extra_data = _extra_data(frame, request)
        context_id = int.from_bytes(extra_data[CONTEXT])
        committee = self._config.active_committee(frame.at(self._config.address), context_id)
        if committee.of_sender(frame.sender) == NO_NODE:
            revert(KMS_GENERATION.error("NotKmsTxSender"), frame.sender)
        return committee, extra_data

    def _take(
        self, frame: Frame, committee: Committee, request: int, struct_hash: bytes, signature: bytes
    ) -> bytes:
        """Check signature, signer, sender and that it is the signer's first; note and return the digest. Raises Reverted."""
        digest = signing_digest(self.domain, struct_hash)
        signer = committee.signer_of(frame, digest, signature, KMS_GENERATION)
        if not set_once(frame, mapping_slot(ANSWERED, request), signer):
            revert(_SIGNED_ALREADY[request >> TAG_SHIFT], request, signer)
        senders = (*frame.read("senders", request, digest, default=()), frame.sender)
        frame.write(senders, "senders", request, digest)
        return digest

    def _urls(self, frame: Frame, request: int) -> tuple[str, ...]:
        """Return the storage of those whose replies completed a request."""
        context_id = int.from_bytes(_extra_data(frame, request)[CONTEXT])
        committee = self._config.committee(frame.at(self._config.address), context_id)
        (senders,) = consensus_senders(DIGEST, frame, request)
        return tuple(committee.of_sender(one).storage_url for one in senders)

    def _key_materials(self, frame: Frame, key_id: int) -> tuple[Any, ...]:
        check_generated(frame, key_id)
        return self._urls(frame, material_request(frame, key_id)), frame.read("material", key_id)

    def _crs_materials(self, frame: Frame, crs_id: int) -> tuple[Any, ...]:
        check_complete(frame, crs_id, "CrsAborted", "CrsNotGenerated")
        return self._urls(frame, crs_id), frame.read("material", crs_id)
