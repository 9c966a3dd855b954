"""Cores of several releases, what they say of schemes, contexts and their ends; and what one does wrong when told to, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.emulator.core import OPERATIONS, PUBLIC, SERVICE, CoreOperation, EmulatedCore
from kmsconn.emulator.core_faults import (
    CoreFault,
    CoreFaults,
    FailingCore,
    HangingCore,
    SlowCore,
    SpoiledCore,
)
from kmsconn.emulator.core_requests import DEFAULT_CONTEXT, DEFAULT_EPOCH, CoreIds, CoreRelease
from kmsconn.emulator.core_spoils import ANSWERS
from kmsconn.emulator.grpc_server import CutConnection, GoAway, GrpcFailure
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.transport.grpc.framing import Status
from tests.unit.emulator.core_worlds import (
    SIGNER,
    core,
    domain_message,
    name,
    public_id,
    public_request,
    threshold_core,
    user_id,
    user_request,
)

V0_14, V0_15, V0_16 = CoreRelease
ECDSA, MLDSA65, UNKNOWN = (kms.SigningSchemeType(number) for number in (0, 3, 250))
SECOND_CONTEXT, SECOND_EPOCH = make_id(CONTEXT_TAG, 2).to_bytes(32), make_id(EPOCH_TAG, 2).to_bytes(32)
both = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
later = pytest.mark.parametrize("release", [V0_15, V0_16], ids=lambda release: release.text)


def asked(operation: CoreOperation, *schemes: kms.SigningSchemeType) -> bytes:
    request: Any = public_request() if operation is PUBLIC else user_request()
    request.signing_schemes = list(schemes)
    return bytes(request)


async def answered(release: CoreRelease, operation: CoreOperation, *schemes: kms.SigningSchemeType) -> Any:
    emulated = core(release)
    await emulated.start(operation, asked(operation, *schemes))
    number = public_id(1) if operation is PUBLIC else user_id(1)
    kind = kms.PublicDecryptionResponse if operation is PUBLIC else kms.UserDecryptionResponse
    return kind.parse(await emulated.result(operation, bytes(name(number))))


def fields(answer: Any) -> tuple[bool, bool, list[int]]:
    """Return which old fields are filled, and the schemes of the list."""
    return (
        bool(answer.signature),
        bool(answer.external_signature),
        [int(one.scheme) for one in answer.signatures],
    )


@both
@pytest.mark.parametrize(
    ("release", "schemes", "expected"),
    [
        pytest.param(V0_14, [ECDSA], (True, True, []), id="0.14 skips the list"),
        pytest.param(V0_15, [], (True, True, []), id="0.15 lists what was asked for"),
        pytest.param(V0_15, [ECDSA], (True, True, [0]), id="0.15 fills both"),
        pytest.param(V0_16, [], (False, False, [0]), id="0.16 signs by ECDSA unasked"),
        pytest.param(V0_16, [ECDSA], (False, False, [0]), id="0.16 has the list alone"),
    ],
)  # fmt: skip
async def test_the_signature_fields_of_an_answer(
    operation: CoreOperation,
    release: CoreRelease,
    schemes: list[kms.SigningSchemeType],
    expected: tuple[bool, bool, list[int]],
) -> None:
    assert fields(await answered(release, operation, *schemes)) == expected


@both
async def test_all_releases_sign_alike(operation: CoreOperation) -> None:
    old, middle, new = [await answered(release, operation, ECDSA) for release in CoreRelease]
    assert old.external_signature == middle.external_signature == middle.signatures[0].signature
    assert new.signatures[0].signature == old.external_signature


@both
@later
@pytest.mark.parametrize("scheme", [MLDSA65, UNKNOWN])
async def test_a_scheme_without_key_is_invalid(
    operation: CoreOperation, release: CoreRelease, scheme: kms.SigningSchemeType
) -> None:
    with pytest.raises(GrpcFailure) as caught:
        await core(release).start(operation, asked(operation, ECDSA, scheme))
    assert caught.value.status is Status.INVALID_ARGUMENT
    await core(V0_14).start(operation, asked(operation, ECDSA, scheme))


# Keys.


async def call(emulated: EmulatedCore, method: str, message: Any) -> bytes:
    return await emulated.methods()[f"/{SERVICE}/{method}"](bytes(message))


async def status(emulated: EmulatedCore, method: str, message: Any) -> Status:
    try:
        await call(emulated, method, message)
    except GrpcFailure as failure:
        return failure.status
    return Status.OK


def request_of_a_crs(*schemes: kms.SigningSchemeType) -> kms.CrsGenRequest:
    return kms.CrsGenRequest(
        request_id=name(b"\5" * 32),
        max_num_bits=64,
        domain=domain_message(),
        context_id=name(DEFAULT_CONTEXT),
        signing_schemes=list(schemes),
    )


@pytest.mark.parametrize("release", CoreRelease)
async def test_the_signatures_of_a_crs(release: CoreRelease) -> None:
    emulated = core(release)
    await call(emulated, "CrsGen", request_of_a_crs(ECDSA))
    made = kms.CrsGenResult.parse(await call(emulated, "GetCrsGenResult", name(b"\5" * 32)))
    assert bool(made.external_signature) == (release is not V0_16)
    assert len(made.signatures) == (release is not V0_14)


@later
async def test_a_crs_is_not_signed_by_a_scheme_without_key(release: CoreRelease) -> None:
    assert await status(core(release), "CrsGen", request_of_a_crs(MLDSA65)) is Status.INVALID_ARGUMENT


# Contexts.


def new_context(signer: bytes | None, *digests: kms.SchemeDigest) -> kms.NewMpcContextRequest:
    node = kms.MpcNode(party_id=1, mpc_identity="one", signer_address=signer, scheme_digests=list(digests))
    return kms.NewMpcContextRequest(kms.MpcContext([node], name(SECOND_CONTEXT)))


OURS = kms.SchemeDigest(ECDSA, SIGNER.address)


@pytest.mark.parametrize("release", CoreRelease)
async def test_every_release_takes_a_node_that_is_named_twice(release: CoreRelease) -> None:
    assert await status(core(release), "NewMpcContext", new_context(SIGNER.address, OURS)) is Status.OK


@pytest.mark.parametrize(
    ("release", "signer", "digest"),
    [
        (V0_16, SIGNER.address, None),
        (V0_15, SIGNER.address, kms.SchemeDigest(ECDSA, b"x" * 20)),
        (V0_15, None, kms.SchemeDigest(ECDSA, b"x" * 19)),
        (V0_15, None, None),
    ],
)
async def test_a_node_without_one_signer_is_invalid(
    release: CoreRelease, signer: bytes | None, digest: kms.SchemeDigest | None
) -> None:
    request = new_context(signer, *([] if digest is None else [digest]))
    assert await status(core(release), "NewMpcContext", request) is Status.INVALID_ARGUMENT


# Ends.


def end_of_context(context_id: bytes, *epochs: bytes) -> kms.DestroyMpcContextRequest:
    return kms.DestroyMpcContextRequest(name(context_id), [name(one) for one in epochs])


def end_of_epoch(epoch_id: bytes) -> kms.DestroyMpcEpochRequest:
    return kms.DestroyMpcEpochRequest(name(epoch_id))


def two_of_each(release: CoreRelease, *, threshold: bool = True, seconds: float = 0.0) -> EmulatedCore:
    make = threshold_core if threshold else core
    known = CoreIds({DEFAULT_CONTEXT, SECOND_CONTEXT}, {DEFAULT_EPOCH})
    return make(release, known=known, computing=seconds)


async def with_second_epoch(release: CoreRelease, seconds: float = 0.0, **knobs: bool) -> EmulatedCore:
    emulated = two_of_each(release, seconds=seconds, **knobs)
    request = kms.NewMpcEpochRequest(name(SECOND_CONTEXT), name(SECOND_EPOCH), domain=domain_message())
    await call(emulated, "NewMpcEpoch", request)
    return emulated


@later
async def test_the_end_of_a_context_tells_its_epochs_and_skips_the_list(release: CoreRelease) -> None:
    emulated = await with_second_epoch(release)
    await trio.sleep(1)
    request = end_of_context(SECOND_CONTEXT, DEFAULT_EPOCH)
    told = kms.DestroyMpcContextResponse.parse(await call(emulated, "DestroyMpcContext", request))
    assert [one.request_id for one in told.epoch_ids] == [SECOND_EPOCH.hex()]
    assert emulated.known.epochs == {DEFAULT_EPOCH}
    assert await status(emulated, "DestroyMpcContext", request) is Status.NOT_FOUND


async def test_a_core_of_0_14_ends_the_epochs_of_the_list_and_tells_nothing() -> None:
    emulated = await with_second_epoch(V0_14)
    assert await call(emulated, "DestroyMpcContext", end_of_context(SECOND_CONTEXT, DEFAULT_EPOCH)) == b""
    assert emulated.known.epochs == {SECOND_EPOCH}
    assert await call(emulated, "DestroyMpcContext", end_of_context(SECOND_CONTEXT)) == b""


@later
async def test_the_last_context_and_the_last_epoch_stay(release: CoreRelease) -> None:
    emulated = threshold_core(release)
    assert (
        await status(emulated, "DestroyMpcContext", end_of_context(DEFAULT_CONTEXT))
        is await status(emulated, "DestroyMpcEpoch", end_of_epoch(DEFAULT_EPOCH))
        is await status(two_of_each(release), "DestroyMpcContext", end_of_context(DEFAULT_CONTEXT))
        is Status.FAILED_PRECONDITION
    )


@later
async def test_an_epoch_that_is_being_made_stays_and_so_does_its_context(release: CoreRelease) -> None:
    emulated = await with_second_epoch(release, seconds=9.0)
    ends = {
        "DestroyMpcContext": end_of_context(SECOND_CONTEXT),
        "DestroyMpcEpoch": end_of_epoch(SECOND_EPOCH),
    }
    for method, request in ends.items():
        assert await status(emulated, method, request) is Status.FAILED_PRECONDITION
    await trio.sleep(9)
    for method, request in reversed(ends.items()):
        assert await status(emulated, method, request) is Status.OK
    assert await status(emulated, "DestroyMpcEpoch", end_of_epoch(SECOND_EPOCH)) is Status.NOT_FOUND


@later
async def test_a_centralised_core_breaks_over_the_end_of_an_epoch(release: CoreRelease) -> None:
    emulated = await with_second_epoch(release, threshold=False)
    with pytest.raises(CutConnection):
        await call(emulated, "DestroyMpcEpoch", end_of_epoch(SECOND_EPOCH))
    assert await call(emulated, "DestroyMpcContext", end_of_context(SECOND_CONTEXT)) == b""


def faults(emulated: EmulatedCore | None = None) -> CoreFaults:
    return CoreFaults(emulated or core())


async def start(spoilt: CoreFaults, operation: CoreOperation = PUBLIC) -> bytes:
    request = public_request() if operation is PUBLIC else user_request()
    return await spoilt.methods()[f"/{SERVICE}/{operation.start}"](bytes(request))


async def result(spoilt: CoreFaults, operation: CoreOperation = PUBLIC) -> bytes:
    request_id = public_id(1) if operation is PUBLIC else user_id(1)
    return await spoilt.methods()[f"/{SERVICE}/{operation.result}"](bytes(name(request_id)))


Call = Callable[[CoreFaults], Awaitable[bytes]]
HOUR = 3600.0


async def outcomes(spoilt: CoreFaults, *calls: Call) -> list[str]:
    """Return how calls end: by their status, or as the connection does."""
    found = []
    for call in calls:
        try:
            with trio.fail_after(HOUR):
                await call(spoilt)
            found.append("OK")
        except GrpcFailure as failure:
            found.append(failure.status.name)
        except (CutConnection, GoAway, trio.TooSlowError) as ended:
            found.append(type(ended).__name__)
    return found


STARTS = pytest.mark.parametrize(
    ("faults_of_starts", "calls", "expected", "is_known"),
    [
        pytest.param([FailingCore(code="UNAVAILABLE")], [start], ["UNAVAILABLE"], False, id="a status in front"),
        pytest.param(
            [FailingCore(code="DEADLINE_EXCEEDED", after=True)], [start], ["DEADLINE_EXCEEDED"], True, id="a status behind"
        ),
        pytest.param(
            [FailingCore(code="UNKNOWN"), None, FailingCore(code="ABORTED")],
            [start] * 4,
            ["UNKNOWN", "OK", "ABORTED", "ALREADY_EXISTS"],
            True,
            id="a script, call by call",
        ),
        pytest.param([HangingCore()], [start], ["TooSlowError"], False, id="a hang never ends"),
        pytest.param([SpoiledCore(how="cut")], [start], ["CutConnection"], False, id="a cut before the work"),
        pytest.param([SpoiledCore(how="cut after")], [start], ["CutConnection"], True, id="a cut after the work"),
        pytest.param([SpoiledCore(how="go away")], [start], ["GoAway"], False, id="goaway is for the server"),
        pytest.param(
            [None, SpoiledCore(how="restart")], [start, start], ["OK", "CutConnection"], False, id="a restart forgets and cuts"
        ),
        pytest.param(
            [SpoiledCore(how="never ready")], [start, *[result] * 3], ["OK", *["UNAVAILABLE"] * 3], True, id="never ready"
        ),
    ],
)  # fmt: skip


@STARTS
async def test_starts_end_as_the_faults_say_and_the_core_knows_of_them_or_not(
    faults_of_starts: list[CoreFault | None], calls: list[Call], expected: list[str], is_known: bool
) -> None:
    spoilt = faults()
    spoilt.script(PUBLIC.start, *faults_of_starts)
    assert await outcomes(spoilt, *calls) == expected
    assert (spoilt.core.job(PUBLIC, public_id(1)) is not None) is is_known


async def test_a_lost_share_burns_the_id() -> None:
    spoilt = faults(threshold_core())
    spoilt.script(PUBLIC.start, SpoiledCore(how="share lost"))
    assert await outcomes(spoilt, start, start, result) == ["NOT_FOUND", "ALREADY_EXISTS", "UNAVAILABLE"]


async def test_slow_is_late() -> None:
    spoilt = faults()
    spoilt.script(PUBLIC.start, SlowCore(seconds=7))
    begun = trio.current_time()
    await start(spoilt)
    assert trio.current_time() - begun == 7


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.start)
@pytest.mark.parametrize("fault", [SpoiledCore(how=how) for how in ANSWERS], ids=lambda fault: fault.how)
async def test_no_answer_fault_gives_the_honest_answer(operation: CoreOperation, fault: CoreFault) -> None:
    spoilt = faults()
    spoilt.script(operation.result, fault, None)
    await start(spoilt, operation)
    assert await result(spoilt, operation) != await result(spoilt, operation)


async def test_what_happened_is_counted() -> None:
    spoilt = faults()
    spoilt.script(PUBLIC.start, FailingCore(code="UNAVAILABLE"), None)
    spoilt.script(PUBLIC.result, SpoiledCore(how="no payload"))
    with pytest.raises(GrpcFailure):
        await start(spoilt)
    await start(spoilt)
    await result(spoilt)
    assert spoilt.counts == Counter(
        {
            (PUBLIC.start, "fail UNAVAILABLE"): 1,
            (PUBLIC.start, "UNAVAILABLE"): 1,
            (PUBLIC.start, "OK"): 1,
            (PUBLIC.result, "spoil no payload"): 1,
            (PUBLIC.result, "OK"): 1,
        }
    )


SLOW, FAILING = SlowCore(times=2), FailingCore()


@pytest.mark.parametrize(
    ("struck", "expected"),
    [
        pytest.param([(SLOW, None)], [SLOW, SLOW, None], id="of any method, so many times"),
        pytest.param([(FAILING, None), (SLOW, "GET")], [SLOW, SLOW, FAILING], id="the newest, then the rest"),
        pytest.param([(FAILING, "GET"), (SLOW, "HEAD")], [FAILING] * 3, id="not of another method"),
        pytest.param([(FailingCore(share=0.0), None)], [None] * 3, id="without a chance"),
    ],
)
def test_a_fault_strikes_by_method_and_times(
    struck: list[tuple[CoreFault, str | None]], expected: list[CoreFault | None]
) -> None:
    spoilt = faults()
    for fault, method in struck:
        spoilt.strike(fault, method)
    assert [spoilt.struck("GET") for _ in range(3)] == expected


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_a_fault_strikes_as_often_as_is_said(share: float) -> None:
    spoilt = faults()
    spoilt.strike(FailingCore(share=share))
    times = sum(spoilt.struck("GET") is not None for _ in range(10_000))
    assert abs(times / 10_000 - share) < 0.02
