"""The JSON-RPC exchanges under way over one connection: answers find their questions by id, pushes their subscription. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import trio

from kmsconn.chain.jsonrpc import Complaint, Message, Notification, RpcAnswer
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Unreachable


class RpcExchange:
    """Questions that went out together, as one batch or each for itself, and their answers as they come."""

    def __init__(self, ids: range, method: str, *, batch: bool) -> None:
        self.ids, self.method, self.batch = ids, method, batch
        self.since = trio.current_time()
        self.outcomes: dict[int, Any] = {}
        self.failure: str | None = None
        self.done = trio.Event()

    def take(self, number: int, outcome: Any) -> None:
        """Take the outcome of a question; the first one counts."""
        self.outcomes.setdefault(number, outcome)
        if len(self.outcomes) == len(self.ids):
            self.done.set()

    def fail(self, reason: str) -> None:
        """Expect no more outcomes."""
        self.failure = reason
        self.done.set()

    def so_far(self) -> Iterator[tuple[int, Any]]:
        """Yield the outcomes with their places; those that will never come are Unreachable."""
        for index, number in enumerate(self.ids):
            if number in self.outcomes:
                yield index, self.outcomes[number]
            elif self.failure is not None:
                yield index, Unreachable(self.failure)

    def results(self) -> list[Any]:
        """Return all outcomes. Raises Unreachable when some never came."""
        if self.failure is not None:
            raise Unreachable(self.failure)
        return [self.outcomes[number] for number in self.ids]


class Exchanges:
    """The exchanges of one connection by question, and what takes the pushes of each subscription."""

    def __init__(self) -> None:
        self.waiting: dict[int, RpcExchange] = {}
        """The oldest first."""
        self.subscriptions: dict[str, Callable[[bytes], None]] = {}
        self._next_id = 1

    def begin(self, calls: Sequence[Call], *, batch: bool) -> RpcExchange:
        """Return an exchange with ids of its own for these calls."""
        ids = range(self._next_id, self._next_id + len(calls))
        self._next_id = ids.stop
        exchange = RpcExchange(ids, calls[0].method, batch=batch)
        self.waiting.update(dict.fromkeys(ids, exchange))
        return exchange

    def end(self, exchange: RpcExchange) -> None:
        """Drop what still comes for an exchange."""
        for number in exchange.ids:
            self.waiting.pop(number, None)

    def fail(self, reason: str) -> None:
        """Expect no more answers and no more pushes."""
        for exchange in list(self.waiting.values()):
            exchange.fail(reason)
        self.subscriptions.clear()

    def dispatch(self, messages: Sequence[Message]) -> None:
        """Hand on what came in one piece.

        An error that comes alone for a batch is geth's refusal of the whole, under the id of its first call.
        """
        for message in messages:
            match message:
                case RpcAnswer(number, outcome):
                    if (exchange := self.waiting.get(number)) is not None:
                        exchange.take(number, outcome)
                        if exchange.batch and len(messages) == 1 and isinstance(outcome, RpcError):
                            _refuse(dict.fromkeys(exchange.ids, exchange), outcome)
                case Notification(subscription, result):
                    if (notify := self.subscriptions.get(subscription)) is not None:
                        notify(result)
                case Complaint(error):
                    _refuse(dict(self.waiting), error)


def _refuse(waiting: dict[int, RpcExchange], error: RpcError) -> None:
    """Give an error to all questions that have no outcome."""
    for number, exchange in waiting.items():
        exchange.take(number, error)
