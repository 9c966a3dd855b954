"""An HTTP/1.1 server on one stream: keep-alive, streamed answers, websockets. Never what is served.

It takes what RFC 9112 calls well-formed, with a body of a named length or none; every other request is refused, and was the last.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, TypeAlias

import attrs
import trio

from kmsconn.emulator.websocket import WebSocket, WebSocketClosed, accept_websocket

LARGEST: Final = 16 * 1024
"""Bytes of a head."""
_END: Final = b"\r\n\r\n"
_LINE: Final = (
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[ \t]*(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?[ \t]*\r\n"
)
_HEAD: Final = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.1\r\n((?:" + _LINE + rb")*)\r\n")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

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

    @property
    def closes(self) -> bool:
        """Whether it is to be the last one of its connection."""
        return "close" in (self.header("connection") or "").lower()


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
    wanted: HttpRequest | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.read)
        with suppress(trio.BrokenResourceError):
            wanted = await _serve_requests(wire, handler, max_body, upgrades=websocket is not None)
        nursery.cancel_scope.cancel()
    if websocket is not None and wanted is not None:
        await _serve_websocket(stream, _head_bytes(wanted) + bytes(wire.unread), websocket)


async def _serve_requests(
    wire: _HttpWire, handler: Handler, max_body: int, *, upgrades: bool
) -> HttpRequest | None:
    """Answer requests to the end of the connection, or to one for a websocket where that is served: return it."""
    try:
        while True:
            request = await wire.next_request(max_body)
            wanted = (request.header("upgrade") or "").lower()
            if upgrades and request.method == "GET" and wanted == "websocket":
                return request
            if not await _answer_while_connected(wire, handler, request) or request.closes:
                return None
    except _BadRequest as refusal:
        await wire.respond(HttpResponse(refusal.status), closes=True)
    return None


async def _answer_while_connected(wire: _HttpWire, handler: Handler, request: HttpRequest) -> bool:
    """Answer, or give up when the client leaves; say whether the answer went out whole."""
    with wire.while_connected():
        try:
            response = await handler(request)
            await wire.respond(response, with_body=request.method != "HEAD", closes=request.closes)
        except (HangUp, trio.BrokenResourceError):
            return False
        return True
    return False


class _BadRequest(Exception):  # noqa: N818 - what is answered
    """The request is refused with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _HttpWire:
    """Requests from a stream and answers to it: one task reads, the other takes requests and answers."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.unread = bytearray()
        self._stream = stream
        self._ahead, self._left = 0, False
        self._came, self._room = trio.Event(), trio.Event()
        self._answering = trio.CancelScope()

    async def read(self) -> None:
        """Read until the client leaves, only so far ahead while an answer is made; one that leaves is answered no further."""
        while not self._left:
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            self.unread += data
            self._ahead += len(data)
            self._left = not data
            self._came.set()
            while self._ahead >= _READ_AHEAD:
                self._room = trio.Event()
                await self._room.wait()
        self._answering.cancel()

    def while_connected(self) -> trio.CancelScope:
        """Return a scope that ends when the client leaves. What is answered is not ahead any more, what came behind it is."""
        self._ahead = len(self.unread)
        self._room.set()
        self._answering = trio.CancelScope()
        if self._left:
            self._answering.cancel()
        return self._answering

    async def next_request(self, limit: int) -> HttpRequest:
        """Return the next request. Raises _BadRequest, for a body longer than ``limit`` too, and BrokenResourceError at the end."""
        while (size := self.unread.find(_END, 0, LARGEST)) < 0:
            if len(self.unread) >= LARGEST or not (self.unread[:1] or b"A").isalpha():
                raise _BadRequest(400)
            await self._more()
        request = _read_head(self._take(size + len(_END)))
        length = _length_of(request)
        if length > limit:
            raise _BadRequest(413)
        while len(self.unread) < length:
            await self._more()
        return attrs.evolve(request, body=self._take(length)) if length else request

    async def _more(self) -> None:
        """Wait for what comes next. Raises BrokenResourceError where the client has left."""
        if self._left:
            raise trio.BrokenResourceError
        self._came, self._ahead = trio.Event(), 0
        self._room.set()
        await self._came.wait()

    def _take(self, size: int) -> bytes:
        taken = bytes(self.unread[:size])
        del self.unread[:size]
        return taken

    async def respond(self, response: HttpResponse, *, with_body: bool = True, closes: bool = False) -> None:
        """Send an answer. Raises HangUp when its body is shorter or longer than it says."""
        body = response.body
        length = next((value for name, value in response.headers if name.lower() == "content-length"), None)
        whole = b"" if callable(body) or length or not with_body else body
        await self._stream.send_all(_head_of(response, framed=length is not None, closes=closes) + whole)
        if with_body and length is not None:
            await self._send_exactly(int(length), body)
        elif with_body and callable(body):
            await body(self._send_chunk)
            await self._stream.send_all(b"0\r\n\r\n")

    async def _send_chunk(self, data: bytes) -> None:
        if data:
            await self._stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))

    async def _send_exactly(self, left: int, body: Body) -> None:
        async def send(data: bytes) -> None:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise HangUp
            await self._stream.send_all(data)

        await (body(send) if callable(body) else send(body))
        if left:
            raise HangUp


def _read_head(head: bytes) -> HttpRequest:
    """Read a request without its body. Raises _BadRequest."""
    found = _HEAD.fullmatch(head)
    if found is None:
        raise _BadRequest(400)
    method, target, lines = (part.decode("latin-1") for part in found.groups())
    fields = (line.partition(":") for line in lines.split("\r\n")[:-1])
    headers = tuple((name.lower(), value.strip()) for name, _, value in fields)
    if [name for name, _ in headers].count("host") != 1:
        raise _BadRequest(400)
    return HttpRequest(method, target, headers)


def _length_of(request: HttpRequest) -> int:
    """Return the length of a request's body. Raises _BadRequest for one that is not said in one number."""
    lengths = [value for name, value in request.headers if name == "content-length"] or ["0"]
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]) or request.header("transfer-encoding"):
        raise _BadRequest(400)
    return int(lengths[0])


def _head_of(response: HttpResponse, *, framed: bool, closes: bool) -> bytes:
    """Return the head of an answer; ``framed``: its headers name the length of its body."""
    headers = list(response.headers)
    if not framed and response.status not in _BODILESS:
        body = response.body
        length = ("transfer-encoding", "chunked") if callable(body) else ("content-length", str(len(body)))
        headers.append(length)
    if closes:
        headers.append(("connection", "close"))
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {response.status} \r\n{fields}\r\n".encode("latin-1")


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
