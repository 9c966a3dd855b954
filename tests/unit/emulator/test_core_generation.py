"""The emulated Core makes keys, CRS and epochs as the golden answers have them, and refuses as the real one does."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn._generated.fhevm.kms.v1 import (
    CrsGenRequest,
    DestroyMpcContextRequest,
    DestroyMpcEpochRequest,
    Eip712DomainMsg,
    KeyGenRequest,
    KeyInfo,
    MpcContext,
    MpcNode,
    NewMpcContextRequest,
    NewMpcEpochRequest,
    PreviousEpochInfo,
    RequestId,
)
from kmsconn.emulator.core import SERVICE, EmulatedCore
from kmsconn.emulator.core_keys import SigningNode
from kmsconn.emulator.core_requests import DEFAULT_CONTEXT, DEFAULT_EPOCH, CoreIds
from kmsconn.emulator.grpc_server import GrpcFailure
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
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


async def test_a_running_crs_can_be_aborted_and_its_polls_say_so(core: EmulatedCore) -> None:
    await call(core, "CrsGen", crs_request())
    async with trio.open_nursery() as nursery:
        seen: list[Status] = []

        async def poll() -> None:
            seen.append(await status(core, "GetCrsGenResult", bytes(named(CRS))))

        nursery.start_soon(poll)
        await trio.sleep(1)
        await call(core, "AbortCrsGen", bytes(named(CRS)))
    assert seen == [Status.ABORTED]


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
