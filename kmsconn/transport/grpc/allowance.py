"""Room for large replies: so many bytes may come in at once, over the connections that share it; the others wait in order. No I/O.

The stream's window stops a reply that waits, since it is not granted again: one window's worth of each is in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

REPLY_BUDGET = 512 * 1024 * 1024


@attrs.define(eq=False)
class Claim:
    """The room that one reply needs. ``granted`` is called once it may come."""

    size: int
    granted: Callable[[], None]
    held: bool = False


class Allowance:
    """At most ``total`` bytes at once, save that one reply may be larger when nobody else holds anything."""

    def __init__(self, total: int = REPLY_BUDGET) -> None:
        self.used = 0
        self._total = total
        self._waiting: deque[Claim] = deque()

    def ask(self, size: int, granted: Callable[[], None]) -> Claim:
        """Claim room; it is granted at once where there is some, else after those who asked before."""
        claim = Claim(size, granted)
        self._waiting.append(claim)
        self._grant()
        return claim

    def give_back(self, claim: Claim) -> None:
        """Give room back, or stop waiting for it."""
        if claim.held:
            self.used -= claim.size
        else:
            self._waiting.remove(claim)
        self._grant()

    def _grant(self) -> None:
        while self._waiting and (not self.used or self.used + self._waiting[0].size <= self._total):
            claim = self._waiting.popleft()
            self.used += claim.size
            claim.held = True
            claim.granted()
