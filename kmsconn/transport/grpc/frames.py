"""HTTP/2 frames as bytes: made, cut out of what came, their padding, sizes and settings judged; knows no stream's state, no I/O.

And flow control as numbers: how many bytes either side may still send, and how much of large replies may come in at once.

Source: RFC 9113, sections 4 (frames), 5.2 and 6.9 (flow control), 6 (their types; 6.5, settings) and 7 (error codes).
"""

from __future__ import annotations

import enum
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

from kmsconn.errors import KmsconnError

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SMALLEST_MAX_FRAME, LARGEST_MAX_FRAME = 2**14, 2**24 - 1
LARGEST_WINDOW: Final = 2**31 - 1
STREAM_MASK: Final = 0x7FFF_FFFF  # the highest bit is reserved

HEADER: Final = struct.Struct(">HBBBI")  # size in two parts, type, flags, stream
_U32: Final = struct.Struct(">I")
PRIORITY_SIZE: Final = 5
PING_SIZE: Final = 8

Frame = tuple[int, int, int, memoryview]
"""Type, flags, stream and payload; the payload is a view of what was received."""


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ended."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


def code_name(code: int) -> str:
    """Return the name of an error code, or its number where it has none."""
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"code {code}"


class Http2Error(KmsconnError):
    """The peer broke HTTP/2; the connection cannot go on. ``code`` is what it is told."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(f"HTTP/2: {text}")
        self.code = code


def protocol_error(text: str) -> Http2Error:
    """Return the error that most faults are."""
    return Http2Error(ErrorCode.PROTOCOL_ERROR, text)


def size_error(text: str) -> Http2Error:
    """Return the error of a frame that is too large or too small."""
    return Http2Error(ErrorCode.FRAME_SIZE_ERROR, text)


def head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """Return the nine bytes in front of a payload of ``size`` bytes."""
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return head(kind, flags, stream, len(payload)) + payload


def word_frame(kind: int, stream: int, word: int) -> bytes:
    """Return a frame whose payload is one 32-bit number: RST_STREAM, WINDOW_UPDATE."""
    return HEADER.pack(0, 4, kind, 0, stream) + _U32.pack(word)


def word(payload: memoryview, at: int = 0) -> int:
    """Read a 32-bit number. Raises Http2Error (FRAME_SIZE_ERROR) when the payload is too short for it."""
    if len(payload) < at + 4:
        raise size_error("a frame is too short")
    return int(_U32.unpack_from(payload, at)[0])


def only_word(payload: memoryview) -> int:
    """Read a payload that is one 32-bit number. Raises Http2Error (FRAME_SIZE_ERROR) when it is not."""
    if len(payload) != _U32.size:
        raise size_error("a frame of four bytes has another size")
    return word(payload)


def unpadded(flags: int, payload: memoryview) -> memoryview:
    """Return a payload without its padding. Raises Http2Error when the padding does not fit."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise size_error("a padded frame is empty")
    if payload[0] >= len(payload):
        raise protocol_error("padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def without_priority(flags: int, payload: memoryview) -> memoryview:
    """Return an unpadded HEADERS payload without the priority that may stand in front. Raises Http2Error."""
    if not flags & WITH_PRIORITY:
        return payload
    if len(payload) < PRIORITY_SIZE:
        raise size_error("HEADERS is too short for its priority")
    return payload[PRIORITY_SIZE:]


class Cutter:
    """Cuts what comes into whole frames of at most ``limit`` bytes; keeps less than one frame."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._wanted = 0
        """How many bytes the rest needs to its header or, once that is there, to its whole frame."""

    def cut(self, data: bytes | bytearray) -> Iterator[Frame]:
        """Yield the frames that are whole now. Raises Http2Error (FRAME_SIZE_ERROR) at the first that is too large."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data, self._rest = self._rest, bytearray()
        view, at, end = memoryview(data), 0, len(data)
        self._wanted = HEADER.size
        while end - at >= HEADER.size:
            high, low, kind, flags, stream = HEADER.unpack_from(view, at)
            size = (high << 8) | low
            if size > self._limit:
                _check_protocol(view[at : at + HEADER.size])
                raise size_error(f"a frame of {size} bytes, more than {self._limit}")
            start = at + HEADER.size
            if end - start < size:
                self._wanted = HEADER.size + size
                break
            at = start + size
            yield kind, flags, stream & STREAM_MASK, view[start:at]
        if end - at < HEADER.size:
            _check_protocol(view[at:])
        self._rest += view[at:]


_OTHER_PROTOCOLS: Final = {b"HTTP/1.": "HTTP/1", b"\x15\x03": "TLS"}  # with an alert, in TLS


def _check_protocol(beginning: memoryview) -> None:
    """Raise Http2Error for the first bytes of another protocol; read as a frame they are larger than any.

    An alert of TLS is shorter than the header of a frame, and nothing comes after it.
    """
    for start, other in _OTHER_PROTOCOLS.items():
        if beginning[: len(start)] == start:
            raise protocol_error(f"the answer is {other}")


HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

FIRST_WINDOW: Final = 65_535  # of the connection, and of streams as long as nobody said otherwise
MOST_STREAMS: Final = 100_000  # at once, whatever the peer allows

_ENTRY: Final = struct.Struct(">HI")


def settings_frame(values: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame with these values."""
    return frame(SETTINGS, 0, 0, b"".join(_ENTRY.pack(*entry) for entry in values.items()))


@attrs.frozen
class PeerSettings:
    """The limits that the peer sets; the defaults hold until it says otherwise."""

    initial_window: int = FIRST_WINDOW
    max_frame: int = SMALLEST_MAX_FRAME
    max_streams: int = MOST_STREAMS

    def after(self, payload: memoryview) -> PeerSettings:
        """Return the settings after a SETTINGS frame. Raises Http2Error for a size or a value that the RFC forbids."""
        if len(payload) % _ENTRY.size:
            raise size_error("SETTINGS of a broken size")
        settings = self
        for identifier, value in _ENTRY.iter_unpack(payload):
            settings = settings._with(identifier, value)
        return settings

    def _with(self, identifier: int, value: int) -> PeerSettings:
        match identifier:
            case 0x2 if value != 0:  # ENABLE_PUSH
                raise protocol_error("a server does not enable pushes")
            case 0x3:  # MAX_CONCURRENT_STREAMS
                return attrs.evolve(self, max_streams=min(value, MOST_STREAMS))
            case 0x4:  # INITIAL_WINDOW_SIZE
                if value > LARGEST_WINDOW:
                    raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"an initial window of {value} bytes")
                return attrs.evolve(self, initial_window=value)
            case 0x5:  # MAX_FRAME_SIZE
                if not SMALLEST_MAX_FRAME <= value <= LARGEST_MAX_FRAME:
                    raise protocol_error(f"frames of at most {value} bytes")
                return attrs.evolve(self, max_frame=value)
        return self


@attrs.define
class Credit:
    """The bytes that the peer may still send, of ``size``; half of them used up is granted again. Below 0: it sent too many."""

    size: int
    left: int = attrs.Factory(lambda self: self.size, takes_self=True)

    def grant(self) -> int:
        """Return how much to grant now: nothing while more than half is left."""
        if self.left * 2 > self.size:
            return 0
        amount, self.left = self.size - self.left, self.size
        return amount


@attrs.define
class Window:
    """The bytes that we may still send. Their number is negative after the peer lowered its initial size below what was sent."""

    left: int

    def widen(self, amount: int) -> bool:
        """Add what the peer grants, or take what it takes back; False when that leads beyond what is allowed."""
        self.left += amount
        return self.left <= LARGEST_WINDOW


REPLY_BUDGET = 512 * 1024 * 1024


@attrs.define(eq=False)
class Claim:
    """The room that one reply needs. ``granted`` is called once it may come."""

    size: int
    granted: Callable[[], None]
    held: bool = False


class Allowance:
    """Room for large replies: ``total`` bytes at once over the connections that share it, save that one alone may be larger.

    The others wait in order. The window of a stream stops a reply that waits, since it is not granted again: one window's worth of each
    is in memory.
    """

    def __init__(self, total: int = REPLY_BUDGET) -> None:
        self.used = 0
        self._total = total
        self._waiting: deque[Claim] = deque()

    def ask(self, size: int, granted: Callable[[], None]) -> Claim:
        """Claim room; it is granted at once where there is some, else after those who asked before."""
        claim = Claim(size, granted)
        self._waiting.append(claim)
        self._grant()
        return claim

    def give_back(self, claim: Claim) -> None:
        """Give room back, or stop waiting for it."""
        if claim.held:
            self.used -= claim.size
        else:
            self._waiting.remove(claim)
        self._grant()

    def _grant(self) -> None:
        while self._waiting and (not self.used or self.used + self._waiting[0].size <= self._total):
            claim = self._waiting.popleft()
            self.used += claim.size
            claim.held = True
            claim.granted()
