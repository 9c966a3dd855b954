"""One gRPC connection over one Trio stream: a reader, a writer, a watch, and the calls in flight; never dials and never retries.

Calls only change ``http2.Connection`` and wake the writer, so no call ever waits inside another one's write, and a peer that takes no more
bytes stops nobody's reading. Each call's reply is put together as it comes, large ones as there is room. When the stream is lost, every
call in flight fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import trio

from kmsconn.errors import Unreachable
from kmsconn.transport.grpc import framing, http2
from kmsconn.transport.grpc.frames import Allowance, Http2Error
from kmsconn.transport.grpc.framing import GrpcReply
from kmsconn.transport.grpc.headers import Header

READ_SIZE = 64 * 1024  # a buffer of 128 KiB or more may be mapped anew for each read, and brings no speed
QUIET = 30.0  # seconds without a byte, with calls in flight, before the peer is asked for a sign of life
PING_TIMEOUT = 15.0  # seconds it has for that
FAREWELL = 1.0  # seconds to tell a peer that broke the protocol so


class Link:
    """A connection in use: ``run`` keeps it going while any number of tasks call ``unary``.

    ``ready`` is set when the peer's settings are here, or the connection is lost. ``slots`` then holds as many places
    as the peer allows streams: a caller takes one around each call. ``lost`` says why the connection is over.
    ``max_message`` is the size of the largest reply that is taken, in bytes; replies larger than a stream's window
    come in as ``allowance`` lets them.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        authority: str,
        *,
        max_message: int = framing.MAX_MESSAGE,
        allowance: Allowance | None = None,
    ) -> None:
        self.ready = trio.Event()
        self.slots = trio.CapacityLimiter(0)
        self.lost: str | None = None
        self._heard = 0  # reads that brought something
        self._stream = stream
        self._origin = authority, "https" if isinstance(stream, trio.SSLStream) else "http"
        self._http2 = http2.Connection()
        self._max_message, self._allowance = max_message, allowance or Allowance()
        self._in_flight: dict[int, GrpcReply] = {}
        self._wake_up = trio.Event()
        self._scope = trio.CancelScope()

    @property
    def usable(self) -> bool:
        """Whether new calls may be made."""
        return self.lost is None and not self._http2.streams.over

    async def unary(self, path: str, parts: Sequence[bytes], metadata: Sequence[Header] = ()) -> bytes:
        """Make one call and return the reply's message.

        Raises StatusError when it ends with another status than OK, Broken when the reply is none, Unreachable when
        the connection is lost before. Cancellation: the stream is reset, the connection stays as it is.
        """
        headers = (*framing.request_headers(path, *self._origin), *metadata)
        prefix = framing.PREFIX.pack(0, sum(map(len, parts)))
        done = trio.Event()
        reply = GrpcReply(self._max_message, done.set)
        stream = self._http2.streams.open(headers, [prefix, *parts], reply)
        reply.large = partial(self._claim, stream)
        self._in_flight[stream] = reply
        self._wake_up.set()
        try:
            await done.wait()
        finally:
            del self._in_flight[stream]
            self._http2.streams.close(stream)
            if reply.claim is not None:
                self._allowance.give_back(reply.claim)
            self._go_on()
        return reply.message()

    async def run(self) -> None:
        """Keep the connection until it is lost or, after the peer's GOAWAY, its last call has ended.

        Cancellation: the stream is closed at once; calls in flight fail as unreachable.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._watch)
        finally:
            self.lose("the connection was closed")
            with trio.move_on_after(FAREWELL, shield=True):  # a cancellation would replace what is raised
                await trio.aclose_forcefully(self._stream)

    def lose(self, reason: str, grace: float = 0.0) -> None:
        """End the connection, for the first reason given: calls in flight fail, callers that wait may go on.

        ``grace`` is in seconds: how long the writer may still take for its last words.
        """
        if self.lost is not None:
            return
        self.lost = f"{self._origin[0]}: {reason}"
        for reply in self._in_flight.values():
            reply.fail(Unreachable(self.lost))  # each with its own: a shared one would hold what all had sent
        self.slots.total_tokens = math.inf
        self.ready.set()
        self._wake_up.set()
        self._scope.deadline = trio.current_time() + grace

    def _go_on(self) -> None:
        """Wake the writer if it has something to write, and end the connection if it is over with its last call.

        A task that wakes for nothing costs as much as one that writes.
        """
        if self._http2.owes:
            self._wake_up.set()
        if self._http2.streams.over and not self._in_flight:
            self.lose(f"the peer went away: {self._http2.goodbye}")

    async def _write(self) -> None:
        try:
            while True:
                if data := self._http2.data_to_send():
                    await self._stream.send_all(data)
                elif self._http2.broken:
                    self._scope.cancel()
                    return
                else:
                    self._wake_up = trio.Event()
                    await self._wake_up.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self.lose(f"writing failed: {_cause(error)}")

    async def _read(self) -> None:
        try:
            while data := await self._stream.receive_some(READ_SIZE):
                self._heard += 1
                self._http2.receive(bytes(data))
                # as many callers as the peer allows; all of them once they have to find another connection
                places = math.inf if self._http2.streams.over else self._http2.max_streams
                if self.slots.total_tokens != places:
                    self.slots.total_tokens = places
                if self._http2.settled:
                    self.ready.set()
                self._go_on()
            self.lose("the peer closed the connection")
        except Http2Error as error:
            self.lose(str(error), FAREWELL)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self.lose(f"reading failed: {_cause(error)}")

    async def _watch(self) -> None:
        """Find out whether a silent peer still lives: without this, calls would hang on a dead connection."""
        while True:
            if await self._heard_within(QUIET) or not self._in_flight:
                continue
            self._http2.ping()
            self._wake_up.set()
            if not await self._heard_within(PING_TIMEOUT):
                self.lose(f"silent for {QUIET + PING_TIMEOUT:g} s")

    async def _heard_within(self, seconds: float) -> bool:
        before = self._heard
        await trio.sleep(seconds)
        return self._heard != before

    def _claim(self, stream: int, size: int) -> None:
        """Let a large reply come once there is room. It has brought less than half its window: nothing was granted."""
        self._http2.streams.hold(stream)
        self._in_flight[stream].claim = self._allowance.ask(size, partial(self._come, stream))

    def _come(self, stream: int) -> None:
        self._http2.streams.resume(stream)
        self._go_on()


def _cause(error: BaseException) -> str:
    """Return what was behind a broken stream, in a few words."""
    known = error.__cause__ or error
    return str(known) or type(known).__name__
