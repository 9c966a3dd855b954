"""The emulated Core makes keys, CRS and epochs, compressed keys and migrations, as golden answers say, and refuses as the real one."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn._generated.fhevm.kms.v1 import (
    CompressedKeyConfig,
    CrsGenRequest,
    DestroyMpcContextRequest,
    DestroyMpcEpochRequest,
    Eip712DomainMsg,
    EpochResultResponse,
    KeyGenPreprocRequest,
    KeyGenRequest,
    KeyGenResult,
    KeyInfo,
    KeySetAddedInfo,
    MpcContext,
    MpcNode,
    NewMpcContextRequest,
    NewMpcEpochRequest,
    PreviousEpochInfo,
    RequestId,
)
from kmsconn.emulator.core import SERVICE, EmulatedCore, become
from kmsconn.emulator.core_keys import COMPRESSED_OBJECT, KeyStore, SigningNode, object_digest
from kmsconn.emulator.core_requests import DEFAULT_CONTEXT, DEFAULT_EPOCH, CoreIds, CoreRelease
from kmsconn.emulator.grpc_server import GrpcFailure
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, KEY_TAG, PREP_KEYGEN_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.framing import Status
from tests import vectors

EVENTS: list[dict[str, Any]] = vectors.load()["ethereum"]["events"]
ANSWERED = [
    (entry, answer) for entry in EVENTS for answer in entry["answers"] if answer["response_bytes"] is not None
]
SECOND_CONTEXT, SECOND_EPOCH = make_id(CONTEXT_TAG, 2).to_bytes(32), make_id(EPOCH_TAG, 2).to_bytes(32)


def named(identifier: bytes) -> RequestId:
    return RequestId(request_id=identifier.hex())


async def call(core: EmulatedCore, method: str, request: bytes) -> bytes:
    return await core.methods()[f"/{SERVICE}/{method}"](request)


async def status(core: EmulatedCore, method: str, request: bytes) -> Status:
    with pytest.raises(GrpcFailure) as refused:
        await call(core, method, request)
    return refused.value.status


def core_for(answer: dict[str, Any], *, threshold: bool = False) -> EmulatedCore:
    key = PrivateKey.parse(vectors.load()["environment"]["keys"][f"signer{answer['node']}"]["private_key"])
    core = EmulatedCore(SigningNode(key, answer["node"], 1 if threshold else 0), {})
    core.management.results.digest = recorded_digest
    return core


def recorded_digest(name: str, identifier: bytes) -> bytes:
    """Return what the recorded Core made under an id; the size is not part of what is recorded."""
    for entry, answer in ANSWERED:
        said = answer["response"]
        if entry["event"] == "KeygenRequest" and said["request_id"] == identifier.hex():
            return next(from_hex(d["digest"]) for d in said["key_digests"] if d["key_type"] == name)
        if entry["event"] == "CrsgenRequest" and said["request_id"] == identifier.hex():
            right = name == f"CRS {said['max_num_bits']}"
            return from_hex(said["crs_digest"]) if right else bytes(32)
    raise AssertionError(name)


def member(core: EmulatedCore, party: int = 1) -> MpcNode:
    return MpcNode(mpc_identity=f"kms-{party}", party_id=party, signer_address=core.node.key.address)


async def reshare(core: EmulatedCore, *, in_new: bool) -> None:
    """Tell a Core of a second context, and ask it for that one's epoch."""
    node = member(core) if in_new else MpcNode(mpc_identity="other", party_id=1, signer_address=bytes(20))
    context = MpcContext(context_id=named(SECOND_CONTEXT), mpc_nodes=[node])
    await call(core, "NewMpcContext", bytes(NewMpcContextRequest(new_context=context)))
    previous = PreviousEpochInfo(context_id=named(DEFAULT_CONTEXT), epoch_id=named(DEFAULT_EPOCH))
    request = NewMpcEpochRequest(
        context_id=named(SECOND_CONTEXT), epoch_id=named(SECOND_EPOCH), previous_epoch=previous
    )
    await call(core, "NewMpcEpoch", bytes(request))


@pytest.mark.parametrize("in_new", [True, False])
async def test_an_epoch_is_kept_by_the_nodes_of_its_context_and_helped_by_those_before(in_new: bool) -> None:
    core = EmulatedCore(SigningNode(PrivateKey(b"\1" * 32)), {})
    await reshare(core, in_new=in_new)
    assert (SECOND_EPOCH in core.known.epochs) == in_new


async def test_a_newcomer_needs_no_epoch_to_begin_with_and_who_is_in_neither_context_is_refused() -> None:
    first = NewMpcContextRequest(
        new_context=MpcContext(
            context_id=named(DEFAULT_CONTEXT),
            mpc_nodes=[MpcNode(mpc_identity="other", party_id=1, signer_address=bytes(20))],
        )
    )
    for in_new in (True, False):
        core = EmulatedCore(SigningNode(PrivateKey(b"\1" * 32)), {}, known=CoreIds(set(), set()))
        await call(core, "NewMpcContext", bytes(first))
        if in_new:
            await reshare(core, in_new=True)
        else:
            with pytest.raises(GrpcFailure) as refused:
                await reshare(core, in_new=False)
            assert refused.value.status is Status.INVALID_ARGUMENT


def name_of(case: Any) -> str:
    return f"{case[0]['name']}-node{case[1]['node']}"


@pytest.mark.parametrize("case", ANSWERED, ids=name_of)
async def test_a_recorded_result_is_made_again_byte_for_byte(
    case: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    entry, answer = case
    core = core_for(answer)
    core.known.contexts.add(SECOND_CONTEXT)
    if entry["event"] == "NewKmsEpoch":
        core.known.epochs.update({SECOND_EPOCH} if entry["name"] == "epoch_3_same_set" else set())
    else:
        core.known.epochs.add(SECOND_EPOCH)
    rpc = entry["core"][-1]
    if entry["event"] == "KeygenRequest":
        prep = next(e for e in EVENTS if e["name"] == "prep_keygen_default")["core"][0]
        await call(core, prep["start_rpc"], from_hex(prep["request_bytes"]))
    await call(core, rpc["start_rpc"], from_hex(rpc["request_bytes"]))
    reply = await call(core, rpc["result_rpc"], from_hex(rpc["poll_bytes"]))
    assert reply.hex() == answer["response_bytes"][2:]


@pytest.fixture
def core() -> EmulatedCore:
    return EmulatedCore(SigningNode(PrivateKey(bytes(31) + b"\x01")), {}, computing=30.0)


DOMAIN = Eip712DomainMsg(
    name="KMSGeneration",
    version="1",
    chain_id=(1).to_bytes(32),
    verifying_contract="0x7d4a3DE0F835457926017b1e6675AF423f75922E",
)
CRS = b"\x05" + bytes(30) + b"\x01"


def crs_request(bits: int = 512, context: bytes = DEFAULT_CONTEXT) -> bytes:
    return bytes(
        CrsGenRequest(request_id=named(CRS), max_num_bits=bits, domain=DOMAIN, context_id=named(context))
    )


async def test_a_crs_is_begun_once_and_has_a_size_that_is_a_power_of_two(core: EmulatedCore) -> None:
    assert await status(core, "CrsGen", crs_request(bits=100)) is Status.INVALID_ARGUMENT
    await call(core, "CrsGen", crs_request())
    assert await status(core, "CrsGen", crs_request()) is Status.ALREADY_EXISTS


async def test_aborting_what_does_not_run_finds_nothing_and_a_key_needs_its_preprocessing(
    core: EmulatedCore,
) -> None:
    assert await status(core, "AbortCrsGen", bytes(named(CRS))) is Status.NOT_FOUND
    assert await status(core, "AbortKeyGen", bytes(named(CRS))) is Status.NOT_FOUND
    key, prep = (named(bytes([tag]) + bytes(31)) for tag in (4, 3))
    request = KeyGenRequest(request_id=key, preproc_id=prep, domain=DOMAIN)
    assert await status(core, "KeyGen", bytes(request)) is Status.NOT_FOUND


async def polled_while_it_is_aborted(core: EmulatedCore, of: str, polled: bytes, aborted: bytes) -> Status:
    """Return what a poll for the result of a running operation says once the operation is aborted."""
    seen: list[Status] = []

    async def poll() -> None:
        seen.append(await status(core, f"Get{of}Result", bytes(named(polled))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await trio.sleep(1)
        await call(core, f"Abort{of}", bytes(named(aborted)))
    return seen[0]


async def test_a_running_crs_can_be_aborted_and_its_polls_say_so(core: EmulatedCore) -> None:
    await call(core, "CrsGen", crs_request())
    assert await polled_while_it_is_aborted(core, "CrsGen", CRS, CRS) is Status.ABORTED


async def test_a_finished_crs_survives_a_restart_and_a_running_one_does_not(core: EmulatedCore) -> None:
    await call(core, "CrsGen", crs_request())
    await call(core, "GetCrsGenResult", bytes(named(CRS)))
    core.restart()
    assert await call(core, "GetCrsGenResult", bytes(named(CRS)))
    other = b"\x05" + bytes(30) + b"\x02"
    request = CrsGenRequest(request_id=named(other), max_num_bits=1, domain=DOMAIN)
    await call(core, "CrsGen", bytes(request))
    core.restart()
    assert await status(core, "GetCrsGenResult", bytes(named(other))) is Status.NOT_FOUND


def context_request(count: int, threshold: int, cert: bytes | None = None) -> bytes:
    nodes = [
        MpcNode(mpc_identity=f"kms-{n}", party_id=n, signer_address=bytes(20), ca_cert=cert)
        for n in range(1, count + 1)
    ]
    context = MpcContext(mpc_nodes=nodes, context_id=named(SECOND_CONTEXT), threshold=threshold)
    return bytes(NewMpcContextRequest(new_context=context))


async def test_a_context_is_known_once_announced_unless_it_breaks_a_rule(core: EmulatedCore) -> None:
    for broken in (context_request(4, 2), context_request(1, 1), context_request(4, 1, b"")):
        assert await status(core, "NewMpcContext", broken) is Status.INVALID_ARGUMENT
    await call(core, "NewMpcContext", context_request(4, 1))
    assert SECOND_CONTEXT in core.known.contexts
    assert await status(core, "NewMpcContext", context_request(4, 1)) is Status.ALREADY_EXISTS


def epoch_request() -> bytes:
    return bytes(NewMpcEpochRequest(context_id=named(DEFAULT_CONTEXT), epoch_id=named(SECOND_EPOCH)))


async def test_an_epoch_that_exists_is_refused_by_each_kind_of_core_in_its_way(core: EmulatedCore) -> None:
    await call(core, "NewMpcEpoch", epoch_request())
    assert await status(core, "NewMpcEpoch", epoch_request()) is Status.ALREADY_EXISTS
    threshold = EmulatedCore(SigningNode(PrivateKey(bytes(31) + b"\x01"), 1, 1), {})
    await call(threshold, "NewMpcEpoch", epoch_request())
    assert await status(threshold, "NewMpcEpoch", epoch_request()) is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("restarts", [False, True])
async def test_keys_are_stored_once_they_are_made_whoever_has_fetched_them(
    core: EmulatedCore, restarts: bool
) -> None:
    """Reproduced: a connector that was killed before it fetched the result left its Core without the keys for good."""
    key = KeyInfo(key_id=named(bytes(31) + b"\x07"), preproc_id=named(bytes(31) + b"\x08"))
    previous = PreviousEpochInfo(
        context_id=named(DEFAULT_CONTEXT), epoch_id=named(DEFAULT_EPOCH), keys_info=[key]
    )
    core.memory.generating = 5.0
    epoch = NewMpcEpochRequest(
        context_id=named(DEFAULT_CONTEXT),
        epoch_id=named(SECOND_EPOCH),
        previous_epoch=previous,
        domain=DOMAIN,
    )
    await call(core, "NewMpcEpoch", bytes(epoch))
    for seconds, there in ((1.0, False), (5.0, True)):
        await trio.sleep(seconds)
        if restarts and there:
            core.restart()
        reply = await call(core, "GetKeyMaterialAvailability", b"")
        assert ((bytes(31) + b"\x07").hex().encode() in reply) == there


async def test_destroyed_contexts_and_epochs_are_forgotten(core: EmulatedCore) -> None:
    await call(core, "DestroyMpcEpoch", bytes(DestroyMpcEpochRequest(epoch_id=named(DEFAULT_EPOCH))))
    await call(core, "DestroyMpcContext", bytes(DestroyMpcContextRequest(context_id=named(DEFAULT_CONTEXT))))
    assert not core.known.epochs
    assert not core.known.contexts
    request = bytes(DestroyMpcEpochRequest(epoch_id=named(DEFAULT_EPOCH)))
    assert await status(core, "DestroyMpcEpoch", request) is Status.NOT_FOUND


KEY = PrivateKey((1).to_bytes(32))
OLD_KEY, REQUEST = (make_id(KEY_TAG, number).to_bytes(32) for number in (1, 2))
OLD_PREP, NEW_PREP = (make_id(PREP_KEYGEN_TAG, number).to_bytes(32) for number in (1, 2))
IDS, PREPS = {"fresh": OLD_KEY, "migration": REQUEST}, {"fresh": OLD_PREP, "migration": NEW_PREP}


def message(name: str) -> bytes:
    """Return a message of the vectors."""
    return from_hex("0x" + vectors.load_later()["protobuf"][name]["hex"])


def threshold_core(degree: int = 1) -> EmulatedCore:
    return EmulatedCore(SigningNode(KEY, 1, degree), {})


def store(core: EmulatedCore) -> KeyStore:
    return core.management.store


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
    told = await result(core, OLD_KEY)
    assert told.preprocessing_id == named(NEW_PREP)
    assert [one.digest for one in told.key_digests][1] == signed.digest


async def test_a_copy_that_fails_is_told_by_nothing_but_the_missing_object() -> None:
    core = threshold_core()
    await make_whole_key(core)
    store(core).copies = False
    assert len((await migrate(core)).key_digests) == 2
    assert f"{COMPRESSED_OBJECT}/{OLD_KEY.hex()}" not in store(core).objects
    assert store(core).preprocessings[OLD_KEY] == OLD_PREP
    assert (await result(core, OLD_KEY)).preprocessing_id == named(OLD_PREP)


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
    assert await polled_while_it_is_aborted(core, "KeyGen", REQUEST, NEW_PREP) is Status.ABORTED


def reshare_migrated(prep_id: bytes = OLD_PREP) -> bytes:
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
    assert await status(core, "NewMpcEpoch", reshare_migrated(OLD_PREP)) is Status.INVALID_ARGUMENT
    await call(core, "NewMpcEpoch", reshare_migrated(NEW_PREP))


async def test_a_core_that_does_not_compare_takes_either_preprocessing() -> None:
    """That of 0.14, or one that was repaired."""
    await call(await migrated(CoreRelease.V0_14), "NewMpcEpoch", reshare_migrated(OLD_PREP))
    repaired = await migrated()
    store(repaired).compares = False
    await call(repaired, "NewMpcEpoch", reshare_migrated(OLD_PREP))


async def test_a_reshared_migrated_key_has_its_public_key_and_its_compressed_set() -> None:
    core = await migrated()
    await call(core, "NewMpcEpoch", reshare_migrated(NEW_PREP))
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
