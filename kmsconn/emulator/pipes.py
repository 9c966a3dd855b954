"""Bounded byte pipes in virtual time: latency, loss, cut. Never who is connected to whom."""

from __future__ import annotations

import math
import operator
from collections import deque

import attrs
import trio

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
