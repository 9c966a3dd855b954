"""HTTP/1.1 requests over connections that are kept. ``Way`` opens them; ``http11`` reads and writes their bytes.

At most ``limit`` connections to each origin: a server that hangs holds up nobody but who asks it. Deadlines are the caller's
scopes. Follows a redirect to another origin only where a judge of URLs allows it, and without credentials; never shows or logs more of
a URL than ``urls.show`` does.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from urllib.parse import urljoin

import attrs
import trio

from kmsconn.errors import Misconfigured, Overloaded, Unreachable
from kmsconn.frozen import frozen
from kmsconn.transport.dialling import LeanStream, Way, way_of
from kmsconn.transport.http11 import (
    REMEMBERED_FIELDS,
    HttpAnswer,
    HttpError,
    HttpExchange,
    HttpHead,
    NoAnswer,
    RequestHead,
    make_request,
)
from kmsconn.transport.ports import Ports
from kmsconn.transport.proxies import Proxy
from kmsconn.transport.urls import Url, parse, show, show_origin, without_user_info
from kmsconn.transport.wrong_peers import words_of

CONNECTIONS = 8  # to one origin
MAX_BODY = 64 * 1024 * 1024
IDLE_SECONDS = (
    30.0  # below the idle time after which common servers and address translators forget a connection
)
REDIRECTS = 3  # followed, not counting the first request
IDLE = 256  # kept connections in all: redirects may lead to ever more origins
RECEIVE = (
    64 * 1024
)  # bytes at once; more gained nothing for 1 MiB on loopback (bench/http_gets.py), 512 KiB lost
_HARMLESS_TWICE = frozenset({"GET", "HEAD"})
_REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
Judge = Callable[[str], None]
"""Raises Misconfigured for a URL that must not be asked."""

RequestHeaders = tuple[tuple[str, str], ...]
_DEFAULT_HEADERS = {"User-Agent": "kmsconn", "Accept": "*/*", "Accept-Encoding": "identity"}

FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    HttpError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    OSError,
)


def _unreachable(shown: str, error: Exception) -> Unreachable:
    return Unreachable(f"{shown}: {type(error).__name__} {words_of(error)}".rstrip())


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


class Download(trio.abc.AsyncResource):
    """An answer whose head is there; iterate over it for the body's chunks, as they come. Holds its connection until it is closed.

    Iterating raises Unreachable when the connection breaks, when the body ends early and when it is larger than the cap.
    """

    def __init__(
        self,
        request: _Request,
        connection: _HttpConnection,
        answer: HttpAnswer,
        head: HttpHead,
        piece: bytes,
    ) -> None:
        self.status, self.headers = head.status, head.headers
        self.announced = answer.announced
        self._request, self._connection, self._answer, self._piece = request, connection, answer, piece
        self._max, self._taken = MAX_BODY, 0
        self.leave: Callable[[_HttpConnection | None], None] = lambda _kept: None
        """Gives the place back that the answer holds, with the connection if another request may have it."""

    @property
    def whole(self) -> bytes:
        """The body, where it was announced and has come with the head; else nothing."""
        return self._piece if len(self._piece) == self.announced else b""

    def cap(self, max_bytes: int) -> None:
        """Take no more than so many bytes. Raises Unreachable when more are announced."""
        self._max = max_bytes
        if self.announced is not None and self.announced > max_bytes:
            raise self._too_large()

    def _too_large(self) -> Unreachable:
        return Unreachable(f"{self._request.shown}: the body is larger than {self._max} bytes")

    def __aiter__(self) -> Download:
        return self

    async def __anext__(self) -> bytes:
        chunk, self._piece = self._piece, b""
        try:
            while not chunk and not self._answer.done:
                chunk = await self._connection.feed(self._answer)
        except FOREIGN_ERRORS as error:
            raise _unreachable(self._request.shown, error) from error
        if not chunk:
            raise StopAsyncIteration
        self._taken += len(chunk)
        if self._taken > self._max:
            raise self._too_large()
        return chunk

    async def read(self) -> bytes:
        """Return what is left of the body."""
        with io.BytesIO() as body:  # a list of pieces as a peer sent them may be much larger than they are
            async for chunk in self:
                body.write(chunk)
            return body.getvalue()

    async def aclose(self) -> None:
        """Give the connection back if it can carry another request; else close it, without waiting for the peer."""
        kept = self._connection if self._answer.reusable and self._connection.sound else None
        try:
            if kept is None:
                await self._connection.aclose()
        finally:
            self.leave(kept)


class HttpClient:
    """Requests over a bounded number of connections to each origin, which are kept for the next one."""

    def __init__(self, way: Way, limit: int, judge: Judge | None = None) -> None:
        self._way, self._limit, self._judge = way, limit, judge
        self._proxied = way.ports.proxies.plain is not None
        self._places: defaultdict[str, trio.Semaphore] = defaultdict(lambda: trio.Semaphore(limit))
        self._idle: dict[_HttpConnection, None] = {}
        """The idle connections, to whatever origin, the one used last at the end."""

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str] | None = None, *, max_bytes: int = MAX_BODY
    ) -> Response:
        """Send a body and return the whole answer, whatever its status; redirects are not followed.

        Raises Unreachable when there is no whole answer or its body is larger than ``max_bytes``.
        Cancellation: closes the connection; the server may have acted. Repeating: the caller's question.
        """
        request = self._request("POST", url, headers, body)
        async with await self._begin(request) as answer:
            answer.cap(max_bytes)
            return Response(answer.status, answer.headers, await answer.read())

    async def head(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return status and headers, whatever the status; redirects are followed as by ``stream_get``.

        Raises Unreachable when there is no answer. Cancellation: closes the connection. Repeating: harmless, and done once
        when a kept connection turns out to be dead.
        """
        async with await self.stream_get(url, headers=headers, method="HEAD") as answer:
            return Response(answer.status, answer.headers, b"")

    async def stream_get(
        self,
        url: str,
        *,
        max_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
        begun: Callable[[], None] = lambda: None,
        method: str = "GET",
        asked: Asked | None = None,
    ) -> Download:
        """Ask for a URL and return the answer, whatever its status, with its body to be iterated over; with ``method`` HEAD it has none.

        Up to ``REDIRECTS`` redirects are followed: within the origin always, to another one where the client's judge allows it, without
        ``headers`` and without a user name or password; where there is no judge it is given as it is. Holds one of the origin's
        connections until it is closed; a body not read to its end costs that connection. ``begun`` is called each time it is this request's
        turn. ``asked``: what was sent ahead for it.

        Raises Unreachable when there is no answer, when its body is announced to be larger than ``max_bytes``, and when a redirect leads
        where nobody may be asked. Cancellation: closes the connection. Repeating: harmless, and done once when a kept connection turns
        out to be dead.
        """
        request = self._request(method, url, headers) if asked is None else asked.request
        for _ in range(REDIRECTS + 1):
            answer = await self._begin(request, begun, asked)
            try:
                onward = self._onward(request, answer) if answer.status in _REDIRECT_STATUS else None
                if onward is None:
                    if max_bytes is not None:
                        answer.cap(max_bytes)
                    return answer
            except Unreachable:
                await answer.aclose()
                raise
            await answer.aclose()
            request, asked = onward, None
        raise Unreachable(f"{request.shown}: more than {REDIRECTS} redirects")

    def _request(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None = None
    ) -> _Request:
        try:
            parsed = parse(url)
            forwarder = self._way.forwarder(parsed) if self._proxied else None
            given = tuple(headers.items()) if headers else ()
            length = None if body is None else len(body)
            server = parsed.scheme, parsed.authority, parsed.authorization
            fields = _fields(server, given, length, forwarder)
            target = parsed.target if forwarder is None else parsed.origin + parsed.target
            head = make_request(method, target, fields)
            return _Request(method, url, parsed, parsed.origin, headers, head, body or b"", forwarder)
        except ValueError as error:
            shown = show_origin(url) if method == "POST" else show(url)
            raise Unreachable(f"{shown}: {error}") from None

    async def ask_ahead(self, url: str) -> Asked | None:
        """Send a GET over a kept connection; None where there is none to be had at once.

        ``stream_get`` takes it. Whoever has it closes it in any case. Raises Unreachable for a URL that cannot be asked, Overloaded where
        a place must be waited for.
        Cancellation: closes the connection. Repeating: harmless.
        """
        request = self._request("GET", url, None)
        place = self._places[request.origin]
        if not place.value:
            raise Overloaded(f"{show(url)}: every connection is in use")
        place.acquire_nowait()
        leave = partial(self._leave, request.origin, place)
        try:
            if (connection := await self._kept(request.origin)) is not None:
                await connection.send(request)
                return Asked(request, leave, connection)
        except BaseException:
            leave(None)
            raise
        leave(None)
        return None

    async def _begin(
        self, request: _Request, begun: Callable[[], None] = lambda: None, asked: Asked | None = None
    ) -> Download:
        """Ask once it is this request's turn; its answer holds one of the origin's places until it is closed.

        A kept connection that was dead is replaced by a new one, where asking twice does no harm.
        """
        answer = kept = None
        if asked is not None:
            leave, kept, asked.connection = asked.leave, asked.connection, None
        else:
            place = self._places[request.origin]
            if place.value:
                place.acquire_nowait()  # the request that follows waits anyway
            else:
                await place.acquire()
            leave = partial(self._leave, request.origin, place)
        try:
            begun()
            if kept is None:
                kept = await self._kept(request.origin)
            if kept is not None:
                try:
                    answer = await kept.ask(request)
                except NoAnswer:
                    if request.method not in _HARMLESS_TWICE:
                        raise
            answer = answer or await (await self._dialled(request)).ask(request)
        except FOREIGN_ERRORS as error:
            leave(None)
            raise _unreachable(request.shown, error) from error
        except BaseException:
            leave(None)
            raise
        answer.leave = leave
        return answer

    def _leave(self, origin: str, place: trio.Semaphore, kept: _HttpConnection | None) -> None:
        """Give a place back, and a connection that is kept; an origin that nobody asks any more is forgotten."""
        if kept is not None:
            kept.used = trio.current_time()
            self._idle[kept] = None
        place.release()
        if place.value == self._limit:
            self._places.pop(origin, None)

    def _onward(self, request: _Request, answer: Download) -> _Request | None:
        """Return the request that a redirect asks for; None where it says no URL, or leads elsewhere and nobody judges that."""
        if not (location := answer.headers.get("location")):
            return None
        try:
            target = urljoin(request.text, location)
            origin = parse(target).origin
        except ValueError:
            return None
        if origin == request.origin:
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
        while self._idle:
            await self._idle.popitem()[0].aclose()

    async def _kept(self, origin: str) -> _HttpConnection | None:
        """Take the connection to an origin that was used last, if there is one.

        Close what was idle for too long, to whatever origin, and the oldest of what is more than IDLE.
        """
        while self._idle:
            oldest = next(iter(self._idle))
            if len(self._idle) <= IDLE and trio.current_time() - oldest.used <= IDLE_SECONDS:
                break
            del self._idle[oldest]
            await oldest.aclose()
        while True:
            for found in reversed(self._idle):
                if found.origin == origin:
                    break
            else:
                return None
            del self._idle[found]
            if not found.disturbed():
                return found
            await found.aclose()

    async def _dialled(self, request: _Request) -> _HttpConnection:
        if request.forwarder is not None:
            stream = await self._way.to(request.forwarder)
        else:
            url = request.url
            stream = await self._way(url.host, url.port, tls=url.tls)
        return _HttpConnection(stream, request.origin)


@frozen
class _Request:
    """What to send, and where."""

    method: str
    text: str = attrs.field(repr=False)  # the whole URL
    url: Url
    origin: str
    headers: Mapping[str, str] | None = attrs.field(repr=False)
    head: RequestHead = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    forwarder: Proxy | None = None
    """The proxy that takes it in absolute form, if one does."""

    @property
    def shown(self) -> str:
        """The URL as errors may have it. What is posted to are RPC providers, whose paths are keys too."""
        return self.origin if self.method == "POST" else show(self.text)


@lru_cache(REMEMBERED_FIELDS)
def _fields(
    server: tuple[str, str, str | None], headers: RequestHeaders, length: int | None, proxy: Proxy | None
) -> RequestHeaders:
    """Return the fields of a request to a scheme, host and port, with their ``Authorization``: most requests have the same.

    Raises ValueError for another scheme.
    """
    scheme, authority, authorization = server
    if scheme not in {"http", "https"}:
        raise ValueError("not an http or https URL")
    fields = {"Host": authority, **_DEFAULT_HEADERS}
    if authorization:
        fields["Authorization"] = authorization
    fields.update(headers)
    if proxy is not None:
        fields.update(proxy.headers)
    if length is not None:
        fields["Content-Length"] = str(length)
    return tuple(fields.items())


# Connections: one request on each at a time, then kept until it is old.


class _HttpConnection:
    """One stream to an origin, and when it was last used. ``sound``: whatever was sent went out whole."""

    def __init__(self, stream: trio.abc.Stream, origin: str) -> None:
        self._stream, self.origin = stream, origin
        self._at_once = stream.receive_now if isinstance(stream, LeanStream) else lambda _: b""
        self.sound = True
        self.used = trio.current_time()
        self._exchange: HttpExchange | None = None
        """What was sent and is not answered yet."""
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        self.disturbed = stream.is_readable if isinstance(stream, LeanStream) else lambda: False
        """Says whether something came that nobody asked for, such as the end."""

    async def send(self, request: _Request) -> None:
        """Send a request. Cancellation: closes the connection."""
        self._exchange = HttpExchange(request.head, request.body)
        try:
            await self._stream.send_all(self._exchange.request)
        except (trio.BrokenResourceError, OSError):
            self.sound = False  # there may be an answer all the same
        except BaseException:
            await self.aclose()  # noqa: ASYNC102 - shields itself, with a deadline
            raise

    async def ask(self, request: _Request) -> Download:
        """Send a request, unless it was, and return its answer, which must be closed. Closes the connection where there is none."""
        try:
            was_sent = self._exchange is not None
            if not was_sent:
                await self.send(request)
            exchange, self._exchange = self._exchange, None
            assert exchange is not None, "it was sent"
            piece: bytes = b""
            while (answer := exchange.answer) is None or answer.head is None:
                piece, was_sent = await self.feed(answer or exchange, at_once=was_sent), False
            return Download(request, self, answer, answer.head, piece)
        except BaseException:
            await self.aclose()  # noqa: ASYNC102 - shields itself, with a deadline
            raise

    async def feed(self, taker: HttpExchange | HttpAnswer, *, at_once: bool = False) -> bytes:
        """Let an exchange, or an answer that has begun, have what comes next, and return the body's bytes in it.

        ``at_once``: it may have come already, while the answer to another request was read; then it takes no step.
        """
        try:
            data = (at_once and self._at_once(RECEIVE)) or await self._stream.receive_some(RECEIVE)
        except (trio.BrokenResourceError, OSError) as error:
            if isinstance(taker, HttpExchange):
                raise NoAnswer(words_of(error)) from error
            raise
        if not data:
            taker.receive_end()
        return taker.receive(bytes(data))

    async def aclose(self) -> None:
        """Close without waiting for the peer."""
        with trio.move_on_after(1, shield=True):
            await trio.aclose_forcefully(self._stream)


@attrs.define(eq=False)
class Asked:
    """A request that was sent ahead: it holds its place and its connection until it is taken, or closed."""

    request: _Request
    leave: Callable[[_HttpConnection | None], None]
    connection: _HttpConnection | None
    """None once it is taken: whoever takes it closes it, and gives the place back."""

    async def aclose(self) -> None:
        """Close the connection of what nobody took."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            self.leave(None)
            await connection.aclose()


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
