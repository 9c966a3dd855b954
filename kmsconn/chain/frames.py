"""WebSocket frames as data: a client's out, a server's in (RFC 6455). Never does I/O, and never looks into a message.

The rules: a frame that the RFC does not allow ends the connection, as the server's closing does; what came before it counts. A
message is given as bytes, whether text or binary: whoever reads it finds out. No extension is offered, so no frame may use one. A
message has a limit, and its length is held against that before its bytes are kept. How the bytes were split on their way changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class Opcode(IntEnum):
    """What a frame is (5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


NORMAL, PROTOCOL_ERROR, TOO_BIG = 1000, 1002, 1009
"""Close codes that a client sends (7.4.1)."""

_FIN, _EXTENSIONS, _OPCODE = 0x80, 0x70, 0x0F
_MASKED = 0x80
_CONTROL = 0x08  # the bit that the opcodes of control frames have, and no others
_SHORT, _TWO_BYTES, _EIGHT_BYTES = (
    125,
    126,
    127,
)  # the longest length in a head's second byte; where a longer one stands
_OPCODES = frozenset(Opcode)
_XOR = [bytes(byte ^ key for byte in range(256)) for key in range(256)]
_WHOLE = frozenset({_FIN | Opcode.TEXT, _FIN | Opcode.BINARY})


def frame(opcode: Opcode, payload: bytes, key: bytes) -> bytes:
    """Write one whole frame of a client, masked with ``key``: four bytes, new for each frame, that nobody can predict (5.3)."""
    size = len(payload)
    if size <= _SHORT:
        head = bytes((_FIN | opcode, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((_FIN | opcode, _MASKED | _TWO_BYTES)) + size.to_bytes(2)
    else:
        head = bytes((_FIN | opcode, _MASKED | _EIGHT_BYTES)) + size.to_bytes(8)
    return head + key + masked(payload, key)


def masked(payload: bytes, key: bytes) -> bytes:
    """Return the payload with the key over it, again and again: once masks, twice is as before.

    By tables, one for each byte of the key: beyond some hundred bytes faster than one large XOR of Python's integers.
    """
    out = bytearray(payload)
    for at, byte in enumerate(key):
        out[at::4] = out[at::4].translate(_XOR[byte])
    return bytes(out)


class FrameReader:
    """Takes what a server sends and gives its messages. ``respond`` is called with each control frame that is owed for it."""

    def __init__(self, max_message: int, respond: Callable[[Opcode, bytes], object]) -> None:
        self.ended: str | None = None
        """Why nothing more comes: the server closed, or sent what it must not."""
        self._max, self._respond = max_message, respond
        self._rest = bytearray()
        self._needed = 0
        """How long the rest must be before it is worth a look."""
        self._fragments: bytearray | None = None

    def receive(self, data: bytes) -> list[bytes]:
        """Take what came, and return the messages that are whole now. After the end there are none."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
        messages: list[bytes] = []
        at = 0
        while self.ended is None:
            start, end = self._payload(data, at)
            if self.ended is not None or end > len(data):
                self._needed = end - at
                break
            self._take(data[at], data[start:end], messages)
            at = end
        self._rest = bytearray() if self.ended is not None else bytearray(data[at:])
        return messages

    def _payload(self, data: bytes, at: int) -> tuple[int, int]:
        """Return where the payload of the frame at ``at`` begins and ends; beyond the data while the frame is not whole."""
        start = at + 2
        if start > len(data):
            return start, start
        size = data[at + 1]
        if size & _MASKED:
            self._fail(PROTOCOL_ERROR, "a masked frame")
        elif size > _SHORT:
            start += 2 if size == _TWO_BYTES else 8
            if start > len(data):
                return start, start
            size = self._long(data[at + 2 : start])
        if size > self._max or data[at] not in _WHOLE or self._fragments is not None:
            self._judge(data[at], size)
        return start, start + size

    def _long(self, digits: bytes) -> int:
        """Read a length behind the head's first two bytes; it must need so many (5.2)."""
        size = int.from_bytes(digits)
        if size <= _SHORT or (size < 1 << 16 and len(digits) > 2):  # noqa: PLR2004 - of two lengths of lengths
            self._fail(PROTOCOL_ERROR, "a length with leading zeros")
        return size

    def _judge(self, first: int, size: int) -> None:
        """Fail for a frame that may not come now: by its first byte, and its size."""
        opcode = first & _OPCODE
        if first & _EXTENSIONS or opcode not in _OPCODES:
            self._fail(PROTOCOL_ERROR, f"a frame of unknown kind {first:#04x}")
        elif opcode & _CONTROL:
            if size > _SHORT or not first & _FIN:
                self._fail(PROTOCOL_ERROR, "a control frame that is long or in pieces")
        elif (opcode == Opcode.CONTINUATION) == (self._fragments is None):
            self._fail(PROTOCOL_ERROR, "a message within another, or the continuation of none")
        elif size + len(self._fragments or b"") > self._max:
            self._fail(TOO_BIG, f"a message of more than {self._max} bytes")

    def _take(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            self._control(opcode, payload)
        elif first in _WHOLE:
            messages.append(payload)
        else:
            self._fragments = self._fragments or bytearray()
            self._fragments += payload
            if first & _FIN:
                messages.append(bytes(self._fragments))
                self._fragments = None

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            self._respond(Opcode.PONG, payload)
        elif opcode == Opcode.CLOSE:
            self._respond(Opcode.CLOSE, NORMAL.to_bytes(2))
            self.ended = _farewell(payload)

    def _fail(self, code: int, what: str) -> None:
        if self.ended is None:
            self._respond(Opcode.CLOSE, code.to_bytes(2))
            self.ended = f"the server sent {what}"


def _farewell(payload: bytes) -> str:
    """Say with which code and reason a server closed (5.5.1), whatever they are."""
    if len(payload) < 2:  # noqa: PLR2004 - the code
        return "closed"
    return f"closed with {int.from_bytes(payload[:2])} {payload[2:].decode(errors='replace')}".rstrip()
