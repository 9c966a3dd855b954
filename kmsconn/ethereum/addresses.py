"""Addresses: 20 raw bytes inside, EIP-55 text outside."""

from __future__ import annotations

from functools import lru_cache
from typing import NewType

from kmsconn.ethereum.keccak import keccak256

Address = NewType("Address", bytes)

ADDRESS_BYTES = 20
ZERO_ADDRESS = Address(bytes(ADDRESS_BYTES))


def address(raw: bytes) -> Address:
    """Return 20 raw bytes as an address. Raises ValueError for another length."""
    if len(raw) != ADDRESS_BYTES:
        raise ValueError(f"an address has {ADDRESS_BYTES} bytes, not {len(raw)}")
    return Address(bytes(raw))


def parse_address(text: str) -> Address:
    """Read ``0x`` and 40 hex digits; mixed case must be a right EIP-55 checksum. Raises ValueError that says what is wrong."""
    digits = text[2:]
    if text[:2] not in {"0x", "0X"} or len(digits) != 2 * ADDRESS_BYTES:
        raise ValueError(f"{text!r} is not an address: 0x and 40 hex digits are expected")
    try:
        parsed = Address(bytes.fromhex(digits))
    except ValueError:
        raise ValueError(f"{text!r} is not an address: it holds characters that are no hex digits") from None
    if digits not in {digits.lower(), digits.upper()} and checksum(parsed)[2:] != digits:
        raise ValueError(
            f"{text!r} has a wrong EIP-55 checksum: {checksum(parsed)} is right for these digits"
        )
    return parsed


@lru_cache(1024)
def checksum(raw: Address) -> str:
    """Write an address as EIP-55 text with ``0x``."""
    digits = raw.hex()
    marks = keccak256(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(m, 16) > 7 else c for c, m in zip(digits, marks, strict=False))  # noqa: PLR2004 - EIP-55
