"""The server's end of HTTP/2 as data: the part of h2's interface that the gRPC server uses, on the frames of ``transport.grpc``. No I/O.

h2 takes several times as long for a small call. What a client must not do ends the connection here as it does there.

Source: RFC 9113, sections 3.4 to 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

import attrs

from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.frames import Credit, Window
from kmsconn.transport.grpc.headers import MAX_BLOCK, NO_TABLE, Header, Reader, encode, judged
from kmsconn.transport.grpc.streams import HeadersCame, StreamEnded, StreamReset

_OF_THE_CONNECTION: Final = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY})
_OF_A_STREAM: Final = frozenset({frames.DATA, frames.HEADERS, frames.RST_STREAM, frames.PRIORITY})
_OF_BLOCKS: Final = frozenset({frames.HEADERS, frames.CONTINUATION})
_PSEUDO: Final = ({b":method", b":scheme", b":path"}, {b":method", b":scheme", b":path", b":authority"})
_TRAILERS: Final = (b"te", b"trailers")  # the one field of a connection that a request may have
_SETTING_BYTES: Final = 6
_PUSHES: Final = frames.ENABLE_PUSH.to_bytes(2)


class StreamClosed(frames.Http2Error):
    """A stream takes nothing more."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(frames.ErrorCode.STREAM_CLOSED, f"stream {stream_id} is closed")


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
WholeFrame = tuple[int, int, int, memoryview]
"""Type, flags, stream and payload; of HEADERS the payload is the whole block."""


@attrs.define(eq=False)
class ServedStream:
    """One stream, or the connection as a whole: bytes that may still be sent and received, and who goes on."""

    room: Window
    credit: Credit
    they_go_on: bool = True
    we_go_on: bool = True

    def receive(self, size: int) -> None:
        """Count what the client sent. Raises Http2Error for more than was granted."""
        if not self.credit.take(size):
            raise _flow_error("the client sent more than it was granted")

    def grow(self, size: int) -> None:
        """Let more be sent. Raises Http2Error beyond the largest window."""
        if not self.room.widen(size):
            raise _flow_error("a window is larger than the largest")


class ServedStreams:
    """The streams of one connection, and what is sent on them. ``window`` is what each and the connection grant the client."""

    def __init__(self, max_calls: int, window: int) -> None:
        self.peer = frames.PeerSettings()
        self.streams: dict[int, ServedStream] = {}
        """Those that one side has not ended."""
        self.whole = ServedStream(Window(frames.FIRST_WINDOW), Credit(window))
        settings = {frames.MAX_CONCURRENT_STREAMS: max_calls, frames.INITIAL_WINDOW_SIZE: window}
        grant = frames.word_frame(frames.WINDOW_UPDATE, 0, window - frames.FIRST_WINDOW)
        self.out = [frames.settings_frame(settings), grant]
        """What is to be sent."""
        self._window = window
        self._table = NO_TABLE  # said once, before the first block

    def open(self, stream_id: int) -> None:
        """Begin a stream."""
        self.streams[stream_id] = ServedStream(Window(self.peer.initial_window), Credit(self._window))

    def acknowledge(self, stream_id: int) -> None:
        """Grant the client what was used up; a stream that is closed needs nothing."""
        for number, stream in ((0, self.whole), (stream_id, self.streams.get(stream_id))):
            if stream is not None and stream.they_go_on and (size := stream.credit.grant()):
                self.out.append(frames.word_frame(frames.WINDOW_UPDATE, number, size))

    def send_headers(
        self, stream_id: int, fields: Iterable[tuple[str, str]], end_stream: bool = False
    ) -> None:
        """Send headers or trailers. Raises StreamClosed."""
        self._open(stream_id)
        block, self._table = self._table + _block(tuple(fields)), b""
        size = self.peer.max_frame
        kind, flags = frames.HEADERS, frames.END_STREAM if end_stream else 0
        while len(block) > size:
            self.out.append(frames.frame(kind, flags, stream_id, block[:size]))
            block, kind, flags = block[size:], frames.CONTINUATION, 0
        self.out.append(frames.frame(kind, flags | frames.END_HEADERS, stream_id, block))
        if end_stream:
            self._end(stream_id)

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Send bytes within ``room``. Raises StreamClosed."""
        for stream in (self.whole, self._open(stream_id)):
            stream.room.left -= len(data)
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

    def go_away(self, last_stream: int) -> None:
        """Say that nothing after this stream was processed; earlier calls end."""
        self.out.append(frames.frame(frames.GOAWAY, 0, 0, last_stream.to_bytes(4) + bytes(4)))

    def room(self, stream_id: int) -> int:
        """Return how many bytes may be sent now, in one frame. Raises StreamClosed."""
        return min(self.whole.room.left, self._open(stream_id).room.left, self.peer.max_frame)

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


class FrameInput:
    """Cuts what came on one connection into whole frames, header blocks put together."""

    def __init__(self) -> None:
        self._preface = frames.PREFACE
        self._cutter = frames.Cutter(frames.SMALLEST_MAX_FRAME)
        self._begun: tuple[int, int, bytearray] | None = None  # flags, stream and the block so far

    def cut(self, data: bytes) -> Iterator[WholeFrame]:
        """Yield the frames that are whole now. Raises Http2Error."""
        for kind, flags, stream, payload in self._cutter.cut(self._after_preface(data)):
            if kind in _OF_BLOCKS or self._begun is not None:
                yield from self._block(kind, flags, stream, payload)
            else:
                yield kind, flags, stream, payload

    def _after_preface(self, data: bytes) -> bytes:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise frames.protocol_error("no HTTP/2")
        self._preface = self._preface[size:]
        return data[size:]

    def _block(self, kind: int, flags: int, stream: int, payload: memoryview) -> Iterator[WholeFrame]:
        """Take a part of a header block; nothing else may come before its end."""
        if (self._begun is None) is not (kind == frames.HEADERS):
            raise frames.protocol_error("a header block is begun, or goes on, at the wrong place")
        if self._begun is None:
            part = frames.without_priority(flags, frames.unpadded(flags, payload))
            self._begun = flags, stream, bytearray(part)
        else:
            if kind != frames.CONTINUATION or stream != self._begun[1]:
                raise frames.protocol_error("something comes within a header block")
            self._begun[2].extend(payload)
        begun_with, of_stream, block = self._begun
        if len(block) > MAX_BLOCK:
            raise frames.protocol_error("a header block is too large")
        if flags & frames.END_HEADERS:
            self._begun = None
            yield frames.HEADERS, begun_with, of_stream, memoryview(block)


class Http2(ServedStreams):
    """One connection with at most ``max_calls`` streams."""

    def __init__(self, max_calls: int, window: int) -> None:
        super().__init__(max_calls, window)
        self._max_calls = max_calls
        self._last = 0
        self._input, self._reader = FrameInput(), Reader()

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what came. Raises Http2Error where the client broke the protocol."""
        return [event for frame in self._input.cut(data) for event in self._take(*frame)]

    def _take(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> Iterable[Event]:
        if kind in (_OF_THE_CONNECTION if stream_id else _OF_A_STREAM):
            raise frames.protocol_error(f"a frame of type {kind} on stream {stream_id}")
        match kind:
            case frames.DATA:
                return self._data(flags, stream_id, payload)
            case frames.HEADERS:
                return self._headers(flags, stream_id, bytes(payload))
            case frames.RST_STREAM:
                return self._reset(stream_id, frames.only_word(payload))
            case frames.SETTINGS:
                return self._settings(flags, bytes(payload))
            case frames.WINDOW_UPDATE:
                return self._window_update(stream_id, frames.only_word(payload))
            case frames.PING:
                return self._ping(flags, bytes(payload))
            case frames.PUSH_PROMISE:
                raise frames.protocol_error("a client promises nothing")
        return ()

    def _headers(self, flags: int, stream_id: int, block: bytes) -> Iterator[Event]:
        read, ended = self._reader.read(block), bool(flags & frames.END_STREAM)
        if stream_id > self._last:
            _check_request(read.fields)
            self._begin(stream_id)
            yield HeadersCame(stream_id, read.fields)
        elif read.fault or read.status or (self._known(stream_id) is not None and not ended):
            raise frames.protocol_error(read.fault or "headers in the middle of a request")
        if ended:
            yield from self._they_end(stream_id)

    def _begin(self, stream_id: int) -> None:
        if not stream_id % 2:
            raise frames.protocol_error("a client's streams have odd numbers")
        if len(self.streams) >= self._max_calls:
            raise frames.protocol_error("more streams than were granted")
        self._last = stream_id
        self.open(stream_id)

    def _data(self, flags: int, stream_id: int, payload: memoryview) -> Iterator[Event]:
        self.whole.receive(len(payload))
        stream = self._known(stream_id)
        if stream is None:  # it was reset while this was on its way
            self.acknowledge(stream_id)
            return
        stream.receive(len(payload))
        if not stream.they_go_on:
            raise StreamClosed(stream_id)
        yield DataReceived(stream_id, bytes(frames.unpadded(flags, payload)), len(payload))
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
        if flags & frames.ACK:
            if payload:
                raise frames.size_error("an acknowledgement with settings")
            return
        entries = (payload[at : at + _SETTING_BYTES] for at in range(0, len(payload), _SETTING_BYTES))
        told = b"".join(
            entry for entry in entries if not entry.startswith(_PUSHES)
        )  # a client may allow them
        before, self.peer = self.peer.initial_window, self.peer.after(memoryview(told))
        for stream in self.streams.values():
            stream.grow(self.peer.initial_window - before)
        self.out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
        yield SettingsCame()

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


@lru_cache(256)
def _check_request(fields: tuple[Header, ...]) -> None:
    """Refuse fields that are no request's. Raises Http2Error."""
    pseudo = [name for name, _ in fields if name.startswith(b":")]
    if set(pseudo) not in _PSEUDO or len(pseudo) != len(set(pseudo)):
        raise frames.protocol_error("a request has method, scheme and path, and perhaps an authority")
    rest = judged(tuple(field for field in fields[len(pseudo) :] if field != _TRAILERS))
    if rest.fault:
        raise frames.protocol_error(rest.fault)


def _flow_error(text: str) -> frames.Http2Error:
    return frames.Http2Error(frames.ErrorCode.FLOW_CONTROL_ERROR, text)


@lru_cache(64)
def _block(fields: tuple[tuple[str, str], ...]) -> bytes:
    return encode((name.encode(), value.encode()) for name, value in fields)
