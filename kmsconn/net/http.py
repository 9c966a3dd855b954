"""HTTP/1.1 requests through ``Ports.dial``: the one module that knows the HTTP library.

At most ``limit`` connections to each origin, behind a limiter of our own of the same size: a server that hangs holds up nobody
but who asks it, and cancelling requests that wait inside the library's pool leaks its places until nothing goes through any more.
The library's transport is used without its client: the client logs whole URLs. Deadlines are the caller's scopes. Never follows
a redirect to another origin.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpcore2
import httpx2
import trio

from kmsconn.errors import Overloaded, Unreachable
from kmsconn.net.ports import Dial, Ports
from kmsconn.net.urls import DEFAULT_PORTS, Url, parse, show, show_origin

CONNECTIONS = 8  # to one origin; its pool scans all of them at each request
MAX_BODY = 64 * 1024 * 1024
IDLE_SECONDS = (
    30.0  # below the idle time after which common servers and address translators forget a connection
)
REDIRECTS = 3
_REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
_DEFAULT_HEADERS = {"User-Agent": "kmsconn", "Accept": "*/*", "Accept-Encoding": "identity"}

FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    httpx2.StreamError,
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
    httpcore2.ConnectionNotAvailable,
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
    """An answer whose body is still on its way: iterate over it for the chunks.

    Iterating raises Unreachable when the connection breaks, when the body ends early and when it is larger than the cap.
    """

    def __init__(self, response: httpx2.Response, shown: str, max_bytes: int) -> None:
        self.status = response.status_code
        self.headers = _headers(response)
        self._shown, self._max, self._taken = shown, max_bytes, 0
        self.announced = _announced(self.headers)
        """How many bytes the body will have, if the server said so."""
        if self.announced is not None and self.announced > max_bytes:
            raise self._too_large()
        self._chunks = aiter(_body(response))

    def _too_large(self) -> Unreachable:
        return Unreachable(f"{self._shown}: the body is larger than {self._max} bytes")

    def __aiter__(self) -> Download:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except FOREIGN_ERRORS as error:
            raise _unreachable(self._shown, error) from error
        self._taken += len(chunk)
        if self._taken > self._max:
            raise self._too_large()
        return chunk

    async def read(self) -> bytes:
        """Return what is left of the body."""
        return b"".join([chunk async for chunk in self])


def _announced(headers: Mapping[str, str]) -> int | None:
    digits = headers.get("content-length", "").lstrip("0") or "0"
    known = "content-length" in headers and digits.isascii() and digits.isdigit()
    return int(digits[:20]) if known else None  # twenty digits are more than any cap


def _headers(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.multi_items()}


def _body(response: httpx2.Response) -> AsyncIterable[bytes]:
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    return stream


async def _read_to_end(response: httpx2.Response) -> None:
    """Read the body that a HEAD does not have: only then the connection is kept for the next request."""
    async for _ in _body(response):
        pass


class HttpClient:
    """Requests over a bounded number of connections to each origin, which are kept for the next one."""

    def __init__(self, transport: httpx2.AsyncBaseTransport, limit: int) -> None:
        self._transport, self._limit = transport, limit
        self._places: dict[str, trio.Semaphore] = {}

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str] | None = None, *, max_bytes: int = MAX_BODY
    ) -> Response:
        """Send a body and return the whole answer, whatever its status; redirects are not followed.

        Raises Unreachable when there is no whole answer or its body is larger than ``max_bytes``.
        Cancellation: closes the connection; the server may have acted. Repeating: the caller's question.
        """
        shown = show_origin(url)
        async with self._place(url), self._exchange("POST", url, headers, body, shown) as response:
            download = Download(response, shown, max_bytes)
            return Response(download.status, download.headers, await download.read())

    async def head(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return status and headers, whatever the status; redirects within the origin are followed.

        Raises Unreachable when there is no answer. Cancellation: closes the connection. Repeating: harmless.
        """
        async with self._place(url), self._followed("HEAD", url, headers) as response:
            await _read_to_end(response)
            return Response(response.status_code, _headers(response), b"")

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

        Redirects within the origin are followed; others are given as they are. Holds one of the origin's connections until
        it is left; a body not read to its end costs that connection. ``begun`` is called once it is this request's turn.

        Raises Unreachable when there is no answer, or when its body is announced to be larger than ``max_bytes``.
        Cancellation: closes the connection. Repeating: harmless.
        """
        async with self._place(url):
            begun()
            async with self._followed("GET", url, headers) as response:
                yield Download(response, show(url), max_bytes)

    def _place(self, url: str) -> trio.Semaphore:
        return self._places.setdefault(show_origin(url), trio.Semaphore(self._limit))

    @asynccontextmanager
    async def _followed(
        self, method: str, url: str, headers: Mapping[str, str] | None
    ) -> AsyncIterator[httpx2.Response]:
        for _ in range(REDIRECTS):
            async with self._exchange(method, url, headers, None, show(url)) as response:
                onward = _redirect(url, response)
                if onward is None:
                    yield response
                    return
            url = onward
        raise Unreachable(f"{show(url)}: more than {REDIRECTS} redirects")

    @asynccontextmanager
    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None, shown: str
    ) -> AsyncIterator[httpx2.Response]:
        request = _request(method, url, headers, body)
        try:
            response = await self._transport.handle_async_request(request)
        except FOREIGN_ERRORS as error:
            raise _unreachable(shown, error) from error
        try:
            yield response
        finally:
            await _close(response)  # noqa: ASYNC102 - shields itself, with a deadline


def _request(method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None) -> httpx2.Request:
    try:
        parsed = _http_url(url)
        authorization = {"Authorization": parsed.authorization} if parsed.authorization else {}
        all_headers = {**_DEFAULT_HEADERS, **authorization, **(headers or {})}
        return httpx2.Request(method, url, headers=all_headers, content=body)
    except (ValueError, httpx2.InvalidURL) as error:
        raise Unreachable(f"{show(url)}: {error}") from None


def _http_url(url: str) -> Url:
    """Take the URL apart, and refuse one that the library would take apart differently than who judged its host."""
    parsed, library = parse(url), httpx2.URL(url)
    if parsed.scheme not in {"http", "https"}:
        raise ValueError("not an http or https URL")
    if (parsed.host, parsed.port) != (
        library.raw_host.decode(),
        library.port or DEFAULT_PORTS[parsed.scheme],
    ):
        raise ValueError("the URL's host can be read in two ways")
    return parsed


async def _close(response: httpx2.Response) -> None:
    with trio.move_on_after(
        1, shield=True
    ):  # gives the place in the pool back; our streams close without waiting
        await response.aclose()


def _redirect(url: str, response: httpx2.Response) -> str | None:
    if response.status_code not in _REDIRECT_STATUS:
        return None
    try:
        onward = str(httpx2.URL(url).join(response.headers.get("location", "")))
        return onward if parse(onward).origin == parse(url).origin else None
    except (ValueError, httpx2.InvalidURL):
        return None


# The library's seams: a transport whose pools dial through the port.


class DialTransport(httpx2.AsyncBaseTransport):
    """A transport of the HTTP library whose connections come from a Dial, TLS included."""

    def __init__(self, dial: Dial, connections: int = CONNECTIONS) -> None:
        self._dial, self._connections = dial, connections
        self._pools: dict[tuple[str, str, int | None], httpcore2.AsyncConnectionPool] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the answer, whose body is still on its way."""
        url = request.url
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        asked = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
        )
        answer = await self._pool_of(url).handle_async_request(asked)
        assert isinstance(answer.stream, AsyncIterable)
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream))

    def _pool_of(self, url: httpx2.URL) -> httpcore2.AsyncConnectionPool:
        origin = (url.scheme, url.host, url.port)
        if origin not in self._pools:
            self._pools[origin] = _pool(self._dial, url.scheme == "https", self._connections)
        return self._pools[origin]

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _pool(dial: Dial, tls: bool, connections: int) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(
        # Never used, TLS is the Dial's: only keeps the pool from reading certificates for each connection.
        ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        max_connections=connections,
        network_backend=_Backend(dial, tls),
    )


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self, dial: Dial, tls: bool) -> None:
        self._dial, self._tls = dial, tls

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - the pool asks so; deadlines are the caller's scopes
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return _Stream(await self._dial(host, port, tls=self._tls))
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error


class _Stream(httpcore2.AsyncNetworkStream):
    """A dialled stream as the pool wants it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._used = trio.current_time()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise httpcore2.ReadError(str(error)) from error
        finally:
            self._used = trio.current_time()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise httpcore2.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,  # noqa: ARG002
        server_hostname: str | None = None,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        return self  # the Dial has done it

    def get_extra_info(self, info: str) -> Any:
        # The pool asks this of an idle connection: True makes it dial a new one. Idle time is measured on Trio's clock,
        # which the pool's own expiry does not know.
        if info == "is_readable":
            return trio.current_time() - self._used > IDLE_SECONDS or _is_readable(self._stream)
        return None


def _is_readable(stream: trio.abc.Stream) -> bool:
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return isinstance(stream, trio.SocketStream) and stream.socket.is_readable()


@asynccontextmanager
async def open_http(ports: Ports, limit: int = CONNECTIONS) -> AsyncIterator[HttpClient]:
    """Open a client with at most ``limit`` connections to each origin; leaving closes them."""
    transport = DialTransport(ports.dial, limit)
    try:
        yield HttpClient(transport, limit)
    finally:
        with trio.move_on_after(1, shield=True):
            await transport.aclose()
