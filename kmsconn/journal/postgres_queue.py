"""Statements that wait to be sent to PostgreSQL together, and their results. Never knows what they mean.

A statement is sent when somebody looks at its result, and all before it with it: what nobody looks at costs no round trip of its own. An
error of a statement therefore comes out where results are looked at, ``is_faulty`` says that there was one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from psycopg import OperationalError

from kmsconn.journal.postgres_session import Reply, Session
from kmsconn.journal.postgres_sql import BoundStatement, Values, call_of


class QueuedResult:
    """The result of a statement, once it was sent: see ``journal.database.QueryResult``."""

    __slots__ = ("_queue", "_reply", "_row")

    def __init__(self, queue: StatementQueue) -> None:
        self._queue = queue
        self._reply: Reply | None = None
        self._row = 0

    def settle(self, reply: Reply) -> None:
        """Take what the server said."""
        self._reply = reply

    @property
    def was_sent(self) -> bool:
        """Whether the server has run the statement."""
        return self._reply is not None

    @property
    def rowcount(self) -> int:
        """How many rows an INSERT, UPDATE or DELETE changed; one as long as that is assumed (``StatementQueue.assumes``)."""
        if self._reply is None and self._queue.assumes:
            return 1
        return self._sent().changed

    def fetchone(self) -> Any:
        """Return the next row as a tuple; None when there is none."""
        rows = self._sent().rows
        if self._row == len(rows):
            return None
        self._row += 1
        return rows[self._row - 1]

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        rows, self._row = self._sent().rows[self._row :], len(self._sent().rows)
        return rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    def _sent(self) -> Reply:
        if self._reply is None:
            self._queue.flush()
        assert self._reply is not None, "a statement that was sent has a reply"
        return self._reply


class StatementQueue:
    """A connection, made when it is needed, and the statements of its transaction that were not sent yet.

    ``assumes``: that each statement whose count is looked at changes one row, so that it need not be sent for that; who assumes it looks
    again when it was. ``is_faulty``: a statement of the transaction failed. ``changes``: rows that were changed so far.
    """

    def __init__(self, connect: Callable[[], Session]) -> None:
        self.assumes = False
        self.is_faulty = False
        self.changes = 0
        self.last: QueuedResult | None = None
        self._connect = connect
        self._session: Session | None = None
        self._waiting: list[tuple[BoundStatement, QueuedResult]] = []

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as anybody heard."""
        return self._session is not None and not self._session.is_lost

    @property
    def is_aborted(self) -> bool:
        """Whether the transaction takes nothing but its end, or a return to a savepoint."""
        return self._session is not None and self._session.is_aborted

    @property
    def is_idle(self) -> bool:
        """Whether the server has no transaction of ours."""
        return self._session is None or self._session.is_lost or self._session.is_idle

    @property
    def pid(self) -> int:
        """Which of the server's processes serves the connection; 0 where there is none."""
        return 0 if self._session is None else self._session.pid

    def connect(self) -> None:
        """Make a connection, unless there is one. Raises OperationalError."""
        if not self.is_connected:
            self.close()
            self._session = self._connect()

    def close(self) -> None:
        """End the connection. Repeating: does nothing."""
        self.forget()
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def begin(self, *calls: BoundStatement) -> list[Reply]:
        """Send what begins a transaction, and return the replies; over a new connection where the old one ended while nobody listened."""
        is_fresh = not self.is_connected
        while True:
            self.forget()
            self.connect()
            try:
                return self.flush(*calls)
            except OperationalError:
                if is_fresh or self.is_connected:
                    raise
                is_fresh = True

    def execute(self, statement: str, values: Values = ()) -> QueuedResult:
        """Queue a statement. Raises what ``call_of`` raises for values that no column holds."""
        call = call_of(statement, values)
        self.last = result = QueuedResult(self)
        self._waiting.append((call, result))
        return result

    def put(self, *calls: BoundStatement) -> None:
        """Queue statements whose results nobody looks at."""
        self._waiting += [(call, QueuedResult(self)) for call in calls]

    def takes_back(self, first: BoundStatement) -> bool:
        """Take back the statement with which what waits begins; False where it was sent."""
        if not self._waiting or self._waiting[0][0] is not first:
            return False
        del self._waiting[0]
        return True

    def flush(self, *more: BoundStatement) -> list[Reply]:
        """Send what waits and ``more`` in one round trip; return the replies to ``more``.

        Raises the error of the statement that failed; what stood behind it was not run.
        """
        waiting, self._waiting = self._waiting, []
        calls = [*(call for call, _ in waiting), *more]
        if not calls:
            return []
        if self._session is None:
            raise OperationalError("the journal is not open")
        try:
            replies = self._session.exchange(calls)
        except BaseException:
            self.is_faulty = True
            raise
        for (_, result), reply in zip(waiting, replies, strict=False):
            result.settle(reply)
            self.changes += reply.changed
        return replies[len(waiting) :]

    def post(self, call: BoundStatement) -> None:
        """Send a statement whose reply nobody waits for. Raises OperationalError when the connection is lost."""
        if self._session is not None:
            self._session.post(call)

    def forget(self) -> None:
        """Leave what waits unsent."""
        self._waiting = []
        self.is_faulty = self.assumes = False
