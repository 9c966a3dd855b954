"""Statements that go to PostgreSQL together, and their results. Never knows what they mean.

Statements wait until somebody looks at the result of one, and go as one batch then: what nobody looks at costs no round trip of its own.
An error of a statement therefore comes out where results are looked at; ``is_faulty`` says that there was one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from psycopg import Error, OperationalError

from kmsconn.journal.postgres_session import Reply, Session
from kmsconn.journal.postgres_statements import BoundStatement, Values, call_of


class BatchResult:
    """The result of a statement, once it was sent: see ``journal.database.QueryResult``."""

    __slots__ = ("_batch", "_row", "reply")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._row = 0
        self.reply: Reply | None = None

    @property
    def rowcount(self) -> int:
        """How many rows an INSERT, UPDATE or DELETE changed; one as long as that is assumed (``Batch.assumes``)."""
        if self.reply is None and self._batch.assumes:
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
        if self.reply is None:
            self._batch.flush()
        assert self.reply is not None, "a statement that was sent has a reply"
        return self.reply


class Batch:
    """A connection, made when it is needed, and the statements of its transaction that were not sent yet.

    ``assumes``: that each statement whose count is looked at changes one row, so that it need not be sent for that; who assumes it looks
    again when it was. ``is_faulty``: a statement of the transaction failed. ``last``: the result of the last statement. ``changes``: rows
    that were changed so far.
    """

    def __init__(self, connect: Callable[[], Session]) -> None:
        self.assumes = False
        self.is_faulty = False
        self.changes = 0
        self.last: BatchResult | None = None
        self._connect = connect
        self._session: Session | None = None
        self._waiting: list[tuple[BoundStatement, BatchResult]] = []

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as anybody heard."""
        return self._session is not None and not self._session.is_lost

    @property
    def is_aborted(self) -> bool:
        """Whether the transaction takes nothing but its end, or a return to a savepoint."""
        return self._session is not None and self._session.is_aborted

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
        self.forget()
        self.connect()
        try:
            return self.flush(*calls)
        except OperationalError:
            if is_fresh or self.is_connected:
                raise
        self.connect()
        return self.flush(*calls)

    def end(self, call: BoundStatement, *, wait: bool = True) -> None:
        """Send what undoes a transaction, if there is one. Raises nothing: a connection that cannot is given up."""
        self.forget()
        session = self._session
        if session is None or session.is_lost or session.is_idle:
            return
        try:
            if wait:
                session.exchange([call])
            else:
                session.post(call)
        except Error:
            self.close()

    def execute(self, statement: str, values: Values = ()) -> BatchResult:
        """Let a statement wait for those it goes with. Raises what ``call_of`` raises for values that no column holds."""
        call = call_of(statement, values)
        self.last = result = BatchResult(self)
        self._waiting.append((call, result))
        return result

    def flush(self, *more: BoundStatement) -> list[Reply]:
        """Send what waits and ``more`` as one batch; return the replies to ``more``.

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
            result.reply = reply
            self.changes += reply.changed
        return replies[len(waiting) :]

    def forget(self) -> None:
        """Leave what waits unsent."""
        self._waiting = []
        self.is_faulty = self.assumes = False
