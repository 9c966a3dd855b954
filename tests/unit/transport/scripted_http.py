"""A small HTTP/1.1 server over memory streams: each request goes to one function; connections are counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import h11
import trio
import trio.testing

from kmsconn.transport.ports import Ports, offload_inline


@attrs.frozen
class Asked:
    method: str
    host: str
    target: str
    headers: dict[str, str]
    body: bytes


@attrs.frozen
class Reply:
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None  # sent instead, as it is, and the connection is closed


Handler = Callable[[Asked], Awaitable[Reply]]


class HttpNet:
    """A Dial that serves every connection with one handler; ``dialled`` lists (host, port, tls)."""

    def __init__(self, nursery: trio.Nursery, handler: Handler) -> None:
        self.dialled: list[tuple[str, int, bool]] = []
        self.open = 0
        self.most_open = 0
        self.refuse = False
        self._nursery, self._handler = nursery, handler

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialled.append((host, port, tls))
        if self.refuse:
            raise ConnectionRefusedError("nobody there")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await serve_http_stream(stream, self._handler)
        finally:
            self.open -= 1

    def ports(self) -> Ports:
        return Ports(dial=self, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)


async def serve_http_stream(stream: trio.abc.Stream, handler: Handler) -> None:
    """Answer requests until the peer or a raw reply ends the connection."""
    connection = h11.Connection(h11.SERVER)
    try:
        while (asked := await _receive(connection, stream)) is not None:
            reply = await handler(asked)
            if reply.raw is not None:
                await stream.send_all(reply.raw)
                return
            await _answer(connection, stream, reply, asked.method)
            connection.start_next_cycle()
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def _receive(connection: h11.Connection, stream: trio.abc.Stream) -> Asked | None:
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            headers = {name.decode(): value.decode() for name, value in request.headers}
            return Asked(request.method.decode(), headers["host"], request.target.decode(), headers, body)
        else:
            return None


async def _answer(connection: h11.Connection, stream: trio.abc.Stream, reply: Reply, method: str) -> None:
    headers = [*reply.headers, ("content-length", str(len(reply.body)))]
    data = connection.send(h11.Response(status_code=reply.status, headers=headers)) or b""
    if method != "HEAD":
        data += connection.send(h11.Data(data=reply.body)) or b""
    await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
