"""What a Core can do wrong, on command or by chance, around the calls of an honest one. Never changes the Core's own code.

Source: faults.md section 2; kms-core-grpc.md, section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, Literal

import attrs
import trio

from kmsconn.emulator.core import LONG_POLL, OPERATIONS, SERVICE, CoreOperation, EmulatedCore
from kmsconn.emulator.core_spoils import HEALTH, SPOILS, STRANGER, C, InterceptedCall
from kmsconn.emulator.drills.drill import (
    Drill,
    DrillError,
    DrillScene,
    End,
    Faulty,
    Occasional,
    Target,
    changing,
    together,
)
from kmsconn.emulator.grpc_server import HEALTH_CHECK, GrpcFailure, Method
from kmsconn.transport.grpc.framing import Status


class CoreFault(Occasional, frozen=True):
    """On a Core's calls of this name; an empty one stands for all, the health check among them."""

    target = Target.CORE
    method: str = ""

    def put_on(self, scene: DrillScene, name: str) -> End:
        methods = [self.method] if self.method else [None, HEALTH]
        return together(*(scene.core(name).strike(self, method) for method in methods))

    async def act(self, call: InterceptedCall) -> bytes:
        """Return what is answered instead. Raises GrpcFailure, CutConnection, GoAway."""
        raise NotImplementedError


@attrs.define(eq=False)
class FaultyCore(Faulty[CoreFault], Generic[C]):
    """The faults of one Core; ``counts``: (method, ``OK`` or status name or label) → times."""

    core: C
    on_call: Callable[[str, bytes], None] = lambda _method, _request: None
    """Is told method and request of each call, whatever comes of it."""

    def script(self, method: str, *faults: CoreFault | None) -> None:
        """Let the next calls of a method meet these, in this order; None is an honest call."""
        self._scripts[method].extend(faults)

    def methods(self) -> dict[str, Method]:
        """Return the Core's calls with the faults around them."""
        kinds = {name: each for each in OPERATIONS for name in (each.start, each.result, each.at_once)}
        calls = self.core.methods()
        for path, honest in calls.items():
            method = path.rpartition("/")[2]
            if path.startswith(f"/{SERVICE}/"):
                calls[path] = partial(self._call, kinds.get(method), method, honest)
            elif path == HEALTH_CHECK:
                calls[path] = partial(self._check_health, honest)
        return calls

    async def _check_health(self, honest: Method, request: bytes) -> bytes:
        """Answer a health check; only faults that name it strike it, and nobody is told of it."""
        named = [one for one in self.injections if one.method == HEALTH]
        fault = next((one.fault for one in reversed(named) if one.strikes(HEALTH)), None)
        if fault is None:
            return await honest(request)
        self.counts[HEALTH, fault.label] += 1
        return await fault.act(InterceptedCall(self.core, None, HEALTH, request, partial(honest, request)))

    async def _call(
        self, decryption: CoreOperation | None, method: str, honest: Method, request: bytes
    ) -> bytes:
        call = InterceptedCall(self.core, decryption, method, request, partial(honest, request))
        self.on_call(method, request)
        fault = self.struck(method, method)
        if fault is not None:
            self.counts[method, fault.label] += 1
        try:
            reply = await (call.proceed() if fault is None else fault.act(call))
        except GrpcFailure as failure:
            self.counts[method, failure.status.name] += 1
            raise
        self.counts[method, Status.OK.name] += 1
        return reply


CoreFaults = FaultyCore[EmulatedCore]
"""The faults of a Core of fhevm."""


CODES = tuple(one.name for one in Status if one is not Status.OK)


class FailingCore(CoreFault, frozen=True):
    """Calls end with this gRPC status; UNAVAILABLE without a method acts like a proxy whose Core is gone.

    The status decides, see docs/outcomes.md, *Submit and answer*; if no request passes, all wait with a critical alert.
    """

    name = "fail"
    code: Literal[*CODES] = "INTERNAL"  # type: ignore[valid-type]
    message: str = ""
    after: bool = False  # the work is done all the same

    async def act(self, call: InterceptedCall) -> bytes:
        if self.after:
            await call.proceed()
        await trio.lowlevel.checkpoint()
        raise GrpcFailure(Status[self.code], self.message)


class OtherSigner(Drill, frozen=True):
    """The Core signs with a key that belongs to no committee.

    No such answer is sent: requests wait, with an alert that names both signers, critical while none passes. A Core keeps what it
    signed: after the end those wait until its `restart`.
    """

    name, target = "signer", Target.CORE

    def put_on(self, scene: DrillScene, name: str) -> End:
        core = scene.core(name).core  # answers that it gave out stay
        if not isinstance(core, EmulatedCore):
            return changing(core, "key", STRANGER)
        return changing(core, "node", attrs.evolve(core.node, key=STRANGER))


class TakenStarts(CoreFault, frozen=True):
    """Start calls return ALREADY_EXISTS and no result ever comes, as after a start that failed inside the Core. A restart ends it.

    After 5 minutes an alert has their number and the remedy, restarting that Core; critical where none of their kind passes.
    """

    name, restart_ends = "taken", True

    async def act(self, call: InterceptedCall) -> bytes:
        # this Core has no calls that wait, and says so
        if call.method == HEALTH or call.method.endswith("Sync"):
            return await call.proceed()
        if not call.method.startswith("Get"):
            await trio.lowlevel.checkpoint()
            raise GrpcFailure(Status.ALREADY_EXISTS, "the id is taken")
        await trio.sleep(LONG_POLL)
        raise GrpcFailure(Status.UNAVAILABLE, "no result yet")


class StuckCore(CoreFault, frozen=True):
    """The Core accepts all start calls, and results are UNAVAILABLE after each minute of waiting.

    The request waits through long polls; its worker is free between them. It is named after 6 minutes, critical where none of its
    kind passes.
    """

    name = "stuck"

    async def act(self, call: InterceptedCall) -> bytes:
        if not call.method.startswith("Get"):
            return await call.proceed()
        await trio.sleep(LONG_POLL)
        raise GrpcFailure(Status.UNAVAILABLE, "no result yet")


class UnhealthyCore(Drill, frozen=True):
    """The health check returns NOT_SERVING; with `known` false the Core has no such call.

    A Core that does not serve is named within 15 s, critical where none serves, although requests go on; one without health
    checks is judged by its calls.
    """

    name, target = "health", Target.CORE
    known: bool = True

    def put_on(self, scene: DrillScene, name: str) -> End:
        if not self.known:
            return FailingCore(method=HEALTH, code="UNIMPLEMENTED").put_on(scene, name)
        core = scene.core(name).core
        if not isinstance(core, EmulatedCore):
            raise DrillError("known", "Cores of this generation have no health check", "leave this drill out")
        return changing(core, "serving", False)


class HangingCore(CoreFault, frozen=True):
    """Calls get no answer.

    The health check raises an alert within 15 s. The stage's deadline ends calls; the request waits, other endpoints continue.
    """

    name = "hang"

    async def act(self, _call: InterceptedCall) -> bytes:
        await trio.sleep_forever()
        raise AssertionError


class SlowCore(CoreFault, frozen=True):
    """Calls are executed later by this time.

    Latency grows. A health check later than `healthcheck_timeout` (3 s) raises an alert, although requests continue.
    """

    name = "slow"
    seconds: float = 5.0

    async def act(self, call: InterceptedCall) -> bytes:
        await trio.sleep(self.seconds)
        return await call.proceed()


class SpoiledCore(CoreFault, frozen=True):
    """Calls of one method are spoilt.

    An answer that does not verify is not sent; its request waits.
    """

    name = "spoil"
    how: Literal[*SPOILS] = "no payload"  # type: ignore[valid-type]

    def put_on(self, scene: DrillScene, name: str) -> End:
        if not self.method:
            remedy = "name one result call, such as GetPublicDecryptionResult"
            raise DrillError("method", "it is empty", remedy)
        return super().put_on(scene, name)

    async def act(self, call: InterceptedCall) -> bytes:
        return await SPOILS[self.how](call)


CORE_DRILLS: tuple[type[Drill], ...] = (
    FailingCore, OtherSigner, TakenStarts, StuckCore, UnhealthyCore, HangingCore, SlowCore, SpoiledCore,
)  # fmt: skip
