"""The table of a connection's streams, and their frames and messages on the way out. No I/O.

A stream is known from ``open`` until either side ended it for good. Frames that come later were under way when it ended, and are
passed over. What goes out: control frames first, then messages as their turn and the windows allow. Their bytes wait as views of the
caller's pieces and are copied once, when the pieces to write are joined; streams take turns, one frame each, so that a large message
does not hold back small ones.

Source: RFC 9113; stream states 5.1, windows 5.2, DATA 6.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

import attrs

from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.frames import (
    DATA,
    END_STREAM,
    FIRST_WINDOW,
    SMALLEST_MAX_FRAME,
    Credit,
    ErrorCode,
    Http2Error,
    Window,
    head,
    protocol_error,
)
from kmsconn.transport.grpc.headers import NO_TABLE, Header, encode

MAX_OWED = 1000  # answers to pings and settings that wait to be written

Piece = bytes | memoryview


@attrs.define(eq=False)
class Message:
    """The unsent rest of one stream's message, and how much of it the peer will take."""

    stream: int
    window: Window
    unsent: deque[memoryview]


class Outbox:
    """Frames and messages that wait to be written. ``window`` is the connection's, ``max_frame`` what the peer takes."""

    def __init__(self) -> None:
        self.owed = 0
        """Answers to the peer among them."""
        self.control: list[Piece] = []
        """Frames that go before messages; a new one is put last."""
        self.window = Window(FIRST_WINDOW)
        self.max_frame = SMALLEST_MAX_FRAME
        self.turns: deque[Message] = deque()
        """Messages of which something is unsent; who has one puts it last."""

    def answer(self, frame: bytes) -> None:
        """Put an answer last that the peer is owed. Raises Http2Error for a peer that asks and takes no answers."""
        self.owed += 1
        if self.owed > MAX_OWED:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the peer asks more than it takes answers")
        self.control.append(frame)

    def fill(self, budget: int) -> list[Piece]:
        """Return the next frames, in pieces: about ``budget`` message bytes, as far as the windows allow."""
        out, self.control, self.owed = self.control, [], 0
        shut = 0  # messages in a row whose windows let nothing pass
        while budget > 0 and self.window.left > 0 and shut < len(self.turns):
            message = self.turns.popleft()
            size = self._send_frame(message, out)
            shut = 0 if size else shut + 1
            budget -= size
            if message.unsent:
                self.turns.append(message)
        return out

    def _send_frame(self, message: Message, out: list[Piece]) -> int:
        """Add one frame and return its size; 0 when a window is closed."""
        room = min(message.window.left, self.window.left, self.max_frame)
        if room <= 0:
            return 0
        pieces, size, unsent = [], 0, message.unsent
        while unsent and size < room:
            piece = unsent.popleft()
            if len(piece) > room - size:
                unsent.appendleft(piece[room - size :])
                piece = piece[: room - size]
            pieces.append(piece)
            size += len(piece)
        message.window.left -= size
        self.window.left -= size
        out += (head(DATA, 0 if unsent else END_STREAM, message.stream, size), *pieces)
        return size


STREAM_WINDOW = 1024 * 1024

_LAST_STREAM = 2**31 - 3


class StreamTaker(Protocol):
    """Takes what the peer says on a stream, at once, as it is read from what came."""

    def take_headers(self, fields: tuple[Header, ...]) -> None:
        """Take headers or trailers."""

    def take_data(self, data: bytes | memoryview) -> None:
        """Take bytes of the message, a view of what was received."""

    def take_end(self) -> None:
        """Take that the peer has said all it has to say."""

    def take_reset(self, code: int) -> None:
        """Take that the stream is over before its end; REFUSED_STREAM says that the peer did nothing with it."""


@attrs.define(eq=False)
class Stream:
    """A stream that is not over: its unsent message, the bytes that the peer may send, who takes what it says, whether its headers came.

    A stream that is ``held`` is granted no more than it has.
    """

    message: Message
    credit: Credit
    taker: StreamTaker
    answered: bool = False
    held: bool = False


class Streams:
    """The streams that are not over."""

    def __init__(self, outbox: Outbox) -> None:
        self.initial_window = FIRST_WINDOW
        self._outbox = outbox
        self._open: dict[int, Stream] = {}
        self._next = 1
        self.over = False
        """Whether no other stream may be opened: there is no number left, or the peer takes none."""

    # What the caller does.

    def open(self, headers: tuple[Header, ...], parts: Iterable[bytes], taker: StreamTaker) -> int:
        """Open a stream, queue its headers and message, and return its number; ``taker`` has what is answered."""
        number = self._next
        self._next += 2
        self.over = self.over or self._next > _LAST_STREAM
        unsent = deque([memoryview(part) for part in parts if part])
        message = Message(number, Window(self.initial_window), unsent)
        self._open[number] = Stream(message, Credit(STREAM_WINDOW), taker)
        block = (NO_TABLE if number == 1 else b"") + encode(headers)
        flags = frames.END_HEADERS | (0 if message.unsent else frames.END_STREAM)
        self._outbox.control += (head(frames.HEADERS, flags, number, len(block)), block)
        if message.unsent:
            self._outbox.turns.append(message)
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
            self.grant(number, stream)

    # What the peer's frames do.

    def find(self, number: int) -> Stream | None:
        """Return a stream, None for one that is over. Raises Http2Error for one that was never opened: the peer made it up."""
        stream = self._open.get(number)
        if stream is None and not (number & 1 and number < self._next):
            raise protocol_error(f"a frame of stream {number}, which was never opened")
        return stream

    def grant(self, number: int, stream: Stream) -> None:
        """Let the peer send again what it has used up, unless the stream is held."""
        if not stream.held and (grant := stream.credit.grant()):
            self._outbox.control.append(frames.word_frame(frames.WINDOW_UPDATE, number, grant))

    def change_initial_window(self, size: int) -> None:
        """Let more, or less, of every message go. Raises Http2Error where a window grows too large."""
        amount, self.initial_window = size - self.initial_window, size
        for stream in self._open.values():
            if not stream.message.window.widen(amount):
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window grew too large")

    def end(self, number: int, stream: Stream) -> None:
        """Take the peer's last word; stop sending what it no longer waits for (RFC 9113, 8.1)."""
        if stream.message.unsent:
            self._reset(number, ErrorCode.CANCEL)
        else:
            self._forget(number)
        stream.taker.take_end()

    def fail(self, number: int, code: ErrorCode) -> None:
        """Reset a stream that the peer spoiled, if it is not over."""
        if number in self._open:
            self._reset(number, code).taker.take_reset(code)

    def take_reset(self, number: int, code: int) -> None:
        """Take the peer's word that a stream is over."""
        if number in self._open:
            self._forget(number).taker.take_reset(code)

    def refuse_above(self, last: int) -> None:
        """Open no other stream, and end those that the peer did not process."""
        self.over = True
        for number in sorted(number for number in self._open if number > last):
            self.take_reset(number, ErrorCode.REFUSED_STREAM)

    def _reset(self, number: int, code: ErrorCode) -> Stream:
        self._outbox.control.append(frames.word_frame(frames.RST_STREAM, number, code))
        return self._forget(number)

    def _forget(self, number: int) -> Stream:
        stream = self._open.pop(number)
        if stream.message.unsent:
            stream.message.unsent.clear()
            self._outbox.turns.remove(stream.message)  # its turn may never come
        return stream
