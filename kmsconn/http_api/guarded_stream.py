"""A client's stream as hypercorn reads and writes it: in small pieces, under deadlines that it does not have itself. Knows no HTTP."""

from __future__ import annotations

import socket
from typing import Final

import trio

from kmsconn.http_api.connections import Connection

ANSWER_SECONDS: Final = 10.0
"""In which a client must have taken what is sent."""
CLOSING_SECONDS: Final = 1.0
"""In which the end of TLS must have been sent."""
PIECE_BYTES: Final = 16 * 1024
"""Received at once: a connection buffers some pieces while nobody reads the body."""

_LOST = (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError, trio.TooSlowError)


class _NoAddress:
    """In the place of a socket: hypercorn asks it for addresses, which nobody here wants from it."""

    family = socket.AF_UNSPEC

    def getpeername(self) -> None:
        """Name nobody."""

    def getsockname(self) -> None:
        """Name nobody."""


class GuardedStream(trio.abc.HalfCloseableStream):
    """A stream of which the connection's deadlines know, and which waits for nobody for ever.

    hypercorn shields its sending from cancellation, so the bound of a client that does not take its answer is here.
    """

    socket = _NoAddress()

    def __init__(self, stream: trio.abc.Stream, connection: Connection) -> None:
        self._stream, self._connection = stream, connection
        self._first = self._held = b""

    async def wait_first(self) -> bool:
        """Return whether the client sends anything. A connection on which nobody speaks costs no more than this."""
        self._first = await self.receive_some()
        return bool(self._first)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive a piece, small ones only, and tell the connection."""
        if self._first:
            first, self._first = self._first, b""
            await trio.lowlevel.checkpoint()
            return first
        await self._connection.step()
        most = PIECE_BYTES if max_bytes is None else min(max_bytes, PIECE_BYTES)
        try:
            data = bytes(await self._stream.receive_some(most))
        except trio.BrokenResourceError:
            self._connection.end()
            raise
        if data:
            self._connection.hear(trio.current_time())
        else:
            self._connection.end()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, with what was held back before.

        Raises BrokenResourceError where the client has left or does not take it in time; the connection is dropped then, whatever
        hypercorn does in it: it may wait for a place in its own queue.
        """
        self._held += data
        if self._connection.body_follows or not self._held:
            await trio.lowlevel.checkpoint()
            return
        data, self._held = self._held, b""
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await self._stream.send_all(data)
        except _LOST as error:
            self._connection.drop()
            raise trio.BrokenResourceError("the client does not take its answer") from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until sending may go on."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End the sending direction where the stream can do that; TLS has one end for both."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close, politely for a moment."""
        with trio.move_on_after(CLOSING_SECONDS):
            await self._stream.aclose()
