"""Writes durations and amounts as the options read them. Pure."""

from __future__ import annotations

from typing import Final

from kmsconn.config import structuring as types

DURATIONS: Final = (types.Seconds, types.Grace, types.Age, types.Lease)
"""The option types whose values are seconds."""

_UNITS: Final = ((3600.0, "h"), (60.0, "m"), (1.0, "s"), (0.001, "ms"))
_ETHER: Final = 10**18


def duration_text(seconds: float) -> str:
    """Write seconds as the largest unit that needs no fraction."""
    for unit, name in _UNITS:
        if seconds >= unit and not round(seconds * 1000) % round(unit * 1000):
            return f"{round(seconds / unit)}{name}"
    return f"{round(seconds * 1000)}ms"


def wei_text(wei: int) -> str:
    """Write an amount in ether, or in gwei where it is small."""
    if wei >= _ETHER // 1000:
        return f"{wei / _ETHER:g} ether"
    return f"{wei / 10**9:g} gwei"
