"""What a row has been through, in a few lines of text that each transition writes with itself. Pure; never opens a database.

A transition appends one line; a deferral appends one only when the row waits for something else than before, so that a dependency that
is down for hours costs one line. The text is bounded: where it is full, its oldest lines go.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

HISTORY_CHARACTERS = 2048
"""After which the oldest of a row's history goes: an answered request has some 200."""
DETAIL_CHARACTERS = 160
"""Of a reason: what the row waits for at present stands in the row in full."""

_Line = tuple[float, str, dict[str, float], str]
_write = msgspec.json.Encoder()
_read = msgspec.json.Decoder(_Line)


@attrs.frozen
class HistoryEntry:
    """One step in the life of a row, at a wall time.

    ``step`` is a transition of ``model.life``, ``defer`` with or without the stage (``defer answer``), ``moved`` or ``gone``. ``stages``
    are the seconds of the stages that the pass before it took; ``detail`` is a reason, or what the step came with.
    """

    at: float
    step: str
    stages: Mapping[str, float] = attrs.field(factory=dict)
    detail: str = ""


def line_of(at: float, step: str, detail: str = "", stages: Mapping[str, float] | None = None) -> str:
    """Return a step as one line of a history."""
    short = detail if len(detail) <= DETAIL_CHARACTERS else f"{detail[: DETAIL_CHARACTERS - 1]}…"
    line: _Line = (
        round(at, 3),
        step,
        {name: round(seconds, 3) for name, seconds in (stages or {}).items()},
        short,
    )
    return _write.encode(line).decode() + "\n"


def appended(line: str = ":line") -> str:
    """Return the SQL of a row's history with a line more."""
    return (
        f"CASE WHEN length(history) > {HISTORY_CHARACTERS} THEN substr(history, length(history) - {HISTORY_CHARACTERS} + 1) "
        f"ELSE history END || {line}"
    )


def read_history(text: str) -> tuple[HistoryEntry, ...]:
    """Return the steps of a history, the first one first; a line that was cut, or cannot be read, is left out."""
    found = (_entry(line) for line in text.splitlines())
    return tuple(entry for entry in found if entry is not None)


def _entry(line: str) -> HistoryEntry | None:
    try:
        return HistoryEntry(*_read.decode(line))
    except (msgspec.DecodeError, UnicodeError):
        return None
