"""Decryption over HTTP inside the connector: journal first, then the work of the pipeline, then the answer to everyone who waits.

Whoever asks is a waiter and nothing more: the row carries the request, and goes on when the waiter has left or the process has died. The
same request finds its row again: in work it attaches, answered it has the answer, ended for what may be over it begins again.
Source: fhevm-0.15.md, 5.5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Concatenate, ParamSpec, TypeVar

import attrs
import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.errors import JournalFailed, Undecodable
from kmsconn.journal import moves, queries
from kmsconn.journal.database import Database
from kmsconn.journal.journal import Journal
from kmsconn.journal.moves import NewRequest
from kmsconn.journal.rows import Row
from kmsconn.model.events import Event, OnEvent, RequestClosed, RequestRecorded
from kmsconn.model.http_answers import FailureCode, HttpFailure, HttpResult
from kmsconn.model.life import CLOSED
from kmsconn.model.requests import Content, PoolName
from kmsconn.protocols.port import Operation, Posted
from kmsconn.protocols.profile import Profile
from kmsconn.requests.checker import DecryptionExpiry
from kmsconn.requests.failures import UNEXPECTED, failure_of
from kmsconn.transport.waiting import WakeUp

WAITER_LOOK = 30.0  # seconds after which the journal is looked at without being told to: an operator may have changed a row
STOPPING = "the node is stopping; the same request goes on where it stands"
JOURNAL_FAILS = "the node cannot write its journal at present"

P = ParamSpec("P")
T = TypeVar("T")


@attrs.define
class HttpWaiters:
    """Who waits for which id. Wakes them when the request ends, as the connector's events tell."""

    _waiting: dict[int, set[WakeUp]] = attrs.field(factory=lambda: defaultdict(set))

    takes: ClassVar = (RequestClosed,)

    def note(self, event: Event, _now: float) -> None:
        """Take an event."""
        if isinstance(event, RequestClosed) and event.told and event.id is not None:
            self._wake(event.id)

    def _wake(self, identifier: int) -> None:
        for waiter in self._waiting.get(identifier, ()):
            waiter.notify()

    def closed(self, identifier: str) -> None:
        """Wake who waits for an id in hex, which another process has seen the end of; everybody where it is empty."""
        if identifier:
            self._wake(int(identifier, 16))
        else:
            self.wake_all()

    def wake_all(self) -> None:
        """Wake everybody."""
        for identifier in self._waiting:
            self._wake(identifier)

    @contextmanager
    def waiter(self, identifier: int) -> Iterator[WakeUp]:
        """Be one who waits for an id while the block lasts."""
        wake_up = WakeUp()
        self._waiting[identifier].add(wake_up)
        try:
            yield wake_up
        finally:
            self._waiting[identifier].discard(wake_up)
            if not self._waiting[identifier]:
                del self._waiting[identifier]

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))


@attrs.define
class HttpIntake:
    """The second source of requests: takes contents into the journal, and returns the answers that come of them.

    ``head`` is that of the Gateway, whose time counts; ``notify_pool`` wakes the dispatcher of a pool.
    """

    profile: Profile
    journal: Journal
    head: HeadTracker
    wall: Callable[[], float]
    expiry: DecryptionExpiry
    notify_pool: Callable[[PoolName], None]
    on_event: OnEvent
    waiters: HttpWaiters
    _closed: bool = False

    def close(self) -> None:
        """Answer nothing more: who waits is told to ask again. Repeating: no effect."""
        self._closed = True
        self.waiters.wake_all()

    async def decrypt(self, content: Content) -> HttpResult:
        """Return this node's answer to a content as soon as there is one.

        Raises HttpFailure once the request has ended without one, and when the connector stops; ValueError for a content that does not
        come over HTTP. Cancellation: at any time; the work goes on. Repeating: waits for the same work, or has its answer at once.
        """
        operation = self.profile.operations.get(content.kind)
        if not isinstance(operation, Posted):
            raise ValueError(f"{self.profile.name} takes no {content.kind} over HTTP")
        with self.waiters.waiter(content.id) as wake_up:
            row = await self._take(operation, content)
            while row is not None and row.state not in CLOSED:
                with trio.move_on_after(WAITER_LOOK):
                    await wake_up.wait()
                row = await self._run(content, queries.row, row.rid)
                if row is not None and row.state not in CLOSED:
                    self._expect_open(content)
        return _result(operation, content.id, row)

    async def _take(self, operation: Operation[Content], content: Content) -> Row | None:
        self._expect_open(content)
        row, begins = await self._run(content, moves.take, self._post(operation, content))
        if begins and row is not None:
            log = row.event.log
            place = (row.event.chain_id, log.block_number, log.transaction_hash, log.log_index)
            self.on_event(RequestRecorded(row.rid, row.kind, row.id, *place))
            self.notify_pool(operation.pool)
        return row

    def _post(self, operation: Operation[Content], content: Content) -> NewRequest:
        """Return the content as the journal takes it; before a head of the Gateway is known, the wall clock stands for its time."""
        chain_id, contract = operation.contract
        assert isinstance(operation, Posted), "what comes over HTTP"
        log, now, head = operation.log_of(content), self.wall(), self.head.timestamp
        chain_time = now if head is None else float(self.head.sure(head))
        deadline = chain_time + min(operation.lifetime, self.expiry.seconds())
        digest = operation.digest(log, content)
        return NewRequest(chain_id, contract, content.id, content.kind, digest, log, deadline, now)

    async def _run(
        self,
        content: Content,
        operation: Callable[Concatenate[Database, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        try:
            return await self.journal.run(operation, *args, **kwargs)
        except JournalFailed as error:
            code = FailureCode.UPSTREAM_TRANSIENT
            raise HttpFailure(code, JOURNAL_FAILS, decryption_id=content.id) from error
        except moves.TooManyPosts as error:
            raise HttpFailure(FailureCode.OVERLOADED, str(error), decryption_id=content.id) from error

    def _expect_open(self, content: Content) -> None:
        if self._closed:
            raise HttpFailure(FailureCode.UPSTREAM_TRANSIENT, STOPPING, decryption_id=content.id)


def _result(operation: Posted, identifier: int, row: Row | None) -> HttpResult:
    """Return the answer of a row that has ended. Raises HttpFailure where it has none."""
    if row is not None and row.answer is None:
        raise failure_of(row)
    try:
        if row is not None and row.answer is not None:
            return HttpResult(identifier, operation.fields_of(row.answer))
    except Undecodable:
        pass
    raise HttpFailure(FailureCode.UNKNOWN, UNEXPECTED, decryption_id=identifier)
