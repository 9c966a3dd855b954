"""Who listens where, over memory streams in virtual time or over loopback sockets; and bounded byte pipes: latency, loss, cut.

Never what is spoken.
"""

from __future__ import annotations

import ipaddress
import math
import operator
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final, Never

import attrs
import trio

from kmsconn.transport.dialling import LeanStream

PIPE_BYTES = 65_536  # what a sender may have on the way before it waits: about a socket buffer


@attrs.define
class Direction:
    """How bytes travel one way. Knobs may be turned at any time; that counts for what is sent from then on."""

    latency: float = 0.0
    """Seconds from sending to arrival."""
    lost: bool = False
    """Bytes are taken and never arrive: a silently dead path."""


class Pipe:
    """One direction of one connection: pieces with their time of arrival."""

    def __init__(self, direction: Direction, capacity: int = PIPE_BYTES) -> None:
        self.direction = direction
        self.capacity = capacity
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._ended = False
        self._broken = False
        self._wake_up = trio.Event()

    def break_(self) -> None:
        """Lose what is on the way; both ends find the pipe broken."""
        self._broken = True
        self._pieces.clear()
        self._ring()

    def end(self) -> None:
        """Say that nothing more is sent; what is on the way still arrives."""
        self._ended = True
        self._ring()

    async def put(self, data: bytes) -> None:
        """Send one piece once there is room. Raises BrokenResourceError when nobody can receive it."""
        await self.wait_room()
        if not self.direction.lost:
            self._append(data)

    async def get(self, limit: int) -> bytes:
        """Return at most ``limit`` arrived bytes; none at the end. Raises BrokenResourceError after a cut."""
        while not self._arrived():
            if self._broken:
                raise trio.BrokenResourceError("the connection was cut")
            if self._ended and not self._pieces:
                return b""
            with trio.move_on_at(self._pieces[0][0] if self._pieces else math.inf):
                await self._wake_up.wait()
        return self._take(limit)

    async def wait_room(self) -> None:
        """Wait until a piece would be taken. Raises BrokenResourceError or ClosedResourceError."""
        while self._held >= self.capacity and not self._broken and not self._ended:
            await self._wake_up.wait()
        if self._ended:
            raise trio.ClosedResourceError
        if self._broken:
            raise trio.BrokenResourceError("the connection was cut, or its other end is closed")

    def _append(self, data: bytes) -> None:
        self._pieces.append((trio.current_time() + self.direction.latency, data))
        self._held += len(data)
        self._ring()

    def _arrived(self) -> bool:
        return bool(self._pieces) and self._pieces[0][0] <= trio.current_time()

    def _take(self, limit: int) -> bytes:
        due, piece = self._pieces.popleft()
        if len(piece) > limit:
            self._pieces.appendleft((due, piece[limit:]))
            piece = piece[:limit]
        self._held -= len(piece)
        self._ring()
        return piece

    def _ring(self) -> None:
        self._wake_up.set()
        self._wake_up = trio.Event()


class _Turn:
    """Refuses a second task at the same end, as Trio's own streams do."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is already {self._doing}")
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False


class PipeEnd(trio.abc.HalfCloseableStream):
    """One end of a connection: sends into one pipe, and receives from the other."""

    def __init__(self, out: Pipe, into: Pipe) -> None:
        self._out, self._into = out, into
        self._closed = False
        self._sending, self._receiving = _Turn("sending"), _Turn("receiving")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, waiting while the pipe is full. Cancellation: some of it may have been sent."""
        with self._sending:
            await trio.lowlevel.checkpoint()
            view = memoryview(data)
            while view:
                await self._out.put(bytes(view[: self._out.capacity]))
                view = view[self._out.capacity :]
            self._check_open()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        with self._sending:
            await trio.lowlevel.checkpoint()
            await self._out.wait_room()

    async def send_eof(self) -> None:
        """Send nothing more; what comes is still received."""
        self._out.end()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, or wait for it; no bytes at the end. Cancellation: nothing is lost."""
        limit = self._into.capacity if max_bytes is None else operator.index(max_bytes)
        if limit < 1:
            raise ValueError("max_bytes is at least 1")
        with self._receiving:
            await trio.lowlevel.checkpoint()
            self._check_open()
            try:
                return await self._into.get(limit)
            except trio.BrokenResourceError:
                self._check_open()
                raise

    async def aclose(self) -> None:
        """Send and receive no more; whoever still sends finds the pipe broken. Idempotent."""
        if not self._closed:
            self._closed = True
            self._out.end()
            self._into.break_()
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError from None


@attrs.frozen
class PipeConnection:
    """Two ends joined by two pipes."""

    client: trio.abc.Stream
    server: trio.abc.Stream
    pipes: tuple[Pipe, Pipe]

    @classmethod
    def between(cls, there: Direction, back: Direction, capacity: int = PIPE_BYTES) -> PipeConnection:
        """Join a client and a server; ``there`` is the client's way to the server."""
        up, down = Pipe(there, capacity), Pipe(back, capacity)
        return cls(PipeEnd(up, down), PipeEnd(down, up), (up, down))

    def cut(self) -> None:
        """Break both ways at once, as a reset does."""
        for pipe in self.pipes:
            pipe.break_()


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
        connection = PipeConnection.between(line.there, line.back, self._pipe_bytes)
        await self._accepts.send((_mute if line.mute else handler, line, connection))
        return connection.client

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Never:
        """Run the handlers until cancelled; one that raises ends its own connection, see `crashes`."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                nursery.start_soon(self._tend, *(await self._accepted.receive()))

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
    tend_one = partial(_tend_socket, handler, [] if crashes is None else crashes)
    await trio.serve_listeners(tend_one, listeners)


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
