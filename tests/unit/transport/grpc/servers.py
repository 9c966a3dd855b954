"""Servers for the tests of the gRPC client: the emulator's over memory streams, and one that only listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import attrs
import h2.config
import h2.connection
import h2.events
import h2.settings
import trio
from trio.testing import memory_stream_pair

from kmsconn.emulator.grpc_server import GrpcFailure, Method, serve_grpc
from kmsconn.transport.grpc.channel import Channel, open_channel
from kmsconn.transport.ports import Ports, offload_inline

Stream = trio.abc.Stream

ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
"""The headers in front of a message."""


@attrs.define
class Network:
    """A Dial that leads to one server; its knobs may be turned at any time."""

    methods: Mapping[str, Method]
    nursery: trio.Nursery
    refuse: bool = False
    hang: bool = False
    dials: list[float] = attrs.field(factory=list)
    ends: list[Stream] = attrs.field(factory=list)

    async def dial(self, host: str, port: int, *, tls: bool = False) -> Stream:
        self.dials.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.hang:
            await trio.sleep_forever()
        if self.refuse:
            raise ConnectionRefusedError("nobody there")
        client, server = memory_stream_pair()
        self.ends.append(server)
        self.nursery.start_soon(self._serve, server)
        return client

    async def _serve(self, stream: Stream) -> None:
        try:
            async with stream:
                await serve_grpc(stream, self.methods)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def cut(self) -> None:
        """Break all connections."""
        for end in self.ends:
            await trio.aclose_forcefully(end)

    @property
    def ports(self) -> Ports:
        return Ports(dial=self.dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)


class Peer:
    """Methods with something to look at: how many calls hang, and how many of them were cancelled."""

    def __init__(self) -> None:
        self.hanging = 0
        self.cancelled = 0
        self.release = trio.Event()

    @property
    def methods(self) -> dict[str, Method]:
        return {"/t.P/Echo": self.echo, "/t.P/Hang": self.hang, "/t.P/Fail": self.fail}

    async def echo(self, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return request

    async def hang(self, request: bytes) -> bytes:
        self.hanging += 1
        try:
            await self.release.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.hanging -= 1
        return request

    async def fail(self, request: bytes) -> bytes:
        from kmsconn.transport.grpc.framing import Status

        await trio.lowlevel.checkpoint()
        raise GrpcFailure(Status(int(request)), "said so")


@asynccontextmanager
async def listening(**settings: int) -> AsyncIterator[tuple[Channel, Listener, trio.Nursery]]:
    """Open a channel to a listener, and a nursery for calls."""
    client, server = memory_stream_pair()
    listener = Listener(server, **settings)

    async def dial(host: str, port: int, *, tls: bool = False) -> Stream:
        await trio.lowlevel.checkpoint()
        if listener.requests or listener.gone:
            raise ConnectionRefusedError("it listens once")
        return client

    ports = Ports(dial=dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)
    async with (
        trio.open_nursery() as nursery,
        open_channel("host", 50051, ports.dial, jitter=ports.random) as channel,
    ):
        nursery.start_soon(listener.run)
        yield channel, listener, nursery
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def world(methods: Mapping[str, Method]) -> AsyncIterator[tuple[Network, Channel]]:
    """Open a network with one server, and a channel to it."""
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            network = Network(methods, nursery)
            async with open_channel(
                "host", 50051, network.ports.dial, jitter=network.ports.random
            ) as channel:
                yield network, channel
            nursery.cancel_scope.cancel()


class Listener:
    """An h2 server on a stream that says its settings and then only what a test tells it to say."""

    def __init__(self, stream: Stream, **settings: int) -> None:
        self.stream = stream
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="ascii")
        )
        codes = {h2.settings.SettingCodes[name.upper()]: value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=codes)
        self.h2.initiate_connection()
        self.requests: dict[int, dict[str, str]] = {}
        self.events: list[h2.events.Event] = []
        self.gone = False
        self._sending = trio.Lock()

    async def run(self) -> None:
        """Read for ever, answering what HTTP/2 itself asks for."""
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            await self._read()
        self.gone = True

    async def _read(self) -> None:
        await self.flush()
        while data := await self.stream.receive_some():
            for event in self.h2.receive_data(bytes(data)):
                self.events.append(event)
                if isinstance(event, h2.events.RequestReceived):
                    self.requests[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            await self.flush()

    async def answer(self, stream: int, data: bytes = b"\0\0\0\0\2ok") -> None:
        """Answer a call with one message and status OK."""
        self.h2.send_headers(stream, ANSWER)
        self.h2.send_data(stream, data)
        self.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        await self.flush()

    async def flush(self) -> None:
        async with self._sending:
            if data := self.h2.data_to_send():
                await self.stream.send_all(data)
