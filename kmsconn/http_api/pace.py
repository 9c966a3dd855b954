"""The pace of what strangers make a server do: so many turns a second for all of them together. Knows no HTTP."""

from __future__ import annotations

import math

import attrs
import trio


@attrs.define(eq=False)
class Pace:
    """So many turns a second for all together, and ``burst`` at once after a rest; who comes beyond them waits, first come first served.

    One process answers the chain and strangers: what nobody pays for takes a bounded share of its time.
    """

    per_second: float
    burst: float
    _next: float = attrs.field(default=-math.inf, init=False)

    async def turn(self) -> None:
        """Return when it is one's turn. Cancellation: the turn is lost."""
        at = max(self._next, trio.current_time() - self.burst / self.per_second)
        self._next = at + 1 / self.per_second
        await trio.sleep_until(at)
