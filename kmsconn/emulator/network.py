"""Who listens where, over memory streams in virtual time or over loopback sockets. Never what is spoken."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final, Never

import attrs
import trio

from kmsconn.emulator.pipes import PIPE_BYTES, Direction, PipeConnection
from kmsconn.transport.dialling import LeanStream

Handler = Callable[[trio.abc.Stream], Awaitable[None]]
"""Serves one connection; the network closes the stream when it returns."""


@attrs.define
class Line:
    """The way to one host and port. Every knob may be turned at any time; `cut` ends what is open."""

    refuse: bool = False
    """Dialling raises ConnectionRefusedError."""
    unreachable: bool = False
    """Dialling never ends."""
    mute: bool = False
    """The connection is accepted, then nothing happens on it."""
    there: Direction = attrs.field(factory=Direction)
    """From the client to the server."""
    back: Direction = attrs.field(factory=Direction)
    """From the server to the client."""
    dialled: int = 0
    """How often somebody dialled."""
    open: list[PipeConnection] = attrs.field(factory=list)
    """The connections whose handler still runs, and the mute ones."""

    def cut(self) -> int:
        """Break every open connection now, as a reset does; return how many."""
        connections, self.open = self.open, []
        for connection in connections:
            connection.cut()
        return len(connections)


class MemoryNetwork:
    """A `Dial` whose connections are bounded memory pipes: 64 KiB each way, so senders feel back-pressure.

    Handlers run inside `run`, which must be running for a connection to be made. ``tls`` changes nothing.
    """

    def __init__(self, *, pipe_bytes: int = PIPE_BYTES) -> None:
        self.crashes: list[Exception] = []
        """What handlers raised; each ended only its own connection."""
        self._pipe_bytes = pipe_bytes
        self._handlers: dict[tuple[str, int], Handler] = {}
        self._lines: dict[tuple[str, int], Line] = {}
        # No buffer: a connection exists once `run` has taken it.
        self._accepts, self._accepted = trio.open_memory_channel[tuple[Handler, Line, PipeConnection]](0)

    def serve(self, host: str, port: int, handler: Handler) -> None:
        """Let ``handler`` serve each further connection to this place. Repeating: the last one counts."""
        self._handlers[host, port] = handler

    def line(self, host: str, port: int) -> Line:
        """Return the knobs of one place, served or not."""
        return self._lines.setdefault((host, port), Line())

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:  # noqa: ARG002 - of Dial
        """Connect. Raises ConnectionRefusedError where nobody serves, or the line refuses."""
        await trio.lowlevel.checkpoint()
        line, handler = self.line(host, port), self._handlers.get((host, port))
        line.dialled += 1
        if line.unreachable:
            await trio.sleep_forever()
        if line.refuse or handler is None:
            raise ConnectionRefusedError(f"{host}:{port} refuses")
        return await self._connect(line, _mute if line.mute else handler)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Never:
        """Run the handlers until cancelled; one that raises ends its own connection, see `crashes`."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                nursery.start_soon(self._tend, *(await self._accepted.receive()))

    async def _connect(self, line: Line, handler: Handler) -> trio.abc.Stream:
        connection = PipeConnection.between(line.there, line.back, self._pipe_bytes)
        await self._accepts.send((handler, line, connection))
        return connection.client

    async def _tend(self, handler: Handler, line: Line, connection: PipeConnection) -> None:
        line.open.append(connection)
        try:
            await tend(handler, self.crashes, connection.server)
        finally:
            if connection in line.open:
                line.open.remove(connection)


async def _mute(stream: trio.abc.Stream) -> None:  # noqa: ARG001 - a handler
    await trio.sleep_forever()


async def tend(handler: Handler, crashes: list[Exception], stream: trio.abc.Stream) -> None:
    """Serve one connection and close it. What it raises goes to ``crashes``, unless the peer just left."""
    try:
        async with stream:
            await handler(stream)
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    except* Exception as crash:  # noqa: BLE001 - an emulated dependency survives its own bugs, and shows them
        crashes.append(crash)


async def serve_sockets(
    handler: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    crashes: list[Exception] | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the same handler on a TCP port of this machine until cancelled; starts with the port number.

    Raises ValueError for a host that is not a loopback address: the dependencies are never shown to others.
    """
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{host} is not a loopback address")
    listeners = await trio.open_tcp_listeners(port, host=host)
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(
        partial(_tend_socket, handler, crashes if crashes is not None else []), listeners
    )


async def _tend_socket(handler: Handler, crashes: list[Exception], stream: trio.SocketStream) -> None:
    await tend(handler, crashes, LeanStream(stream))


@attrs.define(eq=False)
class TogglePort:
    """The way to one dependency. ``port`` 0 becomes the first free one and is kept from then on."""

    handler: Handler
    crashes: list[Exception] = attrs.field(factory=list)
    """What handlers raised; each ended only its own connection."""
    port: int = 0
    is_open: bool = attrs.field(default=True, init=False)
    _turned: trio.Event = attrs.field(factory=trio.Event, init=False)

    def shut(self) -> None:
        """Cut every connection and refuse new ones, as when a process ends. Repeating: no effect."""
        self._turn(to_open=False)

    def open(self) -> None:
        """Take connections again, on the same port. Repeating: no effect."""
        self._turn(to_open=True)

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> Never:
        """Serve until cancelled; starts with the port. Raises OSError when somebody else took the port meanwhile."""
        async with trio.open_nursery() as nursery:
            listening: trio.CancelScope = await nursery.start(self._listen)
            task_status.started(self.port)
            while True:
                await self._wait(to_open=False)
                listening.cancel()
                await self._wait(to_open=True)
                listening = await nursery.start(self._listen)

    async def _listen(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(serve_sockets, self.handler, port=self.port, crashes=self.crashes)
            self.port = await nursery.start(serve)
            task_status.started(nursery.cancel_scope)

    def _turn(self, *, to_open: bool) -> None:
        self.is_open = to_open
        turned, self._turned = self._turned, trio.Event()
        turned.set()

    async def _wait(self, *, to_open: bool) -> None:
        while self.is_open is not to_open:
            await self._turned.wait()


HOST: Final = "127.0.0.1"
_HOLDS: Final = sys.platform == "linux"
"""Elsewhere nobody listens on a port to which another socket is bound."""


@contextmanager
def reserve_ports(count: int) -> Iterator[tuple[int, ...]]:
    """Keep different ports while the block lasts, for who listens on them later, and again; elsewhere they were free a moment ago.

    A port that was only looked up is anybody's until its owner listens. One to which a socket is bound is given to nobody who asks the
    system for a free one; who names it can listen there nevertheless where both sockets have ``SO_REUSEADDR``, as servers have.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((HOST, 0))
        ports = tuple(one.getsockname()[1] for one in sockets)
        if not _HOLDS:
            held.close()
        yield ports
