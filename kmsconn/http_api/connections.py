"""The connections of the HTTP API: how many there are, until when each must have sent or taken something, and which one goes for another.

A connection is idle until its first byte, then a request must have come whole within ``REQUEST_SECONDS``; then its client waits for the
answer, under deadlines that are not the connection's. When all places are taken, the newest client is let in and the oldest connection
whose client does not wait for an answer is dropped, of the address that has the most of them: strangers who hold connections keep nobody
out, and nobody who has been let in is lost.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

import attrs
import trio

IDLE_SECONDS: Final = 10.0
"""Between two requests of one connection, and before its first."""
REQUEST_SECONDS: Final = 30.0
"""In which a request, head and body, must have come."""
SPARE_CONNECTIONS: Final = 512
"""Beyond those that wait for an answer: for clients that still send, and for refusals."""


@attrs.define(eq=False)
class Connection:
    """One connection. ``waits``: its client has been let in and waits for an answer, so that it is not dropped for another one."""

    address: str
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    waits: bool = False
    serving: bool = False
    """A request is being answered."""
    read_by: float = math.inf
    """When the present request must have come whole."""

    def rest(self, now: float) -> None:
        """Begin to wait for a request."""
        self.serving = False
        self.read_by = math.inf
        self.scope.deadline = now + IDLE_SECONDS

    def hear(self, now: float) -> None:
        """Note bytes; the first ones begin a request."""
        if self.read_by == math.inf:
            self.read_by = now + REQUEST_SECONDS
            self.scope.deadline = self.read_by

    def serve(self, now: float) -> None:
        """Leave the deadlines to those who answer: the head of a request is there."""
        self.hear(now)
        self.serving = True
        self.scope.deadline = math.inf

    def end(self) -> None:
        """Note that the client has left. hypercorn would keep an idle connection until its time is over."""
        if not self.serving:
            self.drop()

    def drop(self) -> None:
        """Close it at once."""
        self.scope.cancel()


class ConnectionTable:
    """The connections that are open now, in the order in which they came."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[Connection, None] = {}
        self.dropped = 0
        """How many had to go for another one, or found no place."""

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, address: str, now: float) -> Connection | None:
        """Return a new connection, where need be in the place of another; None where every other client waits for an answer."""
        if len(self._open) >= self.limit and not self._drop_one():
            self.dropped += 1
            return None
        connection = Connection(address)
        connection.rest(now)
        self._open[connection] = None
        return connection

    def release(self, connection: Connection) -> None:
        """Forget a connection that has ended. Repeating: no effect."""
        self._open.pop(connection, None)

    def _drop_one(self) -> bool:
        droppable = [one for one in self._open if not one.waits]
        if not droppable:
            return False
        [(busiest, _)] = Counter(one.address for one in droppable).most_common(1)
        oldest = next(one for one in droppable if one.address == busiest)
        self.release(oldest)
        oldest.drop()
        self.dropped += 1
        return True
