"""Ways to others: straight, or through an HTTP proxy. Never decides which proxy counts (``proxies``), never shows its password.

A proxy is asked for a tunnel with CONNECT (RFC 9110, 9.3.6) for whatever runs over TLS and for websockets (RFC 6455, 4.1); plain HTTP
requests go to it in absolute form instead (RFC 9112, 3.2.2), since many proxies make no tunnel to port 80.
"""

from __future__ import annotations

import math

import attrs
import trio

from kmsconn.transport.http11 import HttpError, HttpExchange, HttpHead, make_request
from kmsconn.transport.ports import Dial, Ports
from kmsconn.transport.proxies import Proxy
from kmsconn.transport.urls import Url

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
        answer = await _answer(stream, exchange)
    except (HttpError, ValueError, trio.BrokenResourceError) as error:
        raise ProxyRefused(f"the proxy {proxy.shown} opened no tunnel to {authority}: {error}") from error
    head, alone = answer
    if head.status not in _OK:
        raise ProxyRefused(f"the proxy {proxy.shown} opened no tunnel to {authority}: HTTP {head.status}")
    if not alone:
        raise ProxyRefused(f"the proxy {proxy.shown} sent data into the tunnel to {authority}")


async def _answer(stream: trio.abc.Stream, exchange: HttpExchange) -> tuple[HttpHead, bool]:
    """Return the head of the answer, and whether nothing came after it."""
    await stream.send_all(exchange.request)
    while exchange.answer is None or exchange.answer.head is None:
        data = await stream.receive_some(_PIECE)
        if not data:
            exchange.receive_end()
        exchange.receive(bytes(data))
    return exchange.answer.head, exchange.answer.alone


def way_of(ports: Ports) -> Way:
    """Return the way for whatever is reached as ``ports`` dial."""
    return Way(ports, ports.dial)
