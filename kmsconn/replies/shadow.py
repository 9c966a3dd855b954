"""Shadow mode: what a transaction manager does instead of sending. It follows another connector's replies, and sends nothing, ever.

Each round reads the blocks up to the look at the chain, compares each reply of the node with the answer in the journal, and moves the
request as if this connector had found its own reply; finality, forks and what is gone are the transaction manager's. No key, no nonce, no
broadcast is within its reach.

- A request that is still pending here when its reply is seen waits in memory for the answer; a restart reads the blocks again.
- A request that ended here without an answer, which another connector answered, is told.
- An answer to which no reply came until the request's deadline is told, and the request is done.
"""

from __future__ import annotations

from typing import Literal

import attrs
import trio

from kmsconn.errors import StageTimeout
from kmsconn.journal import moves, queries
from kmsconn.journal.values import Row
from kmsconn.model.events import ReplyCompared, ReplyIncluded, ReplyMissing, ReplyUnmatched, RequestClosed
from kmsconn.model.life import State
from kmsconn.replies import table
from kmsconn.replies.sending import ReplyMoves
from kmsconn.replies.shadow_replies import ReplyReader, SentReply, compare
from kmsconn.replies.state import TxState
from kmsconn.replies.table import Action, Found, Phase, TableRow
from kmsconn.replies.view import ChainView, IncludedReply, Track, View

LOOK_EVERY = 2.0  # seconds between looks at what is overdue
READ_TIMEOUT = 30.0  # seconds; longer than a connection waits, so that a dead one is noticed
ROWS_AT_ONCE = 64  # rows that are looked at for their deadline
MOST_WAITING = 10_000  # replies whose requests are pending here; further ones are not compared
UNKNOWN_FOR = 120.0  # seconds that a reply waits for its request to be read
SENDS_NOTHING = "shadow mode sends nothing"
NOT_SEEN = "its reply stands in a block that was not read"
NO_REPLY = "no reply of this node was included until the deadline of the request"


def _nobody_sent(view: View, track: Track) -> Found | None:
    probe = table.probe_of(view, track)
    return Found(NO_REPLY) if probe is not None and probe.trusted and not probe.says_nothing else None


def _left_signed(_view: View, _track: Track) -> Found:
    return Found(SENDS_NOTHING)


TABLE = table.by_phase([
    *(row for row in table.ROWS if (row.phase, row.action) == (Phase.UNSIGNED, Action.CONFIRM)),
    TableRow(Phase.UNSIGNED, Action.FINISH, (), _nobody_sent),
    *(TableRow(phase, Action.RELEASE, (), _left_signed) for phase in (Phase.IN_FLIGHT, Phase.SPENT)),
    *(row for row in table.ROWS if row.phase in {Phase.INCLUDED, Phase.ANY}),
])  # fmt: skip
"""The rows of shadow mode: what is answered is looked at once it is overdue; what an active connector left signed is not broadcast here."""


@attrs.define
class Shadow(ReplyMoves):
    """One shadow at work: moves requests by what another connector did for them, and tells each step.

    ``rests``: blocks are read only while a request is open, for a chain with large blocks and few requests. ``waiting`` has the replies
    whose requests are pending here, by row; ``unknown`` those to requests that the journal does not have, or not yet.
    """

    reader: ReplyReader
    rests: bool
    waiting: dict[int, SentReply] = attrs.field(factory=dict)
    unknown: list[SentReply] = attrs.field(factory=list)
    _looked_at: float = float("-inf")

    @classmethod
    def of(cls, state: TxState) -> Shadow:
        """Return the shadow of a chain that begins."""
        manager, rpc = state.manager, state.manager.endpoint.rpc
        subscriptions = [one for one in manager.profile.subscriptions() if one.chain_id == rpc.chain_id]
        reader = ReplyReader(rpc, manager.profile, manager.account)
        return cls(state, reader, all(one.finalized for one in subscriptions))

    async def step(self, chain: ChainView) -> None:
        """Read on up to a look at the chain, and see what became of what was read before.

        Raises Retryable. Cancellation: at any await; the journal and the chain have everything. Repeating: goes on from there.
        """
        try:
            with trio.fail_after(READ_TIMEOUT):
                await self._read(chain)
        except trio.TooSlowError as error:
            raise StageTimeout("the reading of blocks", READ_TIMEOUT) from error
        journal, now = self.state.manager.journal, self.state.manager.ports.wall()
        for row in await journal.run(queries.passed, list(self.waiting)) if self.waiting else ():
            await self._judge(row, self.waiting.pop(row.rid))
        if trio.current_time() - self._looked_at < LOOK_EVERY:
            return
        self._looked_at, unknown, self.unknown = trio.current_time(), self.unknown, []
        for reply in unknown:  # the request may have come since; one of before this journal is let go
            if now - reply.seen <= UNKNOWN_FOR:
                await self._take(reply)
        await self._note_overdue()
        if self.rests and await self._begin(chain) is None:
            self.reader.rest()

    async def _read(self, chain: ChainView) -> None:
        if self.reader.next_block is None:
            self.reader.next_block = await self._begin(chain)
        replies, more = await self.reader.read(chain.number, self.state.manager.ports.wall())
        for reply in replies:
            await self._take(reply)
        if more:
            self.state.news.notify()

    async def _begin(self, chain: ChainView) -> int | None:
        """Return the block of the oldest open request, else the head; None: there is nothing to read yet."""
        block: int | None = await self.state.manager.journal.run(
            queries.oldest_open_block, self.reader.rpc.chain_id
        )
        return chain.number if block is None and not self.rests else block

    async def _take(self, reply: SentReply) -> None:
        """Compare a reply with what is known of its request, now or when there is an answer."""
        rows = await self.state.manager.journal.run(
            queries.of_request, self.reader.rpc.chain_id, reply.contract, reply.kind, reply.id
        )
        for row in rows[-1:]:
            if row.state is not State.PENDING:
                await self._judge(row, reply)
            elif len(self.waiting) < MOST_WAITING:
                self.waiting[row.rid] = reply
        if not rows and len(self.unknown) < MOST_WAITING:
            self.unknown.append(reply)

    async def _judge(self, row: Row, reply: SentReply) -> None:
        """Take a reply to the request of a row. Repeating: a row that is included already is left alone."""
        manager = self.state.manager
        if row.state is State.ANSWERED and await manager.journal.run(
            moves.move, "found_included", row.rid, block=reply.block
        ):
            assert row.answer is not None
            operation = manager.profile.operations[row.kind]
            compared = compare(operation, row.answer.calldata, reply.calldata)
            answered = row.times.recorded if row.times.answered is None else row.times.answered
            manager.on_event(
                ReplyCompared(
                    row.rid,
                    row.kind,
                    compared.likeness,
                    reply.included_at - answered,
                    reply.block,
                    reply.transaction_hash,
                    compared.at,
                    compared.field,
                    compared.ours,
                    compared.theirs,
                    id=row.id,
                )
            )
            seconds, transaction = max(0.0, reply.included_at - row.times.recorded), reply.transaction_hash
            manager.on_event(
                ReplyIncluded(row.rid, row.kind, reply.block, seconds, True, transaction, id=row.id)
            )
        if row.state in {State.ANSWERED, State.INCLUDED}:
            self.stands(
                IncludedReply(
                    row.rid, row.kind, row.id, reply.block, reply.block_hash, reply.transaction_hash
                )
            )
        elif row.state is not State.FINALIZED:
            self._tell_unmatched(row, row.progress.reason)

    def _tell_unmatched(self, row: Row, reason: str) -> None:
        self.state.manager.on_event(ReplyUnmatched(row.rid, row.kind, row.state, reason, id=row.id))

    async def _note_overdue(self) -> None:
        """Have the contract asked about requests whose deadline has passed, in chain time that is sure, the longest answered first."""
        manager = self.state.manager
        now = manager.endpoint.head.settled_timestamp
        if now is None:
            return
        due = await manager.journal.run(
            queries.answered, self.reader.rpc.chain_id, manager.ports.wall(), ROWS_AT_ONCE
        )
        for row in due.rows:
            if now > row.progress.deadline:
                self.state.tracks.note(row)

    async def found(self, track: Track, block: int) -> None:
        """Note that the contract has a reply that was not seen."""
        if self._left(
            track,
            await self.state.manager.journal.run(moves.move, "found_included", track.row.rid, block=block),
        ):
            self.state.tracks.newly_included = True
            self._tell_unmatched(track.row, NOT_SEEN)

    async def close(self, track: Track, transition: Literal["reject", "finish"], reason: str) -> None:
        """End a request whose reply did not come."""
        row, manager = track.row, self.state.manager
        if self._left(track, await manager.journal.run(moves.move, transition, row.rid, reason=reason)):
            seconds = manager.ports.wall() - row.times.recorded
            manager.on_event(ReplyMissing(row.rid, row.kind, seconds, id=row.id))
            manager.on_event(RequestClosed(row.rid, row.kind, State.DONE, reason, "no-reply", id=row.id))

    async def take_back(self, track: Track, found: Found) -> None:
        """Take an included reply back to answered, and read from its block on again: it may stand there, or in a later one."""
        self.reader.back_to(track.row.reply.included_block)
        await super().take_back(track, found)
