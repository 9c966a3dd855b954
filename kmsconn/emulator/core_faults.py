"""What a Core can do wrong, on command or by chance, around the calls of an honest one. Never changes the Core's own code.

Source: faults.md section 2; kms-core-grpc.md, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import attrs
import trio

from kmsconn._generated.fhevm.kms.v1 import (
    PublicDecryptionResponse,
    RequestId,
    SigningSchemeType,
    TypedSignature,
    UserDecryptionResponse,
)
from kmsconn.emulator.core import LONG_POLL, OPERATIONS, SERVICE, CoreOperation, EmulatedCore
from kmsconn.emulator.core_answers import answer
from kmsconn.emulator.core_requests import ECDSA256K1, Job, read_id
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
from kmsconn.emulator.grpc_server import HEALTH_CHECK, CutConnection, GoAway, GrpcFailure, Method, Valve
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.framing import Status

Response: TypeAlias = PublicDecryptionResponse | UserDecryptionResponse
HEALTH = "Check"
"""The name of the health check among the methods that faults strike."""
STRANGER = PrivateKey(bytes(31) + b"\x77")
"""A signer that belongs to no committee."""


class FaultlessCore(Protocol):
    """A Core of any generation, as far as faults around it go."""

    def methods(self) -> dict[str, Method]:
        """Return its honest calls by path."""
        ...

    def restart(self) -> None:
        """Lose every request."""
        ...


C = TypeVar("C", bound=FaultlessCore)


@attrs.frozen
class InterceptedCall:
    """One call that a fault may spoil; ``proceed`` is the honest way on, ``decryption`` its kind if it is of one."""

    core: FaultlessCore
    decryption: CoreOperation | None
    method: str
    request: bytes = attrs.field(repr=False)
    proceed: Callable[[], Awaitable[bytes]]

    @property
    def operation(self) -> CoreOperation:
        """The kind of decryption, for faults that know no other calls."""
        if self.decryption is None:
            raise AssertionError(f"this fault is for decryptions, not for {self.method}")
        return self.decryption

    @property
    def emulated(self) -> EmulatedCore:
        """The Core, for faults that know no other generation."""
        if not isinstance(self.core, EmulatedCore):
            raise AssertionError(f"the method {self.method} is unknown to this fault: use a method of fhevm")
        return self.core


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
    valve: Valve = attrs.field(factory=Valve, repr=False)
    """Shut it and requests stall in flow control; give it to `serve_grpc`."""
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
        fault = next((one.fault for one in reversed(named) if one.strikes(HEALTH, self.random)), None)
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


@attrs.define(eq=False)
class CoreFaults(FaultyCore[EmulatedCore]):
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
        if call.method == HEALTH or call.method.endswith(
            "Sync"
        ):  # this Core has no calls that wait, and says so
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


async def _never_ready(call: InterceptedCall) -> bytes:
    return await call.emulated.start(call.operation, call.request, seconds=math.inf)


async def _burn(call: InterceptedCall) -> bytes:
    return await call.emulated.start(call.operation, call.request, share_lost=True)


async def _cut(_: InterceptedCall) -> bytes:
    await trio.lowlevel.checkpoint()
    raise CutConnection


async def _cut_after(call: InterceptedCall) -> bytes:
    await call.proceed()
    raise CutConnection


async def _go_away(_: InterceptedCall) -> bytes:
    await trio.lowlevel.checkpoint()
    raise GoAway


async def _restart(call: InterceptedCall) -> bytes:
    await trio.lowlevel.checkpoint()
    call.core.restart()
    raise CutConnection


Act: TypeAlias = Callable[[InterceptedCall], Awaitable[bytes]]


def changed(change: Callable[[Response], None]) -> Act:
    """Change an honest answer in place."""

    async def act(call: InterceptedCall) -> bytes:
        reply = _parse(call, await call.proceed())
        change(reply)
        return bytes(reply)

    return act


def other_job(change: Callable[[Job], Job]) -> Act:
    """Answer a result call, in due form and signed, as if this had been asked."""

    async def act(call: InterceptedCall) -> bytes:
        await call.proceed()
        return call.emulated.answer(change(_job(call)))

    return act


def signed_by(key: PrivateKey) -> Act:
    """Answer a result call with the signatures of another key."""

    async def act(call: InterceptedCall) -> bytes:
        await call.proceed()
        job = _job(call)
        return answer(attrs.evolve(call.emulated.node, key=key), job, partial(call.emulated.randomness, job))

    return act


def _parse(call: InterceptedCall, reply: bytes) -> Response:
    if _job(call).user is None:
        return decode(PublicDecryptionResponse, reply)
    return decode(UserDecryptionResponse, reply)


def _job(call: InterceptedCall) -> Job:
    job = call.emulated.job(call.operation, read_id(decode(RequestId, call.request)))
    if job is None:  # the honest call before this one has answered
        raise AssertionError
    return job


def _no_payload(reply: Response) -> None:
    reply.payload = None


def _each_signature(reply: Response, change: Callable[[bytes], bytes]) -> None:
    """Change a signature wherever the release of the Core has put it."""
    reply.external_signature = change(reply.external_signature)
    for one in reply.signatures:
        one.signature = change(one.signature)


def _short_signature(reply: Response) -> None:
    _each_signature(reply, lambda signature: signature[:-1])


def _no_signature(reply: Response) -> None:
    reply.external_signature, reply.signatures = b"", []


def _spoilt_signature(reply: Response) -> None:
    _each_signature(reply, lambda signature: signature[:-1] + b"\x1d")


def _two_signatures(reply: Response) -> None:
    first = next((one.signature for one in reply.signatures), reply.external_signature)
    reply.external_signature = first
    reply.signatures = [
        TypedSignature(ECDSA256K1, first[:-1] + bytes([first[-1] ^ 7]))
    ]  # 27 and 28 change places


def _other_schemes(reply: Response) -> None:
    first = next((one.signature for one in reply.signatures), reply.external_signature)
    others = [TypedSignature(SigningSchemeType(scheme), bytes([scheme]) * 99) for scheme in (4, 250)]
    reply.signatures = [*others, TypedSignature(ECDSA256K1, first)]


def _one_value_less(job: Job) -> Job:
    return attrs.evolve(job, items=job.items[:-1])


def _other_request(job: Job) -> Job:
    """Another id and, since a user's answer names none, other handles."""
    items = tuple(
        attrs.evolve(item, handle=bytes([item.handle[0] ^ 1]) + item.handle[1:]) for item in job.items
    )
    return attrs.evolve(job, request_id=job.request_id[:-1] + bytes([job.request_id[-1] ^ 1]), items=items)


def _other_values(job: Job) -> Job:
    items = tuple(attrs.evolve(item, value=item.value and item.value ^ 1) for item in job.items)
    return attrs.evolve(job, items=items)


ANSWERS: Final[dict[str, Act]] = {
    "no payload": changed(_no_payload),
    "short signature": changed(_short_signature),
    "no signature": changed(_no_signature),
    "two signatures": changed(_two_signatures),  # the old field and the list hold different ones
    "spoilt signature": changed(_spoilt_signature),  # 65 bytes with a recovery byte that no contract takes
    "stranger's signature": signed_by(STRANGER),
    "one value less": other_job(_one_value_less),
    "other request": other_job(_other_request),  # a good answer, to another request
}
"""Answers that no honest Core gives; for result calls."""
SPOILS: Final[dict[str, Act]] = {
    "cut": _cut,  # the connection breaks before the Core saw the call
    "cut after": _cut_after,  # the connection breaks before the reply of a call that was done
    "go away": _go_away,  # GOAWAY in place of an answer
    "restart": _restart,  # the Core restarts under the call and forgets everything
    **ANSWERS,
    "other values": other_job(_other_values),  # a good one: after an honest answer, the Core has given two
    "other schemes": changed(
        _other_schemes
    ),  # no fault: a later and an unknown scheme before the one that counts
    "never ready": _never_ready,  # start calls: accepted, and pending for ever
    "share lost": _burn,  # start calls: NOT_FOUND, and the id is burnt (5.2)
}
"""What one call may become, by name."""


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
