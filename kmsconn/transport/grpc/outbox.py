"""Frames and messages on their way out: control frames first, then messages as their turn and the windows allow; no I/O.

Message bytes wait as views of the caller's pieces; they are copied once, when the pieces to write are joined. Streams
take turns, one frame each, so that a large message does not hold back small ones.

Source: RFC 9113, 5.2 and 6.1.
"""

from __future__ import annotations

from collections import deque

import attrs

from kmsconn.transport.grpc.frames import (
    DATA,
    END_STREAM,
    FIRST_WINDOW,
    SMALLEST_MAX_FRAME,
    ErrorCode,
    Http2Error,
    Window,
    head,
)

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

    def drop(self, message: Message) -> None:
        """Send no more of a message."""
        if message.unsent:
            message.unsent.clear()
            self.turns.remove(message)  # its turn may never come

    def fill(self, budget: int) -> list[Piece]:
        """Return the next frames, in pieces: about ``budget`` message bytes, as far as the windows allow."""
        out, self.control, self.owed = self.control, [], 0
        for _ in range(len(self.turns)):
            if budget <= 0 or self.window.left <= 0:
                break
            budget -= self._take_turn(budget, out)
        return out

    def _take_turn(self, budget: int, out: list[Piece]) -> int:
        """Give the first message frames while it is alone, else one, and put it last; return the bytes of them."""
        message, sent = self.turns.popleft(), 0
        while message.unsent and sent < budget and (size := self._send_frame(message, out)):
            sent += size
            if self.turns:
                break
        if message.unsent:
            self.turns.append(message)
        return sent

    def _send_frame(self, message: Message, out: list[Piece]) -> int:
        """Add one frame and return its size; 0 when a window is closed."""
        room = min(message.window.left, self.window.left, self.max_frame)
        if room <= 0:
            return 0
        pieces = _take(message.unsent, room)
        size = sum(map(len, pieces))
        message.window.left -= size
        self.window.left -= size
        out.append(head(DATA, 0 if message.unsent else END_STREAM, message.stream, size))
        out += pieces
        return size


def _take(unsent: deque[memoryview], room: int) -> list[memoryview]:
    """Take up to ``room`` bytes from the front."""
    taken = []
    while unsent and room:
        piece = unsent[0]
        if len(piece) <= room:
            unsent.popleft()
        else:
            unsent[0], piece = piece[room:], piece[:room]
        taken.append(piece)
        room -= len(piece)
    return taken
