"""The streams of a connection: which are open, what the peer says on each, what is sent; knows no frame of the connection.

* A stream is known from ``open`` until either side ended it for good. What still comes for one that is no longer known
  was under way when it ended, and is passed over.
* A malformed response, and a window that was not kept, reset their stream only.

Source: RFC 9113; stream states 5.1, windows 5.2, responses 8.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.flow import Credit
from kmsconn.transport.grpc.frames import ErrorCode, Http2Error, protocol_error
from kmsconn.transport.grpc.headers import NO_TABLE, Header, HeaderBlock, encode
from kmsconn.transport.grpc.outbox import Message, Outbox
from kmsconn.transport.grpc.peer_settings import FIRST_WINDOW

STREAM_WINDOW = 1024 * 1024

_LAST_STREAM = 2**31 - 3


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


class Streams:
    """The streams that are not over. ``say`` queues a frame, ``tell`` an event."""

    def __init__(self, say: Callable[[bytes], None], tell: Callable[[Event], None]) -> None:
        self.outbox = Outbox()
        self.initial_window = FIRST_WINDOW
        self._say, self._tell = say, tell
        self._open: dict[int, _Stream] = {}
        self._next = 1

    @property
    def exhausted(self) -> bool:
        """Whether there is no number left for another stream."""
        return self._next > _LAST_STREAM

    def open(self, headers: Sequence[Header], parts: Iterable[bytes]) -> int:
        """Open a stream, queue its headers and message, and return its number."""
        number = self._next
        self._next += 2
        message = Message.of(number, self.initial_window, parts)
        self._open[number] = _Stream(message, Credit(STREAM_WINDOW))
        block = (NO_TABLE if number == 1 else b"") + encode(headers)
        flags = frames.END_HEADERS | (0 if message.unsent else frames.END_STREAM)
        self._say(frames.frame(frames.HEADERS, flags, number, block))
        if message.unsent:
            self.outbox.add(message)
        return number

    def close(self, number: int) -> None:
        """Give a stream up: RST_STREAM with CANCEL unless it is over, and nothing more is sent of it."""
        if number in self._open:
            self._reset(number, ErrorCode.CANCEL)

    def hold(self, number: int) -> None:
        """Grant the peer no more of a stream than it has."""
        if stream := self._open.get(number):
            stream.held = True

    def resume(self, number: int) -> None:
        """Grant again what was used up."""
        if stream := self._open.get(number):
            stream.held = False
            self._grant(number, stream)

    def check(self, number: int) -> None:
        """Raise Http2Error for a stream that was never opened: the peer made it up."""
        if number not in self._open and not (number & 1 and number < self._next):
            raise protocol_error(f"a frame of stream {number}, which was never opened")

    # What the peer says.

    def take_data(self, number: int, size: int, data: memoryview, *, ends: bool) -> None:
        """Take data; ``size`` is what it counts with its padding."""
        stream = self._open.get(number)
        if stream is None:
            return
        if not stream.answered:
            self.fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not stream.credit.take(size):
            self.fail(number, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self._deliver(number, stream, data, ends=ends)

    def _deliver(self, number: int, stream: _Stream, data: memoryview, *, ends: bool) -> None:
        if data:
            self._tell(DataCame(number, data))
        if ends:
            self._end(number)
        elif not stream.held:
            self._grant(number, stream)

    def _grant(self, number: int, stream: _Stream) -> None:
        if grant := stream.credit.grant():
            self._say(frames.word_frame(frames.WINDOW_UPDATE, number, grant))

    def take_block(self, number: int, block: HeaderBlock, *, ends: bool) -> None:
        """Take a response's headers, of which interim ones (1xx) mean nothing here, or its trailers."""
        stream = self._open.get(number)
        if stream is None:
            return
        if block.fault or not _in_place(block, answered=stream.answered, ends=ends):
            self.fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not block.interim:
            stream.answered = True
            self._tell(HeadersCame(number, block.fields))
            if ends:
                self._end(number)

    def take_reset(self, number: int, code: int) -> None:
        """Take the peer's word that a stream is over."""
        if number in self._open:
            self._forget(number)
            self._tell(StreamReset(number, code))

    def refuse_above(self, last: int) -> None:
        """End the streams that the peer did not process."""
        for number in sorted(number for number in self._open if number > last):
            self.take_reset(number, ErrorCode.REFUSED_STREAM)

    def widen(self, number: int, amount: int) -> None:
        """Let more of a message go; an amount of nothing or too much resets its stream."""
        stream = self._open.get(number)
        if stream is None:
            return
        if not amount:
            self.fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not stream.message.window.widen(amount):
            self.fail(number, ErrorCode.FLOW_CONTROL_ERROR)

    def change_initial_window(self, size: int) -> None:
        """Let more, or less, of every message go. Raises Http2Error where a window grows too large."""
        amount, self.initial_window = size - self.initial_window, size
        for stream in self._open.values():
            if not stream.message.window.widen(amount):
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window grew too large")

    def fail(self, number: int, code: ErrorCode) -> None:
        """Reset a stream that the peer spoiled, if it is not over."""
        if number in self._open:
            self._reset(number, code)
            self._tell(StreamReset(number, code))

    # The end of a stream.

    def _end(self, number: int) -> None:
        """Take the peer's last word; stop sending what it no longer waits for (RFC 9113, 8.1)."""
        if self._open[number].message.unsent:
            self._reset(number, ErrorCode.CANCEL)
        else:
            self._forget(number)
        self._tell(StreamEnded(number))

    def _reset(self, number: int, code: ErrorCode) -> None:
        self._forget(number)
        self._say(frames.word_frame(frames.RST_STREAM, number, code))

    def _forget(self, number: int) -> None:
        self.outbox.drop(self._open.pop(number).message)


def _in_place(block: HeaderBlock, *, answered: bool, ends: bool) -> bool:
    """Say whether headers come first, and trailers last (RFC 9113, 8.1)."""
    if block.status is None:
        return answered and ends
    return not answered and not (block.interim and ends)
