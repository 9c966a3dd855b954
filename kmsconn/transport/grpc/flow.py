"""Flow control in both directions, as numbers: how many bytes either side may still send. No bytes, no I/O.

Source: RFC 9113, 5.2 and 6.9.
"""

from __future__ import annotations

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
