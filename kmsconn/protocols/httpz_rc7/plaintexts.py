"""Decrypted values as the bytes that Core and contract know as ``decryptedResult``, in the forms of that era. Never chooses one.

A Core signs over these bytes, so they must be the very ones that it made. Values come little-endian. *Small* ones (up to 256 bits)
become a word, *large* ones (512, 1024, 2048 bits) become ``bytes``, both big-endian.
Source: httpz-rc7.md, 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from kmsconn.ethereum.abi_types import WORD, AbiType, TupleType, parse_type

SIZES = {0: 1, 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 16, 7: 20, 8: 32, 9: 64, 10: 128, 11: 256}
"""FHE type → bytes of its value."""

EBOOL, EUINT4, EUINT8 = 0, 1, 2
_ARRAY_STANDS_FOR_SIGNATURES = parse_type("bytes[]")
_NUMBER, _BYTES = parse_type("uint256"), parse_type("bytes")
_REQUEST_ID_OF_P3 = 42

Plaintext = tuple[int, bytes]
"""An FHE type and the little-endian bytes of a value."""


class PlaintextForm(StrEnum):
    """The forms by their names as options."""

    P3 = "p3"
    P1 = "p1"
    P2 = "p2"
    RAW = "raw"


def encode(form: PlaintextForm, plaintexts: Sequence[Plaintext]) -> bytes:
    """Return the values in a form. Raises ValueError for values that the form does not have."""
    for fhe_type, _ in plaintexts:
        if fhe_type not in SIZES:
            raise ValueError(f"a plaintext has FHE type {fhe_type}, which that generation does not know")
    return _FORMS[form](plaintexts)


def _p3(plaintexts: Sequence[Plaintext]) -> bytes:
    """Encode an argument list without its first word, the request id, and its last, the length of no signatures."""
    values = [_whole(*plaintext) for plaintext in plaintexts]
    kinds = [_NUMBER, *map(_kind, values), _ARRAY_STANDS_FOR_SIGNATURES]
    return TupleType(kinds).encode((_REQUEST_ID_OF_P3, *values, ()))[WORD:-WORD]


def _p1(plaintexts: Sequence[Plaintext]) -> bytes:
    """Encode a tuple that begins with a dummy word, without that word: offsets count from where it was."""
    values = [_narrow(*plaintext) for plaintext in plaintexts]
    return TupleType([_NUMBER, *map(_kind, values)]).encode((0, *values))[WORD:]


def _p2(plaintexts: Sequence[Plaintext]) -> bytes:
    encoded = _p1(plaintexts)
    return encoded + bytes(WORD) if encoded else b""


def _raw(plaintexts: Sequence[Plaintext]) -> bytes:
    if len(plaintexts) != 1:
        raise ValueError(f"the raw form has one value, not {len(plaintexts)}")
    return plaintexts[0][1]


def _whole(fhe_type: int, raw: bytes) -> int | bytes:
    """Return a value as it came. Where a Core would have signed zeros in its place, it is refused: nobody asked for zeros."""
    size = SIZES[fhe_type]
    if size > WORD:
        if len(raw) != size:
            raise ValueError(f"a value of FHE type {fhe_type} has {len(raw)} bytes, not {size}")
        return raw[::-1]
    if len(raw) > WORD:
        raise ValueError(f"a value of FHE type {fhe_type} has {len(raw)} bytes, more than a word")
    return int.from_bytes(raw, "little")


def _narrow(fhe_type: int, raw: bytes) -> int | bytes:
    """Return a value cut to its type, filled up with zeros."""
    if fhe_type in {EBOOL, EUINT4, EUINT8} and not raw:
        raise ValueError(f"a value of FHE type {fhe_type} has no bytes")
    size = SIZES[fhe_type]
    cut = raw[:size].ljust(size, b"\0")
    if size > WORD:
        return cut[::-1]
    return int.from_bytes(cut, "little") & _MASKS.get(fhe_type, -1)


def _kind(value: int | bytes) -> AbiType:
    return _NUMBER if isinstance(value, int) else _BYTES


_MASKS = {EBOOL: 1, EUINT4: 15}
_FORMS: Mapping[PlaintextForm, Callable[[Sequence[Plaintext]], bytes]] = {
    PlaintextForm.P3: _p3,
    PlaintextForm.P1: _p1,
    PlaintextForm.P2: _p2,
    PlaintextForm.RAW: _raw,
}
