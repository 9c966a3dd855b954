"""The calls of an emulated Core: the order of checks of the real one (kms-core-grpc.md, 4 to 6), and every byte of the golden answers."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn._generated.fhevm.kms.v1 import Eip712DomainMsg, RequestId, TypedCiphertext
from kmsconn.emulator.core import OPERATIONS, PUBLIC, SERVICE, USER, CoreOperation, EmulatedCore
from kmsconn.emulator.core_jobs import CoreJobs
from kmsconn.emulator.core_keys import SigningNode
from kmsconn.emulator.core_requests import CoreRelease, Invalid, Job, read_id, read_public, read_user
from kmsconn.emulator.grpc_server import HEALTH_CHECK, CutConnection, GrpcFailure
from kmsconn.emulator.signcryption import Randomness
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.transport.grpc.framing import Status
from tests import vectors
from tests.unit.emulator.core_worlds import (
    CLIENT,
    DOMAIN,
    ONE,
    PLAINTEXTS,
    TWO,
    USER_KEY,
    core,
    domain_message,
    name,
    poll,
    public_id,
    public_request,
    threshold_core,
    user_id,
    user_request,
)


def request_of(operation: CoreOperation, number: int = 1, **members: Any) -> bytes:
    make = public_request if operation is PUBLIC else user_request
    return bytes(make(number, **members))


def id_of(operation: CoreOperation, number: int = 1) -> bytes:
    return public_id(number) if operation is PUBLIC else user_id(number)


async def status_of(call: Awaitable[bytes]) -> Status:
    return (await failure_of(call)).status


async def failure_of(call: Awaitable[bytes]) -> GrpcFailure:
    with pytest.raises(GrpcFailure) as caught:
        await call
    return caught.value


both = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.start)


@both
async def test_id_is_known_once_and_bytes_that_are_no_message_are_internal(operation: CoreOperation) -> None:
    emulated, begun = core(), trio.current_time()
    assert await status_of(poll(emulated, operation, id_of(operation))) is Status.NOT_FOUND
    assert await status_of(emulated.start(operation, b"\xff")) is Status.INTERNAL
    assert await status_of(emulated.result(operation, b"\xff")) is Status.INTERNAL
    assert trio.current_time() == begun
    await emulated.start(operation, request_of(operation))
    assert await status_of(emulated.start(operation, request_of(operation))) is Status.ALREADY_EXISTS


@both
async def test_a_long_poll_ends_unavailable_after_sixty_seconds(operation: CoreOperation) -> None:
    emulated = core(computing=100)
    await emulated.start(operation, request_of(operation))
    start = trio.current_time()
    assert await status_of(poll(emulated, operation, id_of(operation))) is Status.UNAVAILABLE
    assert trio.current_time() - start == pytest.approx(60)
    await poll(emulated, operation, id_of(operation))
    assert trio.current_time() - start == pytest.approx(100)


async def test_the_two_kinds_have_tables_of_their_own() -> None:
    emulated = core()
    await emulated.start(PUBLIC, bytes(public_request()))
    await emulated.start(USER, bytes(user_request(request_id=name(public_id(1)))))


@both
@pytest.mark.parametrize("member", ["context_id", "epoch_id"])
async def test_an_unknown_context_or_epoch_is_not_found_and_burns_nothing(
    operation: CoreOperation, member: str
) -> None:
    emulated = threshold_core()
    unknown: dict[str, Any] = {member: name(b"\7" * 32)}
    call = emulated.start(operation, request_of(operation, **unknown))
    assert await status_of(call) is Status.NOT_FOUND
    await emulated.start(operation, request_of(operation))


@both
async def test_a_centralised_core_misses_a_key_before_it_looks_for_the_id(operation: CoreOperation) -> None:
    emulated = core()
    await emulated.start(operation, request_of(operation))
    call = emulated.start(operation, request_of(operation, key_id=name(b"\4" * 32)))
    assert await status_of(call) is Status.NOT_FOUND


@both
async def test_a_threshold_core_without_a_key_share_burns_the_id(operation: CoreOperation) -> None:
    emulated = threshold_core()
    request = request_of(operation, key_id=name(b"\4" * 32))
    assert await status_of(emulated.start(operation, request)) is Status.NOT_FOUND
    assert await status_of(emulated.start(operation, request)) is Status.ALREADY_EXISTS
    assert await status_of(poll(emulated, operation, id_of(operation))) is Status.UNAVAILABLE


async def test_only_a_missing_share_of_a_public_decryption_shows_in_the_text() -> None:
    emulated = threshold_core()
    key_id = name(b"\4" * 32)
    public = await failure_of(emulated.start(PUBLIC, bytes(public_request(key_id=key_id))))
    user = await failure_of(emulated.start(USER, bytes(user_request(key_id=key_id))))
    assert public.message.endswith("with metric public_decrypt_inner")
    assert user.message.endswith("with metric user_decrypt_request")


@both
async def test_a_full_table_aborts(operation: CoreOperation) -> None:
    emulated = core(computing=10, memory=CoreJobs(capacity=2, kept=1))
    for number in (1, 2):
        await emulated.start(operation, request_of(operation, number))
    assert await status_of(emulated.start(operation, request_of(operation, 3))) is Status.ABORTED


async def test_an_evicted_id_is_not_found() -> None:
    emulated = core(memory=CoreJobs(capacity=3, kept=1))
    for number in (1, 2, 3, 4):
        await emulated.start(PUBLIC, bytes(public_request(number)))
    assert await status_of(poll(emulated, PUBLIC, public_id(1))) is Status.NOT_FOUND


async def test_the_rate_limit_counts_running_jobs_of_both_kinds() -> None:
    emulated = core(computing=10, memory=CoreJobs(rate_limit=2))
    await emulated.start(PUBLIC, bytes(public_request()))
    await emulated.start(USER, bytes(user_request()))
    assert await status_of(emulated.start(PUBLIC, bytes(public_request(2)))) is Status.RESOURCE_EXHAUSTED
    await trio.sleep(10)
    await emulated.start(PUBLIC, bytes(public_request(2)))


async def test_the_rate_limit_comes_before_everything_and_names_no_id() -> None:
    failure = await failure_of(core(memory=CoreJobs(rate_limit=0)).start(PUBLIC, b"\xff"))
    assert failure.message == f"Failed on requestID 01{'00' * 31} with metric public_decrypt_request"


async def test_an_unknown_ciphertext_fails_when_the_answer_is_asked_for() -> None:
    emulated = EmulatedCore(core().node, {})
    await emulated.start(PUBLIC, bytes(public_request()))
    assert await status_of(poll(emulated, PUBLIC, public_id(1))) is Status.INTERNAL
    assert await status_of(emulated.start(PUBLIC, bytes(public_request()))) is Status.ALREADY_EXISTS


async def test_a_type_without_a_word_fails_publicly_and_not_for_users() -> None:
    emulated = EmulatedCore(core().node, {b"body": 3})
    strange = TypedCiphertext(ciphertext=b"body", fhe_type=1, external_handle=bytes(32))
    public, user = public_request(), user_request()
    public.ciphertexts = user.typed_ciphertexts = [strange]
    await emulated.start(PUBLIC, bytes(public))
    await emulated.start(USER, bytes(user))
    assert await status_of(poll(emulated, PUBLIC, public_id(1))) is Status.INTERNAL
    await poll(emulated, USER, user_id(1))


@both
async def test_a_restart_forgets_every_request(operation: CoreOperation) -> None:
    emulated = core()
    await emulated.start(operation, request_of(operation))
    emulated.restart()
    assert await status_of(poll(emulated, operation, id_of(operation))) is Status.NOT_FOUND
    await emulated.start(operation, request_of(operation))


async def test_a_restart_cuts_the_calls_that_wait() -> None:
    emulated = core(computing=50)
    await emulated.start(PUBLIC, bytes(public_request()))

    async def wait() -> None:
        with pytest.raises(CutConnection):
            await poll(emulated, PUBLIC, public_id(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        emulated.restart()
    assert trio.current_time() < 50


def test_the_calls_are_those_of_the_service() -> None:
    source = Path(__file__).parents[3] / "protos" / "fhevm" / "kms-service.v1.proto"
    calls = set(re.findall(r"rpc (\w+)", source.read_text()))
    later = {each.at_once for each in OPERATIONS}
    assert set(core().methods()) == {HEALTH_CHECK, *(f"/{SERVICE}/{call}" for call in calls | later)}


# Later Cores, whose calls start and wait in one (annex C).


@both
async def test_a_call_that_waits_attaches_to_what_runs_and_to_what_is_finished(
    operation: CoreOperation,
) -> None:
    emulated = core(release=CoreRelease.V0_15, computing=7)
    await emulated.start(operation, request_of(operation))
    first = await emulated.start_and_wait(operation, request_of(operation))
    assert await emulated.start_and_wait(operation, request_of(operation)) == first
    assert trio.current_time() == pytest.approx(7)


@both
async def test_a_wait_ends_unavailable_and_the_work_goes_on(operation: CoreOperation) -> None:
    emulated = core(release=CoreRelease.V0_15, computing=100)
    assert await status_of(emulated.start_and_wait(operation, request_of(operation))) is Status.UNAVAILABLE
    assert await poll(emulated, operation, id_of(operation))
    assert trio.current_time() == pytest.approx(100)


@both
@pytest.mark.parametrize("start", [EmulatedCore.start, EmulatedCore.start_and_wait])
async def test_a_later_core_does_again_what_failed(start: Any, operation: CoreOperation) -> None:
    emulated = threshold_core(release=CoreRelease.V0_15)
    request = request_of(operation, key_id=name(b"\4" * 32))
    assert await status_of(start(emulated, operation, request)) is Status.NOT_FOUND
    emulated.known.keys.add(b"\4" * 32)
    await start(emulated, operation, request)
    assert await poll(emulated, operation, id_of(operation))


CONTRACT = checksum(DOMAIN.verifying_contract)


def domain(**members: Any) -> Eip712DomainMsg:
    message = domain_message()
    for key, value in members.items():
        setattr(message, key, value)
    return message


def long_handle() -> TypedCiphertext:
    return TypedCiphertext(ciphertext=ONE.body, fhe_type=5, external_handle=bytes(33))


def test_a_request_is_taken_apart() -> None:
    job = read_public(bytes(public_request(extra_data=b"\1" + bytes(32))), PLAINTEXTS)
    assert (job.request_id, job.domain, job.extra_data) == (public_id(1), DOMAIN, b"\1" + bytes(32))
    assert [(item.handle, item.fhe_type, item.value) for item in job.items] == [
        (ONE.handle, 5, 123_456_789),
        (TWO.handle, 0, 1),
    ]


def test_context_and_epoch_are_read_when_named_and_short_handles_left_padded() -> None:
    message = public_request(context_id=name(b"\7" * 32), epoch_id=name(b"\x08" * 32))
    message.ciphertexts = [TypedCiphertext(ciphertext=ONE.body, fhe_type=5, external_handle=b"\xaa")]
    job = read_public(bytes(message), PLAINTEXTS)
    assert (job.context_id, job.epoch_id) == (b"\7" * 32, b"\x08" * 32)
    assert job.handles == [bytes(31) + b"\xaa"]


@pytest.mark.parametrize("text", ["01" * 32, "0x" + "01" * 32, f"  {'01' * 32}\n"])
def test_ids_are_read_leniently(text: str) -> None:
    assert read_id(RequestId(request_id=text)) == b"\1" * 32


@pytest.mark.parametrize("text", ["", "0x", "01" * 31, "01" * 33, "zz" * 32, "00" * 32, "1" * 63])
def test_other_ids_are_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        read_id(RequestId(request_id=text))


PUBLIC_FAULTS: list[dict[str, Any]] = [
    {"request_id": None},
    {"key_id": None},
    {"key_id": RequestId(request_id="")},
    {"ciphertexts": []},
    {"domain": None},
    {"domain": domain(chain_id=b"\1" + bytes(32))},
    {"domain": domain(verifying_contract=CONTRACT.lower())},
    {"domain": domain(verifying_contract=CONTRACT[2:])},
    {"domain": domain(verifying_contract="")},
    {"domain": domain(salt=b"")},
    {"context_id": RequestId(request_id="00" * 32)},
    {"epoch_id": RequestId(request_id="08")},
]
USER_FAULTS: list[dict[str, Any]] = [
    {"typed_ciphertexts": []},
    {"typed_ciphertexts": [long_handle()]},
    {"client_address": checksum(CLIENT).lower()},
    {"client_address": ""},
    {"client_address": CONTRACT},
    {"enc_key": b""},
    {"enc_key": USER_KEY.enc_key[:-1]},
    {"domain": None},
]


@pytest.mark.parametrize(
    ("make", "read", "members"),
    [
        *((public_request, read_public, members) for members in PUBLIC_FAULTS),
        *((user_request, read_user, members) for members in USER_FAULTS),
    ],
)
def test_a_request_with_a_fault_is_invalid(make: Any, read: Any, members: dict[str, Any]) -> None:
    message = make()
    for key, value in members.items():
        setattr(message, key, value)
    with pytest.raises(Invalid):
        read(bytes(message), PLAINTEXTS)


ANSWERS = vectors.answers()
NAMES = [f"{entry['name']}-node{answer['node']}" for entry, answer in ANSWERS]
RECORDED = {
    from_hex(each["body"]): int(each["plaintext_value"], 16) for each in vectors.load()["ciphertexts"]
}


def node_of(answer: dict[str, Any]) -> SigningNode:
    key = PrivateKey.parse(vectors.load()["environment"]["keys"][f"signer{answer['node']}"]["private_key"])
    payload = answer["response"]["payload"]
    return SigningNode(key, payload.get("party_id", 1), payload.get("degree", 0))


def core_of(answer: dict[str, Any]) -> EmulatedCore:
    """The node of an answer, sealing with the randomness that the vectors name."""
    given = [
        Randomness(from_hex(each["encapsulation_m"]), from_hex(each["nonce"]))
        for each in answer.get("signcryption_randomness", ())
    ]

    def sealing(_: Job, place: int) -> Randomness:
        return given[place]

    core = EmulatedCore(node_of(answer), RECORDED, sealing=sealing)
    core.known.contexts.add(make_id(CONTEXT_TAG, 2).to_bytes(32))
    core.known.epochs.add(make_id(EPOCH_TAG, 2).to_bytes(32))
    return core


@pytest.mark.parametrize(("entry", "answer"), ANSWERS, ids=NAMES)
async def test_a_response_is_made_again_byte_for_byte(entry: dict[str, Any], answer: dict[str, Any]) -> None:
    core, operation = core_of(answer), PUBLIC if entry["kind"] == "public" else USER
    assert await core.start(operation, from_hex(entry["core"]["request_bytes"])) == b""
    reply = await core.result(operation, from_hex(entry["core"]["poll_bytes"]))
    assert reply.hex() == answer["response_bytes"][2:]


def test_no_vector_was_left_out() -> None:
    assert len(ANSWERS) == 34
