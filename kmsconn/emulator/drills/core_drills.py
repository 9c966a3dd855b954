"""Drills of Cores: calls that fail or never end, another signer key, ids that are taken, and what the health check says."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import trio

from kmsconn.emulator import core_faults, injections
from kmsconn.emulator.core import LONG_POLL, EmulatedCore
from kmsconn.emulator.core_faults import HEALTH, STRANGER, Fault, FaultyCore, InterceptedCall
from kmsconn.emulator.drills.drill import (
    Drill,
    DrillError,
    DrillScene,
    End,
    Target,
    appended,
    changing,
    together,
)
from kmsconn.emulator.grpc_server import GrpcFailure
from kmsconn.transport.grpc.framing import Status

Code = Literal[
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
    "UNAUTHENTICATED",
]  # fmt: skip
_SPOILS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        core_faults.CUT,
        core_faults.CUT_AFTER,
        core_faults.GO_AWAY,
        core_faults.RESTART,
        *core_faults.ANSWER_FAULTS,
        core_faults.OTHER_VALUES,
    )
}


class CoreDrill(Drill, frozen=True):
    """On a Core."""

    target = Target.CORE


class CallDrill(CoreDrill, frozen=True):
    """On its calls of this name; an empty one stands for all, the health check among them."""

    method: str = ""
    share: float = 1.0
    times: int | None = None

    def strike(self, scene: DrillScene, name: str, fault: Fault) -> End:
        """Let a fault strike calls, before those that were put on earlier."""
        methods = [self.method] if self.method else [None, HEALTH]
        chances = [injections.FaultInjection(self.share, fault, method, self.times) for method in methods]
        return together(*(_first(scene.core(name), chance) for chance in chances))


def _first(faults: FaultyCore[Any], chance: injections.FaultInjection[core_faults.PlanStep]) -> End:
    end = appended(faults.injections, chance)
    faults.injections.insert(0, faults.injections.pop())
    return end


class FailingCore(CallDrill, frozen=True):
    """Calls end with this gRPC status; UNAVAILABLE without a method acts like a proxy whose Core is gone.

    The status decides, see docs/outcomes.md, *Submit and answer*; if no request passes, all wait with a critical alert.
    """

    name = "fail"
    code: Code = "INTERNAL"
    message: str = ""
    after: bool = False  # the work is done all the same

    def put_on(self, scene: DrillScene, name: str) -> End:
        make = core_faults.status_after if self.after else core_faults.status
        return self.strike(scene, name, make(Status[self.code], self.message))


class OtherSigner(CoreDrill, frozen=True):
    """The Core signs with a key that belongs to no committee.

    No such answer is sent: requests wait, with an alert that names both signers, critical while none passes. A Core keeps what it
    signed: after the end those wait until its `restart`.
    """

    name = "signer"

    def put_on(self, scene: DrillScene, name: str) -> End:
        core = scene.core(name).core  # answers that it gave out stay
        if not isinstance(core, EmulatedCore):
            return changing(core, "key", STRANGER)
        return changing(core, "node", attrs.evolve(core.node, key=STRANGER))


class TakenStarts(CallDrill, frozen=True):
    """Start calls return ALREADY_EXISTS and no result ever comes, as after a start that failed inside the Core. A restart ends it.

    After 5 minutes an alert has their number and the remedy, restarting that Core; critical where none of their kind passes.
    """

    name, restart_ends = "taken", True

    def put_on(self, scene: DrillScene, name: str) -> End:
        return self.strike(scene, name, Fault("taken", _taken))


async def _taken(call: InterceptedCall) -> bytes:
    if call.method == HEALTH or call.method.endswith("Sync"):  # this Core has no calls that wait, and says so
        return await call.proceed()
    if not call.method.startswith("Get"):
        await trio.lowlevel.checkpoint()
        raise GrpcFailure(Status.ALREADY_EXISTS, "the id is taken")
    await trio.sleep(LONG_POLL)
    raise GrpcFailure(Status.UNAVAILABLE, "no result yet")


class StuckCore(CallDrill, frozen=True):
    """The Core accepts all start calls, and results are UNAVAILABLE after each minute of waiting.

    The request waits through long polls; its worker is free between them. It is named after 6 minutes, critical where none of its
    kind passes.
    """

    name = "stuck"

    def put_on(self, scene: DrillScene, name: str) -> End:
        return self.strike(scene, name, Fault("stuck", _stuck))


async def _stuck(call: InterceptedCall) -> bytes:
    if not call.method.startswith("Get"):
        return await call.proceed()
    await trio.sleep(LONG_POLL)
    raise GrpcFailure(Status.UNAVAILABLE, "no result yet")


class UnhealthyCore(CoreDrill, frozen=True):
    """The health check returns NOT_SERVING; with `known` false the Core has no such call.

    A Core that does not serve is named within 15 s, critical where none serves, although requests go on; one without health
    checks is judged by its calls.
    """

    name = "health"
    known: bool = True

    def put_on(self, scene: DrillScene, name: str) -> End:
        if not self.known:
            return FailingCore(method=HEALTH, code="UNIMPLEMENTED").put_on(scene, name)
        core = scene.core(name).core
        if not isinstance(core, EmulatedCore):
            raise DrillError("known", "Cores of this generation have no health check", "leave this drill out")
        return changing(core, "serving", False)


class HangingCore(CallDrill, frozen=True):
    """Calls get no answer.

    The health check raises an alert within 15 s. The stage's deadline ends calls; the request waits, other endpoints continue.
    """

    name = "hang"

    def put_on(self, scene: DrillScene, name: str) -> End:
        return self.strike(scene, name, core_faults.HANG)


class SlowCore(CallDrill, frozen=True):
    """Calls are executed later by this time.

    Latency grows. A health check later than `healthcheck_timeout` (3 s) raises an alert, although requests continue.
    """

    name = "slow"
    seconds: float = 5.0

    def put_on(self, scene: DrillScene, name: str) -> End:
        return self.strike(scene, name, core_faults.slow(self.seconds))


class SpoiledCore(CallDrill, frozen=True):
    """Calls of one method are spoilt.

    An answer that does not verify is not sent; its request waits.
    """

    name = "spoil"
    how: Literal[*_SPOILS] = "no payload"  # type: ignore[valid-type]

    def put_on(self, scene: DrillScene, name: str) -> End:
        if not self.method:
            raise DrillError(
                "method", "it is empty", "name one result call, such as GetPublicDecryptionResult"
            )
        return self.strike(scene, name, _SPOILS[self.how])


CORE_DRILLS: tuple[type[Drill], ...] = (
    FailingCore,
    OtherSigner,
    TakenStarts,
    StuckCore,
    UnhealthyCore,
    HangingCore,
    SlowCore,
    SpoiledCore,
)
