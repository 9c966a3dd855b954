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
    DrillBody,
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
        *core_faults.ANSWER_FAULTS,
        core_faults.OTHER_VALUES,
    )
}


class CoreCalls(DrillBody, frozen=True):
    """Which calls of the Core, by name; an empty one stands for all, the health check among them."""

    method: str = ""
    share: float = 1.0


class CoreFailure(CoreCalls, frozen=True):
    """And the gRPC status that they end with. ``after``: the work is done all the same."""

    code: Code = "INTERNAL"
    message: str = ""
    after: bool = False


class CoreDelay(CoreCalls, frozen=True):
    """And how late they are."""

    seconds: float = 5.0


class SpoiledCore(CoreCalls, frozen=True):
    """And how their answers are spoilt."""

    how: str = "no payload"


class CoreHealthDrill(DrillBody, frozen=True):
    """What the health check says: NOT_SERVING, or that there is no such call."""

    known: bool = True


def _struck(scene: DrillScene, name: str, body: CoreCalls, fault: Fault) -> End:
    """Let a fault strike calls, before those that were put on earlier."""
    methods = [body.method] if body.method else [None, HEALTH]
    return together(
        *(
            _first(scene.core(name), injections.FaultInjection(body.share, fault, method))
            for method in methods
        )
    )


def _first(faults: FaultyCore[Any], chance: injections.FaultInjection[core_faults.PlanStep]) -> End:
    end = appended(faults.injections, chance)
    faults.injections.insert(0, faults.injections.pop())
    return end


def _fail(scene: DrillScene, name: str, body: CoreFailure) -> End:
    make = core_faults.status_after if body.after else core_faults.status
    return _struck(scene, name, body, make(Status[body.code], body.message))


def _hang(scene: DrillScene, name: str, body: CoreCalls) -> End:
    return _struck(scene, name, body, core_faults.HANG)


def _slow(scene: DrillScene, name: str, body: CoreDelay) -> End:
    return _struck(scene, name, body, core_faults.slow(body.seconds))


def _spoil(scene: DrillScene, name: str, body: SpoiledCore) -> End:
    fault = _SPOILS.get(body.how)
    if fault is None:
        raise DrillError("how", f"no such fault: {body.how!r}", f"there are: {', '.join(_SPOILS)}")
    if not body.method:
        raise DrillError("method", "it is empty", "name one result call, such as GetPublicDecryptionResult")
    return _struck(scene, name, body, fault)


def _signer(scene: DrillScene, name: str, body: DrillBody) -> End:
    """Let a Core sign with the key of a stranger, decryptions and what it generates; answers that it gave out stay."""
    del body
    core = scene.core(name).core
    if not isinstance(core, EmulatedCore):
        return changing(core, "key", STRANGER)
    return changing(core, "node", attrs.evolve(core.node, key=STRANGER))


async def _taken_act(call: InterceptedCall) -> bytes:
    if call.method == HEALTH or call.method.endswith("Sync"):  # this Core has no calls that wait, and says so
        return await call.proceed()
    if not call.method.startswith("Get"):
        await trio.lowlevel.checkpoint()
        raise GrpcFailure(Status.ALREADY_EXISTS, "the id is taken")
    await trio.sleep(LONG_POLL)
    raise GrpcFailure(Status.UNAVAILABLE, "no result yet")


def _taken(scene: DrillScene, name: str, body: CoreCalls) -> End:
    return _struck(scene, name, body, Fault("taken", _taken_act))


async def _stuck_act(call: InterceptedCall) -> bytes:
    if not call.method.startswith("Get"):
        return await call.proceed()
    await trio.sleep(LONG_POLL)
    raise GrpcFailure(Status.UNAVAILABLE, "no result yet")


def _stuck(scene: DrillScene, name: str, body: CoreCalls) -> End:
    return _struck(scene, name, body, Fault("stuck", _stuck_act))


def _health(scene: DrillScene, name: str, body: CoreHealthDrill) -> End:
    if not body.known:
        return _struck(scene, name, CoreCalls(HEALTH), core_faults.status(Status.UNIMPLEMENTED))
    core = scene.core(name).core
    if not isinstance(core, EmulatedCore):
        raise DrillError("known", "Cores of this generation have no health check", "leave this drill out")
    return changing(core, "serving", False)


CORE_DRILLS: tuple[Drill[Any], ...] = (
    Drill(
        "fail", Target.CORE, CoreFailure, _fail,
        "Calls end with this gRPC status; UNAVAILABLE without a method acts like a proxy whose Core is gone.",
        "The status decides, see docs/outcomes.md, *Submit and answer*; if no request passes, all wait with a critical alert.",
    ),
    Drill(
        "signer", Target.CORE, DrillBody, _signer,
        "The Core signs with a key that belongs to no committee.",
        "No such answer is sent: requests wait, with an alert that names both signers, critical while none passes. "
        "A Core keeps what it signed: after the end those wait until its `restart`.",
    ),
    Drill(
        "taken", Target.CORE, CoreCalls, _taken,
        "Start calls return ALREADY_EXISTS and no result ever comes, as after a start that failed inside the Core. A restart ends it.",
        "After 5 minutes an alert has their number and the remedy, restarting that Core; critical where none of their kind passes.",
        restart_ends=True,
    ),
    Drill(
        "stuck", Target.CORE, CoreCalls, _stuck,
        "The Core accepts all start calls, and results are UNAVAILABLE after each minute of waiting.",
        "The request waits through long polls; its worker is free between them. It is named after 6 minutes, "
        "critical where none of its kind passes.",
    ),
    Drill(
        "health", Target.CORE, CoreHealthDrill, _health,
        "The health check returns NOT_SERVING; with `known` false the Core has no such call.",
        "A Core that does not serve is named within 15 s, critical where none serves, although requests go on; one without health "
        "checks is judged by its calls.",
    ),
    Drill(
        "hang", Target.CORE, CoreCalls, _hang,
        "Calls get no answer.",
        "The health check raises an alert within 15 s. The stage's deadline ends calls; the request waits, other endpoints continue.",
    ),
    Drill(
        "slow", Target.CORE, CoreDelay, _slow,
        "Calls are executed later by this time.",
        "Latency grows. A health check later than `healthcheck_timeout` (3 s) raises an alert, although requests continue.",
    ),
    Drill(
        "spoil", Target.CORE, SpoiledCore, _spoil,
        f"Calls of one method are spoilt: {', '.join(_SPOILS)}.",
        "An answer that does not verify is not sent; its request waits.",
    ),
)  # fmt: skip
