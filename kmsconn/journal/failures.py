"""Why a journal cannot be used at present: its last group, and what is asked beside it over other connections. Decides nothing."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import attrs

from kmsconn.errors import JournalFailed

T = TypeVar("T")


@attrs.define
class JournalFailures:
    """``unwritten``: why the last group could not be written, empty when it was."""

    unwritten: str = ""
    _unanswered: dict[str, str] = attrs.field(factory=dict)

    @property
    def text(self) -> str:
        """Say why the journal cannot be used; empty when it can."""
        return self.unwritten or next(iter(self._unanswered.values()), "")

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
