"""One emulated KMS Core: its start and result calls for decryptions, in the order of checks of the real one.

It has no tasks: a job is an entry with the time at which it will be ready. Keys, contexts and epochs: ``core_generation``.
Source: kms-core-grpc.md, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs
import trio

from kmsconn._generated.fhevm.kms.v1 import RequestId
from kmsconn.emulator.core_generation import KeyManagement, refusal, refusing
from kmsconn.emulator.core_jobs import CoreJob, CoreJobs, RefusedCall
from kmsconn.emulator.core_keys import JobFailed, KeyResults, SigningNode, answer
from kmsconn.emulator.core_requests import (
    CoreIds,
    CoreRelease,
    Job,
    check_schemes,
    read_id,
    read_public,
    read_user,
)
from kmsconn.emulator.grpc_server import HEALTH_CHECK, GrpcFailure, Method, health_method
from kmsconn.emulator.signcryption import Randomness
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.framing import Status

SERVICE = "kms_service.v1.CoreServiceEndpoint"
LONG_POLL = 60.0
_SEED = b"kmsconn"
"""Where the randomness of shares comes from, together with node, id, place and restarts."""


@attrs.frozen
class CoreOperation:
    """One kind of decryption: the names of its calls and of its status messages."""

    start: str
    result: str
    label: str
    missing_share: str
    read: Callable[[bytes, Mapping[bytes, int]], Job]

    @property
    def at_once(self) -> str:
        """The call of later Cores that starts and waits."""
        return f"{self.start}Sync"

    def job(self, request: bytes, plaintexts: Mapping[bytes, int]) -> Job:
        """Read a request of this kind. Raises GrpcFailure."""
        with refusing(f"{self.label}_request"):
            return self.read(request, plaintexts)


PUBLIC = CoreOperation(
    "PublicDecrypt", "GetPublicDecryptionResult", "public_decrypt", "public_decrypt_inner", read_public
)
USER = CoreOperation(
    "UserDecrypt", "GetUserDecryptionResult", "user_decrypt", "user_decrypt_request", read_user
)
OPERATIONS = (PUBLIC, USER)


def _nobody(_: bytes) -> None:
    """Is told things and keeps none."""


@attrs.define(eq=False)
class EmulatedCore:
    """A Core with one signer key; the fields are its knobs and may be changed at any time."""

    node: SigningNode
    plaintexts: Mapping[bytes, int] = attrs.field(repr=False)
    """The value in each ciphertext body that exists."""
    computing: float | Callable[[], float] = 0.0
    """Seconds from start to answer, or what draws them."""
    known: CoreIds = attrs.field(factory=CoreIds)
    serving: bool = True
    """What the health check says."""
    sealing: Callable[[Job, int], Randomness] | None = None
    """Gives the randomness of each share of a job by its place, in place of one from node, id, place and restarts."""
    on_start: Callable[[bytes], None] = _nobody
    """Is told the id of each start call that was understood, whatever comes of it."""
    on_answer: Callable[[bytes], None] = _nobody
    """Is told the id of each answer that goes out."""
    memory: CoreJobs = attrs.field(factory=CoreJobs, repr=False)
    management: KeyManagement = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # node, pace and listener are looked up late: they are knobs
        self.memory.computing = self._draw
        self.memory.on_start = self._started
        self.management = KeyManagement(self.known, KeyResults(lambda: self.node), self.memory)

    def _started(self, request_id: bytes) -> None:
        self.on_start(request_id)

    def methods(self) -> dict[str, Method]:
        """Return the calls for `serve_grpc`, keyed by path."""
        calls: dict[str, Method] = {HEALTH_CHECK: health_method({SERVICE: lambda: self.serving})}
        for operation in OPERATIONS:
            calls[f"/{SERVICE}/{operation.start}"] = partial(self.start, operation)
            calls[f"/{SERVICE}/{operation.result}"] = partial(self.result, operation)
            calls[f"/{SERVICE}/{operation.at_once}"] = partial(self.start_and_wait, operation)
        managing = self.management.methods().items()
        return calls | {f"/{SERVICE}/{name}": method for name, method in managing}

    def restart(self) -> None:
        """Lose every request, as a restarted process does; calls that wait lose their connection."""
        self.memory.restart()

    async def start(
        self,
        operation: CoreOperation,
        request: bytes,
        *,
        seconds: float | None = None,
        share_lost: bool = False,
    ) -> bytes:
        """Take a request; ``seconds`` overrides `computing`, ``share_lost`` burns the id. Raises GrpcFailure."""
        await trio.lowlevel.checkpoint()
        label = f"{operation.label}_request"
        if self.memory.is_busy(trio.current_time()):
            raise refusal(label, Status.RESOURCE_EXHAUSTED)
        job = operation.job(request, self.plaintexts)
        self.on_start(job.request_id)
        with refusing(label, job.request_id):
            self._check_names(job)
            self._check_id(operation, job)
        self._remember(operation, job, seconds, share_lost=share_lost)
        return b""

    async def start_and_wait(self, operation: CoreOperation, request: bytes) -> bytes:
        """Take a request, or attach to it where it is known, and wait for its answer. Raises GrpcFailure."""
        if not self.node.release.is_later:
            await trio.lowlevel.checkpoint()
            raise GrpcFailure(Status.UNIMPLEMENTED)
        try:
            await self.start(operation, request)
        except GrpcFailure as failure:
            if failure.status is not Status.ALREADY_EXISTS:
                raise
        name = RequestId(request_id=operation.job(request, self.plaintexts).request_id.hex())
        return await self.result(operation, bytes(name))

    async def result(self, operation: CoreOperation, request: bytes) -> bytes:
        """Wait for an answer as long as the real Core does, and return it. Raises GrpcFailure."""
        await trio.lowlevel.checkpoint()
        label = f"{operation.label}_result"
        with refusing(label):
            request_id = read_id(decode(RequestId, request))
        with refusing(label, request_id):
            reply = await self.memory.result(operation.start, LONG_POLL, request_id)
        self.on_answer(request_id)
        return reply

    def job(self, operation: CoreOperation, request_id: bytes) -> Job | None:
        """Return what the Core remembers under an id."""
        known = self.memory.table(operation.start).get(request_id)
        return None if known is None else known.asked

    def randomness(self, job: Job, place: int) -> Randomness:
        """Return what seals one share; another one after a restart, as in a real Core."""
        if self.sealing is not None:
            return self.sealing(job, place)
        number = self.memory.uptime.restarts.to_bytes(4) + place.to_bytes(4) + self.node.party_id.to_bytes(4)
        return Randomness.from_seed(_SEED + number + job.request_id)

    def answer(self, job: Job) -> bytes:
        """Make the answer of a job. Raises JobFailed."""
        return answer(self.node, job, partial(self.randomness, job))

    def _check_names(self, job: Job) -> None:
        """Check the schemes and look the names up; a threshold Core misses its key share only after the id was recorded."""
        check_schemes(self.node.release, job.schemes)
        self.memory.settle()
        known = job.context_id in self.known.contexts and job.epoch_id in self.known.epochs
        if not known or (not self.node.degree and job.key_id not in self.known.keys):
            raise RefusedCall(Status.NOT_FOUND)

    def _check_id(self, operation: CoreOperation, job: Job) -> None:
        table = self.memory.table(operation.start)
        known = table.get(job.request_id)
        if self.node.release.is_later and known is not None and known.failed:
            table.forget(job.request_id)
        table.check(job.request_id, trio.current_time())

    def _remember(
        self, operation: CoreOperation, job: Job, seconds: float | None, *, share_lost: bool
    ) -> None:
        burnt, now = share_lost or job.key_id not in self.known.keys, trio.current_time()
        ready_at = float("inf") if burnt else now + (self._draw() if seconds is None else seconds)
        known = CoreJob(ready_at, partial(self._made, job), job, failed=burnt)
        self.memory.table(operation.start).add(job.request_id, known, now)
        if burnt:
            raise refusal(operation.missing_share, Status.NOT_FOUND, job.request_id)

    def _draw(self) -> float:
        return self.computing() if callable(self.computing) else self.computing

    def _made(self, job: Job) -> bytes:
        try:
            return self.answer(job)
        except JobFailed as error:
            aborted = "abort" in str(error).lower()
            raise RefusedCall(Status.ABORTED if aborted else Status.INTERNAL) from error


def become(core: EmulatedCore, release: CoreRelease) -> None:
    """Let a Core be of another release, from its next call on; restart it to let it forget too."""
    core.node = attrs.evolve(core.node, release=release)
