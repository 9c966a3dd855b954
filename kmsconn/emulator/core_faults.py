"""What a Core can do wrong, on command or by chance, around the calls of an honest one. Never changes the Core's own code.

Source: faults.md section 2; kms-core-grpc.md, section 5.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, Protocol, TypeAlias, TypeVar

import attrs
import trio

from kmsconn._generated.fhevm.kms.v1 import (
    PublicDecryptionResponse,
    RequestId,
    SigningSchemeType,
    TypedSignature,
    UserDecryptionResponse,
)
from kmsconn.emulator import injections
from kmsconn.emulator.core import OPERATIONS, SERVICE, CoreOperation, EmulatedCore
from kmsconn.emulator.core_answers import answer
from kmsconn.emulator.core_release import ECDSA256K1
from kmsconn.emulator.core_requests import Job, read_id
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


PlanStep = Callable[[InterceptedCall], Awaitable[bytes]]


Fault = injections.InjectedFault[PlanStep]
FaultInjection = injections.FaultInjection[PlanStep]


@attrs.define(eq=False)
class FaultyCore(Generic[C]):
    """The faults of one Core: scripted ones first, call by call, else by chance. What happened is counted."""

    core: C
    random: random.Random = attrs.field(factory=lambda: random.Random(0), repr=False)
    injections: list[FaultInjection] = attrs.field(factory=list)
    valve: Valve = attrs.field(factory=Valve, repr=False)
    """Shut it and requests stall in flow control; give it to `serve_grpc`."""
    on_call: Callable[[str, bytes], None] = lambda _method, _request: None
    """Is told method and request of each call, whatever comes of it."""
    counts: Counter[tuple[str, str]] = attrs.field(factory=Counter, init=False)
    """(method, ``OK`` or status name or fault name) → times."""
    _scripts: dict[str, deque[Fault | None]] = attrs.field(factory=dict, init=False, repr=False)

    def script(self, method: str, *faults: Fault | None) -> None:
        """Let the next calls of a method meet these, in this order; None is an honest call."""
        self._scripts.setdefault(method, deque()).extend(faults)

    def heal(self) -> None:
        """Be honest from now on."""
        self._scripts.clear()
        self.injections.clear()

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
        fault = injections.struck(
            [one for one in self.injections if one.method == HEALTH], HEALTH, self.random
        )
        if fault is None:
            return await honest(request)
        self.counts[HEALTH, fault.name] += 1
        return await fault.act(InterceptedCall(self.core, None, HEALTH, request, partial(honest, request)))

    async def _call(
        self, decryption: CoreOperation | None, method: str, honest: Method, request: bytes
    ) -> bytes:
        call = InterceptedCall(self.core, decryption, method, request, partial(honest, request))
        self.on_call(method, request)
        fault = self._next(method)
        if fault is not None:
            self.counts[method, fault.name] += 1
        try:
            reply = await (call.proceed() if fault is None else fault.act(call))
        except GrpcFailure as failure:
            self.counts[method, failure.status.name] += 1
            raise
        self.counts[method, Status.OK.name] += 1
        return reply

    def _next(self, method: str) -> Fault | None:
        script = self._scripts.get(method)
        if script:
            return script.popleft()
        return injections.struck(self.injections, method, self.random)


@attrs.define(eq=False)
class CoreFaults(FaultyCore[EmulatedCore]):
    """The faults of a Core of fhevm."""


def status(code: Status, message: str = "") -> Fault:
    """End the call with this status, without the Core having seen it."""

    async def act(_: InterceptedCall) -> bytes:
        await trio.lowlevel.checkpoint()
        raise GrpcFailure(code, message)

    return Fault(f"status {code.name}", act)


def status_after(code: Status, message: str = "") -> Fault:
    """Do the work, then end the call with this status all the same."""

    async def act(call: InterceptedCall) -> bytes:
        await call.proceed()
        raise GrpcFailure(code, message)

    return Fault(f"done, then {code.name}", act)


def slow(seconds: float) -> Fault:
    """Do it later."""

    async def act(call: InterceptedCall) -> bytes:
        await trio.sleep(seconds)
        return await call.proceed()

    return Fault(f"slow {seconds:g} s", act)


async def _hang(_: InterceptedCall) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


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


HANG = Fault("hang", _hang)
"""The call never ends."""
NEVER_READY = Fault("never ready", _never_ready)
"""Start calls: accepted, and pending for ever."""
SHARE_LOST = Fault("share lost", _burn)
"""Start calls: NOT_FOUND, and the id is burnt (5.2)."""
CUT = Fault("cut", _cut)
"""The connection breaks before the Core saw the call."""
CUT_AFTER = Fault("cut after", _cut_after)
"""The connection breaks before the reply of a call that was done."""
GO_AWAY = Fault("go away", _go_away)
"""GOAWAY in place of an answer."""
RESTART = Fault("restart", _restart)
"""The Core restarts under the call and forgets everything."""


def changed(name: str, change: Callable[[Response], None]) -> Fault:
    """Change an honest answer in place."""

    async def act(call: InterceptedCall) -> bytes:
        reply = _parse(call, await call.proceed())
        change(reply)
        return bytes(reply)

    return Fault(name, act)


def other_job(name: str, change: Callable[[Job], Job]) -> Fault:
    """Answer a result call, in due form and signed, as if this had been asked."""

    async def act(call: InterceptedCall) -> bytes:
        await call.proceed()
        return call.emulated.answer(change(_job(call)))

    return Fault(name, act)


def signed_by(name: str, key: PrivateKey) -> Fault:
    """Answer a result call with the signatures of another key."""

    async def act(call: InterceptedCall) -> bytes:
        await call.proceed()
        job = _job(call)
        return answer(attrs.evolve(call.emulated.node, key=key), job, partial(call.emulated.randomness, job))

    return Fault(name, act)


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


NO_PAYLOAD = changed("no payload", _no_payload)
SHORT_SIGNATURE = changed("short signature", _short_signature)
NO_SIGNATURE = changed("no signature", _no_signature)
TWO_SIGNATURES = changed("two signatures", _two_signatures)
"""The old field and the list hold different ones."""
OTHER_SCHEMES = changed("other schemes", _other_schemes)
"""No fault: signatures of a later and of an unknown scheme stand before the one that counts."""
SPOILT_SIGNATURE = changed("spoilt signature", _spoilt_signature)
"""65 bytes with a recovery byte that no contract takes."""
STRANGER_SIGNATURE = signed_by("stranger's signature", STRANGER)
ONE_VALUE_LESS = other_job("one value less", _one_value_less)
OTHER_REQUEST = other_job("other request", _other_request)
"""A good answer, to another request."""
OTHER_VALUES = other_job("other values", _other_values)
"""A good answer with other values: script it after an honest one, and the Core has given two answers."""

ANSWER_FAULTS = (
    NO_PAYLOAD,
    SHORT_SIGNATURE,
    NO_SIGNATURE,
    TWO_SIGNATURES,
    SPOILT_SIGNATURE,
    STRANGER_SIGNATURE,
    ONE_VALUE_LESS,
    OTHER_REQUEST,
)
"""Answers that no honest Core gives; for result calls."""
