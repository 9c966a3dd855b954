"""How far a back-fill is: counts the blocks that it has read, and says when it is time to tell. Reads nothing."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kmsconn.model.events import BackfillProgressed

BACKFILL_REPORT_INTERVAL = 10.0
"""Seconds between two reports: often enough for somebody who watches, rare enough for a log."""


@attrs.define
class BackfillProgress:
    """One back-fill of a contract, from its first block on. ``make`` makes the event of done and all blocks."""

    make: Callable[[int, int], BackfillProgressed]
    first: int
    told: float
    """When it was last told, or when it began."""
    spoke: bool = False

    def after(self, last_read: int, last: int, now: float) -> BackfillProgressed | None:
        """Return the report that is due once ``last_read`` of the blocks up to ``last`` has been read; the end is told if anything was."""
        done, blocks = last_read - self.first + 1, last - self.first + 1
        ended = done >= blocks
        if now - self.told < BACKFILL_REPORT_INTERVAL and not (ended and self.spoke):
            return None
        self.told, self.spoke = now, True
        return self.make(min(done, blocks), blocks)
