"""An HTTP/1.1 server on one stream: keep-alive, streamed answers, websockets. Never what is served.

Reading and writing plain requests with h11 takes most of the CPU of a bucket's answer. Everything that is not obviously plain (GET or HEAD
without a body, answered by bytes of a known length) is left to h11, so what is accepted and what is refused stays h11's decision.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs
import h11
import trio

from kmsconn.emulator.websocket import WebSocket, WebSocketClosed, accept_websocket

LARGEST: Final = 8 * 1024
"""Bytes of a head; h11 takes 16 KiB."""
_LINE: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [!-~](?:[ -~]*[!-~])?\r\n"
_HEAD: Final = re.compile(rb"(GET|HEAD) (/[!-~]*) HTTP/1\.1\r\n((?:" + _LINE + rb")+)\r\n")
_LEFT_TO_H11: Final = frozenset({"connection", "content-length", "expect", "transfer-encoding", "upgrade"})
_FRAMED: Final = frozenset({"connection", "content-length", "transfer-encoding"})
_WITH_A_BODY: Final = frozenset(range(200, 600)) - {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}

MAX_BODY = 64 * 1024 * 1024
CHUNK = 65_536
HANDSHAKE_SECONDS = 10.0
CLOSING_SECONDS = 0.5
MAX_MESSAGE = 16 * 1024 * 1024
_READ_AHEAD = 65_536  # what a client may pipeline while an answer is made; then it feels back-pressure

Headers = tuple[tuple[str, str], ...]
Send = Callable[[bytes], Awaitable[None]]
Body: TypeAlias = bytes | Callable[[Send], Awaitable[None]]
"""Bytes, or a function that sends the body piece by piece (chunked unless ``content-length`` is given)."""


class HangUp(Exception):  # noqa: N818 - an order, not an error
    """Raised by a handler or a body: close the connection without (the rest of) an answer."""


@attrs.frozen
class HttpRequest:
    """A whole request; header names are lower case."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")

    def header(self, name: str) -> str | None:
        """Return the first header of this name."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@attrs.frozen
class HttpResponse:
    """An answer. ``content-length`` is added for bytes; given by hand, it may lie."""

    status: int = 200
    headers: Headers = ()
    body: Body = attrs.field(default=b"", repr=False)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]
WebsocketHandler = Callable[[WebSocket], Awaitable[None]]


async def serve_http(
    stream: trio.abc.Stream,
    handler: Handler,
    *,
    websocket: WebsocketHandler | None = None,
    max_body: int = MAX_BODY,
) -> None:
    """Answer requests on one connection until either side ends it. A client that leaves cancels its handler.

    A request for a websocket is accepted when ``websocket`` is given, which then owns the connection.
    """
    wire = _HttpWire(stream)
    wanted = await _serve_requests(wire, handler, max_body, upgrades=websocket is not None)
    if websocket is not None and wanted is not None:
        await _serve_websocket(stream, _head_bytes(wanted) + wire.unread(), websocket)


async def _serve_requests(
    wire: _HttpWire, handler: Handler, max_body: int, *, upgrades: bool
) -> HttpRequest | None:
    """Answer requests to the end of the connection, or to one for a websocket where that is served: return it."""
    wanted: HttpRequest | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.read)
        with suppress(trio.BrokenResourceError):
            wanted = await _requests(wire, handler, max_body, upgrades=upgrades)
        nursery.cancel_scope.cancel()
    return wanted


async def _requests(
    wire: _HttpWire, handler: Handler, max_body: int, *, upgrades: bool
) -> HttpRequest | None:
    try:
        while (request := await wire.next_request(max_body)) is not None:
            if upgrades and _wants_websocket(request):
                return request
            if not (await _answer_while_connected(wire, handler, request) and wire.next_cycle()):
                return None
    except h11.RemoteProtocolError as error:
        await wire.refuse(error.error_status_hint)
    return None


async def _answer_while_connected(wire: _HttpWire, handler: Handler, request: HttpRequest) -> bool:
    """Answer, or give up when the client leaves; say whether the answer went out whole."""
    with wire.while_connected():
        return await _answer(wire, handler, request)
    return False


async def _answer(wire: _HttpWire, handler: Handler, request: HttpRequest) -> bool:
    try:
        await wire.respond(await handler(request), with_body=request.method != "HEAD")
    except (HangUp, trio.BrokenResourceError):
        return False
    return True


class _HttpWire:
    """h11 on a stream: one task reads, the other takes requests and answers.

    While all that comes and goes is plain (``_plain``), h11 has not heard of it; from the first that is not, it has the connection.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER)
        self._plain: bytes | None = b""  # what came and is not asked yet; None: h11 has it
        self._asked = b""  # the plain request that is being answered
        self._ahead, self._left = 0, False
        self._came, self._room = trio.Event(), trio.Event()
        self._answering = trio.CancelScope()

    async def read(self) -> None:
        """Read until the client leaves, only so far ahead while an answer is made; one that leaves is answered no further."""
        while not self._left:
            try:
                data = bytes(await self._stream.receive_some())
            except trio.BrokenResourceError:
                data = b""
            if self._plain is not None and data:
                self._plain += data
            else:
                self._leave_to_h11()
                self._h11.receive_data(data)
            self._ahead += len(data)
            self._left = not data
            self._came.set()
            while self._ahead >= _READ_AHEAD:
                self._room = trio.Event()
                await self._room.wait()
        self._answering.cancel()

    def _leave_to_h11(self) -> None:
        """Let h11 have this connection from now on, with what is being answered as asked already."""
        if self._plain is None:
            return
        waiting, self._plain = self._asked + self._plain, None
        if waiting:
            self._h11.receive_data(waiting)
        for _ in range(2 if self._asked else 0):
            self._h11.next_event()  # the request, and its end
        self._asked = b""

    def while_connected(self) -> trio.CancelScope:
        """Return a scope that ends when the client leaves. What is answered is not ahead any more, what came behind it is."""
        self._ahead = len(self.unread())
        self._room.set()
        self._answering = trio.CancelScope()
        if self._left:
            self._answering.cancel()
        return self._answering

    async def next_request(self, limit: int) -> HttpRequest | None:
        """Return the next request, or None at the end; one with a body longer than ``limit`` is refused and was the last."""
        plain = await self._next_plain()
        if plain is not None:
            return plain
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        body = await self._read_body(limit)
        if body is None:
            await self.refuse(413)
            return None
        return _request(head, body)

    async def _next_plain(self) -> HttpRequest | None:
        """Return the next request if it is plain; None where h11 has the connection."""
        while self._plain is not None:
            self._came = trio.Event()
            if (found := read_plain_request(self._plain)) is not None:
                request, size = found
                self._asked, self._plain = self._plain[:size], self._plain[size:]
                return request
            if self._plain:
                self._leave_to_h11()
                break
            self._ahead = 0
            self._room.set()
            await self._came.wait()
        return None

    async def _next_event(self) -> Any:
        while True:
            self._came = trio.Event()
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._h11.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._ahead = 0
            self._room.set()
            await self._came.wait()

    async def _read_body(self, limit: int) -> bytes | None:
        """Return the request's body, or None when it is longer than ``limit``."""
        pieces: list[bytes] = []
        room = limit
        while isinstance(event := await self._next_event(), h11.Data):
            pieces.append(bytes(event.data))
            room -= len(event.data)
            if room < 0:
                return None
        return b"".join(pieces)

    async def respond(self, response: HttpResponse, *, with_body: bool = True) -> None:
        """Send an answer. Raises HangUp when its body is shorter or longer than it says."""
        plain = _plain_answer(response, with_body=with_body) if self._asked else None
        if plain is not None:
            self._asked = b""
            for start in range(0, len(plain), CHUNK):
                await self._stream.send_all(plain[start : start + CHUNK])
            return
        self._leave_to_h11()
        await self._send(h11.Response(status_code=response.status, headers=_answer_headers(response)))
        try:
            if with_body:
                await self._send_body(response.body)
            await self._send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            raise HangUp from error

    async def _send_body(self, body: Body) -> None:
        if callable(body):
            await body(self._send_data)
            return
        for start in range(0, len(body), CHUNK):
            await self._send_data(body[start : start + CHUNK])

    async def _send_data(self, data: bytes) -> None:
        await self._send(h11.Data(data=data))

    async def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            await self._stream.send_all(data)

    async def refuse(self, status: int) -> None:
        """Say what was wrong with the request, if that can still be said; the connection ends."""
        if self._h11.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self.respond(HttpResponse(status, (("connection", "close"),)))

    def next_cycle(self) -> bool:
        """Get ready for the next request; say whether there can be one."""
        if self._plain is not None:
            return True
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    def unread(self) -> bytes:
        return self._h11.trailing_data[0] if self._plain is None else self._plain


def read_plain_request(data: bytes) -> tuple[HttpRequest, int] | None:
    """Return the plain request at the start, and its size; None where there is none, or not the whole of it."""
    found = _HEAD.match(data)
    if found is None or found.end() > LARGEST:
        return None
    fields = (line.partition(": ") for line in found[3].decode("ascii").splitlines())
    headers = tuple((name.lower(), value) for name, _, value in fields)
    names = [name for name, _ in headers]
    if names.count("host") != 1 or not _LEFT_TO_H11.isdisjoint(names):
        return None
    return HttpRequest(found[1].decode("ascii"), found[2].decode("ascii"), headers), found.end()


def write_plain_answer(status: int, headers: Iterable[tuple[str, str]], length: int) -> bytes | None:
    """Return the head of an answer with a body of this length; None where it is not plain."""
    if status not in _WITH_A_BODY:
        return None
    lines = [f"HTTP/1.1 {status} \r\n"]
    for name, value in headers:
        if name.lower() in _FRAMED or not (_is_plain(name) and _is_plain(value)):
            return None
        lines.append(f"{name}: {value}\r\n")
    lines.append(f"content-length: {length}\r\n\r\n")
    return "".join(lines).encode("ascii")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip() != ""


def _plain_answer(response: HttpResponse, *, with_body: bool) -> bytes | None:
    """Return an answer to a plain request as bytes; None where it is not plain."""
    if callable(response.body):
        return None
    head = write_plain_answer(response.status, response.headers, len(response.body))
    return head if head is None or not with_body else head + response.body


def _request(head: h11.Request, body: bytes) -> HttpRequest:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
    return HttpRequest(head.method.decode(), head.target.decode("latin-1"), headers, body)


def _answer_headers(response: HttpResponse) -> list[tuple[str, str]]:
    headers = list(response.headers)
    named = {name.lower() for name, _ in headers}
    if not callable(response.body) and not named & {"content-length", "transfer-encoding"}:
        headers.append(("content-length", str(len(response.body))))
    return headers


def _wants_websocket(request: HttpRequest) -> bool:
    return request.method == "GET" and (request.header("upgrade") or "").lower() == "websocket"


def _head_bytes(request: HttpRequest) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
    return f"{request.method} {request.target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1")


async def _serve_websocket(stream: trio.abc.Stream, begun: bytes, websocket: WebsocketHandler) -> None:
    connection: WebSocket | None = None
    with trio.move_on_after(HANDSHAKE_SECONDS), suppress(trio.BrokenResourceError):
        connection = await accept_websocket(stream, MAX_MESSAGE, begun)
    if connection is None:
        return
    try:
        await websocket(connection)
    except WebSocketClosed:
        return
    finally:
        # Short: in a cancelled server nobody reads the peer's part of the closing any more.
        with trio.move_on_after(CLOSING_SECONDS, shield=True):
            await connection.aclose()
