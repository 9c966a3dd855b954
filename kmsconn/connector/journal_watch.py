"""Watches the journal: counts its rows for statistics, and raises an alert while it cannot be used, or rows of it cannot be read.

Repairs nothing: a disk that is full, a file that was moved and a damaged row are matters for an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice

import attrs
import trio

from kmsconn.errors import JournalFailed
from kmsconn.journal import queries
from kmsconn.journal.database import Database
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Counts
from kmsconn.model.alerts import Board

JOURNAL_WATCH_INTERVAL = 1.0  # seconds between looks
LOOKING = 5.0  # seconds: while it is not known what became of a commit nothing is answered, and that is what is to be told
NAMED = 8  # damaged rows; more are only counted
JOURNAL = "journal"

_PUT_BACK = (
    "Nothing is answered meanwhile. Move the same file back; or restart kmsconn, which makes a new journal and reads the chain "
    "again from decryption_from_block_number"
)
_CHECK_DISK = (
    "Their requests are read again from the chain where the contract numbers them. Check the disk; when more rows are damaged, "
    "stop kmsconn and restore the file from a backup"
)


@attrs.define
class JournalWatch:
    """The watch over one journal; ``counts`` are the newest ones."""

    journal: Journal
    wall: Callable[[], float]
    board: Board
    beat: Callable[[], None] = lambda: None
    """Is called after each look."""
    counts: Counts | None = None
    measure: Callable[[], int | None] = lambda: None
    """Returns the bytes left on the file system of the journal."""
    free: int | None = None

    async def look(self) -> float:
        """Look once. Cancellation: at any time."""
        misplaced, self.free = "", self.measure()
        with trio.move_on_after(LOOKING), suppress(JournalFailed):
            misplaced = await self.journal.run(Database.misplaced)
            self.counts = await self.journal.run(queries.counts, self.wall())
        self.board.set("permissions", "journal file", "; ".join(self.journal.warnings))
        failure = "" if misplaced else self.journal.failure
        self.board.set("misplaced", JOURNAL, misplaced, remedy=_PUT_BACK)
        self.board.set("unwritable", JOURNAL, failure)
        self._tell_damage(self.journal.damaged)
        self.beat()
        return JOURNAL_WATCH_INTERVAL

    def _tell_damage(self, damaged: Mapping[int, str]) -> None:
        """Name the rows that cannot be read. The alert stays: what was in them is known to nobody here any more."""
        named = "; ".join(f"row {rid}: {why}" for rid, why in islice(damaged.items(), NAMED))
        text = f"rows of the journal are damaged and were set aside: {named}" if damaged else ""
        self.board.set("damaged-rows", "journal rows", text, remedy=_CHECK_DISK, count=len(damaged))
