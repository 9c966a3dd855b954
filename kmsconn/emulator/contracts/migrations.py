"""The rules of a migration: compressed material for the key that is in use, made under an id that never becomes a key.

Source: fhevm-0.15.md, 1.2 to 1.4.
"""

from __future__ import annotations

from kmsconn.emulator.contracts import generation_slots as at
from kmsconn.emulator.contracts.generation_releases import COMPRESSED, LATER_KEY_TYPES, check_types
from kmsconn.emulator.execution import Frame, revert
from kmsconn.emulator.generation_hashes import KeyDigests
from kmsconn.protocols.fhevm.abi import LATER_KMS_GENERATION
from kmsconn.protocols.queries import mapping_slot


def existing_key(frame: Frame, request: int) -> int:
    """Return the key that a request migrates; 0 for a key of its own."""
    return frame.load(mapping_slot(at.EXISTING_BY_REQUEST, request))


def material_request(frame: Frame, key_id: int) -> int:
    """Return the request whose replies gave a key its newest material: its migration, or the key itself."""
    request = frame.load(mapping_slot(at.REQUEST_BY_EXISTING, key_id))
    return request if request and frame.load(mapping_slot(at.DIGEST, request)) else key_id


def check_generated(frame: Frame, key_id: int) -> None:
    """Refuse what is no key: a request that has no consensus, or that migrates another key. Raises Reverted."""
    if existing_key(frame, key_id):
        revert(LATER_KMS_GENERATION.error("KeyNotGenerated"), key_id)
    check_complete(frame, key_id, "KeyAborted", "KeyNotGenerated")


def check_complete(frame: Frame, request: int, aborted: str, missing: str) -> None:
    """Refuse a request without consensus. Raises Reverted."""
    if frame.load(mapping_slot(at.DIGEST, request)):
        return
    done = frame.load(mapping_slot(at.DONE, request))
    revert(LATER_KMS_GENERATION.error(aborted if done else missing), request)


def begin_migration(frame: Frame, request: int, existing: int) -> None:
    """Note which key a request migrates; a repeated migration takes the place of the aborted one."""
    frame.store(mapping_slot(at.EXISTING_BY_REQUEST, request), existing)
    frame.store(mapping_slot(at.REQUEST_BY_EXISTING, existing), request)


def check_migration(frame: Frame, params: int, existing: int) -> None:
    """Refuse a migration of what is not the key in use, under other parameters, or done already. Raises Reverted."""
    error = LATER_KMS_GENERATION.error
    check_generated(frame, existing)
    if existing != frame.read("active", at.KEY_TAG, default=0):
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


def add_compressed(frame: Frame, existing: int, digests: KeyDigests) -> None:
    """Add the compressed key set, and nothing else, to the material of the existing key."""
    frame.write((*frame.read("material", existing), *_compressed(digests)), "material", existing)


def _compressed(digests: KeyDigests) -> KeyDigests:
    return tuple(one for one in digests if one[0] == COMPRESSED)
