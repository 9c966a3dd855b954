"""Bytes that no honest peer sends, of whatever protocol: sizes and depths that hurt, and changes of an honest message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

DIGITS: Final = 5_000
BIG_TEXT: Final = 1_000_000
DEPTHS: Final = (10, 987, 100_000)

Change = Callable[[bytes], bytes]
"""Makes the bytes of the honest ones."""


def always(raw: bytes) -> Change:
    """Return what sends these bytes whatever is honest."""
    return lambda _: raw


def before(raw: bytes) -> Change:
    """Return what sends these bytes before the honest ones."""
    return lambda honest: raw + honest


def nested(depth: int, opening: bytes, closing: bytes, middle: bytes = b"1") -> bytes:
    """Return something nested so deep."""
    return opening * depth + middle + closing * depth


ANY: Final[Mapping[str, Change]] = {
    "nothing": always(b""),
    "half of it": lambda honest: honest[: len(honest) // 2],
    "all but a byte": lambda honest: honest[:-1],
    "twice of it": lambda honest: honest * 2,
    "its bits turned": lambda honest: bytes(byte ^ 0xFF for byte in honest),
}
"""In the place of any message."""
