"""A Core of the first generation: its start and result calls with the statuses of the real one. Answers as ``core_answers`` does.

It has no tasks: a job is an entry with the time at which it will be ready; and no health service. The insecure calls are those of the
secure ones by other names. Source: kms-core-grpc.md, 12; httpz-rc7.md, 8.1 and 8.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import trio

from kmsconn._generated.httpz_rc7.kms.v1 import (
    CrsGenRequest,
    DecryptionRequest,
    KeyGenPreprocRequest,
    KeyGenRequest,
    ReencryptionRequest,
    RequestId,
)
from kmsconn.core.client import SERVICE
from kmsconn.emulator.core_table import CAPACITY, CoreTable, CoreTableEntry, Full, Known, Uptime
from kmsconn.emulator.grpc_server import GrpcFailure, Method
from kmsconn.emulator.httpz.core_answers import FirstNode
from kmsconn.emulator.httpz.generation_events import HTTPZ
from kmsconn.model.requests import Kind
from kmsconn.transport.grpc.framing import Status

LONG_POLL = 60.0
KNOWN_ID = "Could not insert {what} into meta store: The element with ID {id}"
FULL = "Could not insert {what} into meta store: Error in table: it is full"

STARTS: Mapping[str, tuple[Any, str]] = {
    "Decrypt": (DecryptionRequest, "GetDecryptResult"),
    "Reencrypt": (ReencryptionRequest, "GetReencryptResult"),
    "KeyGenPreproc": (KeyGenPreprocRequest, "GetKeyGenPreprocResult"),
    "KeyGen": (KeyGenRequest, "GetKeyGenResult"),
    "CrsGen": (CrsGenRequest, "GetCrsGenResult"),
    "InsecureKeyGen": (KeyGenRequest, "GetInsecureKeyGenResult"),
    "InsecureCrsGen": (CrsGenRequest, "GetInsecureCrsGenResult"),
}
"""Start call → its request, and the call for its result."""

_DECRYPTIONS = {
    "Decrypt": Kind.PUBLIC_DECRYPTION,
    "GetDecryptResult": Kind.PUBLIC_DECRYPTION,
    "Reencrypt": Kind.USER_DECRYPTION,
    "GetReencryptResult": Kind.USER_DECRYPTION,
}


def _nobody(_: bytes) -> None:
    """Is told things and keeps none."""


@attrs.define(eq=False)
class FirstCore(FirstNode):
    """A Core with one signer key; the fields are its knobs and may be changed at any time."""

    computing: float | Callable[[], float] = 0.0
    """Seconds from start to answer, or what draws them."""
    insecure: bool = True
    """Whether it was built with the insecure calls."""
    does: Callable[[str, str], None] = lambda _method, _id: None
    """Is told method and id of each call before it is answered; may raise GrpcFailure in its place."""
    on_start: Callable[[bytes], None] = _nobody
    """Is told the name of each decryption that a start call asks for, whatever comes of it."""
    on_answer: Callable[[bytes], None] = _nobody
    """Is told the name of each decryption whose answer goes out."""
    capacity: int = CAPACITY
    known: CoreTable[tuple[str, str], Any] = attrs.field(init=False, repr=False)
    """What was asked by result call and id."""
    prepared: set[str] = attrs.field(factory=set, init=False)
    _uptime: Uptime = attrs.field(factory=Uptime, init=False, repr=False)

    @known.default
    def _no_jobs(self) -> CoreTable[tuple[str, str], Any]:
        return CoreTable(self.capacity, kept=0)

    def methods(self) -> dict[str, Method]:
        """Return the calls for ``serve_grpc``, keyed by path."""
        calls: dict[str, Method] = {"Init": self._init}
        for start, (_, result) in STARTS.items():
            calls |= {start: partial(self._start, start), result: partial(self._result, result)}
        return {
            f"/{SERVICE}/{name}": call
            for name, call in calls.items()
            if self.insecure or "Insecure" not in name
        }

    def restart(self) -> None:
        """Lose every request, as a restarted process does; calls that wait lose their connection."""
        self.known = self._no_jobs()
        self._uptime.restart()

    def hear(self, method: str, identifier: str, message: Any = None) -> None:
        """Take note of a call, and of what a start call asks for."""
        self.does(method, identifier)
        if message is not None:
            self._tell(self.on_start, method, identifier)

    async def _init(self, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        del request
        self.does("Init", "")
        return b""

    async def _start(self, method: str, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        kind, result = STARTS[method]
        message = kind.parse(request)
        identifier: str = message.request_id.request_id
        self.hear(method, identifier, message)
        try:
            self.known.check((result, identifier), trio.current_time())
        except Known:
            if method == "KeyGenPreproc":
                return b""
            raise GrpcFailure(Status.ABORTED, KNOWN_ID.format(what=method, id=identifier)) from None
        except Full:
            raise GrpcFailure(Status.ABORTED, FULL.format(what=method)) from None
        if method == "KeyGen":
            self._use_preprocessing(message.preproc_id.request_id)
        seconds = self.computing() if callable(self.computing) else self.computing
        now = trio.current_time()
        self.known.add((result, identifier), CoreTableEntry(message, now + seconds), now)
        return b""

    async def _result(self, method: str, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        identifier = RequestId.parse(request).request_id
        self.hear(method, identifier)
        job = self.known.get((method, identifier))
        if job is None:
            raise GrpcFailure(Status.NOT_FOUND, "no such request")
        longest = trio.current_time() + LONG_POLL
        await self._uptime.wait(lambda: min(job.ready_at, longest))
        if trio.current_time() < job.ready_at:
            raise GrpcFailure(Status.UNAVAILABLE, "not completed yet")
        if method == "GetKeyGenPreprocResult":
            self.prepared.add(identifier)
        reply = self._reply(job)
        self._tell(self.on_answer, method, identifier)
        return reply

    def _reply(self, job: CoreTableEntry[Any]) -> bytes:
        try:
            return self.answer(job.job)
        except (KeyError, ValueError) as error:
            raise GrpcFailure(Status.INTERNAL, "the operation failed") from error

    def _use_preprocessing(self, identifier: str) -> None:
        """Take a preprocessing away as soon as it is named (8.3)."""
        try:
            self.known.forget(("GetKeyGenPreprocResult", identifier))
        except KeyError:
            raise GrpcFailure(Status.NOT_FOUND, "no such preprocessing") from None

    def _tell(self, whom: Callable[[bytes], None], method: str, identifier: str) -> None:
        kind = _DECRYPTIONS.get(method)
        if kind is not None:
            whom(HTTPZ.name(kind, int(identifier, 16)).to_bytes(32))
