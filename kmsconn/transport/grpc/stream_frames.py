"""The frames that a peer sends on streams: data, headers, resets, windows, as one response after the other. No I/O.

* A malformed response, and a window that was not kept, reset their stream only.
* Data counts against the connection's window, and a header block updates the header table, even where the stream is over.
* A header block may come in several frames, with no other frame between them.

Source: RFC 9113; frames 6, responses 8.1.
"""

from __future__ import annotations

import attrs

from kmsconn.transport.grpc import frames
from kmsconn.transport.grpc.flow import Credit
from kmsconn.transport.grpc.frames import ErrorCode, Http2Error, protocol_error
from kmsconn.transport.grpc.headers import MAX_BLOCK, HeaderBlock, Reader
from kmsconn.transport.grpc.outbox import Outbox
from kmsconn.transport.grpc.streams import DataCame, HeadersCame, Streams


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
        stream = self.streams.find(number)
        if not self.credit.take(len(payload)):
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window was not kept")
        if grant := self.credit.grant():
            self.outbox.say(frames.word_frame(frames.WINDOW_UPDATE, 0, grant))
        data = frames.unpadded(flags, payload)
        if stream is None:
            return
        if not stream.answered:
            self.streams.fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not stream.credit.take(len(payload)):
            self.streams.fail(number, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            if data:
                self.streams.events.append(DataCame(number, data))
            if flags & frames.END_STREAM:
                self.streams.end(number, stream)
            else:
                self.streams.grant(number, stream)

    def take_headers(self, flags: int, number: int, payload: memoryview) -> None:
        """Take HEADERS: a response's headers or trailers, or the beginning of them."""
        self.streams.find(number)
        data = frames.without_priority(flags, frames.unpadded(flags, payload))
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._take_block(number, bytes(data), ends=ends)
        else:
            self.unfinished = _Unfinished(number, ends, bytearray(data))

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
        if block.fault or not _in_place(block, answered=stream.answered, ends=ends):
            self.streams.fail(number, ErrorCode.PROTOCOL_ERROR)
        elif not block.interim:
            stream.answered = True
            self.streams.events.append(HeadersCame(number, block.fields))
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


def _in_place(block: HeaderBlock, *, answered: bool, ends: bool) -> bool:
    """Say whether headers come first, and trailers last (RFC 9113, 8.1)."""
    if block.status is None:
        return answered and ends
    return not answered and not (block.interim and ends)
