"""What a call of a Core may become in place of what is honest, by name. Decides not when.

Source: faults.md section 2; kms-core-grpc.md, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar

import attrs
import trio

from kmsconn._generated.fhevm.kms.v1 import (
    PublicDecryptionResponse,
    RequestId,
    SigningSchemeType,
    TypedSignature,
    UserDecryptionResponse,
)
from kmsconn.emulator.core import CoreOperation, EmulatedCore
from kmsconn.emulator.core_keys import answer
from kmsconn.emulator.core_requests import ECDSA256K1, Job, read_id
from kmsconn.emulator.grpc_server import CutConnection, GoAway, Method
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.protobuf import decode

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


async def _never_ready(call: InterceptedCall) -> bytes:
    return await call.emulated.start(call.operation, call.request, seconds=math.inf)


async def _burn(call: InterceptedCall) -> bytes:
    return await call.emulated.start(call.operation, call.request, share_lost=True)


async def _restart(call: InterceptedCall) -> bytes:
    await trio.lowlevel.checkpoint()
    call.core.restart()
    raise CutConnection


Act: TypeAlias = Callable[[InterceptedCall], Awaitable[bytes]]


def ended_by(end: type[Exception], *, after: bool = False) -> Act:
    """End the connection like this; ``after`` the work was done."""

    async def act(call: InterceptedCall) -> bytes:
        await trio.lowlevel.checkpoint()
        if after:
            await call.proceed()
        raise end

    return act


def changed(change: Callable[[Response], None]) -> Act:
    """Change an honest answer in place."""

    async def act(call: InterceptedCall) -> bytes:
        done = await call.proceed()
        is_public = _job(call).user is None
        reply = decode(PublicDecryptionResponse, done) if is_public else decode(UserDecryptionResponse, done)
        change(reply)
        return bytes(reply)

    return act


def other_job(change: Callable[[Job], Job]) -> Act:
    """Answer a result call, in due form and signed, as if this had been asked."""

    async def act(call: InterceptedCall) -> bytes:
        await call.proceed()
        return call.emulated.answer(change(_job(call)))

    return act


async def _signed_by_a_stranger(call: InterceptedCall) -> bytes:
    """Answer a result call with the signatures of another key."""
    await call.proceed()
    job = _job(call)
    return answer(attrs.evolve(call.emulated.node, key=STRANGER), job, partial(call.emulated.randomness, job))


def _job(call: InterceptedCall) -> Job:
    job = call.emulated.job(call.operation, read_id(decode(RequestId, call.request)))
    if job is None:  # the honest call before this one has answered
        raise AssertionError
    return job


def _no_payload(reply: Response) -> None:
    reply.payload = None


def _each_signature(change: Callable[[bytes], bytes], reply: Response) -> None:
    """Change a signature wherever the release of the Core has put it."""
    reply.external_signature = change(reply.external_signature)
    for one in reply.signatures:
        one.signature = change(one.signature)


def _no_signature(reply: Response) -> None:
    reply.external_signature, reply.signatures = b"", []


def _two_signatures(reply: Response) -> None:
    first = next((one.signature for one in reply.signatures), reply.external_signature)
    reply.external_signature = first
    other = first[:-1] + bytes([first[-1] ^ 7])  # 27 and 28 change places
    reply.signatures = [TypedSignature(ECDSA256K1, other)]


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
    "short signature": changed(partial(_each_signature, lambda signature: signature[:-1])),
    "no signature": changed(_no_signature),
    "two signatures": changed(_two_signatures),  # the old field and the list hold different ones
    # 65 bytes with a recovery byte that no contract takes
    "spoilt signature": changed(partial(_each_signature, lambda signature: signature[:-1] + b"\x1d")),
    "stranger's signature": _signed_by_a_stranger,
    "one value less": other_job(_one_value_less),
    "other request": other_job(_other_request),  # a good answer, to another request
}
"""Answers that no honest Core gives; for result calls."""
SPOILS: Final[dict[str, Act]] = {
    "cut": ended_by(CutConnection),  # the connection breaks before the Core saw the call
    "cut after": ended_by(CutConnection, after=True),  # likewise, before the reply of a call that was done
    "go away": ended_by(GoAway),  # GOAWAY in place of an answer
    "restart": _restart,  # the Core restarts under the call and forgets everything
    **ANSWERS,
    "other values": other_job(_other_values),  # a good one: after an honest answer, the Core has given two
    "other schemes": changed(
        _other_schemes
    ),  # no fault: a later and an unknown one before the one that counts
    "never ready": _never_ready,  # start calls: accepted, and pending for ever
    "share lost": _burn,  # start calls: NOT_FOUND, and the id is burnt (5.2)
}
"""What one call may become, by name."""
