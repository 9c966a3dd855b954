"""An HTTP proxy over memory streams: it notes what it was asked, makes tunnels, and takes requests in absolute form."""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio
import trio.testing

from kmsconn.transport.ports import Ports, offload_inline
from kmsconn.transport.proxies import Proxies, proxies_of
from tests.unit.transport.scripted_http import Handler, serve_http_stream

ADDRESS = ("proxy.example", 3128)
URL = "http://user:hunter2@proxy.example:3128"
CREDENTIALS = "Basic dXNlcjpodW50ZXIy"
BOTH = {"HTTP_PROXY": URL, "HTTPS_PROXY": URL}


@attrs.define(eq=False)
class ProxiedNet:
    """A Dial to a proxy; whatever else is dialled is served straight. ``events`` tells what happened in its order."""

    nursery: trio.Nursery
    handler: Handler
    said: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    events: list[str] = attrs.field(factory=list)
    heads: list[str] = attrs.field(factory=list)

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.events.append(f"dial {host}:{port}{' with TLS' if tls else ''}")
        ours, theirs = trio.testing.memory_stream_pair()
        serve = self._serve_proxy if (host, port) == ADDRESS else self._serve
        self.nursery.start_soon(serve, theirs)
        return ours

    async def secure(self, stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            await trio.aclose_forcefully(stream)
            raise
        self.events.append(f"TLS with {host}")
        return stream

    def ports(self, proxies: Proxies | None = None) -> Ports:
        return Ports(self, offload_inline, lambda: 0.0, lambda: 0.5, self.secure, proxies or proxies_of(BOTH))

    async def _serve(self, stream: trio.abc.Stream) -> None:
        await serve_http_stream(stream, self.handler)

    async def _serve_proxy(self, stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError):
            await self._serve_one(stream)

    async def _serve_one(self, stream: trio.abc.Stream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = await stream.receive_some(1)
            if not more:
                return
            head += bytes(more)
        self.heads.append(head.decode())
        line = head.partition(b"\r\n")[0].decode()
        self.events.append(line)
        if line.startswith("CONNECT "):
            await stream.send_all(self.said)
            if b" 200 " not in self.said:
                await trio.aclose_forcefully(stream)
                return
            await serve_http_stream(stream, self.handler)
        else:
            await serve_http_stream(_Before(head, stream), self.handler)


class _Before(trio.abc.Stream):
    """A stream with what was read of it already."""

    def __init__(self, before: bytes, stream: trio.abc.Stream) -> None:
        self._before, self._stream = before, stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        before, self._before = self._before, b""
        return before or await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
