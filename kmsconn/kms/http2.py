"""The client's side of an HTTP/2 connection as data: bytes in, events out, and the other way round; no I/O.

What gRPC's unary calls need, and of that all: no pushes, no priorities, requests without trailers.

* A stream is known from ``open`` until either side ended it for good. What still comes for one that is no longer known
  was under way when it ended: it counts against the connection's window and updates the header table, else it is
  passed over.
* GOAWAY ends the streams that the peer says it did not process; the others go on, as RFC 9113 wants it.
* A malformed response resets its stream; what breaks the rules of the connection ends the connection, and
  ``data_to_send`` then gives the GOAWAY that says why.
* Whatever the peer does, what is kept for it is bounded: a frame, a header block, the answers that it is owed.

Source: RFC 9113; stream states 5.1, flow control 5.2, frames 6, responses 8.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from kmsconn.kms import frames, peer_settings
from kmsconn.kms.flow import Credit
from kmsconn.kms.frames import ErrorCode, Http2Error, protocol_error
from kmsconn.kms.headers import MAX_BLOCK, NO_TABLE, Block, Header, Reader, encode
from kmsconn.kms.outbox import Message, Outbox, Piece
from kmsconn.kms.peer_settings import PeerSettings

MAX_FRAME = 64 * 1024
STREAM_WINDOW = 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
BURST = 128 * 1024  # message bytes per data_to_send: what may wait in front of a reset or a ping answer
MAX_STREAMS = 100_000
MAX_TEXT = 200  # characters of what a GOAWAY says
MAX_OWED = 1000  # answers to pings and settings that wait to be written

_LAST_STREAM = 2**31 - 3
_GREETING = (
    frames.PREFACE
    + peer_settings.settings_frame(
        {
            peer_settings.HEADER_TABLE_SIZE: 0,
            peer_settings.ENABLE_PUSH: 0,
            peer_settings.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            peer_settings.MAX_FRAME_SIZE: MAX_FRAME,
            peer_settings.MAX_HEADER_LIST_SIZE: MAX_BLOCK,
        }
    )
    + frames.word_frame(frames.WINDOW_UPDATE, 0, CONNECTION_WINDOW - peer_settings.FIRST_WINDOW)
)


@attrs.frozen
class HeadersCame:
    """Headers or trailers of a stream."""

    stream: int
    fields: tuple[Header, ...]


@attrs.frozen
class DataCame:
    """Message bytes of a stream, as a view of what was received."""

    stream: int
    data: bytes | memoryview


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


@attrs.define(eq=False)
class _Stream:
    """A stream that is not over: what of the message is unsent, what the peer may send, whether its headers came."""

    message: Message
    credit: Credit
    answered: bool = False
    held: bool = False


@attrs.define
class _Unfinished:
    """A header block of which more frames must come, and nothing else before them."""

    stream: int
    ends: bool
    data: bytearray
    cost: int = 0


class Connection:
    """One HTTP/2 connection, client side. Every method is synchronous; ``data_to_send`` is what to write next."""

    def __init__(self) -> None:
        self.settled = False  # the peer's settings are here
        self.goodbye: str | None = None  # what the peer's GOAWAY said, once it came
        self.broken = False
        self._peer = PeerSettings()
        self._streams: dict[int, _Stream] = {}
        self._next_stream = 1
        self._cutter = frames.Cutter(MAX_FRAME)
        self._reader = Reader()
        self._unfinished: _Unfinished | None = None
        self._credit = Credit(CONNECTION_WINDOW)
        self._outbox = Outbox()
        self._out: list[Piece] = [_GREETING]
        self._farewell = b""
        self._owed = 0
        self._events: list[Event] = []
        self._take: Mapping[int, Callable[[int, int, memoryview], None]] = {
            frames.DATA: self._take_data,
            frames.HEADERS: self._take_headers,
            frames.PRIORITY: self._take_priority,
            frames.RST_STREAM: self._take_reset,
            frames.SETTINGS: self._take_settings,
            frames.PUSH_PROMISE: self._take_push,
            frames.PING: self._take_ping,
            frames.GOAWAY: self._take_goaway,
            frames.WINDOW_UPDATE: self._take_window,
            frames.CONTINUATION: self._take_continuation,
        }

    @property
    def draining(self) -> bool:
        """Whether no new stream will ever be opened, and the connection is over with its last one."""
        return self.goodbye is not None or self._next_stream > _LAST_STREAM

    @property
    def usable(self) -> bool:
        """Whether a new stream may be opened, now or once another one has ended."""
        return not (self.draining or self.broken)

    @property
    def max_streams(self) -> int:
        """How many streams the peer allows at once; none before it said so."""
        if not self.settled:
            return 0
        allowed = self._peer.max_streams
        return MAX_STREAMS if allowed is None else min(allowed, MAX_STREAMS)

    def open(self, headers: Sequence[Header], parts: Iterable[bytes]) -> int:
        """Open a stream, queue its headers and message, and return its number."""
        number = self._next_stream
        self._next_stream += 2
        message = Message.of(number, self._peer.initial_window, parts)
        self._streams[number] = _Stream(message, Credit(STREAM_WINDOW))
        block = (NO_TABLE if number == 1 else b"") + encode(headers)
        flags = frames.END_HEADERS | (0 if message.unsent else frames.END_STREAM)
        self._out.append(frames.frame(frames.HEADERS, flags, number, block))
        if message.unsent:
            self._outbox.add(message)
        return number

    def close(self, stream: int) -> None:
        """Give a stream up: RST_STREAM with CANCEL unless it is over, and nothing more is sent of it."""
        if stream in self._streams:
            self._reset(stream, ErrorCode.CANCEL)

    def hold(self, stream: int) -> None:
        """Grant the peer no more of a stream than it has."""
        if found := self._streams.get(stream):
            found.held = True

    def resume(self, stream: int) -> None:
        """Grant again what was used up."""
        if found := self._streams.get(stream):
            found.held = False
            self._grant(stream, found)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._out.append(frames.frame(frames.PING, 0, 0, b"kmsconn?"))

    def data_to_send(self) -> bytes:
        """Return the next bytes to write, as far as the peer's windows allow; empty when there is nothing."""
        if self.broken:
            farewell, self._farewell = self._farewell, b""
            return farewell
        out, self._out, self._owed = self._out, [], 0
        out += self._outbox.fill(BURST)
        return b"".join(out)

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer and return what they mean.

        Raises Http2Error when the peer broke the protocol; the events of the same bytes are lost with it.
        """
        events: list[Event] = []
        self._events = events
        try:
            for kind, flags, stream, payload in self._cutter.cut(data):
                self._take_frame(kind, flags, stream, payload)
        except Http2Error as error:
            self._break(error)
            raise
        return events

    def _break(self, error: Http2Error) -> None:
        self.broken = True
        self._farewell = frames.frame(
            frames.GOAWAY, 0, 0, bytes(4) + error.code.to_bytes(4) + str(error).encode()
        )

    def _take_frame(self, kind: int, flags: int, stream: int, payload: memoryview) -> None:
        if not self.settled and (kind != frames.SETTINGS or flags & frames.ACK):
            raise protocol_error("the peer did not begin with its settings")
        if self._unfinished is not None and kind != frames.CONTINUATION:
            raise protocol_error("a header block was interrupted")
        if take := self._take.get(kind):
            take(flags, stream, payload)

    # Streams.

    def _known(self, number: int) -> _Stream | None:
        """Return a stream, None when it is over. Raises Http2Error when there never was one."""
        stream = self._streams.get(number)
        if stream is None and not (number & 1 and number < self._next_stream):
            raise protocol_error(f"a frame of stream {number}, which was never opened")
        return stream

    def _forget(self, number: int) -> None:
        self._outbox.drop(self._streams.pop(number).message)

    def _reset(self, number: int, code: ErrorCode) -> None:
        self._forget(number)
        self._out.append(frames.word_frame(frames.RST_STREAM, number, code))

    def _fail(self, number: int, code: ErrorCode) -> None:
        """Reset a stream that the peer spoiled."""
        self._reset(number, code)
        self._events.append(StreamReset(number, code))

    def _end(self, number: int) -> None:
        """Take the peer's last word; stop sending what it no longer waits for (RFC 9113, 8.1)."""
        if self._streams[number].message.unsent:
            self._reset(number, ErrorCode.CANCEL)
        else:
            self._forget(number)
        self._events.append(StreamEnded(number))

    def _take_data(self, flags: int, number: int, payload: memoryview) -> None:
        stream = self._known(number)
        self._count(len(payload))
        data = frames.unpadded(flags, payload)
        if stream is None:
            return
        if not stream.answered:
            self._fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not stream.credit.take(len(payload)):
            self._fail(number, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self._deliver(number, stream, data, ends=bool(flags & frames.END_STREAM))

    def _count(self, size: int) -> None:
        """Count bytes of any stream against the connection's window, and grant them again."""
        if not self._credit.take(size):
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window was not kept")
        if grant := self._credit.grant():
            self._out.append(frames.word_frame(frames.WINDOW_UPDATE, 0, grant))

    def _deliver(self, number: int, stream: _Stream, data: memoryview, *, ends: bool) -> None:
        if data:
            self._events.append(DataCame(number, data))
        if ends:
            self._end(number)
        elif not stream.held:
            self._grant(number, stream)

    def _grant(self, number: int, stream: _Stream) -> None:
        if grant := stream.credit.grant():
            self._out.append(frames.word_frame(frames.WINDOW_UPDATE, number, grant))

    def _take_reset(self, _flags: int, number: int, payload: memoryview) -> None:
        code = frames.only_word(payload)
        if self._known(number) is not None:
            self._forget(number)
            self._events.append(StreamReset(number, code))

    def _take_priority(self, _flags: int, number: int, payload: memoryview) -> None:
        if not number:
            raise protocol_error("PRIORITY of the connection")
        if len(payload) != frames.PRIORITY_SIZE and number in self._streams:
            self._fail(number, ErrorCode.FRAME_SIZE_ERROR)

    def _take_push(self, _flags: int, _number: int, _payload: memoryview) -> None:
        raise protocol_error("a push, which was not enabled")

    # Header blocks.

    def _take_headers(self, flags: int, number: int, payload: memoryview) -> None:
        self._known(number)
        data = frames.without_priority(flags, frames.unpadded(flags, payload))
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._take_block(number, self._reader.read(bytes(data)), ends=ends)
        else:
            self._unfinished = _Unfinished(number, ends, bytearray(data))

    def _take_continuation(self, flags: int, number: int, payload: memoryview) -> None:
        unfinished = self._unfinished
        if unfinished is None or number != unfinished.stream:
            raise protocol_error("CONTINUATION of nothing")
        unfinished.data += payload
        unfinished.cost += frames.HEADER.size  # empty frames are not for nothing
        if len(unfinished.data) + unfinished.cost > MAX_BLOCK:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "an endless header block")
        if flags & frames.END_HEADERS:
            self._unfinished = None
            self._take_block(number, self._reader.read(bytes(unfinished.data)), ends=unfinished.ends)

    def _take_block(self, number: int, block: Block, *, ends: bool) -> None:
        """Take a response's headers, of which interim ones (1xx) mean nothing here, or its trailers."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if block.fault or not _in_place(block, answered=stream.answered, ends=ends):
            self._fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not block.interim:
            stream.answered = True
            self._events.append(HeadersCame(number, block.fields))
            if ends:
                self._end(number)

    # The connection.

    def _take_settings(self, flags: int, number: int, payload: memoryview) -> None:
        _of_connection(number)
        if flags & frames.ACK:
            if payload:
                raise frames.size_error("an acknowledgement with settings")
            self._reader.end_table()
            return
        before, self._peer = self._peer, self._peer.after(payload)
        self.settled = True
        self._outbox.max_frame = self._peer.max_frame
        self._widen_all(self._peer.initial_window - before.initial_window)
        self._answer(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _widen_all(self, amount: int) -> None:
        for stream in self._streams.values():
            if not stream.message.window.widen(amount):
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window grew too large")

    def _take_ping(self, flags: int, number: int, payload: memoryview) -> None:
        _of_connection(number)
        if len(payload) != frames.PING_SIZE:
            raise frames.size_error("PING of a wrong size")
        if not flags & frames.ACK:
            self._answer(frames.frame(frames.PING, frames.ACK, 0, bytes(payload)))

    def _answer(self, answer: bytes) -> None:
        """Queue what the peer is owed. One that asks and takes no answers is stopped."""
        self._owed += 1
        if self._owed > MAX_OWED:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the peer asks more than it takes answers")
        self._out.append(answer)

    def _take_goaway(self, _flags: int, number: int, payload: memoryview) -> None:
        """Take no new streams; those that the peer did not process are over."""
        _of_connection(number)
        last, code = frames.word(payload) & frames.STREAM_MASK, frames.word(payload, 4)
        text = bytes(payload[8 : 8 + MAX_TEXT]).decode("ascii", "replace")
        self.goodbye = f"{frames.code_name(code)} {text}".rstrip()
        for unprocessed in sorted(stream for stream in self._streams if stream > last):
            self._forget(unprocessed)
            self._events.append(StreamReset(unprocessed, ErrorCode.REFUSED_STREAM))

    def _take_window(self, _flags: int, number: int, payload: memoryview) -> None:
        amount = frames.only_word(payload) & frames.STREAM_MASK
        if number:
            self._widen(number, amount)
        elif not amount:
            raise protocol_error("a window update of nothing")
        elif not self._outbox.window.widen(amount):
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window grew too large")

    def _widen(self, number: int, amount: int) -> None:
        stream = self._known(number)
        if stream is None:
            return
        if not amount:
            self._fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not stream.message.window.widen(amount):
            self._fail(number, ErrorCode.FLOW_CONTROL_ERROR)


def _in_place(block: Block, *, answered: bool, ends: bool) -> bool:
    """Say whether headers come first, and trailers last (RFC 9113, 8.1)."""
    if block.status is None:
        return answered and ends
    return not answered and not (block.interim and ends)


def _of_connection(stream: int) -> None:
    if stream:
        raise protocol_error("a frame of the connection on a stream")
