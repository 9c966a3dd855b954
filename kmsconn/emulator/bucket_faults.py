"""What a bucket can do wrong, on command or by chance, around an honest one. Never changes the objects in it.

Source: faults.md section 2, row "Buckets".
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable

import attrs
import trio

from kmsconn.emulator import injections
from kmsconn.emulator.buckets import EmulatedBucket, error, serve_bucket
from kmsconn.emulator.http import CHUNK, HangUp, HttpRequest, HttpResponse, Send

PlanStep = Callable[[HttpRequest, HttpResponse], HttpResponse]


Fault = injections.InjectedFault[PlanStep]
FaultInjection = injections.FaultInjection[PlanStep]


@attrs.define(eq=False)
class BucketFaults:
    """The faults of one bucket: scripted ones first, request by request, else by chance. What happened is counted."""

    bucket: EmulatedBucket
    random: random.Random = attrs.field(factory=lambda: random.Random(0), repr=False)
    injections: list[FaultInjection] = attrs.field(factory=list)
    counts: Counter[str] = attrs.field(factory=Counter, init=False)
    _scripts: dict[str | None, deque[Fault | None]] = attrs.field(factory=dict, init=False, repr=False)

    def script(self, *faults: Fault | None, key: str | None = None) -> None:
        """Let the next requests (for this key; None: for any) meet these, in this order; None is an honest answer."""
        self._scripts.setdefault(key, deque()).extend(faults)

    def heal(self) -> None:
        """Be honest from now on."""
        self._scripts.clear()
        self.injections.clear()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request, spoilt or not."""
        response = await self.bucket.handle(request)
        fault = self._next(request)
        if fault is None:
            return response
        self.counts[fault.name] += 1
        return fault.act(request, response)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection of a network."""
        await serve_bucket(self.handle, stream)

    def _next(self, request: HttpRequest) -> Fault | None:
        for key in (self.bucket.key_of(request), None):
            script = self._scripts.get(key)
            if script:
                return script.popleft()
        return injections.struck(self.injections, request.method, self.random)


def _answering(name: str, response: HttpResponse) -> Fault:
    return Fault(name, lambda _request, _response: response)


FORBIDDEN = _answering("403", error(403, "AccessDenied"))
MISSING = _answering("404", error(404, "NoSuchKey"))
INTERNAL = _answering("500", error(500, "InternalError"))
SLOW_DOWN = _answering("503 SlowDown", error(503, "SlowDown"))


def redirect(location: str) -> Fault:
    """Point elsewhere."""
    return _answering("redirect", HttpResponse(307, (("location", location),)))


def _respond(body: bytes, response: HttpResponse) -> HttpResponse:
    return attrs.evolve(response, body=body)


def _bytes_of(response: HttpResponse) -> bytes:
    if not isinstance(response.body, bytes):  # the honest bucket streams nothing
        raise TypeError
    return response.body


def _wrong_bytes(_: HttpRequest, response: HttpResponse) -> HttpResponse:
    body = _bytes_of(response) or b"\0"
    return _respond(body[:-1] + bytes([body[-1] ^ 1]), response)


def _streamed(
    send_body: Callable[[Send], Awaitable[None]], length: int | None, response: HttpResponse
) -> HttpResponse:
    announced = () if length is None else (("content-length", str(length)),)
    return attrs.evolve(response, headers=(*response.headers, *announced), body=send_body)


def _truncated(_: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Half the body that the header announces, then the connection ends."""
    body = _bytes_of(response)

    async def send_body(send: Send) -> None:
        await send(body[: len(body) // 2])
        raise HangUp

    return _streamed(send_body, len(body), response)


def _hang_up(_: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Headers, no body."""

    async def send_body(_: Send) -> None:
        await trio.lowlevel.checkpoint()
        raise HangUp

    return _streamed(send_body, len(_bytes_of(response)), response)


WRONG_BYTES = Fault("wrong bytes", _wrong_bytes)
"""The right length, one bit turned."""
SHORTER = Fault("shorter", lambda _, response: _respond(_bytes_of(response)[:-1], response))
"""One byte less, and the header agrees."""
LONGER = Fault("longer", lambda _, response: _respond(_bytes_of(response) + b"\0", response))
"""One byte more, and the header agrees."""
EMPTY = Fault("empty", lambda _, response: _respond(b"", response))
TRUNCATED = Fault("truncated", _truncated)
HANG_UP = Fault("hang up", _hang_up)


def stall(after: int) -> Fault:
    """Send this many bytes of the body, then nothing, for ever."""

    def act(_: HttpRequest, response: HttpResponse) -> HttpResponse:
        body = _bytes_of(response)

        async def send_body(send: Send) -> None:
            await send(body[:after])
            await trio.sleep_forever()

        return _streamed(send_body, len(body), response)

    return Fault(f"stall after {after}", act)


def oversized(size: int, *, announced: bool = True) -> Fault:
    """Send more bytes than anybody wants; with ``announced`` the header says so beforehand."""

    async def send_body(send: Send) -> None:
        for start in range(0, size, CHUNK):
            await send(bytes(min(CHUNK, size - start)))

    def act(_: HttpRequest, response: HttpResponse) -> HttpResponse:
        return _streamed(send_body, size if announced else None, response)

    return Fault("oversized", act)


def dripping(piece: int, pause: float, *, announced: bool = True) -> Fault:
    """Send the body in pieces of this size, each after so many seconds."""

    def act(_: HttpRequest, response: HttpResponse) -> HttpResponse:
        body = _bytes_of(response)

        async def send_body(send: Send) -> None:
            for start in range(0, len(body), piece):
                await send(body[start : start + piece])
                await trio.sleep(pause)

        return _streamed(send_body, len(body) if announced else None, response)

    return Fault("dripping", act)
