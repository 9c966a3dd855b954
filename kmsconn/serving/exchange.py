"""A server of one port, and each connection: accepts, agrees on TLS, has requests answered, sends the answers. Decides no answer.

An answer may be ready while the body still comes, as with a key that is not known. With bytes that nobody has read the system resets a
connection, and the client might never see its answer (RFC 9112, 9.6). So a little that is still owed is read away first, and the
connection kept; where there is more, the answer says that it is closed, and what still comes is thrown away for a moment. At its end the
server waits for the answers that are waited for.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import attrs
import trio

from kmsconn.serving.clients import Bounds, ClientConnection, Connections, Entrance, Pace
from kmsconn.serving.wire import BadRequest, LiveAnswer, ServedAnswer, ServedRequest, Wire

LINGER_SECONDS: Final = 1.0
"""In which a client may send what it still owes, and in which it may notice an answer that ends the connection."""
OWED_BYTES: Final = 1 << 16
"""Of a body that are read away before an early answer."""
PIECE_BYTES: Final = 16 * 1024
"""Received at once; so much of the next request may come while an answer is waited for."""
UNTAKEN_BYTES: Final = 64 * 1024
"""Of an answer without an end, that the kernel holds for a client that does not take them."""

_GONE = (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError)
_LOG = logging.getLogger(__name__)


class ClientGone(Exception):  # noqa: N818 - says what happened
    """The client has closed its connection, or said nothing for too long: nobody wants an answer."""


Found = ServedAnswer | LiveAnswer


@attrs.define(eq=False)
class Port:
    """What a server is given: the bounds of its clients, who answers them, and what they get of a fault in this program.

    ``reply`` answers at once, or returns what is to be waited for. It may raise BadRequest and ClientGone.
    """

    bounds: Bounds
    reply: Callable[[ServedRequest, Exchange], Found | Awaitable[Found]]
    crash: ServedAnswer
    connections: Connections = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connections = Connections(self.bounds.connections)


class Exchange:
    """Serves one connection; ``reply`` reads the body of its request by it."""

    def __init__(self, stream: trio.abc.Stream, connection: ClientConnection, port: Port) -> None:
        self.connection = connection
        self._stream, self._port, self._bounds = stream, port, port.bounds
        self._wire = Wire()
        self._request = ServedRequest("")
        self._read_by = math.inf

    async def run(self) -> None:
        """Serve until the connection ends. Cancellation: at any time. A fault of this program costs an answer and a line in the log."""
        try:
            while await self._serve():
                pass
        except (ClientGone, *_GONE):
            pass
        except Exception:  # noqa: BLE001 - the boundary of one client's connection
            _LOG.exception("a request over HTTP has met a fault of this program")
            with suppress(ClientGone, *_GONE):
                await self._end(self._port.crash)

    async def _serve(self) -> bool:
        """Answer one request; return whether there may be another one."""
        try:
            self._request = await self._head()
            found = self._port.reply(self._request, self)
            if isinstance(found, Awaitable):
                found = await found
        except BadRequest as refusal:
            return await self._end(ServedAnswer(refusal.status))
        if isinstance(found, LiveAnswer):
            await self._send_pieces(found)
            return False
        if not self._bounds.keeps or self._port.connections.closing or not await self._read_away():
            return await self._end(found)
        await self._send(self._wire.answer(found, close=False))
        if (following := self._wire.next()) is None:
            return await self._linger()
        self._wire = following
        return True

    async def _head(self) -> ServedRequest:
        """Return the next request. Raises BadRequest, and ClientGone where nothing comes."""
        connection, wire = self.connection, self._wire
        connection.serving = False
        begun = wire.ahead
        with trio.move_on_after(self._bounds.idle) as reading:
            if not begun:
                connection.taken = 0
                await self._receive()
                begun = True
            self._read_by = trio.current_time() + self._bounds.request
            await connection.step()
            while (request := wire.head()) is None:
                reading.deadline = self._read_by
                await self._receive()
            connection.serving = True
            return request
        if not begun:
            raise ClientGone
        raise BadRequest(408)

    async def piece(self) -> bytes:
        """Return the next piece of the body, nothing at its end. Raises BadRequest, for a body that does not come in time too."""
        while (piece := self._wire.piece()) is None:
            await self._send(self._wire.proceed())
            with trio.move_on_at(self._read_by) as reading:
                await self._receive()
            if reading.cancelled_caught:
                raise BadRequest(408)
        await self.connection.step()
        return piece

    async def wait_gone(self) -> None:
        """Return once the client has left. What it sends of its next request meanwhile is kept, up to a bound."""
        ahead = 0
        with suppress(ClientGone):
            while ahead < PIECE_BYTES:
                ahead += await self._receive()
            await trio.sleep_forever()

    async def _receive(self) -> int:
        """Take what the client sends next, and return how much it is. Raises ClientGone."""
        await self.connection.step()
        try:
            data = await self._stream.receive_some(PIECE_BYTES)
        except _GONE:
            data = b""
        if not data:
            raise ClientGone
        self._wire.receive(bytes(data))
        return len(data)

    async def _send(self, data: bytes) -> None:
        """Send. Raises ClientGone where the client does not take it in time."""
        if data:
            with trio.move_on_after(self._bounds.answer) as sending:
                await self._stream.send_all(data)
            if sending.cancelled_caught:
                raise ClientGone

    async def _read_away(self) -> bool:
        """Read what is owed of a request that is answered early, where that is little. Return whether the request has come whole."""
        wire, owed = self._wire, self._request.length
        try:
            with trio.move_on_after(LINGER_SECONDS):
                while not wire.whole and not wire.holds_back and owed <= OWED_BYTES:
                    owed += len(await self.piece())
        except BadRequest:
            return False
        return wire.whole

    async def _end(self, answer: ServedAnswer) -> bool:
        """Send the last answer of the connection."""
        await self._send(self._wire.answer(answer, close=True))
        return await self._linger()

    async def _linger(self) -> bool:
        """Let the client close first; what it still sends is thrown away, for a moment."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        with trio.move_on_after(LINGER_SECONDS):
            while await self._stream.receive_some(PIECE_BYTES):
                await self.connection.step()
        return False

    async def _send_pieces(self, answer: LiveAnswer) -> None:
        """Send an answer without an end until the client is gone, or too slow."""
        try:
            if isinstance(self._stream, trio.SocketStream):
                self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNTAKEN_BYTES)
            await self._send(self._wire.begin(answer))
            while not self._wire.head_only:
                await self._send(self._wire.more(await answer.next_piece()))
        finally:
            answer.close()


GRACE_SECONDS: Final = 30.0
"""After the end of listening, in which requests may still be answered."""
ENTRANCE_SECONDS: Final = 10.0
"""In which a new client must have had its turn: who waits longer has mostly left, and would take the turn of another one."""
HANDSHAKE_SECONDS: Final = 10.0
"""In which a client must have agreed on TLS."""
CLOSING_SECONDS: Final = 1.0
"""In which the end of TLS must have been sent."""
FULL_SECONDS: Final = 0.1
"""Between two tries to accept while the process or the machine has no descriptor left."""

Stream = trio.abc.Stream
Listener = trio.abc.Listener[Stream]


@attrs.define(eq=False)
class Server:
    """Serves a port on listeners. ``tls`` gives the context of a new connection, None for plain text.

    ``accepts`` is the pace at which connections are accepted, whose addresses are not known before; ``entrance`` says which of them is
    served next.
    """

    port: Port
    tls: Callable[[], ssl.SSLContext | None] = lambda: None
    accepts: Pace | None = None
    entrance: Entrance | None = None
    _closing: trio.Event = attrs.field(factory=trio.Event, init=False)

    def close(self) -> None:
        """Listen no more; idle connections end now, the others with their answers. Repeating: no effect."""
        self._closing.set()

    async def run(
        self, listeners: Sequence[Listener], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until closed, and then ``GRACE_SECONDS`` at most. Cancellation: closes every connection at once."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                if self.entrance is not None:
                    accepting.start_soon(self.entrance.run)
                for listener in listeners:
                    accepting.start_soon(self._accept_from, listener, connections)
                task_status.started()
                await self._closing.wait()
                accepting.cancel_scope.cancel()
            for listener in listeners:
                await listener.aclose()
            self.port.connections.close()
            connections.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS

    async def _accept_from(self, listener: Listener, connections: trio.Nursery) -> None:
        """Attend to every client in the nursery of the connections, which outlive the listening."""
        while True:
            if self.accepts is not None:
                await self.accepts.turn()
            stream = await _accept(listener)
            connection = self.port.connections.admit(_address(stream))
            if connection is None:
                await trio.aclose_forcefully(stream)
            else:
                connections.start_soon(self._attend, stream, connection)

    async def _attend(self, stream: Stream, connection: ClientConnection) -> None:
        """Serve one connection and close it."""
        try:
            async with stream:
                with connection.scope:
                    if not await self._has_turn(connection):
                        return
                    if (context := self.tls()) is None:
                        await Exchange(stream, connection, self.port).run()
                    else:
                        await self._attend_secured(stream, context, connection)
        finally:
            self.port.connections.release(connection)

    async def _has_turn(self, connection: ClientConnection) -> bool:
        """Wait for the turn of a new connection, and return whether it came in time."""
        if self.entrance is None:
            return True
        known = self.port.connections.knows(connection.address)
        with trio.move_on_after(ENTRANCE_SECONDS) as waiting:
            await self.entrance.turn(connection.address, known=known)
        return not waiting.cancelled_caught

    async def _attend_secured(
        self, stream: Stream, context: ssl.SSLContext, connection: ClientConnection
    ) -> None:
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with trio.move_on_after(HANDSHAKE_SECONDS) as agreeing:
            try:
                await secured.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
        if not agreeing.cancelled_caught:
            await Exchange(secured, connection, self.port).run()
            with trio.move_on_after(CLOSING_SECONDS):
                await secured.aclose()


async def _accept(listener: Listener) -> Stream:
    while True:
        try:
            return await listener.accept()
        except OSError:  # no descriptor or no memory is left: the client stays in the kernel's queue
            await trio.sleep(FULL_SECONDS)


def _address(stream: Stream) -> str:
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # gone already
        return ""
