"""What the connector needs from the world around it; a test world or an embedding program may bring its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import attrs
import trio

from kmsconn.transport.listening import listen_at
from kmsconn.transport.proxies import NO_PROXIES, Proxies
from kmsconn.transport.tls import start_tls

T = TypeVar("T")


class Dial(Protocol):
    """Opens byte streams."""

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        """Return a connected stream. Raises OSError when there is nobody; may be cancelled at any time."""
        ...


class Secure(Protocol):
    """Begins TLS on a stream that is open already, as one through a proxy is."""

    async def __call__(self, stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
        """Return the stream with TLS for ``host``. Raises OSError; closes the stream then, and when cancelled."""
        ...


class Offload(Protocol):
    """Runs blocking work away from the loop, with a limiter of its own for each use."""

    async def __call__(self, use: str, work: Callable[[], T]) -> T:
        """Run ``work`` and return its value. A cancelled call still finishes the work before it raises."""
        ...


class Listen(Protocol):
    """Listens at an address."""

    async def __call__(self, address: str) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """Return what accepts the clients of ``host:port``. Raises OSError where the address cannot be had."""
        ...


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
