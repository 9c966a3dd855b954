"""The shadow of a transaction manager: one loop per chain that follows another connector's replies and sends nothing, ever.

Each round reads the blocks since the last one, compares each reply of the node with the answer in the journal, and moves the request as
if this connector had found its own reply: included, and final once its block is. No key, no nonce, no broadcast is within its reach.

- A request that is still pending here when its reply is seen waits in memory for the answer; a restart reads the blocks again.
- A request that ended here without an answer, which another connector answered, is told.
- An answer to which no reply came until the request's deadline is told, and the request is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import attrs
import trio

from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import moves, queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row
from kmsconn.model.alerts import Board
from kmsconn.model.events import (
    OnEvent,
    ReplyCompared,
    ReplyFinalized,
    ReplyIncluded,
    ReplyMissing,
    ReplyReturned,
    ReplyUnmatched,
    RequestClosed,
)
from kmsconn.model.life import State
from kmsconn.protocols.profile import Profile
from kmsconn.replies.shadow_replies import ReplyReader, SentReply, compare
from kmsconn.replies.state import TxEndpoint
from kmsconn.replies.tracking import FINALIZED, read_found
from kmsconn.transport.ports import Ports
from kmsconn.transport.waiting import Backoff, Hold, WakeUp, together

IDLE = 1.0  # seconds without a wake-up until the next round
PACE = 0.05  # seconds between rounds under load
LOOK_EVERY = 2.0  # seconds between looks at what is final and what is overdue
ROUND_TIMEOUT = 30.0  # seconds; longer than a connection waits, so that a dead one is noticed
ROWS_AT_ONCE = 64  # rows that are looked at for finality, or for their deadline
MOST_WAITING = 10_000  # replies whose requests are pending here; further ones are not compared
UNKNOWN_FOR = 120.0  # seconds that a reply waits for its request to be read
ROUND_BACKOFF = Backoff(first=0.5, cap=8.0)
SENDS_NOTHING = "shadow mode sends nothing"
NOT_SEEN = "its reply stands in a block that was not read"
NO_REPLY = "no reply of this node was included until the deadline of the request"


@attrs.frozen
class ShadowManager:
    """The parts of one shadow. ``tx_sender`` is the account whose replies are followed.

    They are final once their block is; where the node has no ``finalized`` block, after ``confirmations``. ``rests``: blocks are read only
    while a request is open, for a chain with large blocks and few requests. ``has_reply`` asks the contract whether it has this node's
    reply to a row's request; None where it cannot be asked now. ``wake`` is notified when an answer became durable and when a head was
    heard; ``closing`` ends the shadow at once, for nothing of it waits for anybody.
    """

    endpoint: TxEndpoint
    journal: Journal
    profile: Profile
    tx_sender: Address
    has_reply: Callable[[Row], Awaitable[bool | None]]
    wake: WakeUp
    ports: Ports
    on_event: OnEvent
    confirmations: int = 0
    rests: bool = False
    beat: Callable[[], None] = lambda: None
    closing: trio.Event = attrs.field(factory=trio.Event)


async def run_shadow(manager: ShadowManager) -> None:
    """Compare until ``manager.closing`` is set. Failures of the chain are alerts and waited out.

    Cancellation: at any await; the journal and the chain have everything. Repeating: goes on from there.
    """
    shadow = _Shadow(
        manager,
        ReplyReader(manager.endpoint.rpc, manager.profile, manager.tx_sender),
        Board(manager.on_event, trio.current_time),
        Hold(ROUND_BACKOFF, manager.ports.random),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shadow.run)
        await manager.closing.wait()
        nursery.cancel_scope.cancel()


@attrs.define
class _Shadow:
    """One shadow at work: moves requests by what another connector did for them, and tells each step.

    ``waiting`` has the replies whose requests are pending here, by row.
    """

    manager: ShadowManager
    reader: ReplyReader
    board: Board
    backoff: Hold
    waiting: dict[int, SentReply] = attrs.field(factory=dict)
    unknown: list[SentReply] = attrs.field(factory=list)
    """Replies to requests that the journal does not have, or not yet."""
    looked_at: float = float("-inf")
    begun: bool = False

    async def run(self) -> None:
        """Make rounds for ever."""
        manager, about = self.manager, f"shadow {self.manager.endpoint.name}"
        while True:
            manager.beat()
            try:
                with trio.fail_after(ROUND_TIMEOUT):
                    more = await self._round()
            except (Retryable, trio.TooSlowError) as error:
                late = f"a round of the shadow took longer than {ROUND_TIMEOUT:g} s"
                self.board.set("rounds", about, str(error) or late)
                self.backoff.failed(trio.current_time())
                await trio.sleep_until(self.backoff.until)
                continue
            self.backoff.worked()
            self.board.set("rounds", about, None)
            await trio.sleep(PACE)
            with trio.move_on_after(0 if more else IDLE):
                await manager.wake.wait()

    async def _round(self) -> bool:
        """Read on, and look what became of what was read before; say whether there is more to read."""
        if not self.begun:
            await self._take_back_signed()
            self.begun = True
        more = await self._read()
        for row in await self.manager.journal.run(queries.passed, list(self.waiting)) if self.waiting else ():
            await self._judge(row, self.waiting.pop(row.rid))
        if trio.current_time() - self.looked_at >= LOOK_EVERY:
            self.looked_at = trio.current_time()
            now, unknown = self.manager.ports.wall(), self.unknown
            self.unknown = []
            for reply in unknown:  # the request may have come since; one of before this journal is let go
                if now - reply.seen <= UNKNOWN_FOR:
                    await self._take(reply)
            await self._finalize()
            await self._close_overdue()
            if self.manager.rests and await self._begin() is None:
                self.reader.rest()
        return more

    async def _take_back_signed(self) -> None:
        """Take the nonces from replies that an active connector left signed: they are not broadcast here. Their bytes are kept."""
        for row in await self.manager.journal.run(queries.signed, self.reader.rpc.chain_id):
            if await self.manager.journal.run(
                moves.release, row.rid, self.manager.ports.wall(), SENDS_NOTHING
            ):
                self._tell_returned(row, State.ANSWERED, SENDS_NOTHING)

    async def _read(self) -> bool:
        if self.reader.next_block is None:
            block = await self._begin()
            if block is None:
                return False
            self.reader.next_block = block
        replies, more = await self.reader.read(self.manager.ports.wall())
        for reply in replies:
            await self._take(reply)
        return more

    async def _begin(self) -> int | None:
        """Return the block of the oldest open request, else the head; None: there is nothing to read yet."""
        block = await self.manager.journal.run(queries.oldest_open_block, self.reader.rpc.chain_id)
        return self.manager.endpoint.head.number if block is None and not self.manager.rests else block

    async def _take(self, reply: SentReply) -> None:
        """Compare a reply with what is known of its request, now or when there is an answer."""
        rows = await self.manager.journal.run(
            queries.of_request, self.reader.rpc.chain_id, reply.contract, reply.kind, reply.id
        )
        for row in rows[-1:]:
            if row.state is State.PENDING and len(self.waiting) < MOST_WAITING:
                self.waiting[row.rid] = reply
            else:
                await self._judge(row, reply)
        if not rows and len(self.unknown) < MOST_WAITING:
            self.unknown.append(reply)

    async def _judge(self, row: Row, reply: SentReply) -> None:
        """Take a reply to the request of a row. Repeating: a row that is included already is left alone."""
        if row.state in {State.INCLUDED, State.FINALIZED}:
            return
        if row.state not in {State.ANSWERED, State.PENDING}:
            self._tell_unmatched(row, row.progress.reason)
        elif await self.manager.journal.run(moves.found_included, row.rid, reply.block):
            if row.answer is None:
                self._tell_unmatched(row, "there was no answer to it here when its reply was seen")
            else:
                self.manager.on_event(_compared(self.manager, row, row.answer.calldata, reply))
            seconds = max(0.0, reply.included_at - row.times.recorded)
            transaction = reply.transaction_hash
            self.manager.on_event(
                ReplyIncluded(row.rid, row.kind, reply.block, seconds, True, transaction, id=row.id)
            )

    def _tell_unmatched(self, row: Row, reason: str) -> None:
        self.manager.on_event(ReplyUnmatched(row.rid, row.kind, row.state, reason, id=row.id))

    def _tell_returned(self, row: Row, state: State, reason: str) -> None:
        name = self.manager.endpoint.name
        self.manager.on_event(ReplyReturned(row.rid, row.kind, state, reason, name, id=row.id))

    async def _finalize(self) -> None:
        """End the requests whose replies stand at or below a final block, and which the contract still has."""
        manager = self.manager
        final, head = (
            read_found((await manager.endpoint.rpc.batch([FINALIZED]))[0]),
            manager.endpoint.head.number,
        )
        block = final.number if final is not None else -1 if head is None else head - manager.confirmations
        rows = await self.manager.journal.run(queries.included, self.reader.rpc.chain_id, block, ROWS_AT_ONCE)
        await together([partial(self._finalize_one, row) for row in rows])

    async def _finalize_one(self, row: Row) -> None:
        stands = await self.manager.has_reply(row)
        if stands:
            if await self.manager.journal.run(moves.finalize, (row.rid, row.reply.included_block or 0)):
                self.manager.on_event(ReplyFinalized(row.rid, row.kind, id=row.id))
        elif stands is False:
            transition: Literal["resend", "restart"] = "restart" if row.answer is None else "resend"
            reason = "the contract does not have its reply any more"
            if await self.manager.journal.run(moves.unland, row.rid, transition, reason):
                self._tell_returned(row, State.PENDING if row.answer is None else State.ANSWERED, reason)

    async def _close_overdue(self) -> None:
        """End the answered requests whose deadline has passed, in chain time that is sure, the longest answered first."""
        now = self.manager.endpoint.head.settled_timestamp
        if now is None:
            return
        wall = self.manager.ports.wall()
        due = await self.manager.journal.run(queries.answered, self.reader.rpc.chain_id, wall, ROWS_AT_ONCE)
        late = [row for row in due.rows if now > row.progress.deadline]
        await together([partial(self._close, row) for row in late])

    async def _close(self, row: Row) -> None:
        stands = await self.manager.has_reply(row)
        if stands:
            if await self.manager.journal.run(
                moves.found_included, row.rid, self.manager.endpoint.head.number or 0
            ):
                self._tell_unmatched(row, NOT_SEEN)
        elif stands is False and await self.manager.journal.run(moves.close, row.rid, "finish", NO_REPLY):
            seconds = self.manager.ports.wall() - row.times.recorded
            self.manager.on_event(ReplyMissing(row.rid, row.kind, seconds, id=row.id))
            self.manager.on_event(
                RequestClosed(row.rid, row.kind, State.DONE, NO_REPLY, "no-reply", id=row.id)
            )


def _compared(manager: ShadowManager, row: Row, calldata: bytes, reply: SentReply) -> ReplyCompared:
    found = compare(manager.profile.operations[row.kind], calldata, reply.calldata)
    answered = row.times.recorded if row.times.answered is None else row.times.answered
    return ReplyCompared(
        row.rid,
        row.kind,
        found.likeness,
        reply.included_at - answered,
        reply.block,
        reply.transaction_hash,
        found.at,
        found.field,
        found.ours,
        found.theirs,
        id=row.id,
    )
