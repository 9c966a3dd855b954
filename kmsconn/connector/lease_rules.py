"""When the leases of a process count as lost, and whom it may declare gone: pure rules over one clock. Asks no database.

Every process renews its place among the members. The database notes the time of each renewal by its own clock, and others take a member
that has not renewed for a lease for gone: they delete its row, and with it its leases. Two clocks never meet: each side counts a length of
time by its own one.

1. A process may act as long as the renewal that was *sent* last, of those that succeeded, is younger than a lease less a margin. The
   database noted it later than it was sent, so nobody can have deleted the row by then; the margin is for clocks that run unevenly, and
   for what is done right after the question.
2. A process that was out of touch for longer, and finds its row still there, goes on: nobody has taken over.
3. Who was out of touch itself may not judge the silence of others: after an outage of the database all are late, and the first one back
   must not declare the others gone. It waits for a lease from its return. A process that has just begun judges at once.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

RENEWALS: Final = 4  # in a lease: three may fail
MARGIN: Final = 0.2  # of a lease


@attrs.define
class LeaseClock:
    """What one process knows of its renewals; times are of a clock that goes on while the process is stopped."""

    lease: float
    _sent: float = -math.inf
    """When the newest renewal that succeeded was sent."""
    _in_touch_since: float = -math.inf
    """Since when no renewal was missing for longer than a lease."""

    @property
    def interval(self) -> float:
        """Seconds between renewals."""
        return self.lease / RENEWALS

    def joined(self, sent: float) -> None:
        """Note that the process became a member by a question that was sent then."""
        self._sent, self._in_touch_since = sent, -math.inf

    def renewed(self, sent: float) -> None:
        """Note that a renewal succeeded that was sent then."""
        if sent - self._sent >= self.lease:
            self._in_touch_since = sent
        self._sent = max(self._sent, sent)

    def is_valid(self, now: float) -> bool:
        """Say whether no other process can have taken over by now."""
        return now - self._sent < self.lease * (1.0 - MARGIN)

    def may_judge(self, now: float) -> bool:
        """Say whether another member's silence says something about that member."""
        return self.is_valid(now) and now - self._in_touch_since >= self.lease
