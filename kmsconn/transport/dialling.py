"""Streams over sockets, with TLS where it is asked for, straight or through an HTTP proxy. Never decides which proxy counts (``proxies``).

The TCP stream costs less than Trio's own: no second scheduling of what is done at once. Trio lets other tasks run after each send and each
receive that need not wait. Here a send that the kernel takes at once returns at once, and a receive looks at the socket only once it is
readable. Those who use a stream await other things between their calls, so nobody is starved by that.

A proxy is asked for a tunnel with CONNECT (RFC 9110, 9.3.6) for whatever runs over TLS and for websockets (RFC 6455, 4.1); plain HTTP
requests go to it in absolute form instead (RFC 9112, 3.2.2), since many proxies make no tunnel to port 80. Its password is never shown.
"""

from __future__ import annotations

import errno
import math
import os
import random
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence

import attrs
import trio

from kmsconn.transport.http11 import HttpError, HttpExchange, make_request
from kmsconn.transport.ports import Dial, Ports, offload_to_threads, start_tls
from kmsconn.transport.proxies import Proxy
from kmsconn.transport.urls import Url

RECEIVE_BYTES = 65536


class LeanStream(trio.abc.HalfCloseableStream):
    """A connected TCP stream, in place of the ``trio.SocketStream`` that it is made of."""

    def __init__(self, stream: trio.SocketStream) -> None:
        of = stream.socket
        self._socket = socket.socket(of.family, of.type, of.proto, fileno=of.detach())
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def is_readable(self) -> bool:
        """Say whether something has come that was not received yet, the end for one."""
        return bool(self._poll.poll(0))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; waits only where the kernel has no room. One task at a time. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            sent = self._send(data)
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
            while rest:
                await trio.lowlevel.wait_writable(self._descriptor())
                rest = rest[self._send(rest) :]

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel has room. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            await trio.lowlevel.wait_writable(self._descriptor())

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has come, empty at its end; waits where nothing has. One task at a time. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            while True:
                await trio.lowlevel.wait_readable(self._descriptor())
                try:
                    return self._socket.recv(RECEIVE_BYTES if max_bytes is None else max_bytes)
                except BlockingIOError:
                    continue

    def receive_now(self, max_bytes: int) -> bytes:
        """Return what has come already; empty where nothing has, and at the end. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                return b""

    async def send_eof(self) -> None:
        """Say that nothing more is sent. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            await trio.lowlevel.checkpoint()
            self._socket.shutdown(socket.SHUT_WR)

    def _descriptor(self) -> int:
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise OSError(errno.EBADF, "closed")
        return descriptor

    async def aclose(self) -> None:
        """Close; whoever waits for the stream gets ClosedResourceError. Repeating: does nothing."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()


class _ErrorsOfTrio:
    """Turns errors of the socket into Trio's own. A class, since a generator takes as long as what it surrounds."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            if error.errno == errno.EBADF:
                raise trio.ClosedResourceError("this stream was already closed") from None
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


_ERRORS_OF_TRIO = _ErrorsOfTrio()


HEAD_START = 0.25
"""Seconds that an address has before the next one of the same name is tried beside it (RFC 8305, 5)."""


def sockets(
    *,
    ssl_context: ssl.SSLContext | None = None,
    alpn: Sequence[str] = (),
    allow: Callable[[str], bool] | None = None,
) -> Dial:
    """Return a Dial over TCP, trying all addresses of a name as RFC 8305 says (happy eyeballs).

    ``ssl_context`` replaces the one with the system's authorities; ``alpn`` is offered in the latter (``("h2",)`` for gRPC).
    ``allow`` judges addresses, as text: only allowed ones are dialled, each by the literal that was judged, so that a name cannot lead
    to a forbidden address whatever its DNS says, and however often it says something else.
    """

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        connected = await (_connect(host, port) if allow is None else _connect_allowed(host, port, allow))
        stream = LeanStream(connected)
        return await start_tls(stream, host, ssl_context, alpn=alpn) if tls else stream

    return dial


async def _connect(host: str, port: int) -> trio.SocketStream:
    try:
        return await trio.open_tcp_stream(host, port)
    except (
        ValueError
    ) as error:  # UnicodeError among them: names that no resolver takes, as bucket addresses may hold
        raise OSError(f"{host!r} is not a host name") from error
    except OSError as error:
        if reasons := reasons_of(error):
            raise OSError(
                f"all attempts to connect to {host}:{port} failed: {reasons}"
            ) from None  # all is said
        raise


def reasons_of(error: OSError) -> str:
    """Return what the attempts of Trio's happy eyeballs met, each reason once; nothing for an error of another kind.

    Trio's own words tell how many attempts there were, and nothing of why they failed.
    """
    met = error.__cause__
    several = met.exceptions if isinstance(met, BaseExceptionGroup) else ()
    numbers = dict.fromkeys(one.errno for one in several if isinstance(one, OSError))
    return ", ".join(os.strerror(number) for number in numbers if number is not None)


async def _connect_allowed(host: str, port: int, allow: Callable[[str], bool]) -> trio.SocketStream:
    found = await _resolve(host, port)
    allowed = list(filter(allow, found))
    if not allowed:
        raise ConnectionRefusedError(f"{host} resolves to {', '.join(found)}, which is not allowed")
    return await _first_of(allowed, port)


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except ValueError as error:
        raise OSError(f"{host!r} is not a host name") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _first_of(addresses: Sequence[str], port: int) -> trio.SocketStream:
    """Connect to whichever address answers first, each a little after the one before it. Raises OSError."""
    streams, failures = list[trio.SocketStream](), list[OSError]()

    async def attempt(address: str, over: trio.Event) -> None:
        try:
            stream = await trio.open_tcp_stream(address, port)
        except OSError as error:
            failures.append(error)
        else:
            streams.append(stream)
            nursery.cancel_scope.cancel()
        over.set()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                over = trio.Event()
                nursery.start_soon(attempt, address, over)
                with trio.move_on_after(HEAD_START):
                    await over.wait()
        if not streams:
            raise failures[0]
        return streams.pop(0)
    finally:
        for loser in streams:
            loser.socket.close()


dial_sockets: Dial = sockets()


def real_ports() -> Ports:
    """Return sockets, threads, the wall clock and the system's randomness."""
    return Ports(dial_sockets, offload_to_threads, time.time, random.random)


_OK = range(200, 300)
_PIECE = 4096


class ProxyRefused(ConnectionError):  # noqa: N818 - what happened
    """A proxy made no tunnel."""


@attrs.frozen
class Way:
    """Opens streams as ``ports`` say, within ``seconds``; where no proxy counts by ``straight``, which may judge addresses.

    Itself a Dial. Behind a proxy nobody here sees the address that a name leads to: the proxy resolves it.
    """

    ports: Ports
    straight: Dial
    seconds: float = math.inf

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        """Return a stream to a host, through a tunnel where a proxy counts. Raises OSError. Cancellation: closes what was opened."""
        with trio.move_on_after(self.seconds):
            proxy = self.ports.proxies.of(host, port, tls=tls)
            if proxy is None:
                return await self.straight(host, port, tls=tls)
            return await self._through(proxy, host, port, tls=tls)
        raise TimeoutError(f"no connection with {host}:{port} within {self.seconds:g} s")

    def forwarder(self, url: Url) -> Proxy | None:
        """Return the proxy that takes the requests for a URL in absolute form, if one does."""
        return None if url.tls else self.ports.proxies.of(url.host, url.port, tls=False)

    async def to(self, proxy: Proxy) -> trio.abc.Stream:
        """Return a stream to a proxy itself. Raises OSError."""
        with trio.move_on_after(self.seconds):
            return await self._dial(proxy)
        raise TimeoutError(f"no connection with the proxy {proxy.shown} within {self.seconds:g} s")

    async def _dial(self, proxy: Proxy) -> trio.abc.Stream:
        try:
            return await self.ports.dial(proxy.url.host, proxy.url.port, tls=proxy.url.tls)
        except OSError as error:
            raise ConnectionError(f"the proxy {proxy.shown} cannot be reached: {error}") from error

    async def _through(self, proxy: Proxy, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        stream = await self._dial(proxy)
        try:
            await _tunnel(stream, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return await self.ports.secure(stream, host) if tls else stream


async def _tunnel(stream: trio.abc.Stream, proxy: Proxy, authority: str) -> None:
    """Have a proxy make a tunnel. Raises ProxyRefused."""
    try:
        headers = {"Host": authority, **proxy.headers}
        exchange = HttpExchange(make_request("CONNECT", authority, headers.items()))
        await stream.send_all(exchange.request)
        while (answer := exchange.answer) is None or answer.head is None:
            data = await stream.receive_some(_PIECE)
            if not data:
                exchange.receive_end()
            exchange.receive(bytes(data))
    except (HttpError, ValueError, trio.BrokenResourceError) as error:
        raise ProxyRefused(f"the proxy {proxy.shown} opened no tunnel to {authority}: {error}") from error
    if answer.head.status not in _OK:
        refused = f"the proxy {proxy.shown} opened no tunnel to {authority}: HTTP {answer.head.status}"
        raise ProxyRefused(refused)
    if not answer.alone:
        raise ProxyRefused(f"the proxy {proxy.shown} sent data into the tunnel to {authority}")


def way_of(ports: Ports) -> Way:
    """Return the way for whatever is reached as ``ports`` dial."""
    return Way(ports, ports.dial)
