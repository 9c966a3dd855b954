"""The signing key file that the KMS Core writes: bytes to a secp256k1 key. Pure; shows no byte of the key.

bincode with fixed-width little-endian integers, 91 bytes. Source: httpz-rc7.md 5.2 and A.5.
"""

from __future__ import annotations

from typing import Final

LARGEST: Final = 1024
"""Bytes that are read at most; what follows the key is passed over."""

_KEY_BYTES = 32


def read_signing_key(data: bytes) -> bytes:
    """Return the 32 bytes of the key. Raises ValueError that names the part which is wrong."""
    reader = _KeyFileReader(data[:LARGEST])
    reader.expect_text("0.5", "the version of the header")
    reader.expect_number(0, 4, "the header's variant")
    reader.expect_text("0.1", "the version of the versioning scheme")
    reader.expect_text("PrivateSigKey", "the name of the type")
    reader.expect_number(0, 4, "the version of the type")
    reader.expect_number(_KEY_BYTES, 8, "the length of the key")
    return reader.take(_KEY_BYTES, "the key")


class _KeyFileReader:
    """Parts of a file, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int, what: str) -> bytes:
        """Return the next bytes. Raises ValueError where the file ends before."""
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise ValueError(f"the file ends within {what}")
        self._at += size
        return part

    def expect_number(self, expected: int, size: int, what: str) -> None:
        """Pass over a number. Raises ValueError where it is another."""
        found = int.from_bytes(self.take(size, what), "little")
        if found != expected:
            raise ValueError(f"{what} is {found}, not {expected}")

    def expect_text(self, expected: str, what: str) -> None:
        """Pass over a text. Raises ValueError where it is another."""
        self.expect_number(len(expected), 8, f"the length of {what}")
        if self.take(len(expected), what) != expected.encode():
            raise ValueError(f"{what} is not {expected}")
