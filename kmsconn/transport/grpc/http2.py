"""The client's side of an HTTP/2 connection as data: bytes in, what they say of each stream out, and the other way round; no I/O.

It covers what gRPC's unary calls need: no pushes, no priorities, requests without trailers.

* GOAWAY ends the streams that the peer says it did not process; the others go on, as RFC 9113 wants it.
* A broken rule of the connection ends it, and ``data_to_send`` then gives the GOAWAY that says why.
* A malformed response, and a window that was not kept, reset their stream only.
* Data counts against the connection's window, and a header block updates the header table, even where the stream is over.
* A header block may come in several frames, with no other frame between them.
* The memory that a peer can take is bounded: a frame, a header block, the answers that it is owed.

Source: RFC 9113; flow control 5.2, frames 6, responses 8.1. The table of streams is ``streams``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.frames import Credit, ErrorCode, Http2Error, PeerSettings, protocol_error
from kmsconn.transport.grpc.headers import MAX_BLOCK, Reader
from kmsconn.transport.grpc.streams import STREAM_WINDOW, Outbox, Streams


@attrs.define
class _Unfinished:
    """A header block of which more frames must come, and nothing else before them."""

    stream: int
    ends: bool
    data: bytearray
    cost: int = 0


@attrs.define
class StreamFrames:
    """What the peer says on ``streams``. ``credit`` is the connection's window, ``reader`` keeps its header table.

    Each method takes one frame's flags, stream and payload, and raises Http2Error for what ends the connection.
    """

    streams: Streams
    outbox: Outbox
    reader: Reader
    credit: Credit
    unfinished: _Unfinished | None = None

    def take_data(self, flags: int, number: int, payload: memoryview) -> None:
        """Take DATA; its padding counts against the windows."""
        stream, size = self.streams.find(number), len(payload)
        self.credit.left -= size
        if self.credit.left < 0:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window was not kept")
        if grant := self.credit.grant():
            self.outbox.control.append(frames.word_frame(frames.WINDOW_UPDATE, 0, grant))
        data = frames.unpadded(flags, payload) if flags & frames.PADDED else payload
        if stream is None:
            return
        stream.credit.left -= size
        if not stream.answered:
            self.streams.fail(number, ErrorCode.PROTOCOL_ERROR)
        elif stream.credit.left < 0:
            self.streams.fail(number, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            if data:
                stream.taker.take_data(data)
            if flags & frames.END_STREAM:
                self.streams.end(number, stream)
            else:
                self.streams.grant(number, stream)

    def take_headers(self, flags: int, number: int, payload: memoryview) -> None:
        """Take HEADERS: a response's headers or trailers, or the beginning of them."""
        if flags & (frames.PADDED | frames.WITH_PRIORITY):
            payload = frames.without_priority(flags, frames.unpadded(flags, payload))
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._take_block(number, bytes(payload), ends=ends)
        else:
            self.unfinished = _Unfinished(number, ends, bytearray(payload))

    def take_continuation(self, flags: int, number: int, payload: memoryview) -> None:
        """Take CONTINUATION: more of an unfinished header block."""
        unfinished = self.unfinished
        if unfinished is None or number != unfinished.stream:
            raise protocol_error("CONTINUATION of nothing")
        unfinished.data += payload
        unfinished.cost += frames.HEADER.size  # empty frames are not for nothing
        if len(unfinished.data) + unfinished.cost > MAX_BLOCK:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "an endless header block")
        if flags & frames.END_HEADERS:
            self.unfinished = None
            self._take_block(number, bytes(unfinished.data), ends=unfinished.ends)

    def _take_block(self, number: int, data: bytes, *, ends: bool) -> None:
        """Take a response's headers, of which interim ones (1xx) mean nothing here, or its trailers."""
        block, stream = self.reader.read(data), self.streams.find(number)
        if stream is None:
            return
        # headers come first, and trailers last (RFC 9113, 8.1)
        trailers = block.status is None
        if block.fault or stream.answered != trailers or ends < trailers or (block.interim and ends):
            self.streams.fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not block.interim:
            stream.answered = True
            stream.taker.take_headers(block.fields)
            if ends:
                self.streams.end(number, stream)

    def take_reset(self, _flags: int, number: int, payload: memoryview) -> None:
        """Take RST_STREAM."""
        code = frames.only_word(payload)
        self.streams.find(number)
        self.streams.take_reset(number, code)

    def take_priority(self, _flags: int, number: int, payload: memoryview) -> None:
        """Take PRIORITY, which means nothing here."""
        if not number:
            raise protocol_error("PRIORITY of the connection")
        if len(payload) != frames.PRIORITY_SIZE:
            self.streams.fail(number, ErrorCode.FRAME_SIZE_ERROR)

    def take_window(self, number: int, amount: int) -> None:
        """Take WINDOW_UPDATE of a stream: more of its message may go."""
        stream = self.streams.find(number)
        if stream is None:
            return
        if not amount:
            self.streams.fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not stream.message.window.widen(amount):
            self.streams.fail(number, ErrorCode.FLOW_CONTROL_ERROR)


MAX_FRAME = 64 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
BURST = 128 * 1024  # message bytes per data_to_send: what may wait in front of a reset or a ping answer
MAX_TEXT = 200  # characters of what a GOAWAY says

_GREETING = (
    frames.PREFACE
    + frames.settings_frame(
        {
            frames.HEADER_TABLE_SIZE: 0,
            frames.ENABLE_PUSH: 0,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_FRAME_SIZE: MAX_FRAME,
            frames.MAX_HEADER_LIST_SIZE: MAX_BLOCK,
        }
    )
    + frames.word_frame(frames.WINDOW_UPDATE, 0, CONNECTION_WINDOW - frames.FIRST_WINDOW)
)


class Connection:
    """One HTTP/2 connection, client side. Every method is synchronous; ``data_to_send`` is what to write next.

    ``streams`` opens and closes them. ``settled``: the peer's settings are here. ``goodbye`` is what its GOAWAY said.
    """

    def __init__(self) -> None:
        self.settled = self.broken = False
        self.goodbye: str | None = None
        self._peer = PeerSettings()
        self.max_streams = 0
        """How many streams the peer allows at once; none before it said so."""
        self._cutter = frames.Cutter(MAX_FRAME)
        self._outbox = Outbox()
        self._outbox.control.append(_GREETING)
        self._farewell = b""
        self.streams = Streams(self._outbox)
        self._reader = Reader()
        self._on_streams = StreamFrames(self.streams, self._outbox, self._reader, Credit(CONNECTION_WINDOW))
        self._take: Mapping[int, Callable[[int, int, memoryview], None]] = {
            frames.DATA: self._on_streams.take_data,
            frames.HEADERS: self._on_streams.take_headers,
            frames.PRIORITY: self._on_streams.take_priority,
            frames.RST_STREAM: self._on_streams.take_reset,
            frames.SETTINGS: self._take_settings,
            frames.PUSH_PROMISE: self._take_push,
            frames.PING: self._take_ping,
            frames.GOAWAY: self._take_goaway,
            frames.WINDOW_UPDATE: self._take_window,
            frames.CONTINUATION: self._on_streams.take_continuation,
        }

    @property
    def owes(self) -> bool:
        """Whether ``data_to_send`` may have something to write."""
        return bool(self.broken or self._outbox.control or self._outbox.turns)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._outbox.control.append(frames.frame(frames.PING, 0, 0, b"kmsconn?"))

    def data_to_send(self) -> bytes:
        """Return the next bytes to write, as far as the peer's windows allow; empty when there is nothing."""
        if self.broken:
            farewell, self._farewell = self._farewell, b""
            return farewell
        return b"".join(self._outbox.fill(BURST))

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer; who opened a stream is told what they say of it. Raises Http2Error when the peer broke the protocol."""
        try:
            for kind, flags, stream, payload in self._cutter.cut(data):
                if not self.settled and (kind != frames.SETTINGS or flags & frames.ACK):
                    raise protocol_error("the peer did not begin with its settings")
                if self._on_streams.unfinished is not None and kind != frames.CONTINUATION:
                    raise protocol_error("a header block was interrupted")
                if take := self._take.get(kind):
                    take(flags, stream, payload)
        except Http2Error as error:
            self._break(error)
            raise

    def _break(self, error: Http2Error) -> None:
        self.broken = self.streams.over = True
        reason = bytes(4) + error.code.to_bytes(4) + str(error).encode()
        self._farewell = frames.frame(frames.GOAWAY, 0, 0, reason)

    def _take_push(self, _flags: int, _stream: int, _payload: memoryview) -> None:
        raise protocol_error("a push, which was not enabled")

    def _take_settings(self, flags: int, stream: int, payload: memoryview) -> None:
        _of_connection(stream)
        if flags & frames.ACK:
            if payload:
                raise frames.size_error("an acknowledgement with settings")
            self._reader.end_table()
            return
        self._peer = self._peer.after(payload)
        self.settled, self.max_streams = True, self._peer.max_streams
        self._outbox.max_frame = self._peer.max_frame
        self.streams.change_initial_window(self._peer.initial_window)
        self._outbox.answer(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _take_ping(self, flags: int, stream: int, payload: memoryview) -> None:
        _of_connection(stream)
        if len(payload) != frames.PING_SIZE:
            raise frames.size_error("PING of a wrong size")
        if not flags & frames.ACK:
            self._outbox.answer(frames.frame(frames.PING, frames.ACK, 0, bytes(payload)))

    def _take_goaway(self, _flags: int, stream: int, payload: memoryview) -> None:
        """Take no new streams; those that the peer did not process are over."""
        _of_connection(stream)
        last, code = frames.word(payload) & frames.STREAM_MASK, frames.word(payload, 4)
        text = bytes(payload[8 : 8 + MAX_TEXT]).decode("ascii", "replace")
        self.goodbye = f"{frames.code_name(code)} {text}".rstrip()
        self.streams.refuse_above(last)

    def _take_window(self, _flags: int, stream: int, payload: memoryview) -> None:
        amount = frames.only_word(payload) & frames.STREAM_MASK
        if stream:
            self._on_streams.take_window(stream, amount)
        elif not amount:
            raise protocol_error("a window update of nothing")
        elif not self._outbox.window.widen(amount):
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window grew too large")


def _of_connection(stream: int) -> None:
    if stream:
        raise protocol_error("a frame of the connection on a stream")
