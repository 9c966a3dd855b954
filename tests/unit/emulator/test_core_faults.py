"""What an emulated Core does wrong when told to, and that it is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from kmsconn._generated.fhevm.kms.v1 import PublicDecryptionResponse
from kmsconn.emulator.core import OPERATIONS, PUBLIC, SERVICE, CoreOperation, EmulatedCore
from kmsconn.emulator.core_faults import (
    CoreFault,
    CoreFaults,
    FailingCore,
    HangingCore,
    SlowCore,
    SpoiledCore,
)
from kmsconn.emulator.core_spoils import ANSWERS
from kmsconn.emulator.grpc_server import CutConnection, GoAway, GrpcFailure
from kmsconn.ethereum.signing import recover
from kmsconn.protocols.fhevm.decryptions import decrypted_result, public_digest
from kmsconn.transport.grpc.framing import Status
from tests.unit.emulator.core_worlds import (
    DOMAIN,
    ONE,
    TWO,
    core,
    name,
    public_id,
    public_request,
    threshold_core,
    user_id,
    user_request,
)
from tests.unit.emulator.h2_caller import calling


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


async def public_with(fault: CoreFault) -> PublicDecryptionResponse:
    spoilt = faults()
    spoilt.script(PUBLIC.result, fault)
    await start(spoilt)
    return PublicDecryptionResponse.parse(await result(spoilt))


def signer_of(answer: PublicDecryptionResponse) -> bytes | None:
    assert answer.payload is not None
    values = decrypted_result([(each.fhe_type, each.bytes) for each in answer.payload.plaintexts])
    return recover(public_digest(DOMAIN, [ONE.handle, TWO.handle], values, b""), answer.external_signature)


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


async def test_faults_are_served_over_http2() -> None:
    spoilt = faults()
    spoilt.script(PUBLIC.start, FailingCore(code="RESOURCE_EXHAUSTED", message="busy"), None)
    async with calling(spoilt.methods()) as caller:
        path = f"/{SERVICE}/{PUBLIC.start}"
        refused = await caller.call(path, bytes(public_request()))
        taken = await caller.call(path, bytes(public_request()))
    assert (refused.status, refused.message, taken.status) == (Status.RESOURCE_EXHAUSTED.value, "busy", 0)


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
