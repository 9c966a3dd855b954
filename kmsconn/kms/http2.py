"""The client's side of an HTTP/2 connection as data: bytes in, events out, and the other way round; no I/O.

Everything that knows the library ``h2`` is here, behind ``Connection``, so that own frames may take its place.
Two kinds of frames are taken out before h2 sees them, because it would close the connection over them:

* GOAWAY: a server that shuts down still finishes the streams it names; h2 allows nothing more.
* RST_STREAM of a stream that is over: it crosses our END_STREAM when a server answers before it read all.

Message bytes wait as views of the caller's pieces; a frame's worth is copied when the windows let it go.

Source: RFC 9113; flow control 5.2, GOAWAY 6.8, stream concurrency 5.1.2.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import attrs
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from kmsconn.errors import KmsconnError

Header = tuple[bytes, bytes]

CANCEL = int(h2.errors.ErrorCodes.CANCEL)
REFUSED_STREAM = int(h2.errors.ErrorCodes.REFUSED_STREAM)

MAX_FRAME = 64 * 1024
STREAM_WINDOW = 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
BURST = 128 * 1024  # message bytes per data_to_send: what may wait in front of a reset or a ping answer
MAX_STREAMS = 100_000

_FRAME_HEADER = struct.Struct(">HBBBI")
_RST_STREAM, _GOAWAY = 0x3, 0x7
_STREAM_MASK = 0x7FFF_FFFF
_LAST_STREAM = 2**31 - 3


class Http2Error(KmsconnError):
    """The peer broke HTTP/2; the connection cannot go on."""


@attrs.frozen
class HeadersCame:
    """Headers or trailers of a stream."""

    stream: int
    fields: tuple[Header, ...]


@attrs.frozen
class DataCame:
    """Message bytes of a stream; the window is open again for as many."""

    stream: int
    data: bytes


@attrs.frozen
class StreamEnded:
    """The peer said all it has to say on a stream."""

    stream: int


@attrs.frozen
class StreamReset:
    """A stream is over before its end; REFUSED_STREAM says that the peer did nothing with it."""

    stream: int
    code: int


Event = HeadersCame | DataCame | StreamEnded | StreamReset


class Connection:
    """One HTTP/2 connection, client side. Every method is synchronous; ``data_to_send`` is what to write next."""

    def __init__(self) -> None:
        self.settled = False  # the peer's settings are here
        self.draining = False  # the peer takes no new streams (GOAWAY)
        self._broken = False
        self._h2 = _new_h2()
        self._input = bytearray()
        self._open: set[int] = set()
        self._unsent: dict[int, deque[memoryview]] = {}
        self._turns: deque[int] = deque()

    @property
    def usable(self) -> bool:
        """Whether a new stream may be opened, now or once another one has ended."""
        return not (self.draining or self._broken) and self._h2.highest_outbound_stream_id < _LAST_STREAM

    @property
    def max_streams(self) -> int:
        """How many streams the peer allows at once; none before it said so."""
        return min(self._h2.remote_settings.max_concurrent_streams, MAX_STREAMS) if self.settled else 0

    def open(self, headers: Sequence[Header], parts: Iterable[bytes]) -> int:
        """Open a stream, queue its headers and message, and return its number."""
        stream = self._h2.get_next_available_stream_id()
        unsent = deque(memoryview(part) for part in parts if part)
        self._h2.send_headers(stream, headers, end_stream=not unsent)
        self._open.add(stream)
        if unsent:
            self._unsent[stream] = unsent
            self._turns.append(stream)
        return stream

    def close(self, stream: int) -> None:
        """Give a stream up: RST_STREAM with CANCEL unless it is over, and nothing more is sent of it."""
        unsent = self._unsent.pop(stream, None)
        was_open = stream in self._open
        self._open.discard(stream)
        if (was_open or unsent is not None) and not self._broken:
            self._h2.reset_stream(stream, CANCEL)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        if not self._broken:
            self._h2.ping(b"kmsconn?")

    def data_to_send(self) -> bytes:
        """Return the next bytes to write, as far as the peer's windows allow; empty when there is nothing."""
        if not self._broken:
            self._fill(BURST)
        return self._h2.data_to_send()

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer and return what they mean.

        Raises Http2Error when the peer broke the protocol; the events of the same bytes are lost with it.
        """
        self._input += data
        events: list[Event] = []
        try:
            for kind, stream, frame in self._frames():
                events.extend(self._receive_frame(kind, stream, frame))
        except h2.exceptions.H2Error as error:
            self._broken = True
            raise Http2Error(f"HTTP/2: {error}") from error
        return events

    # Sending: streams take turns, one frame each, so that a large message does not hold back small ones.

    def _fill(self, budget: int) -> None:
        for _ in range(len(self._turns)):
            if budget <= 0 or self._h2.outbound_flow_control_window <= 0:
                return
            budget = self._take_turns(budget)

    def _take_turns(self, budget: int) -> int:
        """Give the first stream frames while it is alone, else one, and put it last; return what is left."""
        stream = self._turns.popleft()
        chunks = self._unsent.get(stream)
        if chunks is None:
            return budget
        while budget > 0 and (sent := self._send_frame(stream, chunks)):
            budget -= sent
            if not chunks:
                del self._unsent[stream]
                return budget
            if self._turns:
                break
        self._turns.append(stream)
        return budget

    def _send_frame(self, stream: int, chunks: deque[memoryview]) -> int:
        """Send one DATA frame and return its size; 0 when a window is closed."""
        room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
        if room <= 0:
            return 0
        body = _take(chunks, room)
        self._h2.send_data(stream, body, end_stream=not chunks)
        return len(body)

    # Receiving.

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Cut the input into whole frames: type, stream and all bytes."""
        while len(self._input) >= _FRAME_HEADER.size:
            high, low, kind, _, stream = _FRAME_HEADER.unpack_from(self._input)
            size = (high << 8) + low
            if size > MAX_FRAME:
                raise h2.exceptions.FrameTooLargeError(f"frame of {size} bytes")
            if len(self._input) < _FRAME_HEADER.size + size:
                return
            frame = bytes(self._input[: _FRAME_HEADER.size + size])
            del self._input[: len(frame)]
            yield kind, stream & _STREAM_MASK, frame

    def _receive_frame(self, kind: int, stream: int, frame: bytes) -> Iterator[Event]:
        if kind == _GOAWAY:
            yield from self._go_away(frame[_FRAME_HEADER.size :])
        elif kind != _RST_STREAM or stream in self._open:
            for event in self._h2.receive_data(frame):
                yield from self._translate(event)

    def _go_away(self, payload: bytes) -> Iterator[Event]:
        """Take no new streams; those that the peer did not process are over."""
        if len(payload) < 8:  # noqa: PLR2004 - last stream and error code
            raise h2.exceptions.FrameDataMissingError("GOAWAY is too short")
        self.draining = True
        last = int.from_bytes(payload[:4]) & _STREAM_MASK
        for stream in sorted(number for number in self._open if number > last):
            self.close(stream)
            yield StreamReset(stream, REFUSED_STREAM)

    def _translate(self, event: h2.events.Event) -> Iterator[Event]:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                yield HeadersCame(event.stream_id, tuple(event.headers))
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                yield DataCame(event.stream_id, event.data)
            case h2.events.StreamEnded():
                self._end(event.stream_id)
                yield StreamEnded(event.stream_id)
            case h2.events.StreamReset():
                self._forget(event.stream_id)
                yield StreamReset(event.stream_id, int(event.error_code))
            case h2.events.RemoteSettingsChanged():
                self.settled = True

    def _end(self, stream: int) -> None:
        """Stop sending what the peer no longer waits for (RFC 9113, 8.1)."""
        self._open.discard(stream)
        if stream in self._unsent:
            self.close(stream)

    def _forget(self, stream: int) -> None:
        self._open.discard(stream)
        self._unsent.pop(stream, None)


def _new_h2() -> h2.connection.H2Connection:
    # Our headers are well formed: checking them again costs a tenth of a small call.
    config = h2.config.H2Configuration(
        client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    codes = h2.settings.SettingCodes
    connection.local_settings = h2.settings.Settings(
        client=True,
        initial_values={
            codes.ENABLE_PUSH: 0,
            codes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            codes.MAX_FRAME_SIZE: MAX_FRAME,
            codes.MAX_HEADER_LIST_SIZE: connection.DEFAULT_MAX_HEADER_LIST_SIZE,
        },
    )
    connection.max_inbound_frame_size = MAX_FRAME
    connection.initiate_connection()
    connection.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
    return connection


def _take(chunks: deque[memoryview], room: int) -> bytes | memoryview:
    """Take up to ``room`` bytes from the front: a view of one large piece, or several small ones joined."""
    if len(chunks[0]) >= room:
        return _cut(chunks, room)
    taken = []
    while chunks and room:
        piece = _cut(chunks, room)
        taken.append(piece)
        room -= len(piece)
    return b"".join(taken)


def _cut(chunks: deque[memoryview], room: int) -> memoryview:
    first = chunks[0]
    if len(first) <= room:
        return chunks.popleft()
    chunks[0] = first[room:]
    return first[:room]
