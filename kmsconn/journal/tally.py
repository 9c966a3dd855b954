"""How many rows a transaction has changed in each kind and state: counted in memory, written once at its end. Knows no driver.

Triggers that wrote ``tally`` at each move took a fifth of the journal's time for a request. PostgreSQL, where several processes write, has
such triggers still, and nothing is counted here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

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
