"""An emulated Core makes compressed keys and migrates keys, as the vectors of 0.15 and fhevm-0.15.md, 1.7 and 1.9, say."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn._generated.fhevm.kms.v1 import (
    CompressedKeyConfig,
    EpochResultResponse,
    KeyGenPreprocRequest,
    KeyGenRequest,
    KeyGenResult,
    KeySetAddedInfo,
    NewMpcEpochRequest,
    RequestId,
)
from kmsconn.emulator.core import SERVICE, EmulatedCore, become
from kmsconn.emulator.core_keys import COMPRESSED_OBJECT, KeyStore, SigningNode, object_digest
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.grpc_server import GrpcFailure
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import EPOCH_TAG, KEY_TAG, PREP_KEYGEN_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.framing import Status
from tests import vectors

KEY = PrivateKey((1).to_bytes(32))
OLD_KEY, REQUEST = (make_id(KEY_TAG, number).to_bytes(32) for number in (1, 2))
OLD_PREP, NEW_PREP = (make_id(PREP_KEYGEN_TAG, number).to_bytes(32) for number in (1, 2))
IDS, PREPS = {"fresh": OLD_KEY, "migration": REQUEST}, {"fresh": OLD_PREP, "migration": NEW_PREP}


def message(name: str) -> bytes:
    """Return a message of the vectors."""
    return from_hex("0x" + vectors.load_later()["protobuf"][name]["hex"])


def named(identifier: bytes) -> RequestId:
    return RequestId(request_id=identifier.hex())


def threshold_core(degree: int = 1) -> EmulatedCore:
    return EmulatedCore(SigningNode(KEY, 1, degree), {})


def store(core: EmulatedCore) -> KeyStore:
    return core.management.store


async def call(core: EmulatedCore, method: str, request: bytes) -> bytes:
    return await core.methods()[f"/{SERVICE}/{method}"](request)


async def status(core: EmulatedCore, method: str, request: bytes) -> Status:
    with pytest.raises(GrpcFailure) as refused:
        await call(core, method, request)
    return refused.value.status


async def result(core: EmulatedCore, key_id: bytes) -> KeyGenResult:
    return decode(KeyGenResult, await call(core, "GetKeyGenResult", bytes(named(key_id))))


def whole(kind: type[Any], name: str) -> bytes:
    """Return a message of the vectors that asks for an uncompressed key."""
    changed = decode(kind, message(name))
    changed.keyset_config.standard_keyset_config.compressed_key_config = CompressedKeyConfig.CompressedNone
    return bytes(changed)


async def make_whole_key(core: EmulatedCore) -> None:
    await call(core, "KeyGenPreproc", whole(KeyGenPreprocRequest, "prep-keygen fresh"))
    await call(core, "KeyGen", whole(KeyGenRequest, "keygen fresh"))
    await result(core, OLD_KEY)


async def begun(core: EmulatedCore, **changes: Any) -> Status | None:
    """Begin a migration with changes; return how it is refused."""
    await call(core, "KeyGenPreproc", message("prep-keygen migration"))
    request = decode(KeyGenRequest, message("keygen migration"))
    for name, value in changes.items():
        setattr(request, name, value)
    try:
        await call(core, "KeyGen", bytes(request))
    except GrpcFailure as refused:
        return refused.status
    return None


async def migrate(core: EmulatedCore) -> KeyGenResult:
    assert await begun(core) is None
    return await result(core, REQUEST)


@pytest.mark.parametrize(
    ("case", "release", "name"),
    [
        ("fresh", CoreRelease.V0_15, "keygen result fresh"),
        ("migration", CoreRelease.V0_15, "keygen result migration"),
        ("fresh", CoreRelease.V0_16, "keygen result as in 0.16 (inferred)"),
    ],
)
async def test_the_results_of_the_vectors_are_made_of_their_requests(
    case: str, release: CoreRelease, name: str
) -> None:
    core, expected = threshold_core(), message(name)
    become(core, release)
    given = {part.key_type: part.digest for part in decode(KeyGenResult, expected).key_digests}
    core.management.results.digest = lambda name, _: given[name]
    await call(core, "KeyGenPreproc", message(f"prep-keygen {case} with scheme list"))
    prepared = await call(core, "GetKeyGenPreprocResult", bytes(named(PREPS[case])))
    if release is CoreRelease.V0_15:
        assert prepared == message(f"prep-keygen result {case}")
    await call(core, "KeyGen", message(f"keygen {case} with scheme list"))
    assert await call(core, "GetKeyGenResult", bytes(named(IDS[case]))) == expected


async def test_a_migration_keeps_the_old_public_key_and_makes_a_new_compressed_set() -> None:
    core = threshold_core()
    await make_whole_key(core)
    old = {part.key_type: part.digest for part in (await result(core, OLD_KEY)).key_digests}
    new = {part.key_type: part.digest for part in (await migrate(core)).key_digests}
    assert list(new) == ["PublicKey", "CompressedXofKeySet"]
    assert new["PublicKey"] == old["PublicKey"]


async def test_a_migration_is_copied_to_the_old_key_with_its_preprocessing() -> None:
    core = threshold_core()
    await make_whole_key(core)
    before = dict(store(core).objects)
    assert store(core).preprocessings[OLD_KEY] == OLD_PREP
    signed = (await migrate(core)).key_digests[1]
    copied = store(core).objects[f"{COMPRESSED_OBJECT}/{OLD_KEY.hex()}"]
    assert object_digest(copied) == signed.digest
    assert before.items() <= store(core).objects.items()
    assert store(core).preprocessings[OLD_KEY] == NEW_PREP


async def test_a_copy_that_fails_is_told_by_nothing_but_the_missing_object() -> None:
    core = threshold_core()
    await make_whole_key(core)
    store(core).copies = False
    assert len((await migrate(core)).key_digests) == 2
    assert f"{COMPRESSED_OBJECT}/{OLD_KEY.hex()}" not in store(core).objects
    assert store(core).preprocessings[OLD_KEY] == OLD_PREP


async def test_a_migration_that_is_not_asked_to_copy_leaves_the_old_key_alone() -> None:
    core = threshold_core()
    await make_whole_key(core)
    info = decode(KeyGenRequest, message("keygen migration")).keyset_added_info
    assert info is not None
    info.copy_compressed_key_to_original = False
    assert await begun(core, keyset_added_info=info) is None
    await result(core, REQUEST)
    assert store(core).preprocessings[OLD_KEY] == OLD_PREP


@pytest.mark.parametrize("info", [None, KeySetAddedInfo(use_existing_key_tag=True)], ids=["info", "id"])
async def test_a_migration_must_name_the_existing_key(info: KeySetAddedInfo | None) -> None:
    core = threshold_core()
    assert await begun(core, keyset_added_info=info) is Status.INVALID_ARGUMENT


async def test_a_migration_of_a_key_that_is_not_there_fails_at_its_tag_or_at_its_result() -> None:
    core = threshold_core()
    core.known.keys.clear()
    assert await begun(core) is Status.INTERNAL
    core = threshold_core()
    core.known.keys.clear()
    info = decode(KeyGenRequest, message("keygen migration")).keyset_added_info
    assert info is not None
    info.use_existing_key_tag = False
    assert await begun(core, keyset_added_info=info) is None
    assert await status(core, "GetKeyGenResult", bytes(named(REQUEST))) is Status.INTERNAL


@pytest.mark.parametrize(
    ("degree", "damaged"), [(1, {OLD_KEY}), (0, set[bytes]())], ids=["damaged key", "centralised"]
)
async def test_a_migration_fails_where_the_old_key_is_damaged_or_the_core_centralised(
    degree: int, damaged: set[bytes]
) -> None:
    core = threshold_core(degree)
    store(core).damaged |= damaged
    assert await begun(core) is None
    assert await status(core, "GetKeyGenResult", bytes(named(REQUEST))) is Status.INTERNAL


async def test_a_key_is_made_with_the_configuration_of_its_preprocessing_alone() -> None:
    """The id is burnt by the attempt, and the right configuration comes too late."""
    core = threshold_core()
    await call(core, "KeyGenPreproc", whole(KeyGenPreprocRequest, "prep-keygen fresh"))
    assert await status(core, "KeyGen", message("keygen fresh")) is Status.INTERNAL
    assert await status(core, "KeyGen", whole(KeyGenRequest, "keygen fresh")) is Status.ALREADY_EXISTS
    assert await status(core, "GetKeyGenResult", bytes(named(OLD_KEY))) is Status.INTERNAL


async def test_a_migration_that_runs_is_aborted_by_its_preprocessing() -> None:
    core = threshold_core()
    core.memory.generating = 0.0
    await call(core, "KeyGenPreproc", message("prep-keygen migration"))
    core.memory.generating = 100.0
    await call(core, "KeyGen", message("keygen migration"))
    async with trio.open_nursery() as nursery:
        seen: list[Status] = []

        async def poll() -> None:
            seen.append(await status(core, "GetKeyGenResult", bytes(named(REQUEST))))

        nursery.start_soon(poll)
        await trio.sleep(1)
        await call(core, "AbortKeyGen", bytes(named(NEW_PREP)))
    assert seen == [Status.ABORTED]


def reshare(prep_id: bytes = OLD_PREP) -> bytes:
    """Return the new epoch of the vectors, with the preprocessing under which the key is known."""
    request = decode(NewMpcEpochRequest, message("previous epoch with a migrated key"))
    assert request.previous_epoch is not None
    request.previous_epoch.keys_info[0].preproc_id = named(prep_id)
    return bytes(request)


async def migrated(release: CoreRelease = CoreRelease.V0_15) -> EmulatedCore:
    core = threshold_core()
    become(core, release)
    await make_whole_key(core)
    await migrate(core)
    return core


async def test_an_epoch_after_a_migration_is_refused_for_the_preprocessing_that_the_contract_tells() -> None:
    core = await migrated()
    assert await status(core, "NewMpcEpoch", reshare(OLD_PREP)) is Status.INVALID_ARGUMENT
    await call(core, "NewMpcEpoch", reshare(NEW_PREP))


async def test_a_core_that_does_not_compare_takes_either_preprocessing() -> None:
    """That of 0.14, or one that was repaired."""
    await call(await migrated(CoreRelease.V0_14), "NewMpcEpoch", reshare(OLD_PREP))
    repaired = await migrated()
    store(repaired).compares = False
    await call(repaired, "NewMpcEpoch", reshare(OLD_PREP))


async def test_a_reshared_migrated_key_has_its_public_key_and_its_compressed_set() -> None:
    core = await migrated()
    await call(core, "NewMpcEpoch", reshare(NEW_PREP))
    epoch_id = make_id(EPOCH_TAG, 2).to_bytes(32)
    reply = decode(EpochResultResponse, await call(core, "GetEpochResult", bytes(named(epoch_id))))
    [key] = reply.reshare_responses
    assert [part.key_type for part in key.key_digests] == ["PublicKey", "CompressedXofKeySet"]
    assert store(core).preprocessings[OLD_KEY] == NEW_PREP


async def test_a_result_is_made_once_and_read_again() -> None:
    """A later poll must not copy a migration once more over what came after it."""
    core = await migrated()
    store(core).preprocessings[OLD_KEY] = b"later"
    assert await result(core, REQUEST) == await result(core, REQUEST)
    assert store(core).preprocessings[OLD_KEY] == b"later"
