"""What the clients of a port may hold and take: connections, places to wait, bytes of bodies, and turns. Knows no HTTP.

When all connections are taken, the newest client is let in and the oldest connection whose client does not wait for an answer is
dropped, of the address that has the most of them: strangers who hold connections keep nobody out, and nobody who has been let in is lost.
Addresses whose clients were let in are remembered: their next connections come before those of strangers, and are dropped later.
What strangers make the process do has its pace: requests from the chain, and clients that are let in, have the rest of its time.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from kmsconn.model.http_answers import FailureCode, HttpFailure

STEPS_PER_SECOND: Final = 500
"""Pieces of requests that came by and by: a tenth of a millisecond each, however small they are."""
FREE_STEPS: Final = 16
"""Pieces of each request that are read at once: the usual request has five, and a kilobyte in each would be sixteen."""
BODY_BYTES: Final = 64 << 20
"""Of all bodies that are being read: sixty-four of the largest by default, some ten thousand of the usual size."""
KNOWN_ADDRESSES: Final = 4096
"""Addresses of clients that were let in, which are remembered: the latest ones."""
KNOWN_HOLD: Final = 16
"""As many connections of a known address count as one of a stranger's, where one has to go: the pool of a relayer."""
STRANGER_SECONDS: Final = 1.0
"""In which one stranger is let in at least, however many known clients connect."""


@attrs.frozen
class Bounds:
    """What a port gives its clients: so many connections, and times in seconds."""

    connections: int
    idle: float
    """Until the first byte of a request."""
    request: float
    """From that until a request has come whole."""
    answer: float
    """In which a client must have taken what is sent."""
    keeps: bool = True
    """A connection may carry one request after another."""


@attrs.define(eq=False)
class Pace:
    """So many turns a second for all together, and ``burst`` at once after a rest; who comes beyond them waits, first come first served."""

    per_second: float
    burst: float
    _next: float = attrs.field(default=-math.inf, init=False)

    async def turn(self) -> None:
        """Return when it is one's turn. Cancellation: the turn is lost."""
        at = max(self._next, trio.current_time() - self.burst / self.per_second)
        self._next = at + 1 / self.per_second
        await trio.sleep_until(at)


@attrs.define(eq=False)
class Queue:
    """New clients that wait for their turn: one of each address after the other, however many an address has, and the newest first.

    Where more come than have a turn, the first would have it when it is about to be dropped, so that nobody would get in.
    """

    _by_address: OrderedDict[str, dict[trio.Event, None]] = attrs.field(factory=OrderedDict, init=False)

    def __bool__(self) -> bool:
        return bool(self._by_address)

    @contextmanager
    def place(self, address: str) -> Iterator[trio.Event]:
        """Return what is set when it is one's turn; the place is given up at the end of the block."""
        turn = trio.Event()
        self._by_address.setdefault(address, {})[turn] = None
        try:
            yield turn
        finally:
            self._leave(address, turn)

    def give_turn(self) -> None:
        """Give the turn to the newest client of the newest address; the others of that address come after everybody."""
        address = next(reversed(self._by_address))
        turn = next(reversed(self._by_address[address]))
        self._by_address.move_to_end(address, last=False)
        self._leave(address, turn)
        turn.set()

    def _leave(self, address: str, turn: trio.Event) -> None:
        of_address = self._by_address.get(address, {})
        of_address.pop(turn, None)
        if not of_address:
            self._by_address.pop(address, None)


@attrs.define(eq=False)
class Entrance:
    """Has new clients served at a pace: known ones first, and a stranger in each ``STRANGER_SECONDS``."""

    pace: Pace
    _known: Queue = attrs.field(factory=Queue, init=False)
    _strangers: Queue = attrs.field(factory=Queue, init=False)
    _stranger_due: float = attrs.field(default=-math.inf, init=False)
    _come: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def turn(self, address: str, *, known: bool) -> None:
        """Return when it is one's turn, while ``run`` runs. Cancellation: the turn is that of the next one."""
        queue = self._known if known else self._strangers
        with queue.place(address) as turn:
            self._come.set()
            await turn.wait()

    async def run(self) -> None:
        """Give turns. Cancellation: at any time; nobody has a turn any more."""
        while True:
            while not (self._known or self._strangers):
                self._come = trio.Event()
                await self._come.wait()
            await self.pace.turn()
            if queue := self._next_queue():  # all may have left meanwhile
                queue.give_turn()

    def _next_queue(self) -> Queue:
        now = trio.current_time()
        if self._known and not (self._strangers and now >= self._stranger_due):
            return self._known
        if self._strangers:
            self._stranger_due = now + STRANGER_SECONDS
        return self._strangers


@attrs.define(eq=False)
class ClientConnection:
    """One connection of an address. ``scope`` holds all that is done for it."""

    address: str
    _steps: Pace = attrs.field(repr=False)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    serving: bool = False
    """A request is being answered."""
    taken: int = 0
    """Pieces of requests that were read since it was idle."""

    async def step(self) -> None:
        """Take a piece of a request; beyond the first ones it is the turn of all such pieces together."""
        self.taken += 1
        if self.taken > FREE_STEPS:
            await self._steps.turn()


class Connections:
    """The connections of a port that are open now; those that may be dropped by address, in the order in which they came."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.closing = False
        """No connection has a further request."""
        self.dropped = 0
        """How many had to go for another one, or found no place."""
        self._open: set[ClientConnection] = set()
        self._droppable: dict[str, dict[ClientConnection, None]] = {}
        self._known: dict[str, None] = {}
        self._steps = Pace(STEPS_PER_SECOND, STEPS_PER_SECOND)

    def __len__(self) -> int:
        return len(self._open)

    def knows(self, address: str) -> bool:
        """Whether a client of the address was let in before."""
        return address in self._known

    def admit(self, address: str) -> ClientConnection | None:
        """Return a new connection, where need be in the place of another; None where every other client waits for an answer."""
        if len(self._open) >= self.limit and not self._drop_one():
            self.dropped += 1
            return None
        connection = ClientConnection(address, self._steps)
        self._open.add(connection)
        self._expose(connection)
        return connection

    def release(self, connection: ClientConnection) -> None:
        """Forget a connection that has ended. Repeating: no effect."""
        self._open.discard(connection)
        self._protect(connection)

    def close(self) -> None:
        """Close every connection on which no request is being answered, and the others with their answers."""
        self.closing = True
        for connection in self._open:
            if not connection.serving:
                connection.scope.cancel()

    @contextmanager
    def waiting(self, connection: ClientConnection) -> Iterator[None]:
        """Say that a client has been let in and waits for an answer while the block lasts: it is not dropped for another one."""
        self._remember(connection.address)
        self._protect(connection)
        try:
            yield
        finally:
            self._expose(connection)

    def _remember(self, address: str) -> None:
        self._known.pop(address, None)
        self._known[address] = None
        if len(self._known) > KNOWN_ADDRESSES:
            self._known.pop(next(iter(self._known)))

    def _protect(self, connection: ClientConnection) -> None:
        of_address = self._droppable.get(connection.address, {})
        of_address.pop(connection, None)
        if not of_address:
            self._droppable.pop(connection.address, None)

    def _expose(self, connection: ClientConnection) -> None:
        if connection in self._open:
            self._droppable.setdefault(connection.address, {})[connection] = None

    def _drop_one(self) -> bool:
        if not self._droppable:
            return False
        busiest = max(self._droppable, key=self._weight)
        oldest = next(iter(self._droppable[busiest]))
        self.release(oldest)
        oldest.scope.cancel()
        self.dropped += 1
        return True

    def _weight(self, address: str) -> float:
        held = len(self._droppable[address])
        return held / KNOWN_HOLD if self.knows(address) else held


@attrs.define(eq=False)
class Places:
    """The places of clients that wait for an answer; who finds none is told to come back."""

    limit: int
    taken: int = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while the block lasts. Raises HttpFailure where all are taken."""
        if self.taken >= self.limit:
            raise HttpFailure(FailureCode.OVERLOADED, f"{self.limit} requests wait for their answers already")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@attrs.define(eq=False)
class Bodies:
    """The bytes of bodies in memory; a body that does not fit any more is refused, since its client can come back."""

    limit: int = BODY_BYTES
    used: int = 0

    @contextmanager
    def body(self) -> Iterator[bytearray]:
        """Hold one body, as far as it has come, while the block lasts."""
        body = bytearray()
        try:
            yield body
        finally:
            self.used -= len(body)
            body.clear()

    def grow(self, body: bytearray, piece: bytes) -> None:
        """Take a further piece of a body. Raises HttpFailure where it does not fit."""
        if self.used + len(piece) > self.limit:
            raise HttpFailure(FailureCode.OVERLOADED, "too many bodies are being received")
        body += piece
        self.used += len(piece)
