"""Streams over sockets, with TLS where it is asked for. Never sets a deadline of its own unless wrapped in ``within``."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from functools import cache

import trio

from kmsconn.net.ports import Dial


@cache
def _system_context(alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def sockets(
    *,
    ssl_context: ssl.SSLContext | None = None,
    alpn: Sequence[str] = (),
    allow: Callable[[str], bool] | None = None,
) -> Dial:
    """Return a Dial over TCP, trying all addresses of a name as RFC 8305 says (happy eyeballs).

    ``ssl_context`` replaces the one with the system's authorities; ``alpn`` is offered in the latter (``("h2",)`` for gRPC).
    ``allow`` judges the address that was reached, as text, before a byte is sent: a name cannot lead to a forbidden
    address, whatever its DNS says.
    """

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        stream = await _connect(host, port)
        if allow is not None:
            await _judge(stream, allow)
        if not tls:
            return stream
        return await _start_tls(stream, host, ssl_context or _system_context(tuple(alpn)))

    return dial


async def _connect(host: str, port: int) -> trio.SocketStream:
    try:
        return await trio.open_tcp_stream(host, port)
    except (
        ValueError
    ) as error:  # UnicodeError among them: names that no resolver takes, as bucket addresses may hold
        raise OSError(f"{host!r} is no host name") from error


async def _judge(stream: trio.SocketStream, allow: Callable[[str], bool]) -> None:
    address = stream.socket.getpeername()[0]
    if not allow(address):
        await trio.aclose_forcefully(stream)
        raise ConnectionRefusedError(f"the address {address} is not allowed")


async def _start_tls(
    stream: trio.SocketStream, host: str, context: ssl.SSLContext
) -> trio.SSLStream[trio.SocketStream]:
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise ConnectionError(f"TLS with {host}: {error.__cause__ or 'the peer hung up'}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


def within(dial: Dial, seconds: float) -> Dial:
    """Return a Dial that gives up after ``seconds`` with TimeoutError (an OSError)."""

    async def hurried(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        with trio.move_on_after(seconds):
            return await dial(host, port, tls=tls)
        raise TimeoutError(f"no connection with {host}:{port} within {seconds:g} s")

    return hurried


dial_sockets: Dial = sockets()
