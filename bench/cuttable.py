"""A way to a TCP port that can be cut: what comes in is handed on, until nothing is, and nobody is told. Measures nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

CHUNK = 65_536


@attrs.define(eq=False)
class CuttableWay:
    """A listener on loopback before another port. ``is_cut``: bytes wait, as they do in a network that has lost the way."""

    port: int
    target: int
    _open: trio.Event = attrs.field(factory=trio.Event)
    _connections: set[trio.CancelScope] = attrs.field(factory=set)

    def cut(self) -> None:
        """Let nothing through, in either direction."""
        self._open = trio.Event()

    def mend(self) -> None:
        """Let everything through again; the connections of before are broken by then."""
        for connection in tuple(self._connections):
            connection.cancel()
        self._open.set()

    async def serve(self, client: trio.SocketStream) -> None:
        """Hand on one connection."""
        await self._open.wait()
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            return
        async with server, trio.open_nursery() as nursery:
            self._connections.add(nursery.cancel_scope)
            try:
                nursery.start_soon(self._hand_on, client, server, nursery.cancel_scope)
                await self._hand_on(server, client, nursery.cancel_scope)
            finally:
                self._connections.discard(nursery.cancel_scope)

    async def _hand_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, connection: trio.CancelScope
    ) -> None:
        try:
            while received := await source.receive_some(CHUNK):
                await self._open.wait()
                await sink.send_all(received)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        connection.cancel()


@asynccontextmanager
async def open_cuttable(target: int) -> AsyncIterator[CuttableWay]:
    """Listen while the block lasts."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    way = CuttableWay(listener.socket.getsockname()[1], target)
    way.mend()
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, way.serve, [listener])
        yield way
        nursery.cancel_scope.cancel()
