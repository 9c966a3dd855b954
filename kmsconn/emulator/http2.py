"""The server's end of HTTP/2 as data: the part of h2's interface that the gRPC server uses. No I/O.

h2 takes several times as long for a small call. What a client must not do ends the connection here as it does there.

Source: RFC 9113.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs
import hpack

from kmsconn.emulator.http2_input import FieldReader, FrameInput, judge_fields, judge_request
from kmsconn.emulator.http2_streams import (
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    START_WINDOW,
    ServedStream,
    ServedStreams,
    StreamClosed,
    flow_error,
)
from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.streams import HeadersCame, StreamEnded, StreamReset

_SETTING_BYTES: Final = 6
_OF_THE_CONNECTION: Final = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY})
_OF_A_STREAM: Final = frozenset({frames.DATA, frames.HEADERS, frames.RST_STREAM, frames.PRIORITY})


@attrs.frozen
class DataReceived:
    """Bytes of a request, and what they used of the windows with their padding."""

    stream: int
    data: bytes
    size: int


@attrs.frozen
class WindowGrew:
    """The client grants more for a stream; 0 is the connection."""

    stream: int
    size: int


class SettingsCame:
    """The client has changed its settings, and windows with them."""


Event = HeadersCame | DataReceived | StreamEnded | StreamReset | WindowGrew | SettingsCame


class Http2(ServedStreams):
    """One connection with at most ``max_calls`` streams."""

    def __init__(self, max_calls: int, window: int) -> None:
        super().__init__(max_calls, window)
        self._max_calls = max_calls
        self._last = 0
        self._first_room = START_WINDOW
        self._input, self._reader = FrameInput(), FieldReader()

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what came. Raises Http2Error where the client broke the protocol."""
        try:
            return [event for frame in self._input.cut(data) for event in self._take(*frame)]
        except hpack.HPACKError as error:
            raise frames.protocol_error(str(error)) from error

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Iterable[Event]:
        if kind in (_OF_THE_CONNECTION if stream_id else _OF_A_STREAM):
            raise frames.protocol_error(f"a frame of type {kind} on stream {stream_id}")
        match kind:
            case frames.DATA:
                return self._data(flags, stream_id, payload)
            case frames.HEADERS:
                return self._headers(flags, stream_id, payload)
            case frames.RST_STREAM:
                return self._reset(stream_id, frames.only_word(memoryview(payload)))
            case frames.SETTINGS:
                return self._settings(flags, payload)
            case frames.WINDOW_UPDATE:
                return self._window_update(stream_id, frames.only_word(memoryview(payload)))
            case frames.PING:
                return self._ping(flags, payload)
            case frames.PUSH_PROMISE:
                raise frames.protocol_error("a client promises nothing")
        return ()

    def _headers(self, flags: int, stream_id: int, block: bytes) -> Iterator[Event]:
        fields = self._reader.read(block)
        ended = bool(flags & frames.END_STREAM)
        if stream_id > self._last:
            self._begin(stream_id, fields)
            yield HeadersCame(stream_id, tuple(fields))
        else:
            if self._known(stream_id) is not None and not ended:
                raise frames.protocol_error("headers in the middle of a request")
            judge_fields(fields)
        if ended:
            yield from self._they_end(stream_id)

    def _begin(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None:
        if not stream_id % 2:
            raise frames.protocol_error("a client's streams have odd numbers")
        judge_request(fields)
        if len(self.streams) >= self._max_calls:
            raise frames.protocol_error("more streams than were granted")
        self._last = stream_id
        self.open(stream_id, self._first_room)

    def _data(self, flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        self.whole.receive(len(payload))
        stream = self._known(stream_id)
        if stream is None:  # it was reset while this was on its way
            self.acknowledge_received_data(len(payload), stream_id)
            return
        stream.receive(len(payload))
        if not stream.they_go_on:
            raise StreamClosed(stream_id)
        data = bytes(frames.unpadded(flags, memoryview(payload)))
        yield DataReceived(stream_id, data, len(payload))
        if flags & frames.END_STREAM:
            yield from self._they_end(stream_id)

    def _they_end(self, stream_id: int) -> Iterator[Event]:
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if not stream.they_go_on:
            raise StreamClosed(stream_id)
        stream.they_go_on = False
        self.drop_closed(stream_id)
        yield StreamEnded(stream_id)

    def _reset(self, stream_id: int, code: int) -> Iterator[Event]:
        if self._known(stream_id) is not None:
            del self.streams[stream_id]
            yield StreamReset(stream_id, code)

    def _ping(self, flags: int, payload: bytes) -> Iterable[Event]:
        if len(payload) != frames.PING_SIZE:
            raise frames.protocol_error("a ping of a wrong size")
        if not flags & frames.ACK:
            self.out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        return ()

    def _settings(self, flags: int, payload: bytes) -> Iterator[Event]:
        if len(payload) % _SETTING_BYTES or (flags & frames.ACK and payload):
            raise frames.protocol_error("settings of a wrong size")
        if flags & frames.ACK:
            return
        for at in range(0, len(payload), _SETTING_BYTES):
            value_at = at + 2
            number, value = payload[at:value_at], payload[value_at : at + _SETTING_BYTES]
            self._set(int.from_bytes(number), int.from_bytes(value))
        self.out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
        yield SettingsCame()

    def _set(self, number: int, value: int) -> None:
        if number == INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                raise flow_error("a window is larger than the largest")
            for stream in self.streams.values():
                stream.grow(value - self._first_room)
            self._first_room = value
        if number == MAX_FRAME_SIZE:
            if not frames.SMALLEST_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                raise frames.protocol_error("a size of frames that is not allowed")
            self.max_outbound_frame_size = value

    def _window_update(self, stream_id: int, size: int) -> Iterator[Event]:
        size &= frames.LARGEST_WINDOW
        if not size:
            raise frames.protocol_error("a window grows by nothing")
        stream = self._known(stream_id) if stream_id else self.whole
        if stream is not None:
            stream.grow(size)
            yield WindowGrew(stream_id, size)

    def _known(self, stream_id: int) -> ServedStream | None:
        """Return a stream that is open, None of one that was. Raises Http2Error of one that never was."""
        if stream_id > self._last or not stream_id % 2:
            raise frames.protocol_error(f"stream {stream_id} was never opened")
        return self.streams.get(stream_id)
