"""What is kept in memory until a commit writes it: notes on rows, and how many rows a transaction has changed. Knows no driver.

Whether the Core has a request, and how long the stages of a row took, are written with the row's next move: most are worthless before.
Triggers that wrote ``tally`` at each move took a fifth of the journal's time for a request; PostgreSQL, where several processes write, has
such triggers still, and nothing is counted here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs

NOTE_DELAY = 1.0  # seconds that a note waits for the end of its row's turn, which mostly makes it worthless


@attrs.frozen
class Notes:
    """The latest note on each row, with the time when it was made; the oldest first."""

    _made: dict[int, tuple[float, bool]] = attrs.field(factory=dict)

    def put(self, rid: int, submitted: bool, now: float) -> None:
        """Note that the Core has the request of a row, or has forgotten it. It replaces an earlier note."""
        self._made.pop(rid, None)
        self._made[rid] = now, submitted

    def take(self, rid: int) -> bool | None:
        """Remove and return the note on a row, if there is one."""
        _made_at, submitted = self._made.pop(rid, (0.0, None))
        return submitted

    def saved(self) -> Mapping[int, tuple[float, bool]]:
        """Return the notes as they are now, for ``restore``."""
        return dict(self._made)

    def restore(self, saved: Mapping[int, tuple[float, bool]]) -> None:
        """Put back what was taken since, unless it was noted anew."""
        for rid, note in saved.items():
            self._made.setdefault(rid, note)

    def take_all_once_old(self, now: float) -> Mapping[int, bool]:
        """Remove and return all notes, once the oldest of them is ``NOTE_DELAY`` old."""
        oldest, _ = next(iter(self._made.values()), (math.inf, False))
        if now < oldest + NOTE_DELAY:
            return {}
        notes = {rid: submitted for rid, (_made_at, submitted) in self._made.items()}
        self._made.clear()
        return notes


@attrs.frozen
class StageTimes:
    """The seconds of each stage of the present pass of a row, until its next move writes them."""

    _taken: dict[int, dict[str, float]] = attrs.field(factory=dict)

    def put(self, rid: int, stage: str, seconds: float) -> None:
        """Note how long a stage of a row took. It replaces an earlier note."""
        self._taken.setdefault(rid, {})[stage] = seconds

    def saved(self) -> Mapping[int, dict[str, float]]:
        """Return the notes as they are now, for ``restore``."""
        return dict(self._taken)

    def restore(self, saved: Mapping[int, dict[str, float]]) -> None:
        """Put back what was taken since, unless it was noted anew."""
        for rid, stages in saved.items():
            self._taken.setdefault(rid, stages)

    def take(self, rid: int) -> Mapping[str, float]:
        """Remove and return the notes on a row."""
        return self._taken.pop(rid, {})


_KEY = 3  # columns: kind, state, on_chain
Key = tuple[Any, ...]
Numbers = tuple[int, int, int]

_ADD = (
    "INSERT INTO tally (kind, state, on_chain, rows, deferred, deleted) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "rows = rows + excluded.rows, deferred = deferred + excluded.deferred, deleted = deleted + excluded.deleted"
)


@attrs.define
class Tally:
    """Rows that came and went, those of them that were deferred, and those that were deleted, by kind, state and whether on chain."""

    _changed: dict[Key, Numbers] = attrs.field(factory=dict)

    def count(self, *row: Any) -> None:
        """Note that rows came, or went: their key, and what is to be added to its numbers. A function of SQL."""
        key, (rows, deferred, deleted) = row[:_KEY], row[_KEY:]
        before = self._changed.get(key, (0, 0, 0))
        self._changed[key] = (before[0] + rows, before[1] + deferred, before[2] + deleted)

    def write(self, execute: Callable[..., Any]) -> None:
        """Write what has changed. Repeating: nothing is left to write."""
        changed, self._changed = self._changed, {}
        for key, numbers in changed.items():
            execute(_ADD, (*key, *numbers))

    def saved(self) -> Mapping[Key, Numbers]:
        """Return what was counted so far, for ``restore``."""
        return self._changed.copy()

    def restore(self, saved: Mapping[Key, Numbers]) -> None:
        """Count as when it was saved: what came after it is undone."""
        self._changed = dict(saved)
