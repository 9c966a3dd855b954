"""Tracks decryptions for which the Core gives no result for minutes after it has accepted them. Pure."""

from __future__ import annotations

import attrs

RESULT_LATE_AFTER = 300.0
"""Seconds since the first poll without a result: a decryption takes seconds."""


@attrs.define
class LateResults:
    """The open requests that were polled without a result, each since when."""

    _since: dict[int, float] = attrs.field(factory=dict)

    def polled(self, rid: int, now: float) -> bool:
        """Note a poll without a result; say whether the result is late."""
        return now - self._since.setdefault(rid, now) >= RESULT_LATE_AFTER

    def ended(self, rid: int) -> None:
        """Note that a request has its result, or ended."""
        self._since.pop(rid, None)
