"""The server's end of HTTP/2 as data: the client's of ``transport.grpc``, with what a server does in its place. No I/O.

It covers what unary calls need. What a client must not do ends the connection, or resets its stream.

Source: RFC 9113; streams 5.1, requests 8.1 and 8.3.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import attrs

from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.frames import Credit, Window
from kmsconn.transport.grpc.headers import NO_TABLE, Header, encode, judged
from kmsconn.transport.grpc.http2 import MAX_FRAME, Connection, StreamFrames
from kmsconn.transport.grpc.streams import Message, Outbox, Stream, Streams

WINDOW: Final = 1024 * 1024  # for a stream and for the connection, as tonic's server grants
_PSEUDO: Final = ({b":method", b":scheme", b":path"}, {b":method", b":scheme", b":path", b":authority"})
_TRAILERS: Final = (b"te", b"trailers")  # the one field of a connection that a request may have
_SETTING_BYTES: Final = 6
_PUSHES: Final = frames.ENABLE_PUSH.to_bytes(2)


class StreamClosed(frames.Http2Error):
    """A stream takes nothing more."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(frames.ErrorCode.STREAM_CLOSED, f"stream {stream_id} is closed")


@attrs.frozen
class HeadersCame:
    """Headers or trailers of a stream."""

    stream: int
    fields: tuple[Header, ...]


@attrs.frozen
class DataCame:
    """Message bytes of a stream."""

    stream: int
    data: bytes


@attrs.frozen
class StreamEnded:
    """The peer said all it has to say on a stream."""

    stream: int


@attrs.frozen
class StreamReset:
    """A stream is over before its end."""

    stream: int
    code: int


Event = HeadersCame | DataCame | StreamEnded | StreamReset


@attrs.frozen
class Collected:
    """Takes what the peer says on a stream as ``events``."""

    events: list[Event]
    stream: int

    def take_headers(self, fields: tuple[Header, ...]) -> None:
        """Take headers or trailers."""
        self.events.append(HeadersCame(self.stream, fields))

    def take_data(self, data: bytes | memoryview) -> None:
        """Take bytes."""
        self.events.append(DataCame(self.stream, bytes(data)))

    def take_end(self) -> None:
        """Take the peer's last word."""
        self.events.append(StreamEnded(self.stream))

    def take_reset(self, code: int) -> None:
        """Take a reset."""
        self.events.append(StreamReset(self.stream, code))


@attrs.define(eq=False)
class ServedStream(Stream):
    """A stream until both sides have ended it."""

    they_go_on: bool = True
    we_go_on: bool = True


class ServedStreams(Streams):
    """The streams that the client opens, ``most`` at once; ``events`` collects what it says on them."""

    def __init__(self, outbox: Outbox, most: int) -> None:
        super().__init__(outbox)
        self._most = most
        self.events: list[Event] = []

    def admit(self, number: int) -> None:
        """Open the stream of a request, if it is a new one. Raises Http2Error."""
        if number < self._next:
            return
        if not number % 2:
            raise frames.protocol_error("a client's streams have odd numbers")
        if len(self._open) >= self._most:
            raise frames.protocol_error("more streams than were granted")
        self._next = number + 2
        message = Message(number, Window(self.initial_window), deque())
        self._open[number] = ServedStream(message, Credit(WINDOW), Collected(self.events, number))

    def end(self, number: int, stream: Stream) -> None:
        """Take the client's last word."""
        assert isinstance(stream, ServedStream)
        stream.they_go_on = False
        stream.taker.take_end()
        self._drop(number, stream)

    def end_ours(self, number: int) -> None:
        """Say nothing more on a stream."""
        stream = self.going_on(number)
        stream.we_go_on = False
        self._drop(number, stream)

    def going_on(self, number: int) -> ServedStream:
        """Return a stream on which we may send. Raises StreamClosed."""
        stream = self._open.get(number)
        if not isinstance(stream, ServedStream) or not stream.we_go_on:
            raise StreamClosed(number)
        return stream

    def reset(self, number: int, code: frames.ErrorCode) -> None:
        """Reset a stream, unless it is over."""
        if number in self._open:
            self._reset(number, code)

    def _drop(self, number: int, stream: ServedStream) -> None:
        if not (stream.they_go_on or stream.we_go_on):
            self._forget(number)


class ServedFrames(StreamFrames):
    """What the client says on the streams."""

    streams: ServedStreams

    def take_headers(self, flags: int, number: int, payload: memoryview) -> None:
        """Take HEADERS: a request's headers or trailers, or the beginning of them."""
        self.streams.admit(number)
        super().take_headers(flags, number, payload)

    def _take_block(self, number: int, data: bytes, *, ends: bool) -> None:
        block, stream = self.reader.read(data), self.streams.find(number)
        if stream is None:
            return
        if stream.answered and (block.fault or block.status or not ends):
            raise frames.protocol_error(block.fault or "headers in the middle of a request")
        if not stream.answered:
            _check_request(block.fields)
            stream.answered = True
            stream.taker.take_headers(block.fields)
        if ends:
            self.streams.end(number, stream)


class Http2(Connection):
    """One connection with at most ``max_calls`` streams."""

    streams: ServedStreams

    def __init__(self, max_calls: int) -> None:
        super().__init__()
        self._preface = frames.PREFACE
        self._table = NO_TABLE  # said once, before the first block
        self._outbox = Outbox()
        settings = {
            frames.HEADER_TABLE_SIZE: 0,
            frames.MAX_CONCURRENT_STREAMS: max_calls,
            frames.INITIAL_WINDOW_SIZE: WINDOW,
            frames.MAX_FRAME_SIZE: MAX_FRAME,
        }
        self._outbox.control.append(frames.settings_frame(settings))
        self._outbox.control.append(frames.word_frame(frames.WINDOW_UPDATE, 0, WINDOW - frames.FIRST_WINDOW))
        self.streams = ServedStreams(self._outbox, max_calls)
        taken = ServedFrames(self.streams, self._outbox, self._reader, Credit(WINDOW))
        self._on_streams = taken
        self._take = {
            **self._take,
            frames.DATA: taken.take_data,
            frames.HEADERS: taken.take_headers,
            frames.PRIORITY: taken.take_priority,
            frames.RST_STREAM: taken.take_reset,
            frames.CONTINUATION: taken.take_continuation,
        }

    def events_in(self, data: bytes) -> list[Event]:
        """Take what came, and return what it says of the streams. Raises Http2Error where the client broke the protocol."""
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise frames.protocol_error("no HTTP/2")
        self._preface = self._preface[size:]
        self.receive(data[size:])
        events = [*self.streams.events]
        self.streams.events.clear()
        return events

    def send_headers(
        self, stream_id: int, fields: Iterable[tuple[str, str]], end_stream: bool = False
    ) -> None:
        """Send headers or trailers. Raises StreamClosed."""
        self.streams.going_on(stream_id)
        block, self._table = self._table + _block(tuple(fields)), b""
        size, kind, flags = self._outbox.max_frame, frames.HEADERS, frames.END_STREAM if end_stream else 0
        while len(block) > size:
            self._outbox.control.append(frames.frame(kind, flags, stream_id, block[:size]))
            block, kind, flags = block[size:], frames.CONTINUATION, 0
        self._outbox.control.append(frames.frame(kind, flags | frames.END_HEADERS, stream_id, block))
        if end_stream:
            self.streams.end_ours(stream_id)

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Send bytes within ``room``. Raises StreamClosed."""
        for window in (self._outbox.window, self.streams.going_on(stream_id).message.window):
            window.left -= len(data)
        self._outbox.control.append(frames.frame(frames.DATA, 0, stream_id, data))

    def end_stream(self, stream_id: int) -> None:
        """End a stream with its data. Raises StreamClosed."""
        self.streams.going_on(stream_id)
        self._outbox.control.append(frames.frame(frames.DATA, frames.END_STREAM, stream_id))
        self.streams.end_ours(stream_id)

    def go_away(self, last_stream: int) -> None:
        """Say that nothing after this stream was processed; earlier calls end."""
        self._outbox.control.append(frames.frame(frames.GOAWAY, 0, 0, last_stream.to_bytes(4) + bytes(4)))

    def room(self, stream_id: int) -> int:
        """Return how many bytes may be sent now, in one frame. Raises StreamClosed."""
        of_stream = self.streams.going_on(stream_id).message.window
        return min(self._outbox.window.left, of_stream.left, self._outbox.max_frame)

    def _take_settings(self, flags: int, stream: int, payload: memoryview) -> None:
        """Take the client's settings; that it allows pushes means nothing here."""
        entries = (payload[at : at + _SETTING_BYTES] for at in range(0, len(payload), _SETTING_BYTES))
        kept = b"".join(entry for entry in entries if entry[:2] != _PUSHES)
        super()._take_settings(flags, stream, memoryview(kept))

    def _take_goaway(self, _flags: int, _stream: int, _payload: memoryview) -> None:
        """Go on: a client that says farewell has opened its last stream."""


@lru_cache(256)
def _check_request(fields: tuple[Header, ...]) -> None:
    """Refuse fields that are no request's. Raises Http2Error."""
    pseudo = [name for name, _ in fields if name.startswith(b":")]
    if set(pseudo) not in _PSEUDO or len(pseudo) != len(set(pseudo)):
        raise frames.protocol_error("a request has method, scheme and path, and perhaps an authority")
    rest = judged(tuple(field for field in fields[len(pseudo) :] if field != _TRAILERS))
    if rest.fault:
        raise frames.protocol_error(rest.fault)


@lru_cache(64)
def _block(fields: tuple[tuple[str, str], ...]) -> bytes:
    return encode(tuple((name.encode(), value.encode()) for name, value in fields))
