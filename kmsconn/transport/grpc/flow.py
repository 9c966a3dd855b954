"""Flow control as numbers: how many bytes either side may still send, and how much of large replies may come in at once. No I/O.

Source: RFC 9113, 5.2 and 6.9.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from kmsconn.transport.grpc.frames import LARGEST_WINDOW


@attrs.define
class Credit:
    """The bytes that the peer may still send, of ``size``; half of them used up is granted again."""

    size: int
    left: int = attrs.Factory(lambda self: self.size, takes_self=True)

    def take(self, amount: int) -> bool:
        """Count what came; False when it was more than was granted."""
        self.left -= amount
        return self.left >= 0

    def grant(self) -> int:
        """Return how much to grant now: nothing while more than half is left."""
        if self.left * 2 > self.size:
            return 0
        amount, self.left = self.size - self.left, self.size
        return amount


@attrs.define
class Window:
    """The bytes that we may still send. Their number is negative after the peer lowered its initial size below what was sent."""

    left: int

    def widen(self, amount: int) -> bool:
        """Add what the peer grants, or take what it takes back; False when that leads beyond what is allowed."""
        self.left += amount
        return self.left <= LARGEST_WINDOW


REPLY_BUDGET = 512 * 1024 * 1024


@attrs.define(eq=False)
class Claim:
    """The room that one reply needs. ``granted`` is called once it may come."""

    size: int
    granted: Callable[[], None]
    held: bool = False


class Allowance:
    """Room for large replies: ``total`` bytes at once over the connections that share it, save that one alone may be larger.

    The others wait in order. The window of a stream stops a reply that waits, since it is not granted again: one window's worth of each
    is in memory.
    """

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
