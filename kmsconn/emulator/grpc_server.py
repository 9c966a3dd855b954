"""A server of unary gRPC calls over HTTP/2 on one stream: flow control, cancellation, deadlines. Never what is called.

Source: the gRPC over HTTP/2 specification (PROTOCOL-HTTP2), RFC 9113, the gRPC health checking protocol.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from urllib.parse import quote

import attrs
import trio

from kmsconn.emulator.http2 import DataCame, Event, HeadersCame, Http2, StreamEnded, StreamReset
from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import fields
from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.framing import Status

MAX_MESSAGE = 104_857_600  # kms-core-grpc.md, section 1
MAX_CALLS = 1000
PREFIX_BYTES = 5
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
PLAIN = "".join(chr(code) for code in range(0x20, 0x7F)).replace("%", "")
"""What stands as it is in a ``grpc-message``; everything else is percent-encoded."""

Method = Callable[[bytes], Awaitable[bytes]]
"""Takes the request's bytes and returns the reply's; raises GrpcFailure for any other status."""

_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")


class GrpcFailure(Exception):  # noqa: N818 - a status, not always an error
    """Raised by a method: the call ends with this status and message."""

    def __init__(self, status: Status, message: str = "") -> None:
        super().__init__(status.name, message)
        self.status = status
        self.message = message


class Verbatim(Exception):  # noqa: N818 - an answer, not an error
    """Raised by a method: the call ends with exactly these headers, data and trailers, as no honest server would."""

    def __init__(
        self, head: Iterable[tuple[str, str]], data: bytes = b"", trailers: Iterable[tuple[str, str]] = ()
    ) -> None:
        super().__init__("an answer of its own")
        self.head, self.data, self.trailers = list(head), data, list(trailers)


class CutConnection(Exception):  # noqa: N818 - an order, not an error
    """Raised by a method: the connection breaks under this call and every other one on it."""


class GoAway(Exception):  # noqa: N818 - an order, not an error
    """Raised by a method: GOAWAY says that this call was not processed; earlier calls end, then the connection."""


async def serve_grpc(
    stream: trio.abc.Stream,
    methods: Mapping[str, Method],
    *,
    max_message: int = MAX_MESSAGE,
    max_calls: int = MAX_CALLS,
) -> None:
    """Answer unary calls on one connection until either side ends it; ``methods`` are keyed by ``/package.Service/Method``.

    A call that the client resets, or whose ``grpc-timeout`` passes, is cancelled.
    """
    connection = _ServerConnection(stream, methods, max_message, Http2(max_calls))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.output.write)
        await connection.read(nursery)
        nursery.cancel_scope.cancel()


def health_method(services: Mapping[str, Callable[[], bool]]) -> Method:
    """Return ``Health/Check`` for these services; the empty name asks for all of them."""

    async def check(request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        name = _health_service(request)
        if name and name not in services:
            raise GrpcFailure(Status.NOT_FOUND, "unknown service")
        asked = [services[name]] if name else services.values()
        return b"\x08\x01" if all(serving() for serving in asked) else b"\x08\x02"

    return check


def _health_service(request: bytes) -> str:
    try:
        named = [bytes(value) for _, value in fields(request) if not isinstance(value, int)]
        return named[0].decode() if named else ""
    except (Undecodable, UnicodeDecodeError):
        raise GrpcFailure(Status.INTERNAL, "failed to decode Protobuf message") from None


def seconds_of(timeout: str) -> float:
    """Read a ``grpc-timeout`` header; infinity when there is none, or no valid one."""
    match = _TIMEOUT.fullmatch(timeout)
    return int(match[1]) * _SECONDS[match[2]] if match else math.inf


@attrs.define(eq=False)
class _ServedCall:
    stream_id: int
    path: str
    scope: trio.CancelScope
    received: list[bytes] = attrs.field(factory=list, repr=False)
    size: int = 0
    answering: bool = False

    def message(self) -> bytes:
        """Return the one message. Raises GrpcFailure when there is not exactly one, uncompressed."""
        data = b"".join(self.received)
        self.received.clear()
        if data[:1] == b"\x01":
            raise GrpcFailure(Status.UNIMPLEMENTED, "message compression is not supported")
        if len(data) < PREFIX_BYTES or int.from_bytes(data[1:PREFIX_BYTES]) != len(data) - PREFIX_BYTES:
            raise GrpcFailure(Status.INTERNAL, "a unary call has one message")
        return data[PREFIX_BYTES:]


class _Output:
    """Sends what the protocol has to say."""

    def __init__(self, stream: trio.abc.Stream, connection: Http2) -> None:
        self._stream, self._http2 = stream, connection
        self._sending = trio.Lock()
        self._wake_up = trio.Event()

    async def write(self) -> None:
        """Send what the other tasks left, for ever."""
        while True:
            wake_up = self._wake_up
            await self.flush()
            await wake_up.wait()

    async def flush(self) -> None:
        """Send everything that is there."""
        async with self._sending:
            while data := self._http2.data_to_send():
                await self._stream.send_all(data)

    def notify(self) -> None:
        """Say that there is something to send."""
        self._wake_up.set()
        self._wake_up = trio.Event()


class _ServerConnection:
    """HTTP/2 on a stream: one task reads, one writes, one runs each call. The protocol's state changes without awaiting."""

    def __init__(
        self, stream: trio.abc.Stream, methods: Mapping[str, Method], max_message: int, http2: Http2
    ) -> None:
        self._stream, self._methods = stream, methods
        self._max_message, self._http2 = max_message, http2
        self.output = _Output(stream, self._http2)
        self._going = False
        self._calls: dict[int, _ServedCall] = {}
        self._window = trio.Event()

    async def read(self, nursery: trio.Nursery) -> None:
        """Take events until the client leaves or breaks the protocol; calls run in ``nursery``."""
        while data := await self._stream.receive_some():
            try:
                events = self._http2.events_in(bytes(data))
            except frames.Http2Error:
                await self.output.flush()
                return
            for event in events:
                self._take(event, nursery)
            self._window.set()  # it may have grown
            self._window = trio.Event()
            self.output.notify()

    def _take(self, event: Event, nursery: trio.Nursery) -> None:
        match event:
            case HeadersCame():
                self._begin(event.stream, dict(event.fields))
            case DataCame():
                self._receive(event.stream, event.data)
            case StreamEnded() if event.stream in self._calls:
                nursery.start_soon(self._run, self._calls[event.stream], nursery.cancel_scope)
            case StreamReset() if event.stream in self._calls:
                self._calls.pop(event.stream).scope.cancel()
            case _:
                pass

    def _begin(self, stream_id: int, headers: dict[bytes, bytes]) -> None:
        if self._going:
            self._http2.streams.reset(stream_id, frames.ErrorCode.REFUSED_STREAM)
            return
        deadline = trio.current_time() + seconds_of(headers.get(b"grpc-timeout", b"").decode())
        path, scope = headers[b":path"].decode(), trio.CancelScope(deadline=deadline)
        self._calls[stream_id] = _ServedCall(stream_id, path, scope)

    def _receive(self, stream_id: int, data: bytes) -> None:
        call = self._calls.get(stream_id)
        if call is None:
            return
        call.size += len(data)
        call.received.append(data)
        if call.size > self._max_message + PREFIX_BYTES:
            self._fail(call, Status.RESOURCE_EXHAUSTED, "the message is larger than the limit")
            self._http2.streams.reset(stream_id, frames.ErrorCode.NO_ERROR)
            del self._calls[stream_id]

    async def _run(self, call: _ServedCall, connection: trio.CancelScope) -> None:
        try:
            with call.scope:
                await self._answer(call)
            if call.scope.cancelled_caught and call.stream_id in self._calls:
                self._fail(call, Status.DEADLINE_EXCEEDED, "the deadline of the call has passed")
        except GoAway:
            self._go_away(call)
        except CutConnection:
            connection.cancel()
        self._calls.pop(call.stream_id, None)
        self.output.notify()
        if self._going and not self._calls:
            await self.output.flush()
            connection.cancel()

    async def _answer(self, call: _ServedCall) -> None:
        try:
            method = self._methods.get(call.path, _unimplemented)
            reply = await method(call.message())
        except GrpcFailure as failure:
            if call.stream_id in self._calls:
                self._fail(call, failure.status, failure.message)
            return
        except Verbatim as answer:
            if call.stream_id in self._calls:
                await self._repeat(call, answer)
            return
        if call.stream_id not in self._calls:  # reset while the method came to its end
            return
        call.answering = True
        self._http2.send_headers(call.stream_id, _HEAD)
        await self._send(call.stream_id, b"\0" + len(reply).to_bytes(PREFIX_BYTES - 1) + reply)
        self._http2.send_headers(call.stream_id, _status(Status.OK, ""), end_stream=True)

    async def _repeat(self, call: _ServedCall, answer: Verbatim) -> None:
        call.answering = True
        self._http2.send_headers(call.stream_id, answer.head, end_stream=not (answer.data or answer.trailers))
        with suppress(frames.Http2Error):  # the client may have reset it at the first of it
            await self._send(call.stream_id, answer.data)
            if answer.trailers:
                self._http2.send_headers(call.stream_id, answer.trailers, end_stream=True)
            elif answer.data:
                self._http2.end_stream(call.stream_id)

    async def _send(self, stream_id: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = self._http2.room(stream_id)
            if room <= 0:
                await self._window.wait()
                continue
            self._http2.send_data(stream_id, bytes(view[:room]))
            view = view[room:]
            self.output.notify()

    def _fail(self, call: _ServedCall, status: Status, message: str) -> None:
        """End a call without a reply: trailers only, or only the trailers that were missing."""
        head = [] if call.answering else _HEAD
        self._http2.send_headers(call.stream_id, [*head, *_status(status, message)], end_stream=True)

    def _go_away(self, call: _ServedCall) -> None:
        self._http2.go_away(max(call.stream_id - 2, 0))
        self._going = True
        for unprocessed in [other for other in self._calls.values() if other.stream_id > call.stream_id]:
            unprocessed.scope.cancel()
            del self._calls[unprocessed.stream_id]


_HEAD = [(":status", "200"), ("content-type", "application/grpc")]


def _status(status: Status, message: str) -> list[tuple[str, str]]:
    """Make the trailers of a call."""
    text = [("grpc-message", quote(message, safe=PLAIN))] if message else []
    return [("grpc-status", str(status.value)), *text]


async def _unimplemented(_: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    raise GrpcFailure(Status.UNIMPLEMENTED)
