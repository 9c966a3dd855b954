"""Why a journal cannot be used at present: its last group, and what is asked beside it over other connections. Decides nothing."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

import attrs
import trio

from kmsconn.errors import JournalFailed

T = TypeVar("T")

TOLD: Final = (
    5.0  # seconds for which it is told that an operation failed alone: who needs it repeats it each second
)


@attrs.define
class JournalFailures:
    """``unwritten``: why the last group could not be written, empty when it was.

    An operation may fail alone, within a group that is written: a table without room for a row takes others.
    """

    unwritten: str = ""
    _alone: str = ""
    _alone_at: float = -math.inf
    _unanswered: dict[str, str] = attrs.field(factory=dict)

    @property
    def text(self) -> str:
        """Say why the journal cannot be used; empty when it can."""
        alone = self._alone if trio.current_time() - self._alone_at < TOLD else ""
        return self.unwritten or alone or next(iter(self._unanswered.values()), "")

    def note_alone(self, errors: Iterable[BaseException | None]) -> None:
        """Note what operations of a group failed with that was written otherwise."""
        for error in errors:
            if isinstance(error, JournalFailed):
                self._alone, self._alone_at = str(error), trio.current_time()

    async def noting(self, use: str, asking: Awaitable[T]) -> T:
        """Wait for the answer to a question; that it failed is told until one for the same use is answered. Raises JournalFailed."""
        failed = ""
        try:
            return await asking
        except JournalFailed as error:
            failed = str(error)
            raise
        finally:
            if failed:
                self._unanswered[use] = failed
            else:
                self._unanswered.pop(use, None)
