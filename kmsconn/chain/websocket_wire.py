"""The client's end of a websocket as data: ``wsproto`` reads and writes the handshake and the frames. No I/O, and no Trio.

The plainest frames, whole text messages, are written and cut out here, in a fifth of the time: all questions are such frames, and nearly
all answers. Of every other one only the extent is found out (RFC 6455, 5.2 and 5.3).

Beside the library stand a limit on a message, which is counted as its bytes arrive, and the refusal of everything by which a server
may end the connection as one text for the log. A message is given as bytes, whether text or binary: whoever reads it finds out.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    Request,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError

from kmsconn.transport.urls import Url

_FINAL, _MASKED, _OPCODE, _SIZE = 0x80, 0x80, 0x0F, 0x7F  # bits of the first two bytes
_FINAL_TEXT = 0x81
_CONTROL = 0x8  # the first opcode of frames that may stand between the pieces of a message
_TWO_BYTES, _EIGHT_BYTES = 126, 127  # where a size stands that has no place in the second byte
_HEAD = 2  # bytes at least
_SHORT, _MEDIUM, _LONG = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")


def text_frame(message: bytes) -> bytes:
    """Return a client's frame with a whole text message."""
    size, key = len(message), os.urandom(4)
    mask = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(message) ^ int.from_bytes(mask)).to_bytes(size)
    if size < _TWO_BYTES:
        head = _SHORT.pack(_FINAL_TEXT, _MASKED | size)
    elif size < 1 << 16:
        head = _MEDIUM.pack(_FINAL_TEXT, _MASKED | _TWO_BYTES, size)
    else:
        head = _LONG.pack(_FINAL_TEXT, _MASKED | _EIGHT_BYTES, size)
    return head + key + masked


def _extent(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the body of a frame begins and ends; None while its head is not whole."""
    if len(data) - at < _HEAD:
        return None
    second, start = data[at + 1], at + _HEAD
    size = second & _SIZE
    if size >= _TWO_BYTES:
        length = 2 if size == _TWO_BYTES else 8
        size = int.from_bytes(data[start : start + length])
        start += length
    if second & _MASKED:
        start += 4
    return None if len(data) < start else (start, start + size)


class FrameCutter:
    """Cuts what a server sends from the end of the handshake on: into plain messages, and everything else as it came.

    A message is plain in one unmasked frame of at most 64 KiB, no more than ``limit``, that has come as a whole, and in ASCII.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = b""  # what has come of one
        self._passing = 0  # bytes that are to come of a frame which is not plain
        self._in_pieces = False  # a message is under way, and no other one may begin

    def cut(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """Yield pieces in order, each with whether it is a plain message. Only the beginning of a head is kept for the next time."""
        data = self._head + data
        begun, at = 0, min(self._passing, len(data))  # ``begun``: since there it was everything else
        self._passing -= at
        while (extent := _extent(data, at)) is not None:
            start, end = extent
            first, second, size = data[at], data[at + 1], end - start
            if (
                first == _FINAL_TEXT
                and (
                    second < _TWO_BYTES or (second == _TWO_BYTES <= size)
                )  # else a frame that ends the connection
                and size <= self._limit
                and end <= len(data)
                and not self._in_pieces
                and data[start:end].isascii()
            ):
                if begun < at:
                    yield False, data[begun:at]
                yield True, data[start:end]
                begun = end
            else:
                self._passing = max(0, end - len(data))
                if first & _OPCODE < _CONTROL:
                    self._in_pieces = not first & _FINAL
            at = min(end, len(data))
        self._head = data[at:]
        if begun < at:
            yield False, data[begun:at]


_END_OF_HEAD = b"\r\n\r\n"


class NoWebsocket(Exception):  # noqa: N818 - what was found
    """The server's answer opens no websocket."""


class WebSocketWire:
    """One connection, from its handshake on."""

    def __init__(self, url: Url, max_message: int) -> None:
        """Prepare the handshake. Raises NoWebsocket for a URL that no request can name."""
        self.ended: str | None = None
        """Why nothing more comes: the server closed, or sent what it must not."""
        self._max, self._message = max_message, bytearray()
        self._cutter: FrameCutter | None = None
        self._ws = WSConnection(ConnectionType.CLIENT)
        authorization = [(b"Authorization", url.authorization.encode())] if url.authorization else []
        try:
            self.request = self._ws.send(Request(url.authority, url.target, extra_headers=authorization))
            """What to send first. Holds the URL's secrets."""
        except ValueError as error:
            raise NoWebsocket("the URL cannot be requested") from error

    def opens(self, data: bytes) -> bool:
        """Take what came of the server's answer, and say whether the websocket is open. Raises NoWebsocket."""
        try:
            self._ws.receive_data(data)
            event = next(self._ws.events(), None)
        except (ProtocolError, ValueError) as error:
            raise NoWebsocket(f"no websocket, {error}") from error
        if isinstance(event, RejectConnection):
            raise NoWebsocket(f"no websocket, HTTP {event.status_code}")
        opened = isinstance(event, AcceptConnection)
        if opened and data.endswith(_END_OF_HEAD) and data.count(_END_OF_HEAD) == 1:  # nothing came behind it
            self._cutter = FrameCutter(self._max)
        return opened

    def text(self, message: bytes) -> bytes:
        """Return a message as the bytes to send. Raises ConnectionError once the connection is closing."""
        if self._ws.state is not ConnectionState.OPEN:
            raise ConnectionError("the websocket is not open")
        return text_frame(message)

    def ping(self) -> bytes:
        """Return a ping as the bytes to send. Raises ConnectionError once the connection is closing."""
        return self._frame(Ping())

    def _frame(self, event: Event) -> bytes:
        try:
            return self._ws.send(event)
        except ProtocolError as error:
            raise ConnectionError(str(error)) from error

    def receive(self, data: bytes, respond: Callable[[bytes], object]) -> Iterator[bytes | None]:
        """Take what came, and yield for each piece of a frame the message that it ends, or None. After the end there is nothing.

        ``respond`` is called with each control frame that is owed to the server.
        """
        if self.ended is not None:
            return
        if self._cutter is None:
            yield from self._read(data, respond)
            return
        for is_plain, piece in self._cutter.cut(data):
            if is_plain:
                yield piece
            else:
                yield from self._read(piece, respond)
            if self.ended is not None:
                return

    def _read(self, data: bytes, respond: Callable[[bytes], object]) -> Iterator[bytes | None]:
        self._ws.receive_data(data)
        for event in self._ws.events():
            message = self._gather(event) if isinstance(event, Message) else None
            if message is None and (owed := self._owed(event)) is not None:
                respond(self._ws.send(owed))
            yield message
            if self.ended is not None:
                return

    def _gather(self, piece: Message[Any]) -> bytes | None:
        """Keep a piece of a message, and return that once it is whole."""
        data: bytes = piece.data.encode() if isinstance(piece.data, str) else piece.data
        if len(self._message) + len(data) > self._max:
            self.ended = f"the server sent a message of more than {self._max} bytes"
            return None
        if piece.message_finished and not self._message:
            return data
        self._message += data
        if not piece.message_finished:
            return None
        message, self._message = bytes(self._message), bytearray()
        return message

    def _owed(self, event: Event) -> Event | None:
        """Return what an event is answered with; take notice of the end."""
        if isinstance(event, Ping):
            return event.response()
        if isinstance(event, CloseConnection):
            closed = self._ws.state is ConnectionState.REMOTE_CLOSING
            self.ended = _farewell(event) if closed else f"the server broke the protocol: {event.reason}"
            return CloseConnection(event.code)
        return None if self.ended is None else CloseConnection(CloseReason.MESSAGE_TOO_BIG)


def _farewell(event: CloseConnection) -> str:
    if event.code == CloseReason.NO_STATUS_RCVD:
        return "closed"
    return f"closed with {int(event.code)} {event.reason or ''}".rstrip()
