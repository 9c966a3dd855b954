"""What a client sends by HTTP/2, as whole frames: preface, frames, header blocks put together, and fields judged. Knows no stream's state.

Sources: RFC 9113, sections 3.4, 4 and 8; RFC 7541 (HPACK).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

import hpack

from kmsconn.transport.grpc import frames

MAX_BLOCK: Final = 64 * 1024
"""Bytes of a header block, and of the fields it stands for."""
Fields = list[tuple[bytes, bytes]]
WholeFrame = tuple[int, int, int, bytes]
"""Type, flags, stream and payload; of HEADERS the payload is the whole block."""

_OF_BLOCKS: Final = frozenset({frames.HEADERS, frames.CONTINUATION})
_LONG: Final = 0x7F  # from here on a length has more bytes, or is that of a text in Huffman's code
_NAME: Final = re.compile(rb"[!-9;-@\[-~]+")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|^[ \t]|[ \t]$")
_OF_A_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_PSEUDO: Final = ({b":method", b":scheme", b":path"}, {b":method", b":scheme", b":path", b":authority"})


class FrameInput:
    """Cuts what came on one connection into whole frames."""

    def __init__(self) -> None:
        self._preface = frames.PREFACE
        self._cutter = frames.Cutter(frames.SMALLEST_MAX_FRAME)
        self._begun: tuple[int, int, bytearray] | None = None  # flags, stream and the block so far

    def cut(self, data: bytes) -> Iterator[WholeFrame]:
        """Yield the frames that are whole now. Raises Http2Error."""
        for kind, flags, stream, payload in self._cutter.cut(self._after_preface(data)):
            if kind in _OF_BLOCKS or self._begun is not None:
                yield from self._block(kind, flags, stream, payload)
            else:
                yield kind, flags, stream, bytes(payload)

    def _after_preface(self, data: bytes) -> bytes:
        if not self._preface:
            return data
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise frames.protocol_error("no HTTP/2")
        self._preface = self._preface[size:]
        return data[size:]

    def _block(self, kind: int, flags: int, stream: int, payload: memoryview) -> Iterator[WholeFrame]:
        """Take a part of a header block; nothing else may come before its end."""
        if (self._begun is None) is not (kind == frames.HEADERS):
            raise frames.protocol_error("a header block is begun, or goes on, at the wrong place")
        if self._begun is None:
            part = frames.without_priority(flags, frames.unpadded(flags, payload))
            self._begun = flags, stream, bytearray(part)
        else:
            if kind != frames.CONTINUATION or stream != self._begun[1]:
                raise frames.protocol_error("something comes within a header block")
            self._begun[2].extend(payload)
        begun_with, of_stream, block = self._begun
        if len(block) > MAX_BLOCK:
            raise frames.protocol_error("a header block is too large")
        if flags & frames.END_HEADERS:
            self._begun = None
            yield frames.HEADERS, begun_with, of_stream, bytes(block)


class FieldReader:
    """Reads the header blocks of one connection, in the order in which they came."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_BLOCK)

    def read(self, block: bytes) -> Fields:
        """Return the fields of a block. Raises HPACKError."""
        fields = literal_fields(block)
        if fields is None:
            fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        return fields


def literal_fields(block: bytes) -> Fields | None:
    """Return the fields of a block of plain literals that no table remembers, which needs no state; None of any other block."""
    fields: Fields = []
    at = 0
    while at < len(block):
        name_at = at + 2
        value_at = name_at + (block[at + 1] if at + 1 < len(block) else _LONG) + 1
        if block[at] or value_at > len(block) or block[at + 1] >= _LONG or block[value_at - 1] >= _LONG:
            return None
        at = value_at + block[value_at - 1]
        fields.append((block[name_at : value_at - 1], block[value_at:at]))
    return fields if at == len(block) else None


def judge_request(fields: Fields) -> None:
    """Refuse fields that are no request's. Raises Http2Error."""
    pseudo = [name for name, _ in fields if name.startswith(b":")]
    if set(pseudo) not in _PSEUDO or len(pseudo) != len(set(pseudo)):
        raise frames.protocol_error("a request has method, scheme and path, and perhaps an authority")
    if any(name.startswith(b":") for name, _ in fields[len(pseudo) :]):
        raise frames.protocol_error("a pseudo-header field comes late")
    judge_fields(fields[len(pseudo) :])


def judge_fields(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse fields that HTTP/2 does not allow. Raises Http2Error."""
    for name, value in fields:
        if not _is_allowed(name, value):
            raise frames.protocol_error(f"HTTP/2 does not allow the field {name!r}")


@lru_cache(256)
def _is_allowed(name: bytes, value: bytes) -> bool:
    if name in _OF_A_CONNECTION or (name == b"te" and value != b"trailers"):
        return False
    return bool(_NAME.fullmatch(name)) and not _BAD_VALUE.search(value)
