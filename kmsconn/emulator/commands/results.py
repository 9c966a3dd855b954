"""What came of emulated requests and keys, in words and for machines: what the commands that emulate say alike. Prints nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmsconn.emulator.key_life import KeyResult


def milliseconds(seconds: float | None) -> str:
    """Return a latency as text."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def in_milliseconds(seconds: float | None) -> float | None:
    """Return a latency as a number."""
    return None if seconds is None else round(seconds * 1000, 1)


def keys_as_text(keys: KeyResult) -> Iterator[str]:
    """Yield what came of a life of keys as lines."""
    verdict = keys.verdict
    doubles = f"{verdict.doubled} transactions too many" if verdict.doubled else "none twice"
    yield f"keys: {len(keys.done)} of {keys.steps} steps ({', '.join(keys.done)})"
    yield f"      {len(verdict.replied)} replies included on Ethereum, {len(verdict.open)} open, {len(verdict.aborted)} aborted, {doubles}"


def keys_as_json(keys: KeyResult) -> dict[str, Any]:
    """Return what came of a life of keys for machines."""
    verdict = keys.verdict
    return {
        "steps": list(keys.done),
        "included": len(verdict.replied),
        "open": len(verdict.open),
        "aborted": len(verdict.aborted),
        "doubled": verdict.doubled,
        "well": keys.well,
    }
