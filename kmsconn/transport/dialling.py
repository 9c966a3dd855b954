"""Streams over sockets, with TLS where it is asked for. Never sets a deadline of its own unless wrapped in ``within``."""

from __future__ import annotations

import os
import random
import ssl
import time
from collections.abc import Callable, Sequence

import trio

from kmsconn.transport.lean_stream import LeanStream
from kmsconn.transport.ports import Dial, Ports, offload_to_threads, start_tls

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


def within(dial: Dial, seconds: float) -> Dial:
    """Return a Dial that gives up after ``seconds`` with TimeoutError (an OSError)."""

    async def hurried(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        with trio.move_on_after(seconds):
            return await dial(host, port, tls=tls)
        raise TimeoutError(f"no connection with {host}:{port} within {seconds:g} s")

    return hurried


dial_sockets: Dial = sockets()


def real_ports() -> Ports:
    """Return sockets, threads, the wall clock and the system's randomness."""
    return Ports(dial_sockets, offload_to_threads, time.time, random.random)
