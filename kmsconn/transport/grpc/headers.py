"""Header blocks: ours made of literals, the peer's read by ``hpack`` and judged; knows no stream, no I/O.

We announce a dynamic table of size 0 and keep none ourselves, so a block means the same every time it comes, and
what was read once is remembered: replies repeat their few blocks, and reading one with the library takes longer than
everything else in a small call. A peer that uses a table all the same, as it may before it has our settings, is
read correctly, and nothing of it is remembered.

Sources: RFC 7541 (HPACK); RFC 9113, 8.2 and 8.3 (which fields a response may have).
"""

from __future__ import annotations

import functools
import re
from typing import Final

import attrs
import hpack

from kmsconn.transport.grpc.frames import ErrorCode, Http2Error

Header = tuple[bytes, bytes]

MAX_BLOCK: Final = 64 * 1024  # bytes of a block, and of the fields it stands for
MAX_KNOWN, MAX_KNOWN_BLOCK = 128, 1024  # blocks that are remembered, and the bytes of one
NO_TABLE: Final = (
    b"\x20"  # "my table has size 0": first in the first block, and then whatever limit the peer sets is met
)

_SEVEN_BITS: Final = 0x7F
_NAME: Final = re.compile(
    rb"[!-9;-@\[-~]+"
)  # visible, no colon, no capital letters: the least that 8.2.1 asks for
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|^[ \t]|[ \t]$")
_FIRST_FINAL: Final = 200
_STATUS: Final = re.compile(rb"[1-5]\d\d")
_OF_A_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"}
)


@functools.lru_cache(256)
def encode(fields: tuple[Header, ...]) -> bytes:
    """Return a block of literals that no table remembers (RFC 7541, 6.2.2)."""
    return b"".join(map(_literal, fields))


@functools.lru_cache(256)
def _literal(field: Header) -> bytes:
    name, value = field
    return b"\0" + _integer(len(name)) + name + _integer(len(value)) + value


def _integer(value: int) -> bytes:
    """Return a number with a prefix of seven bits, the eighth being 0: no Huffman code (RFC 7541, 5.1)."""
    if value < _SEVEN_BITS:
        return bytes([value])
    rest, out = value - _SEVEN_BITS, bytearray([_SEVEN_BITS])
    while rest > _SEVEN_BITS:
        out.append(0x80 | rest & _SEVEN_BITS)
        rest >>= 7
    out.append(rest)
    return bytes(out)


@attrs.frozen
class HeaderBlock:
    """The fields of a block. ``status`` is a response's own; trailers have none. ``fault`` says why it is malformed."""

    fields: tuple[Header, ...]
    status: int | None = None
    fault: str = ""
    interim: bool = False
    """Whether the response itself is still to come (1xx)."""


class Reader:
    """Reads the blocks of one connection, in the order in which they came."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_BLOCK)
        self._known: dict[bytes, HeaderBlock] = {}

    def read(self, data: bytes) -> HeaderBlock:
        """Return the fields of a whole block. Raises Http2Error (COMPRESSION_ERROR) when it cannot be read, or is too large."""
        known = self._known.get(data)
        return self._decode(data) if known is None else known

    def end_table(self) -> None:
        """Keep no table from now on: the peer has acknowledged that there is none."""
        self._decoder.max_allowed_table_size = self._decoder.header_table_size = 0

    def _decode(self, data: bytes) -> HeaderBlock:
        had_none = self._decoder.header_table_size == 0
        try:
            fields = tuple(
                (bytes(name), bytes(value)) for name, value in self._decoder.decode(data, raw=True)
            )
        except hpack.HPACKError as error:
            raise Http2Error(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
        block = judged(fields)
        if had_none and self._decoder.header_table_size == 0:
            self._remember(data, block)
        else:
            self._known.clear()
        return block

    def _remember(self, data: bytes, block: HeaderBlock) -> None:
        if len(data) > MAX_KNOWN_BLOCK:
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[data] = block


def judged(fields: tuple[Header, ...]) -> HeaderBlock:
    """Return the fields as headers or trailers, or with the fault that makes them malformed."""
    names = [name for name, _ in fields]
    pseudo = [name for name in names if name.startswith(b":")]
    if pseudo and (pseudo != [b":status"] or names[0] != b":status"):
        return HeaderBlock(fields, fault="wrong pseudo-header fields")
    if pseudo and not _STATUS.fullmatch(fields[0][1]):
        return HeaderBlock(fields, fault="no status")
    for name, value in fields[len(pseudo) :]:
        if not _NAME.fullmatch(name) or name in _OF_A_CONNECTION or _BAD_VALUE.search(value):
            return HeaderBlock(fields, fault="a field that HTTP/2 does not allow")
    status = int(fields[0][1]) if pseudo else None
    return HeaderBlock(fields, status, interim=status is not None and status < _FIRST_FINAL)
