"""A server of one port: accepts, agrees on TLS, serves each connection, and ends with the answers waited for. Decides no answer."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from kmsconn.serving.clients import ClientConnection, Pace
from kmsconn.serving.exchange import Exchange, Port

GRACE_SECONDS: Final = 30.0
"""After the end of listening, in which requests may still be answered."""
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
    """Serves a port on listeners. ``tls`` gives the context of a new connection, None for plain text; ``accepts`` their pace."""

    port: Port
    tls: Callable[[], ssl.SSLContext | None] = lambda: None
    accepts: Pace | None = None
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
                    if (context := self.tls()) is None:
                        await Exchange(stream, connection, self.port).run()
                    else:
                        await self._attend_secured(stream, context, connection)
        finally:
            self.port.connections.release(connection)

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
