"""A plain gRPC client on h2 for the tests of the emulated server: knows nothing of the product's own channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import h2.config
import h2.connection
import h2.events
import h2.settings
import trio

from kmsconn.emulator.grpc_server import Method, serve_grpc
from kmsconn.emulator.network import Direction, PipeConnection


@attrs.define
class Outcome:
    """What came back on one stream."""

    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])

    @property
    def message(self) -> str:
        return self.headers.get("grpc-message", "")

    @property
    def reply(self) -> bytes:
        assert self.body[:1] == b"\0"
        assert int.from_bytes(self.body[1:5]) == len(self.body) - 5
        return self.body[5:]


class Caller:
    """One HTTP/2 connection; ``hold`` keeps it from granting the server more window."""

    def __init__(self, stream: trio.abc.Stream, *, window: int = 65_535, hold: bool = False) -> None:
        self.stream = stream
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(
            initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        self.hold = hold
        self.outcomes: dict[int, Outcome] = {}
        self.closed = trio.Event()
        self._changed = trio.Event()
        self._sending = trio.Lock()

    async def run(self) -> None:
        await self.flush()
        try:
            async for data in self.stream:
                for event in self.h2.receive_data(bytes(data)):
                    self._take(event)
                self._changed.set()
                self._changed = trio.Event()
                await self.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.closed.set()
        for outcome in self.outcomes.values():
            outcome.ended.set()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self.outcomes[event.stream_id].headers.update({str(k): str(v) for k, v in event.headers})
            case h2.events.DataReceived():
                self.outcomes[event.stream_id].body += event.data
                if not self.hold:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded() | h2.events.StreamReset():
                self.outcomes[event.stream_id].ended.set()
            case _:
                pass

    async def flush(self) -> None:
        async with self._sending:
            if data := self.h2.data_to_send():
                await self.stream.send_all(data)

    async def begin(self, path: str, headers: tuple[tuple[str, str], ...] = ()) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        self.outcomes[stream_id] = Outcome()
        fixed = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "core")]
        grpc = [("te", "trailers"), ("content-type", "application/grpc")]
        self.h2.send_headers(stream_id, [*fixed, *grpc, *headers])
        await self.flush()
        return stream_id

    async def send(self, stream_id: int, data: bytes, *, end: bool = True) -> None:
        """Send as flow control allows; gives up when the stream has ended."""
        while data and not self.outcomes[stream_id].ended.is_set():
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            if room <= 0:
                await self._changed.wait()
                continue
            self.h2.send_data(stream_id, data[:room])
            data = data[room:]
            await self.flush()
        if end and not self.outcomes[stream_id].ended.is_set():
            self.h2.end_stream(stream_id)
            await self.flush()

    async def reset(self, stream_id: int) -> None:
        self.h2.reset_stream(stream_id, 8)
        await self.flush()

    async def call(
        self, path: str, message: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> Outcome:
        stream_id = await self.begin(path, headers)
        await self.send(stream_id, framed(message))
        return await self.wait(stream_id)

    async def wait(self, stream_id: int) -> Outcome:
        await self.outcomes[stream_id].ended.wait()
        return self.outcomes[stream_id]


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


@asynccontextmanager
async def calling(
    methods: dict[str, Method], *, window: int = 65_535, hold: bool = False
) -> AsyncIterator[Caller]:
    """A caller connected to a served set of methods."""
    pair = PipeConnection.between(Direction(), Direction())

    async def serve() -> None:
        async with pair.server:
            await serve_grpc(pair.server, methods)

    async with trio.open_nursery() as nursery:
        caller = Caller(pair.client, window=window, hold=hold)
        nursery.start_soon(serve)
        nursery.start_soon(caller.run)
        yield caller
        nursery.cancel_scope.cancel()
