"""Judges this machine's clock by the newest block of all chains. Pure, without a clock."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

CLOCK_AHEAD = 120.0  # seconds behind the clock that the newest block of all chains may be: several blocks of the slowest
CLOCK_BEHIND = 30.0  # seconds before the clock that a newest block may be

SET_CLOCK = "set the clock by NTP (chronyd, systemd-timesyncd)"
OTHER_NODE = "name a node that has caught up"


def wrong_clock(newest: float, now: float) -> str:
    """Say what is wrong with a clock that shows ``now`` when the newest block of all has just come; nothing where nothing is."""
    if newest - now > CLOCK_BEHIND:
        return f"{newest - now:.0f} s behind the newest block"
    if now - newest > CLOCK_AHEAD:
        return f"{now - newest:.0f} s ahead of the newest block of every chain"
    return ""


@attrs.define
class ClockWatch:
    """What the last new block of all chains said of the clock: chains that stand still say nothing of the time."""

    _newest: float | None = None
    _wrong: str = ""

    def look(self, heads: Iterable[float | None], now: float) -> str:
        """Take the times of the newest blocks and what the clock shows; say what is wrong with it, or nothing."""
        newest = max((time for time in heads if time is not None), default=self._newest)
        if newest != self._newest:
            self._wrong = "" if self._newest is None or newest is None else wrong_clock(newest, now)
            self._newest = newest
        return self._wrong
