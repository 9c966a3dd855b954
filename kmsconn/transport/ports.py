"""What the connector needs from the world around it, and how it is had of sockets, TLS and threads.

A test world or an embedding program may bring its own. Nothing here dials (``dialling``), or decides what is worth a thread.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Final, Protocol, TypeVar

import attrs
import trio

from kmsconn.transport.proxies import NO_PROXIES, Proxies

T = TypeVar("T")

BACKLOG: Final = 1024
"""Clients that the kernel lets wait to be accepted; beyond it one is heard a second later at best."""
THREADS_PER_USE: Final = 4
"""Enough for two cores, few enough that a burst of hashes cannot starve the journal, which has its own."""


class Dial(Protocol):
    """Opens byte streams."""

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        """Return a connected stream. Raises OSError when there is nobody; may be cancelled at any time."""
        ...


Secure = Callable[[trio.abc.Stream, str], Awaitable[trio.abc.Stream]]
"""Returns an open stream, as one through a proxy is, with TLS for a host. Raises OSError; closes it then, and when cancelled."""


class Offload(Protocol):
    """Runs blocking work away from the loop, with a limiter of its own for each use."""

    async def __call__(self, use: str, work: Callable[[], T]) -> T:
        """Run ``work`` and return its value. A cancelled call still finishes the work before it raises."""
        ...


Listen = Callable[[str], Awaitable[Sequence[trio.abc.Listener[trio.abc.Stream]]]]
"""Returns what accepts the clients of ``host:port``. Raises OSError where the address cannot be had."""


async def listen_at(address: str) -> Sequence[trio.SocketListener]:
    """Return the listener of ``host:port``, ``[::]:port`` for IPv6. Raises OSError where the address cannot be had."""
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    await trio.lowlevel.checkpoint()
    bound = socket.create_server((bare, int(port)), family=family, backlog=BACKLOG)
    return [trio.SocketListener(trio.socket.from_stdlib_socket(bound))]


@cache
def _limiter(_use: str) -> trio.CapacityLimiter:
    return trio.CapacityLimiter(THREADS_PER_USE)


async def offload_to_threads(use: str, work: Callable[[], T]) -> T:
    """Run ``work`` in a thread; each ``use`` has a limiter of its own, so that no use waits for another.

    Cancellation: before the work starts; work that has started is finished.
    """
    limiter = _limiter(use)  # what else ``trio.to_thread`` does costs as much as all of this
    await trio.lowlevel.checkpoint_if_cancelled()
    if limiter.available_tokens:
        limiter.acquire_nowait()  # a step less: the thread is waited for anyway
    else:
        await limiter.acquire()
    try:
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        trio.lowlevel.start_thread_soon(
            work, lambda outcome: token.run_sync_soon(trio.lowlevel.reschedule, task, outcome)
        )
        done: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return done
    finally:
        limiter.release()


async def offload_inline(use: str, work: Callable[[], T]) -> T:  # noqa: ARG001 - the port's signature
    """Run ``work`` at once in the loop, for worlds in virtual time, where any thread counts as a socket."""
    await trio.lowlevel.checkpoint()
    return work()


@cache
def system_context(alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return a context with the system's authorities that offers these protocols."""
    context = ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


async def start_tls(
    stream: trio.abc.Stream, host: str, context: ssl.SSLContext | None = None, *, alpn: Sequence[str] = ()
) -> trio.SSLStream[trio.abc.Stream]:
    """Return the stream with TLS, the peer's certificate verified for ``host``.

    Raises ConnectionError where that fails. Then, and when cancelled, the stream is closed.
    """
    secured = trio.SSLStream(
        stream, context or system_context(tuple(alpn)), server_hostname=host, https_compatible=True
    )
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise ConnectionError(f"TLS with {host}: {error.__cause__ or 'the peer hung up'}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


@attrs.frozen
class Ports:
    """Dialling and listening, blocking work, wall time in Unix seconds, and randomness in [0, 1) for jitter.

    ``secure`` begins TLS behind a proxy. Which proxies count is the settings' word: the connector fills in ``proxies``.
    """

    dial: Dial
    offload: Offload
    wall: Callable[[], float]
    random: Callable[[], float]
    secure: Secure = start_tls
    proxies: Proxies = NO_PROXIES
    listen: Listen = listen_at
