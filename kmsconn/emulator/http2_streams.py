"""The streams that a client opened by HTTP/2, and what is sent on them: headers, data, resets, grants. Reads nothing and does no I/O.

Source: RFC 9113, sections 5 and 6.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import attrs

from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.headers import NO_TABLE, encode


class StreamClosed(frames.Http2Error):
    """A stream takes nothing more."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(frames.ErrorCode.STREAM_CLOSED, f"stream {stream_id} is closed")


START_WINDOW: Final = 65_535
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 3, 4, 5
"""Numbers of settings."""


def flow_error(text: str) -> frames.Http2Error:
    """Return the error of more bytes than were granted."""
    return frames.Http2Error(frames.ErrorCode.FLOW_CONTROL_ERROR, text)


@attrs.define(eq=False)
class ServedStream:
    """One stream, or the connection as a whole: bytes that may still be sent and received, bytes that were used up, and who goes on."""

    room: int
    granted: int
    used: int = 0
    they_go_on: bool = True
    we_go_on: bool = True

    def receive(self, size: int) -> None:
        """Count what the client sent. Raises Http2Error for more than was granted."""
        self.granted -= size
        if self.granted < 0:
            raise flow_error("the client sent more than it was granted")

    def grow(self, size: int) -> None:
        """Let more be sent. Raises Http2Error beyond the largest window."""
        self.room += size
        if self.room > frames.LARGEST_WINDOW:
            raise flow_error("a window is larger than the largest")

    def use_up(self, size: int, window: int) -> int:
        """Count what was used up, and return what the client is granted anew: half a window or more at once, or nothing."""
        self.used += size
        if self.used < window // 2:
            return 0
        more, self.used = self.used, 0
        self.granted += more
        return more


class ServedStreams:
    """The streams of one connection. ``window`` is what each and the connection grant the client."""

    def __init__(self, max_calls: int, window: int) -> None:
        self.max_outbound_frame_size = frames.SMALLEST_MAX_FRAME
        self.streams: dict[int, ServedStream] = {}
        """Those that one side has not ended."""
        self.whole = ServedStream(START_WINDOW, window)
        self.out = [_greeting(max_calls, window)]
        """What is to be sent."""
        self._window = window
        self._table = NO_TABLE  # said once, before the first block

    def open(self, stream_id: int, room: int) -> None:
        """Begin a stream on which so many bytes may be sent."""
        self.streams[stream_id] = ServedStream(room, self._window)

    def acknowledge_received_data(self, size: int, stream_id: int) -> None:
        """Grant the client what was used up; a stream that is closed needs nothing."""
        self._grant(0, self.whole.use_up(size, self._window))
        stream = self.streams.get(stream_id)
        if stream is not None and stream.they_go_on:
            self._grant(stream_id, stream.use_up(size, self._window))

    def _grant(self, stream_id: int, size: int) -> None:
        if size:
            self.out.append(frames.word_frame(frames.WINDOW_UPDATE, stream_id, size))

    def send_headers(
        self, stream_id: int, fields: Iterable[tuple[str, str]], end_stream: bool = False
    ) -> None:
        """Send headers or trailers. Raises StreamClosed."""
        self._open(stream_id)
        block, self._table = self._table + _block(tuple(fields)), b""
        size = self.max_outbound_frame_size
        kind, flags = frames.HEADERS, frames.END_STREAM if end_stream else 0
        while len(block) > size:
            self.out.append(frames.frame(kind, flags, stream_id, block[:size]))
            block, kind, flags = block[size:], frames.CONTINUATION, 0
        self.out.append(frames.frame(kind, flags | frames.END_HEADERS, stream_id, block))
        if end_stream:
            self._end(stream_id)

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Send bytes within the windows and the size of a frame. Raises StreamClosed, and Http2Error beyond the windows."""
        if len(data) > self.local_flow_control_window(stream_id):
            raise flow_error("more than the client grants")
        self.whole.room -= len(data)
        self.streams[stream_id].room -= len(data)
        self.out.append(frames.frame(frames.DATA, 0, stream_id, data))

    def end_stream(self, stream_id: int) -> None:
        """End a stream with its data. Raises StreamClosed."""
        self._open(stream_id)
        self.out.append(frames.frame(frames.DATA, frames.END_STREAM, stream_id))
        self._end(stream_id)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Reset a stream. Raises StreamClosed for one that both sides have ended."""
        if self.streams.pop(stream_id, None) is None:
            raise StreamClosed(stream_id)
        self.out.append(frames.word_frame(frames.RST_STREAM, stream_id, code))

    def local_flow_control_window(self, stream_id: int) -> int:
        """Return how many bytes may be sent now. Raises StreamClosed."""
        return min(self.whole.room, self._open(stream_id).room)

    def data_to_send(self) -> bytes:
        """Return what is to be sent; it counts as sent."""
        data = b"".join(self.out)
        self.out.clear()
        return data

    def _open(self, stream_id: int) -> ServedStream:
        stream = self.streams.get(stream_id)
        if stream is None or not stream.we_go_on:
            raise StreamClosed(stream_id)
        return stream

    def _end(self, stream_id: int) -> None:
        self.streams[stream_id].we_go_on = False
        self.drop_closed(stream_id)

    def drop_closed(self, stream_id: int) -> None:
        """Forget a stream that both sides have ended."""
        stream = self.streams[stream_id]
        if not (stream.they_go_on or stream.we_go_on):
            del self.streams[stream_id]


def _greeting(max_calls: int, window: int) -> bytes:
    """Return the settings that come first, and the grant for the connection."""
    settings = ((MAX_CONCURRENT_STREAMS, max_calls), (INITIAL_WINDOW_SIZE, window))
    told = b"".join(number.to_bytes(2) + value.to_bytes(4) for number, value in settings)
    grant = frames.word_frame(frames.WINDOW_UPDATE, 0, window - START_WINDOW)
    return frames.frame(frames.SETTINGS, 0, 0, told) + grant


@lru_cache(64)
def _block(fields: tuple[tuple[str, str], ...]) -> bytes:
    return encode((name.encode(), value.encode()) for name, value in fields)
