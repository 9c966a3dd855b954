"""Hexadecimal text of JSON-RPC: byte strings and quantities. Never guesses: other text is a ValueError."""

from __future__ import annotations

import re
from binascii import unhexlify

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")  # no quantity of a chain is larger than a word of 32 bytes
_COUNTS = 1 << 53  # beyond it block numbers, nonces, indices and times are nonsense, and floats lose digits


def to_hex(data: bytes) -> str:
    """Write bytes as ``0x`` and lower-case digits."""
    return "0x" + data.hex()


def from_hex(text: object, size: int | None = None) -> bytes:
    """Read ``0x`` and an even number of hex digits, ``size`` bytes. Raises ValueError, also for a JSON value of another type."""
    if not isinstance(text, str):
        raise ValueError(f"hex text is a text, not a {type(text).__name__}")
    if not text.startswith(("0x", "0X")):
        raise ValueError("hex text begins with 0x")
    data = unhexlify(text[2:])  # ``bytes.fromhex`` would take white space, too
    if size is not None and len(data) != size:
        raise ValueError(f"hex text of {size} bytes is expected, not of {len(data)}")
    return data


quantity = hex
"""Write an integer that is not negative as ``0x`` and its digits, without leading zeros."""


def from_quantity(text: object) -> int:
    """Read ``0x`` and up to 64 hex digits; leading zeros are taken, as some nodes write them. Raises ValueError as ``from_hex``."""
    if not isinstance(text, str):
        raise ValueError(f"a quantity is a text, not a {type(text).__name__}")
    if not _QUANTITY.fullmatch(text):
        raise ValueError("a quantity is 0x and up to 64 hex digits")
    return int(text, 16)


def from_count(text: object) -> int:
    """Read a block number, a nonce, an index or a time: a quantity below 2^53. Raises ValueError."""
    number = from_quantity(text)
    if number >= _COUNTS:
        raise ValueError(f"no chain has reached the number {text}")
    return number
