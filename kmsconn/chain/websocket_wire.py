"""The client's end of a websocket as data: ``wsproto`` makes the handshake, frames are written and read here (RFC 6455, 5).

A frame that must not be, and a message above a limit, which is refused by what its head announces, end the connection, as the server's
closing does: with one text for the log. A message is given as bytes, text or binary: whoever reads it finds out. No I/O, and no Trio.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError

from kmsconn.transport.urls import Url
from kmsconn.transport.wrong_peers import protocol_of

_FINAL, _MASKED, _OPCODE = 0x80, 0x80, 0x0F  # bits of the first two bytes
# Opcodes: those from 8 on may stand between the pieces of a message.
TEXT, _CLOSE, PING, _PONG = 0x1, 0x8, 0x9, 0xA
_FIRST_BYTES = {0x0, TEXT, 0x2} | {_FINAL | opcode for opcode in (0x0, TEXT, 0x2, _CLOSE, PING, _PONG)}
_TWO_BYTES, _EIGHT_BYTES = 126, 127  # where a size stands that has no place in the second byte
_LONG_SIZES = {_TWO_BYTES: (2, _TWO_BYTES), _EIGHT_BYTES: (8, 1 << 16)}
"""In how many bytes it stands there, and the least one that does."""
_HEAD = 2  # bytes at least
_SHORT, _MEDIUM, _LONG = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")
_BEGINNING, _END_OF_HEAD = b"HTTP/", b"\r\n\r\n"  # of the answer to the handshake


def client_frame(opcode: int, body: bytes) -> bytes:
    """Return a client's frame: a whole message, or what the two ends tell each other."""
    size, key = len(body), os.urandom(4)
    mask = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(body, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")
    if size < _TWO_BYTES:
        head = _SHORT.pack(_FINAL | opcode, _MASKED | size)
    elif size < 1 << 16:
        head = _MEDIUM.pack(_FINAL | opcode, _MASKED | _TWO_BYTES, size)
    else:
        head = _LONG.pack(_FINAL | opcode, _MASKED | _EIGHT_BYTES, size)
    return head + key + masked


class NoWebsocket(Exception):  # noqa: N818 - what was found
    """The server's answer opens no websocket."""


class WebSocketWire:
    """One connection, from its handshake on."""

    def __init__(self, url: Url, max_message: int) -> None:
        """Prepare the handshake. Raises NoWebsocket for a URL that no request can name."""
        self.ended: str | None = None
        """Why nothing more comes: the server closed, or sent what it must not."""
        self._max, self._received, self._pieces = max_message, bytearray(), bytearray()
        self._begun = False  # a message comes in pieces, and no other one may begin
        self._farewell = b""  # what the end is answered with
        self._ws = WSConnection(ConnectionType.CLIENT)
        authorization = [(b"Authorization", url.authorization.encode())] if url.authorization else []
        try:
            self.request = self._ws.send(Request(url.authority, url.target, extra_headers=authorization))
            """What to send first. Holds the URL's secrets."""
        except ValueError as error:
            raise NoWebsocket("the URL cannot be requested") from error

    def opens(self, data: bytes) -> bool:
        """Take what came of the server's answer, and say whether the websocket is open. Raises NoWebsocket."""
        seen = len(self._received)
        self._received += data
        if not self._received.startswith(_BEGINNING[: len(self._received)]):
            raise NoWebsocket(f"no websocket, the answer is {protocol_of(self._received) or 'no HTTP'}")
        end = self._received.find(_END_OF_HEAD, max(0, seen - len(_END_OF_HEAD)))
        end = len(self._received) if end < 0 else end + len(_END_OF_HEAD)
        try:
            self._ws.receive_data(bytes(self._received[seen:end]))
            event = next(self._ws.events(), None)
        except (ProtocolError, ValueError) as error:
            raise NoWebsocket(f"no websocket, {error}") from error
        if isinstance(event, RejectConnection):
            raise NoWebsocket(f"no websocket, HTTP {event.status_code}")
        opened = isinstance(event, AcceptConnection)
        if opened:
            del self._received[:end]  # what stands behind the answer are frames
        return opened

    def receive(self, data: bytes, respond: Callable[[bytes], object]) -> Iterator[bytes | None]:
        """Take what came, and yield for each frame the message that it ends, or None. After the end there is nothing.

        ``respond`` is called with each control frame that is owed to the server.
        """
        if self.ended is not None:
            return
        self._received += data
        at = 0
        while len(self._received) >= at + _HEAD and (extent := self._extent(at)) is not None:
            first, (start, end) = self._received[at], extent
            body, at = bytes(self._received[start:end]), end
            if first & _OPCODE < _CLOSE:
                yield body if first & _FINAL and not self._begun else self._message(first, body)
            else:
                self._control(first & _OPCODE, body, respond)
                yield None
                if self.ended is not None:
                    break
        del self._received[:at]
        if self.ended is not None:
            respond(client_frame(_CLOSE, self._farewell))

    def _extent(self, at: int) -> tuple[int, int] | None:
        """Return where the body of a frame begins and ends; None while it is not whole, and for one that ends the connection.

        Its first two bytes are there.
        """
        received, start = self._received, at + _HEAD
        first, size = received[at], received[at + 1]
        opcode, least, masked = first & _OPCODE, 0, size >= _MASKED
        if (long := _LONG_SIZES.get(size)) is not None:
            length, least = long
            if len(received) < start + length:
                return None
            size = int.from_bytes(received[start : start + length])
            start += length
        goes_on = (opcode == 0) == self._begun
        fits = goes_on if opcode < _CLOSE else size < _TWO_BYTES and (opcode, size) != (_CLOSE, 1)
        if not fits or first not in _FIRST_BYTES or masked or size < least:
            why = f"a frame must not begin with 0x{received[at:start].hex()}"
            self._end(CloseReason.PROTOCOL_ERROR, f"the server broke the protocol: {why}")
        elif opcode < _CLOSE and len(self._pieces) + size > self._max:
            too_big = f"the server sent a message of more than {self._max} bytes"
            self._end(CloseReason.MESSAGE_TOO_BIG, too_big)
        elif start + size <= len(received):
            return start, start + size
        return None

    def _message(self, first: int, body: bytes) -> bytes | None:
        """Keep a piece of a message, and return that once it is whole."""
        self._pieces += body
        self._begun = not first & _FINAL
        if self._begun:
            return None
        message = bytes(self._pieces)
        self._pieces.clear()
        return message

    def _control(self, opcode: int, body: bytes, respond: Callable[[bytes], object]) -> None:
        if opcode == PING:
            respond(client_frame(_PONG, body))
        elif opcode == _CLOSE:
            code, reason = int.from_bytes(body[:2]), body[2:].decode(errors="replace")
            self.ended = f"closed with {code} {reason}".rstrip() if body else "closed"
            self._farewell = body[:2]

    def _end(self, code: int, why: str) -> None:
        self.ended, self._farewell = why, code.to_bytes(2)
