"""Keccak-256, through OpenSSL where it has it (it frees the GIL), else through pycryptodome."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol


class Hasher(Protocol):
    """An incremental hash."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the hash of what was taken so far."""


def _pycryptodome() -> Hasher:
    from Crypto.Hash import keccak

    return keccak.new(digest_bits=256)  # type: ignore[no-any-return, unused-ignore]


def _maker() -> Callable[[], Hasher]:
    try:
        return hashlib.new("keccak-256").copy  # a third less than asking OpenSSL for the name each time
    except ValueError:
        return _pycryptodome


new_keccak256 = _maker()


def keccak256(data: bytes | memoryview) -> bytes:
    """Return the 32-byte Keccak-256 of ``data`` (the original Keccak padding, as Ethereum uses it)."""
    hasher = new_keccak256()
    hasher.update(data)
    return hasher.digest()
