"""The HTTP server: listeners, TLS, and hypercorn on each connection; what changes on disk is used without a restart. Decides no answer.

hypercorn reads and writes HTTP. What it does not have is here: a bound on connections and on the time of each (``connections``,
``guarded_stream``), and keys and certificates that are read again (``reloading``). HTTP/2 is not offered.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from kmsconn.http_api.connections import Connection, ConnectionTable
from kmsconn.http_api.guarded_stream import GuardedStream

GRACE_SECONDS: Final = 30.0
"""After the end of listening, in which requests may still be answered."""
HANDSHAKE_SECONDS: Final = 10.0
"""In which a client must have agreed on TLS."""
FULL_SECONDS: Final = 0.1
"""Between two tries to accept while the process or the machine has no descriptor left."""
HEAD_BYTES: Final = 16 * 1024
"""Of a request's head."""
PIECES_AHEAD: Final = 1
"""Of a body that were received and nobody has read: each connection holds them, and strangers make many."""

Stream = trio.abc.Stream
Listener = trio.abc.Listener[Stream]
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


def _hypercorn_config() -> Config:
    config = Config()
    config.h11_max_incomplete_size = HEAD_BYTES
    config.h2_max_concurrent_streams = 1
    config.max_app_queue_size = PIECES_AHEAD
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # no handler of its own
    return config


@attrs.define(eq=False)
class HttpServer:
    """Serves an application on listeners, each connection under its bounds.

    ``tls`` gives the context of a new connection; None: plain text.
    """

    application: ASGIApp
    table: ConnectionTable
    tls: Callable[[], ssl.SSLContext | None]
    _closing: trio.Event = attrs.field(factory=trio.Event, init=False)
    _config: Config = attrs.field(factory=_hypercorn_config, init=False)
    _context: WorkerContext = attrs.field(init=False)
    _wrapped: AppWrapper = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._context = WorkerContext(None)
        self._wrapped = wrap_app(self.application, 0, "asgi")  # type: ignore[arg-type] # two spellings of ASGI

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
            await self._context.terminated.set()
            self.table.end_all()
            connections.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS

    async def _accept_from(self, listener: Listener, connections: trio.Nursery) -> None:
        """Attend to every client in the nursery of the connections, which outlive the listening."""
        while True:
            await self.table.accepts.turn()
            stream = await _accept(listener)
            connection = self.table.admit(_address(stream), trio.current_time())
            if connection is None:
                await trio.aclose_forcefully(stream)
            else:
                connections.start_soon(self._attend, stream, connection)

    async def _attend(self, stream: Stream, connection: Connection) -> None:
        """Serve one connection and close it. What goes wrong in it is its own: a line in the log."""
        try:
            with connection.scope:
                await self._serve(stream, connection)
        except Exception:  # noqa: BLE001 - the boundary of one client's connection
            await self._config.log.exception("a connection of the HTTP API has ended with an error")
        finally:
            self.table.release(connection)
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: Stream, connection: Connection) -> None:
        context = self.tls()
        if context is not None:
            secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            with suppress(*_GONE), trio.move_on_after(HANDSHAKE_SECONDS):
                await secured.do_handshake()
                connection.rest(trio.current_time())
                stream = secured
            if stream is not secured:
                return
        state: Any = {"connection": connection}  # in the scope of each request
        guarded: Any = GuardedStream(stream, connection)  # it has what hypercorn uses of a socket's stream
        spoken = False
        with suppress(*_GONE):
            spoken = await guarded.wait_first()
        if not spoken:
            return
        server = TCPServer(self._wrapped, self._config, self._context, ConnectionState(state), guarded)
        server.idle_task = _NoTask()  # type: ignore[assignment]
        await server.run()


class _NoTask:
    """In the place of hypercorn's task that ends an idle connection, a new one for each request: the connection's deadline does that."""

    async def restart(self, *_: object) -> None:
        """Begin nothing."""

    async def stop(self) -> None:
        """End nothing."""


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
