"""A small HTTP proxy on a loopback socket, for which every name is this machine. It makes tunnels and forwards plain requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import trio

HOST = "127.0.0.1"
_TARGET = re.compile(rb"[A-Z]+ (?:http://)?(?:\[[^]]*\]|[^/:]+):(\d+)")
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.define
class ConnectProxy:
    """What it was asked: the first line of each request, and the credentials that came with it."""

    port: int = 0
    lines: list[str] = attrs.field(factory=list)
    credentials: set[str] = attrs.field(factory=set)

    @property
    def url(self) -> str:
        return f"http://user:hunter2@{HOST}:{self.port}"

    async def serve(self, client: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = bytes(await client.receive_some())
            if not more:
                return
            head += more
        self._note(head)
        found = _TARGET.match(head)
        assert found is not None, head
        async with await trio.open_tcp_stream(HOST, int(found[1])) as server:
            if head.startswith(b"CONNECT "):
                await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:  # servers take absolute targets too (RFC 9112, 3.2.2); ours and Python's are shown the path
                await server.send_all(re.sub(rb"^([A-Z]+) http://[^/]+", rb"\1 ", head, count=1))
            await _relay(client, server)

    def _note(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.lines.append(lines[0])
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            if name.lower() == "proxy-authorization":
                self.credentials.add(value)


async def _relay(one: trio.SocketStream, other: trio.SocketStream) -> None:
    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(*_GONE):
            async for data in source:
                await sink.send_all(data)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, one, other)
        nursery.start_soon(pump, other, one)


@asynccontextmanager
async def open_proxy() -> AsyncIterator[ConnectProxy]:
    """Run a proxy while the block lasts."""
    proxy = ConnectProxy()

    async def handle(client: trio.SocketStream) -> None:
        async with client:
            with suppress(*_GONE):
                await proxy.serve(client)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        proxy.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield proxy
        nursery.cancel_scope.cancel()
