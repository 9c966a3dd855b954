"""HTTP/1.1 requests over connections that are kept: how they are opened is the ``Way``'s, what the bytes mean ``http11``'s.

At most ``limit`` connections to each origin: a server that hangs holds up nobody but who asks it. Deadlines are the caller's
scopes. Follows a redirect to another origin only where a judge of URLs allows it, and without credentials; never shows or logs more of
a URL than ``urls.show`` does.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urljoin

import attrs
import h11
import trio

from kmsconn.errors import Misconfigured, Overloaded, Unreachable
from kmsconn.transport.http11 import HttpError, HttpExchange, HttpHead, NoAnswer, make_request
from kmsconn.transport.ports import Ports
from kmsconn.transport.proxies import Proxy
from kmsconn.transport.proxying import Way, way_of
from kmsconn.transport.urls import Url, parse, show, show_origin, without_user_info

CONNECTIONS = 8  # to one origin
MAX_BODY = 64 * 1024 * 1024
IDLE_SECONDS = (
    30.0  # below the idle time after which common servers and address translators forget a connection
)
REDIRECTS = 3  # followed, not counting the first request
IDLE = 64  # kept connections in all: redirects may lead to ever more origins
RECEIVE = (
    64 * 1024
)  # bytes at once; more gained nothing for 1 MiB on loopback (bench/http_gets.py), 512 KiB lost
_HARMLESS_TWICE = frozenset({"GET", "HEAD"})
_REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
Judge = Callable[[str], None]
"""Raises Misconfigured for a URL that must not be asked."""

_DEFAULT_HEADERS = {"User-Agent": "kmsconn", "Accept": "*/*", "Accept-Encoding": "identity"}

FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    HttpError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    OSError,
)


def _unreachable(shown: str, error: Exception) -> Unreachable:
    return Unreachable(f"{shown}: {type(error).__name__} {error}".rstrip())


def status_error(status: int, shown: str) -> Unreachable | Overloaded | None:
    """Return what a status means for a caller that wanted an answer: 429 and 503 ask for less, other 5xx are no answer."""
    if status in {429, 503}:
        return Overloaded(f"{shown}: HTTP {status}")
    return Unreachable(f"{shown}: HTTP {status}") if status >= 500 else None  # noqa: PLR2004 - RFC 9110, 15.6


@attrs.frozen
class Response:
    """A whole answer. Header names are in lower case; of repeated ones the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")


class Download:
    """An answer whose body is still on its way: iterate over it for the chunks, as they come.

    Iterating raises Unreachable when the connection breaks, when the body ends early and when it is larger than the cap.
    """

    def __init__(self, answer: _Answer, max_bytes: int) -> None:
        self.status, self.headers = answer.head.status, answer.head.headers
        self._answer, self._max, self._taken = answer, max_bytes, 0
        self.announced = _announced(self.headers)
        """How many bytes the body will have, if the server said so."""
        if self.announced is not None and self.announced > max_bytes:
            raise self._too_large()

    def _too_large(self) -> Unreachable:
        return Unreachable(f"{self._answer.request.shown}: the body is larger than {self._max} bytes")

    def __aiter__(self) -> Download:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.next_piece()
        except FOREIGN_ERRORS as error:
            raise _unreachable(self._answer.request.shown, error) from error
        if not chunk:
            raise StopAsyncIteration
        self._taken += len(chunk)
        if self._taken > self._max:
            raise self._too_large()
        return chunk

    async def read(self) -> bytes:
        """Return what is left of the body."""
        body = io.BytesIO()  # a list of pieces as a peer sent them may be much larger than they are
        async for chunk in self:
            body.write(chunk)
        return body.getvalue()


def _announced(headers: Mapping[str, str]) -> int | None:
    digits = headers.get("content-length", "").lstrip("0") or "0"
    known = "content-length" in headers and digits.isascii() and digits.isdigit()
    return int(digits[:20]) if known else None  # twenty digits are more than any cap


class HttpClient:
    """Requests over a bounded number of connections to each origin, which are kept for the next one."""

    def __init__(self, way: Way, limit: int, judge: Judge | None = None) -> None:
        self._limit, self._judge, self._connections = limit, judge, _Connections(way)
        self._places: dict[str, trio.Semaphore] = {}

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str] | None = None, *, max_bytes: int = MAX_BODY
    ) -> Response:
        """Send a body and return the whole answer, whatever its status; redirects are not followed.

        Raises Unreachable when there is no whole answer or its body is larger than ``max_bytes``.
        Cancellation: closes the connection; the server may have acted. Repeating: the caller's question.
        """
        request = self._request("POST", url, headers, body)
        async with self._place(request), await self._connections.begin(request) as answer:
            download = Download(answer, max_bytes)
            return Response(download.status, download.headers, await download.read())

    async def head(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return status and headers, whatever the status; redirects are followed as by ``stream_get``.

        Raises Unreachable when there is no answer. Cancellation: closes the connection. Repeating: harmless, and done once
        when a kept connection turns out to be dead.
        """
        async with self._followed(self._request("HEAD", url, headers)) as answer:
            return Response(answer.head.status, answer.head.headers, b"")

    @asynccontextmanager
    async def stream_get(
        self,
        url: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        begun: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Download]:
        """Ask for a URL and give the answer, whatever its status, with its body to be iterated over.

        Up to ``REDIRECTS`` redirects are followed: within the origin always, to another one where the client's judge allows it, without
        ``headers`` and without a user name or password; where there is no judge it is given as it is. Holds one of the origin's
        connections until it is left; a body not read to its end costs that connection. ``begun`` is called each time it is this request's
        turn.

        Raises Unreachable when there is no answer, when its body is announced to be larger than ``max_bytes``, and when a redirect leads
        where nobody may be asked. Cancellation: closes the connection. Repeating: harmless, and done once when a kept connection turns
        out to be dead.
        """
        async with self._followed(self._request("GET", url, headers), begun) as answer:
            yield Download(answer, max_bytes)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None = None
    ) -> _Request:
        return _request(method, url, headers, body, self._connections.way)

    @asynccontextmanager
    async def _place(self, request: _Request) -> AsyncIterator[None]:
        """Hold one of an origin's connections; an origin that nobody asks any more is forgotten."""
        place = self._places.setdefault(request.origin, trio.Semaphore(self._limit))
        try:
            async with place:
                yield
        finally:
            if place.value == self._limit and not place.statistics().tasks_waiting:
                self._places.pop(request.origin, None)

    @asynccontextmanager
    async def _followed(
        self, request: _Request, begun: Callable[[], None] = lambda: None
    ) -> AsyncIterator[_Answer]:
        for _ in range(REDIRECTS + 1):
            async with self._place(request):
                begun()
                async with await self._connections.begin(request) as answer:
                    onward = self._onward(request, answer.head)
                    if onward is None:
                        yield answer
                        return
            request = onward
        raise Unreachable(f"{request.shown}: more than {REDIRECTS} redirects")

    def _onward(self, request: _Request, head: HttpHead) -> _Request | None:
        """Return the request that a redirect asks for; None where the answer is none, or leads elsewhere and nobody judges that."""
        target = _redirect(request, head)
        if target is None:
            return None
        if parse(target).origin == request.origin:
            return self._request(request.method, target, request.headers)
        if self._judge is None:
            return None
        try:
            self._judge(target)
        except Misconfigured as error:
            raise Unreachable(f"{request.shown} redirects to a forbidden address: {error}") from error
        return self._request(request.method, without_user_info(target), None)

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._connections.aclose()


@attrs.frozen
class _Request:
    """What to send, and where."""

    method: str
    text: str = attrs.field(repr=False)  # the whole URL
    url: Url
    origin: str
    headers: Mapping[str, str] | None = attrs.field(repr=False)
    head: h11.Request = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    forwarder: Proxy | None = None
    """The proxy that takes it in absolute form, if one does."""

    @property
    def shown(self) -> str:
        """The URL as errors may have it. What is posted to are RPC providers, whose paths are keys too."""
        return self.origin if self.method == "POST" else show(self.text)


def _request(
    method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None, way: Way
) -> _Request:
    try:
        parsed = _http_url(url)
        forwarder = way.forwarder(parsed)
        fields = _fields(parsed, headers, body, forwarder)
        target = parsed.request_target if forwarder is None else parsed.origin + parsed.request_target
        head = make_request(method, target, fields.items())
        return _Request(method, url, parsed, parsed.origin, headers, head, body or b"", forwarder)
    except ValueError as error:
        shown = show_origin(url) if method == "POST" else show(url)
        raise Unreachable(f"{shown}: {error}") from None


def _http_url(url: str) -> Url:
    parsed = parse(url)
    if parsed.scheme not in {"http", "https"}:
        raise ValueError("not an http or https URL")
    return parsed


def _fields(
    url: Url, headers: Mapping[str, str] | None, body: bytes | None, forwarder: Proxy | None
) -> dict[str, str]:
    authorization = {"Authorization": url.authorization} if url.authorization else {}
    length = {} if body is None else {"Content-Length": str(len(body))}
    to_proxy = forwarder.headers if forwarder else {}
    return {
        "Host": url.authority,
        **_DEFAULT_HEADERS,
        **authorization,
        **(headers or {}),
        **to_proxy,
        **length,
    }


def _redirect(request: _Request, head: HttpHead) -> str | None:
    """Return the URL that an answer redirects to; None where it does not, or not to a URL."""
    location = head.headers.get("location")
    if head.status not in _REDIRECT_STATUS or not location:
        return None
    try:
        target = urljoin(request.text, location)
        parse(target)
    except ValueError:
        return None
    return target


# Connections: one request on each at a time, then kept until it is old.


class _HttpConnection:
    """One stream, and when it was last used."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream, self._socket = stream, _socket_of(stream)
        self.used = trio.current_time()

    async def send(self, data: bytes) -> bool:
        """Send, and say whether that went well; if not, there may be an answer all the same."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, OSError):
            return False
        return True

    async def feed(self, exchange: HttpExchange) -> bytes:
        """Let the exchange have what comes next, and return the body's bytes in it."""
        try:
            data = await self._stream.receive_some(RECEIVE)
        except (trio.BrokenResourceError, OSError) as error:
            if not exchange.begun:
                raise NoAnswer(str(error)) from error
            raise
        if not data:
            exchange.receive_end()
        return exchange.receive(bytes(data))

    @property
    def old(self) -> bool:
        """Whether it was idle for so long that the peer may have forgotten it."""
        return trio.current_time() - self.used > IDLE_SECONDS

    @property
    def disturbed(self) -> bool:
        """Whether something came that nobody asked for, such as the end."""
        return self._socket is not None and self._socket.is_readable()

    async def aclose(self) -> None:
        """Close without waiting for the peer."""
        with trio.move_on_after(1, shield=True):
            await trio.aclose_forcefully(self._stream)


def _socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream) else None


class _Answer(trio.abc.AsyncResource):
    """An answer whose head is there, and the connection that it came over until it is closed."""

    def __init__(
        self,
        request: _Request,
        connection: _HttpConnection,
        exchange: HttpExchange,
        head: HttpHead,
        piece: bytes,
        *,
        sent: bool,
        keep: Callable[[_HttpConnection], None],
    ) -> None:
        self.request, self.head = request, head
        self._connection, self._exchange, self._piece = connection, exchange, piece
        self._sent, self._keep = sent, keep

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request: all of this one went over it, and the answer came whole."""
        return self._sent and self._exchange.reusable

    async def next_piece(self) -> bytes:
        """Return the next bytes of the body, or none at its end."""
        piece, self._piece = self._piece, b""
        while not piece and not self._exchange.done:
            piece = await self._connection.feed(self._exchange)
        return piece

    async def aclose(self) -> None:
        """Let the connection be kept if it can be; else close it, without waiting for the peer."""
        if self.reusable:
            self._keep(self._connection)
        else:
            await self._connection.aclose()


class _Connections:
    """The idle connections to each origin, the one used last at the end."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self._idle: dict[str, list[_HttpConnection]] = {}

    async def begin(self, request: _Request) -> _Answer:
        """Send a request and return its answer, which must be closed."""
        try:
            return await self._ask_again(request) or await self._ask(await self._dialled(request), request)
        except FOREIGN_ERRORS as error:
            raise _unreachable(request.shown, error) from error

    async def _ask_again(self, request: _Request) -> _Answer | None:
        """Ask on a connection that is kept. None when there is none, or when it was dead and asking twice does no harm."""
        await self._drop_idle()
        kept = await self._kept(request.origin)
        if kept is None:
            return None
        try:
            return await self._ask(kept, request)
        except NoAnswer:
            if request.method not in _HARMLESS_TWICE:
                raise
        return None

    async def _drop_idle(self) -> None:
        """Close what was idle for too long, to whatever origin, and the oldest of what is more than IDLE."""
        while (found := self._oldest()) and (found[1][0].old or sum(map(len, self._idle.values())) > IDLE):
            origin, idle = found
            connection = idle.pop(0)
            if not idle:
                del self._idle[origin]
            await connection.aclose()

    def _oldest(self) -> tuple[str, list[_HttpConnection]] | None:
        return min(self._idle.items(), key=lambda item: item[1][0].used, default=None)

    async def _kept(self, origin: str) -> _HttpConnection | None:
        while idle := self._idle.get(origin):
            connection = idle.pop()
            if not idle:
                del self._idle[origin]
            if not connection.disturbed:
                return connection
            await connection.aclose()
        return None

    async def _dialled(self, request: _Request) -> _HttpConnection:
        if request.forwarder is not None:
            return _HttpConnection(await self.way.to(request.forwarder))
        url = request.url
        return _HttpConnection(await self.way(url.host, url.port, tls=url.tls))

    async def _ask(self, connection: _HttpConnection, request: _Request) -> _Answer:
        exchange = HttpExchange(request.head, request.body)
        try:
            sent = await connection.send(exchange.request)
            piece: bytes = b""
            while exchange.head is None:
                piece = await connection.feed(exchange)
            keep = partial(self._keep, request.origin)
            return _Answer(request, connection, exchange, exchange.head, piece, sent=sent, keep=keep)
        except BaseException:
            await connection.aclose()  # noqa: ASYNC102 - shields itself, with a deadline
            raise

    def _keep(self, origin: str, connection: _HttpConnection) -> None:
        connection.used = trio.current_time()
        self._idle.setdefault(origin, []).append(connection)

    async def aclose(self) -> None:
        """Close all that are idle."""
        for idle in self._idle.values():
            while idle:
                await idle.pop().aclose()


@asynccontextmanager
async def open_http(
    ports: Ports, limit: int = CONNECTIONS, *, way: Way | None = None, judge: Judge | None = None
) -> AsyncIterator[HttpClient]:
    """Open a client with at most ``limit`` connections to each origin; leaving closes them.

    ``way`` opens connections otherwise than ``ports`` do; ``judge`` says to which URLs of other origins a redirect may lead.
    """
    client = HttpClient(way or way_of(ports), limit, judge)
    try:
        yield client
    finally:
        await client.aclose()  # noqa: ASYNC102 - shields itself, with a deadline
