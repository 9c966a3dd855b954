"""The bincode image of a user-decryption payload, over which the Core signs. Never the protobuf bytes.

Little-endian fixed-width integers; byte strings and lists behind an unsigned 64-bit length; no tags, no padding.
Source: fhevm-0.14.md, 2.3; httpz-rc7.md, 2.4.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import attrs

from kmsconn.errors import Undecodable

_LENGTH = struct.Struct("<Q")
_SIGNED = struct.Struct("<i")
_UNSIGNED = struct.Struct("<I")
_SMALLEST_SHARE = _SIGNED.size + 2 * _LENGTH.size


@attrs.frozen
class Share:
    """One signcrypted ciphertext of a node, as a Core's answer has it. The first generation has no packing factor: None."""

    fhe_type: int
    signcrypted_ciphertext: bytes
    external_handle: bytes
    packing_factor: int | None


@attrs.frozen
class SharePayload:
    """A node's answer to a user, for all ciphertexts of a request, as a Core's answer has it."""

    verification_key: bytes
    digest: bytes
    signcrypted_ciphertexts: tuple[Share, ...]
    party_id: int
    degree: int


def encode(payload: Any) -> bytes:
    """Return the image of the payload of a Core's answer to a user, of either generation, or of one that was read."""
    names = (*_octets(payload.verification_key), *_octets(payload.digest))
    numbers = _UNSIGNED.pack(payload.party_id), _UNSIGNED.pack(payload.degree)
    return b"".join((*names, encode_shares(payload.signcrypted_ciphertexts), *numbers))


def encode_shares(shares: Sequence[Any]) -> bytes:
    """Return the image of the list of shares alone."""
    parts = [_LENGTH.pack(len(shares))]
    for share in shares:
        parts += (
            _SIGNED.pack(share.fhe_type),
            *_octets(share.signcrypted_ciphertext),
            *_octets(share.external_handle),
        )
        if (packed := getattr(share, "packing_factor", None)) is not None:
            parts.append(_UNSIGNED.pack(packed))
    return b"".join(parts)


def decode(image: bytes, *, packed: bool = True) -> SharePayload:
    """Read an image that fills ``image``; ``packed``: its shares have a packing factor. Raises Undecodable."""
    reader = _Reader(image)
    payload = SharePayload(
        verification_key=reader.octets(),
        digest=reader.octets(),
        signcrypted_ciphertexts=tuple(_share(reader, packed) for _ in range(reader.count(_SMALLEST_SHARE))),
        party_id=reader.number(_UNSIGNED),
        degree=reader.number(_UNSIGNED),
    )
    if reader.rest:
        raise Undecodable("bincode: bytes left over")
    return payload


def same_but_ciphertexts(one: bytes, other: bytes, *, packed: bool = True) -> bool:
    """Say whether two images differ in nothing but signcrypted ciphertexts of equal lengths: each encryption is random."""
    try:
        return _without_ciphertexts(one, packed) == _without_ciphertexts(other, packed)
    except Undecodable:
        return False


def _without_ciphertexts(image: bytes, packed: bool) -> SharePayload:
    payload = decode(image, packed=packed)
    shares = (
        attrs.evolve(share, signcrypted_ciphertext=bytes(len(share.signcrypted_ciphertext)))
        for share in payload.signcrypted_ciphertexts
    )
    return attrs.evolve(payload, signcrypted_ciphertexts=tuple(shares))


def _octets(data: bytes) -> tuple[bytes, bytes]:
    return _LENGTH.pack(len(data)), data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def rest(self) -> int:
        return len(self._data) - self._at

    def number(self, form: struct.Struct) -> int:
        if self.rest < form.size:
            raise Undecodable("bincode: the data ends before its values do")
        (value,) = form.unpack_from(self._data, self._at)
        self._at += form.size
        return int(value)

    def count(self, unit: int) -> int:
        length = self.number(_LENGTH)
        if length * unit > self.rest:
            raise Undecodable("bincode: the data ends before its values do")
        return length

    def octets(self) -> bytes:
        start = self._at + _LENGTH.size
        self._at = start + self.count(1)
        return self._data[start : self._at]


def _share(reader: _Reader, packed: bool) -> Share:
    fhe_type, signcrypted, handle = reader.number(_SIGNED), reader.octets(), reader.octets()
    return Share(fhe_type, signcrypted, handle, reader.number(_UNSIGNED) if packed else None)
