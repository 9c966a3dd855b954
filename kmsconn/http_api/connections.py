"""The connections of the HTTP API: how many there are, until when each must have sent or taken something, and which one goes for another.

A connection is idle until its first byte, then a request must have come whole within ``REQUEST_SECONDS``; then its client waits for the
answer, under deadlines that are not the connection's. When all places are taken, the newest client is let in and the oldest connection
whose client does not wait for an answer is dropped, of the address that has the most of them: strangers who hold connections keep nobody
out, and nobody who has been let in is lost. What strangers make the process do, in connections, refusals and pieces of requests, has its
pace: requests from the chain have the rest of its time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from kmsconn.http_api.pace import Pace

IDLE_SECONDS: Final = 10.0
"""Between two requests of one connection, and before its first."""
REQUEST_SECONDS: Final = 30.0
"""In which a request, head and body, must have come."""
ACCEPTED_PER_SECOND, ACCEPTED_AT_ONCE = 200, 1000
"""New connections: a handshake of TLS takes about a millisecond. Clients keep theirs."""
REFUSED_PER_SECOND = 50
"""Requests that are refused before they wait for an answer: without a key, malformed, over a limit."""
STEPS_PER_SECOND = 500
"""Pieces of requests that came by and by: a tenth of a millisecond each, however small they are."""
FREE_STEPS: Final = 16
"""Pieces of each request that are read at once: the usual request has four, and a kilobyte in each would be sixteen."""
SPARE_CONNECTIONS: Final = 512
"""Beyond those that wait for an answer: for clients that still send, and for refusals."""


@attrs.define(eq=False)
class Connection:
    """One connection of an address, and until when it may do what it does."""

    address: str
    table: ConnectionTable = attrs.field(repr=False)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    serving: bool = False
    """A request is being answered."""
    steps: int = 0
    """Pieces of the present request that were read."""
    body_follows: bool = False
    """The head of an answer is held back until its body comes: one packet for both."""
    read_by: float = math.inf
    """When the present request must have come whole."""

    async def step(self) -> None:
        """Take a piece of a request; beyond the first ones it is the turn of all such pieces together."""
        self.steps += 1
        if self.steps > FREE_STEPS:
            await self.table.steps.turn()

    def rest(self, now: float) -> None:
        """Begin to wait for a request."""
        self.serving, self.steps = False, 0
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

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Say that the client has been let in and waits for an answer while the block lasts: it is not dropped for another one."""
        self.table.protect(self)
        try:
            yield
        finally:
            self.table.expose(self)

    def end(self) -> None:
        """Note that the client has left. hypercorn would keep an idle connection until its time is over."""
        if not self.serving:
            self.drop()

    def drop(self) -> None:
        """Close it at once."""
        self.scope.cancel()


class ConnectionTable:
    """The connections that are open now; those that may be dropped by address, in the order in which they came."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: set[Connection] = set()
        self._droppable: dict[str, dict[Connection, None]] = {}
        self.accepts = Pace(ACCEPTED_PER_SECOND, ACCEPTED_AT_ONCE)
        self.refusals = Pace(REFUSED_PER_SECOND, REFUSED_PER_SECOND)
        self.steps = Pace(STEPS_PER_SECOND, STEPS_PER_SECOND)
        self.dropped = 0
        """How many had to go for another one, or found no place."""

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, address: str, now: float) -> Connection | None:
        """Return a new connection, where need be in the place of another; None where every other client waits for an answer."""
        if len(self._open) >= self.limit and not self._drop_one():
            self.dropped += 1
            return None
        connection = Connection(address, self)
        connection.rest(now)
        self._open.add(connection)
        self.expose(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Forget a connection that has ended. Repeating: no effect."""
        self._open.discard(connection)
        self.protect(connection)

    def end_all(self) -> None:
        """Close every connection on which no request is being answered."""
        for connection in tuple(self._open):
            connection.end()

    def protect(self, connection: Connection) -> None:
        """Let a connection not be dropped."""
        of_address = self._droppable.get(connection.address, {})
        of_address.pop(connection, None)
        if not of_address:
            self._droppable.pop(connection.address, None)

    def expose(self, connection: Connection) -> None:
        """Let a connection be dropped, if it is still open."""
        if connection in self._open:
            self._droppable.setdefault(connection.address, {})[connection] = None

    def _drop_one(self) -> bool:
        if not self._droppable:
            return False
        busiest = max(self._droppable, key=lambda address: len(self._droppable[address]))
        oldest = next(iter(self._droppable[busiest]))
        self.release(oldest)
        oldest.drop()
        self.dropped += 1
        return True
