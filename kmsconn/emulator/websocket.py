"""The server's end of a websocket in one task, with as few calls of the kernel as there are writes; wsproto reads and writes the frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Request, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError


class WebSocketClosed(Exception):  # noqa: N818 - what happened
    """The other side has closed the websocket, or has gone."""


class WebSocket:
    """An open websocket. ``path`` is what the client asked for; ``largest`` the bytes of a message."""

    def __init__(self, stream: trio.abc.Stream, wire: WSConnection, path: str, largest: int) -> None:
        self.path = path
        self._stream, self._wire, self._largest = stream, wire, largest
        self._messages: deque[str | bytes] = deque()
        self._pieces: list[str | bytes] = []
        self._out: list[bytes] = []
        self._sending = False
        self._sent = trio.Event()
        self._closed = False

    async def get_message(self) -> str | bytes:
        """Return the next message; answers pings meanwhile. Raises WebSocketClosed."""
        while not self._messages:
            if self._closed:
                raise WebSocketClosed
            await self._read()
        return self._messages.popleft()

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        self._closed = self._closed or not data
        if data:
            self._take(bytes(data))
            await self._flush()

    def _take(self, data: bytes) -> None:
        self._wire.receive_data(data)
        for event in self._wire.events():
            if self._closed:
                return
            self._take_event(event)

    def _take_event(self, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._gather(event)
            case Ping():
                self._out.append(self._wire.send(event.response()))
            case CloseConnection():
                self._end(event.response())

    def _gather(self, event: TextMessage | BytesMessage) -> None:
        """Put a message together. One that is too large ends the connection."""
        self._pieces.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if sum(map(len, self._pieces)) > self._largest:
            self._end(CloseConnection(CloseReason.MESSAGE_TOO_BIG))
        if event.message_finished:
            self._messages.append(self._pieces[0][:0].join(self._pieces))  # type: ignore[arg-type]
            self._pieces = []

    def _end(self, farewell: Event) -> None:
        """Take and give no more messages; say farewell, unless that was said."""
        self._closed = True
        with suppress(LocalProtocolError):
            self._out.append(self._wire.send(farewell))

    async def send_message(self, message: str | bytes) -> None:
        """Send a message. Raises WebSocketClosed."""
        await self.send_messages([message])

    async def send_messages(self, messages: Iterable[str | bytes]) -> None:
        """Send messages together. Raises WebSocketClosed."""
        if self._closed:
            raise WebSocketClosed
        events = (TextMessage(one) if isinstance(one, str) else BytesMessage(one) for one in messages)
        self._out += map(self._wire.send, events)
        await self._flush()

    async def _flush(self) -> None:
        """Send what is there; one task at a time. Raises WebSocketClosed."""
        while self._out:
            if self._sending:
                await self._sent.wait()
                continue
            self._sending, data = True, b"".join(self._out)
            self._out.clear()
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                self._closed = True
                raise WebSocketClosed from None
            finally:
                self._sending = False
                self._sent.set()
                self._sent = trio.Event()

    async def aclose(self) -> None:
        """Close well: say so, and wait until the client has said so too or has gone. Cancellation: the stream is closed."""
        try:
            self._end(CloseConnection(CloseReason.NORMAL_CLOSURE))
            with suppress(WebSocketClosed):
                await self._flush()
            while data := await self._stream.receive_some():
                if any(isinstance(event, CloseConnection) for event in self._after_close(bytes(data))):
                    break
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(self._stream)

    def _after_close(self, data: bytes) -> Sequence[Event]:
        with suppress(LocalProtocolError):
            self._wire.receive_data(data)
            return list(self._wire.events())
        return [CloseConnection(CloseReason.PROTOCOL_ERROR)]


async def accept_websocket(stream: trio.abc.Stream, largest: int, begun: bytes = b"") -> WebSocket | None:
    """Finish the handshake that a client begins on a stream, or has ``begun``. None where it begins none, or has gone."""
    wire = WSConnection(ConnectionType.SERVER)
    while data := begun or await stream.receive_some():
        begun = b""
        try:
            wire.receive_data(bytes(data))
            event = next(iter(wire.events()), None)
        except RemoteProtocolError as error:
            if error.event_hint is not None:
                await stream.send_all(wire.send(error.event_hint))
            return None
        if isinstance(event, Request):
            await stream.send_all(wire.send(AcceptConnection()))
            return WebSocket(stream, wire, event.target, largest)
    return None
