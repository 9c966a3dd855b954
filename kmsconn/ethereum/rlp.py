"""Recursive length prefix: byte strings and lists of them. Decoding is canonical or it is Undecodable.

Source: Ethereum yellow paper, appendix B.
"""

from __future__ import annotations

from kmsconn.errors import Undecodable

Rlp = bytes | tuple["Rlp", ...]

_STRING, _LIST = 0x80, 0xC0
_LONGEST_SHORT = 55
_DEEPEST = 32
_BYTES = [bytes([value]) for value in range(256)]
_SHORT = "RLP: the data ends before its value does"


def encode(item: Rlp | int) -> bytes:
    """Write a byte string, a non-negative integer as one, or a list given as a tuple."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8)  # nothing for 0
    elif isinstance(item, tuple):
        return framed(encode_all(*item))
    size = len(item)
    if size == 1 and item[0] < _STRING:
        return item
    return _BYTES[_STRING + size] + item if size <= _LONGEST_SHORT else framed(item, _STRING)


def encode_all(*items: Rlp | int) -> bytes:
    """Write items one behind the other."""
    return b"".join(map(encode, items))


def framed(body: bytes, kind: int = _LIST) -> bytes:
    """Write a list of the items in ``body``, or a string of its bytes."""
    size = len(body)
    if size <= _LONGEST_SHORT:
        return _BYTES[kind + size] + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return _BYTES[kind + _LONGEST_SHORT + len(length)] + length + body


def decode(data: bytes) -> Rlp:
    """Read one item that fills ``data``; lists become tuples. Raises Undecodable."""
    item, end = _item(data, 0, len(data), 0)
    if end != len(data):
        raise Undecodable("RLP: bytes left over")
    return item


def decode_int(item: Rlp) -> int:
    """Read an integer. Raises Undecodable for a list or leading zeros."""
    if not isinstance(item, bytes) or item[:1] == b"\0":
        raise Undecodable("RLP: no integer without leading zeros")
    return int.from_bytes(item)


def _item(data: bytes, at: int, end: int, depth: int) -> tuple[Rlp, int]:
    if at >= end:
        raise Undecodable(_SHORT)
    first = data[at]
    if first < _STRING:
        return data[at : at + 1], at + 1
    start, stop = _span(data, at, first, end)
    if first >= _LIST:
        return _list(data, start, stop, depth), stop
    if stop - start == 1 and data[start] < _STRING:
        raise Undecodable("RLP: a small byte with a prefix")
    return data[start:stop], stop


def _list(data: bytes, at: int, end: int, depth: int) -> tuple[Rlp, ...]:
    if depth == _DEEPEST:
        raise Undecodable("RLP: too many lists within each other")
    items: list[Rlp] = []
    while at < end:
        item, at = _item(data, at, end, depth + 1)
        items.append(item)
    return tuple(items)


def _span(data: bytes, at: int, first: int, end: int) -> tuple[int, int]:
    """Return where the content of a prefixed item begins and ends."""
    size = first - (_LIST if first >= _LIST else _STRING)
    start = at + 1
    if size > _LONGEST_SHORT:
        start += size - _LONGEST_SHORT
        length = data[at + 1 : min(start, end)]
        size = int.from_bytes(length)
        if length[:1] == b"\0" or size <= _LONGEST_SHORT:
            raise Undecodable("RLP: a length not in its shortest form")
    if start + size > end:
        raise Undecodable(_SHORT)
    return start, start + size
