"""The plainest frames of a websocket, whole text messages: written, and cut out of what comes. No I/O, and no Trio.

All questions are such frames, and nearly all answers. ``wsproto`` reads every other one, so of those only the extent is found out here.
Source: RFC 6455, 5.2 and 5.3.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

_FINAL, _MASKED, _OPCODE, _SIZE = 0x80, 0x80, 0x0F, 0x7F  # bits of the first two bytes
_FINAL_TEXT = 0x81
_CONTROL = 0x8  # the first opcode of frames that may stand between the pieces of a message
_TWO_BYTES, _EIGHT_BYTES = 126, 127  # where a size stands that has no place in the second byte
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
    if len(data) - at < _SHORT.size:
        return None
    size, start = data[at + 1] & _SIZE, at + _SHORT.size
    if size >= _TWO_BYTES:
        length = 2 if size == _TWO_BYTES else 8
        size = int.from_bytes(data[start : start + length])
        start += length
    start += 4 * bool(data[at + 1] & _MASKED)
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
            if self._is_plain(data, at, start, end):
                if begun < at:
                    yield False, data[begun:at]
                yield True, data[start:end]
                begun = end
            else:
                self._pass(data[at], max(0, end - len(data)))
            at = min(end, len(data))
        self._head = data[at:]
        if begun < at:
            yield False, data[begun:at]

    def _is_plain(self, data: bytes, at: int, start: int, end: int) -> bool:
        size, long = end - start, start - at > _SHORT.size
        return (
            data[at] == _FINAL_TEXT
            and data[at + 1] <= _TWO_BYTES
            and (size >= _TWO_BYTES or not long)  # else a frame that ends the connection
            and size <= self._limit
            and end <= len(data)
            and not self._in_pieces
            and data[start:end].isascii()
        )

    def _pass(self, first: int, missing: int) -> None:
        self._passing = missing
        if first & _OPCODE < _CONTROL:
            self._in_pieces = not first & _FINAL
