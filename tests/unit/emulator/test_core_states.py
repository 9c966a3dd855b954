"""The calls of an emulated Core, in the order of checks of the real one (kms-core-grpc.md, 5)."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from kmsconn._generated.fhevm.kms.v1 import (
    PublicDecryptionResponse,
    RequestId,
    TypedCiphertext,
    UserDecryptionResponse,
)
from kmsconn.emulator.core import OPERATIONS, PUBLIC, SERVICE, USER, CoreOperation, EmulatedCore
from kmsconn.emulator.core_answers import link_digest
from kmsconn.emulator.core_jobs import CoreJobs
from kmsconn.emulator.core_requests import CoreRelease, read_user
from kmsconn.emulator.grpc_server import HEALTH_CHECK, CutConnection, GrpcFailure
from kmsconn.emulator.plaintexts import value_of_share
from kmsconn.emulator.signcryption import open_share, verification_key
from kmsconn.ethereum.signing import recover
from kmsconn.protocols.fhevm.decryptions import decrypted_result, public_digest
from kmsconn.transport.grpc.framing import Status
from tests.unit.emulator.core_worlds import (
    CLIENT,
    DOMAIN,
    ONE,
    PLAINTEXTS,
    SIGNER,
    TWO,
    USER_KEY,
    core,
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
async def test_a_started_request_is_answered(operation: CoreOperation) -> None:
    emulated = core()
    assert await emulated.start(operation, request_of(operation)) == b""
    assert await poll(emulated, operation, id_of(operation))


async def test_a_public_answer_is_signed_by_the_node_for_these_handles() -> None:
    emulated = core()
    await emulated.start(PUBLIC, bytes(public_request(extra_data=b"\1" + bytes(32))))
    answer = PublicDecryptionResponse.parse(await poll(emulated, PUBLIC, public_id(1)))
    assert answer.payload is not None
    result = decrypted_result([(each.fhe_type, each.bytes) for each in answer.payload.plaintexts])
    digest = public_digest(DOMAIN, [ONE.handle, TWO.handle], result, b"\1" + bytes(32))
    assert recover(digest, answer.external_signature) == SIGNER.address
    assert answer.payload.request_id == name(public_id(1))
    assert answer.extra_data == b"\1" + bytes(32)


@pytest.mark.parametrize("make", [core, threshold_core])
async def test_a_users_answer_opens_with_the_users_key(make: Any) -> None:
    emulated: EmulatedCore = make()
    await emulated.start(USER, bytes(user_request()))
    payload = UserDecryptionResponse.parse(await poll(emulated, USER, user_id(1))).payload
    assert payload is not None
    values = []
    for share in payload.signcrypted_ciphertexts:
        opened = open_share(
            USER_KEY.secret_key,
            share.signcrypted_ciphertext,
            client=CLIENT,
            vk=verification_key(SIGNER.public_key),
        )
        assert opened.link == payload.digest
        values.append(
            value_of_share(opened.plaintext) if payload.degree else int.from_bytes(opened.plaintext, "little")
        )
    assert values == [ONE.value, TWO.value]


async def test_a_users_answer_is_linked_to_its_request() -> None:
    emulated = core()
    await emulated.start(USER, bytes(user_request()))
    payload = UserDecryptionResponse.parse(await poll(emulated, USER, user_id(1))).payload
    job = read_user(bytes(user_request()), PLAINTEXTS)
    assert payload is not None
    assert job.user is not None
    assert payload.digest == link_digest(job, job.user)


async def test_a_threshold_node_says_its_number_and_degree() -> None:
    emulated = threshold_core()
    await emulated.start(USER, bytes(user_request()))
    payload = UserDecryptionResponse.parse(await poll(emulated, USER, user_id(1))).payload
    assert payload is not None
    assert (payload.party_id, payload.degree) == (2, 1)


@both
async def test_an_answer_may_be_read_any_number_of_times(operation: CoreOperation) -> None:
    emulated = core()
    await emulated.start(operation, request_of(operation))
    first = await poll(emulated, operation, id_of(operation))
    assert await poll(emulated, operation, id_of(operation)) == first


@both
async def test_an_unknown_id_is_not_found_at_once(operation: CoreOperation) -> None:
    start = trio.current_time()
    assert await status_of(poll(core(), operation, id_of(operation))) is Status.NOT_FOUND
    assert trio.current_time() == start


@both
async def test_a_malformed_id_is_an_invalid_argument(operation: CoreOperation) -> None:
    call = core().result(operation, bytes(RequestId(request_id="xy")))
    assert await status_of(call) is Status.INVALID_ARGUMENT


@both
async def test_bytes_that_are_no_message_are_internal(operation: CoreOperation) -> None:
    assert await status_of(core().start(operation, b"\xff")) is Status.INTERNAL
    assert await status_of(core().result(operation, b"\xff")) is Status.INTERNAL


@both
async def test_a_poll_waits_for_the_computation(operation: CoreOperation) -> None:
    emulated = core(computing=42.7)
    await emulated.start(operation, request_of(operation))
    start = trio.current_time()
    await poll(emulated, operation, id_of(operation))
    assert trio.current_time() - start == pytest.approx(42.7)


async def test_computing_times_may_be_drawn() -> None:
    times = iter([5.0, 1.0])
    emulated = core(computing=lambda: next(times))
    for number in (1, 2):
        await emulated.start(PUBLIC, bytes(public_request(number)))
    start = trio.current_time()
    await poll(emulated, PUBLIC, public_id(2))
    assert trio.current_time() - start == pytest.approx(1)


@both
async def test_a_long_poll_ends_unavailable_after_sixty_seconds(operation: CoreOperation) -> None:
    emulated = core(computing=100)
    await emulated.start(operation, request_of(operation))
    start = trio.current_time()
    assert await status_of(poll(emulated, operation, id_of(operation))) is Status.UNAVAILABLE
    assert trio.current_time() - start == pytest.approx(60)
    await poll(emulated, operation, id_of(operation))
    assert trio.current_time() - start == pytest.approx(100)


@both
async def test_the_same_id_already_exists(operation: CoreOperation) -> None:
    emulated = core()
    await emulated.start(operation, request_of(operation))
    assert await status_of(emulated.start(operation, request_of(operation))) is Status.ALREADY_EXISTS


async def test_the_two_kinds_have_tables_of_their_own() -> None:
    emulated = core()
    await emulated.start(PUBLIC, bytes(public_request()))
    await emulated.start(USER, bytes(user_request(request_id=name(public_id(1)))))


@both
async def test_a_faulty_request_is_an_invalid_argument(operation: CoreOperation) -> None:
    assert (
        await status_of(core().start(operation, request_of(operation, domain=None)))
        is Status.INVALID_ARGUMENT
    )


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


async def test_a_restart_frees_a_burnt_id() -> None:
    emulated = threshold_core()
    emulated.known.keys.clear()
    await status_of(emulated.start(PUBLIC, bytes(public_request())))
    emulated.restart()
    emulated.known.keys.add(bytes.fromhex("04" + "00" * 30 + "01"))
    await emulated.start(PUBLIC, bytes(public_request()))
    await poll(emulated, PUBLIC, public_id(1))


@both
async def test_without_its_signing_key_it_is_a_failed_precondition(operation: CoreOperation) -> None:
    emulated = core(signing_key_loaded=False)
    assert await status_of(emulated.start(operation, request_of(operation))) is Status.FAILED_PRECONDITION


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


async def test_status_texts_have_the_one_shape() -> None:
    failure = await failure_of(poll(core(), USER, user_id(5)))
    assert failure.message == f"Failed on requestID {user_id(5).hex()} with metric user_decrypt_result"


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


async def test_a_long_handle_fails_when_the_answer_is_signed() -> None:
    emulated = core()
    message = public_request()
    message.ciphertexts[0].external_handle = bytes(33)
    await emulated.start(PUBLIC, bytes(message))
    assert await status_of(poll(emulated, PUBLIC, public_id(1))) is Status.INTERNAL


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


async def test_shares_are_sealed_anew_after_a_restart() -> None:
    emulated = core()
    replies = []
    for _ in range(2):
        await emulated.start(USER, bytes(user_request()))
        replies.append(await poll(emulated, USER, user_id(1)))
        emulated.restart()
    assert replies[0] != replies[1]


async def test_public_answers_are_the_same_after_a_restart() -> None:
    emulated = core()
    replies = []
    for _ in range(2):
        await emulated.start(PUBLIC, bytes(public_request()))
        replies.append(await poll(emulated, PUBLIC, public_id(1)))
        emulated.restart()
    assert replies[0] == replies[1]


async def test_two_nodes_seal_differently() -> None:
    nodes = [threshold_core(), threshold_core()]
    nodes[1].node = attrs.evolve(nodes[1].node, party_id=3)
    replies = []
    for emulated in nodes:
        await emulated.start(USER, bytes(user_request()))
        replies.append(await poll(emulated, USER, user_id(1)))
    assert replies[0] != replies[1]


async def test_health_is_a_knob() -> None:
    emulated = core()
    check = emulated.methods()[HEALTH_CHECK]
    assert await check(b"") == b"\x08\x01"
    emulated.serving = False
    assert await check(b"") == b"\x08\x02"


def test_the_calls_are_those_of_the_service() -> None:
    source = Path(__file__).parents[3] / "protos" / "fhevm" / "kms-service.v1.proto"
    calls = set(re.findall(r"rpc (\w+)", source.read_text()))
    later = {each.at_once for each in OPERATIONS}
    assert set(core().methods()) == {HEALTH_CHECK, *(f"/{SERVICE}/{call}" for call in calls | later)}


# Later Cores, whose calls start and wait in one (annex C).


@both
async def test_a_core_of_0_14_has_no_calls_that_wait(operation: CoreOperation) -> None:
    emulated = core()
    assert await status_of(emulated.start_and_wait(operation, request_of(operation))) is Status.UNIMPLEMENTED
    assert emulated.job(operation, id_of(operation)) is None


@both
async def test_a_call_that_waits_gives_the_answer(operation: CoreOperation) -> None:
    emulated = core(release=CoreRelease.V0_15, computing=7)
    reply = await emulated.start_and_wait(operation, request_of(operation))
    assert trio.current_time() == pytest.approx(7)
    assert reply == await poll(emulated, operation, id_of(operation))


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
