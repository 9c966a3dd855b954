"""How a reply moves on: each transition in the journal with its event. Decides nothing and asks no node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs
import trio

from kmsconn.errors import NonceTaken
from kmsconn.journal import moves
from kmsconn.journal.values import Row, Signing
from kmsconn.model.events import (
    ReplyFinalized,
    ReplyIncluded,
    ReplyReturned,
    ReplySent,
    ReplySigned,
    RequestClosed,
    RequestDeferred,
)
from kmsconn.model.life import State
from kmsconn.transport.backoff import Backoff
from kmsconn.txmanager.evidence import Receipt, Sent
from kmsconn.txmanager.state import TxState
from kmsconn.txmanager.view import Question, Track, nonce_of
from kmsconn.txmanager.wallet import Signed

STAGE = "reply"
REPLY_BACKOFF = Backoff(first=0.5, cap=60.0)


@attrs.define
class ReplyMoves:
    """Moves the replies of one transaction manager."""

    state: TxState
    _returned: dict[int, int] = attrs.field(factory=dict)
    _signed_once: set[int] = attrs.field(factory=set)
    """Replies of which this process signed all bytes there ever were, and only one set of them."""
    _gone: Counter[int] = attrs.field(factory=Counter)
    """How often the contract had lost a reply, by rid."""

    async def sign(self, signed: Sequence[tuple[Track, int, Signed]]) -> None:
        """Make signed bytes durable ③, each with its nonce, in this order.

        Raises NonceTaken, when all others are signed, for one whose nonce another reply holds.
        Repeating: other bytes or another nonce for the same reply.
        """
        signings = [Signing(track.row.rid, nonce, *one) for track, nonce, one in signed]
        outcomes = await self.state.journal.run_each(moves.sign, signings)
        for (track, *_), signing, outcome in zip(signed, signings, outcomes, strict=True):
            if outcome is True:
                self._signed(track, signing)
            elif track.row.state is State.ANSWERED:
                self.state.drop(track)
            else:
                self.state.loaded = False
        for outcome in outcomes:
            if isinstance(outcome, NonceTaken):
                raise outcome

    def _signed(self, track: Track, by: Signing) -> None:
        row = track.row
        first = row.state is State.ANSWERED and row.rid not in self._returned
        earlier = self.state.reusable.pop(row.rid, None)
        track.reusable = None
        (self._signed_once.add if first and earlier is None else self._signed_once.discard)(row.rid)
        self.state.alerts.clear_for(row.rid)
        track.moved(
            attrs.evolve(row, state=State.SIGNED, nonce=by.nonce, raw=by.raw, reply_hash=by.reply_hash)
        )
        track.signed_at = trio.current_time()
        self.state.manager.on_event(ReplySigned(row.rid, row.kind, by.nonce, by.reply_hash))

    def note_sent(self, row: Row, said: Sent, now: float) -> None:
        """Note what a node said to a reply's bytes."""
        if self.state.broadcasts.note(row.rid, row.reply_hash or b"", said, now):
            since = (
                None
                if row.answered_at is None
                else max(0.0, self.state.manager.ports.wall() - row.answered_at)
            )
            self.state.manager.on_event(
                ReplySent(row.rid, row.kind, nonce_of(row), since, self.state.manager.name)
            )

    async def confirm(self, confirmed: Sequence[tuple[Track, int]]) -> None:
        """Note that replies are in the chain ④, each in its block."""
        if not confirmed:
            return
        self.state.high = max([self.state.high, *(nonce_of(track.row) + 1 for track, _ in confirmed)])
        moved = await self.state.journal.run_each(
            moves.confirm, [(track.row.rid, block) for track, block in confirmed]
        )
        for (track, block), is_moved in zip(confirmed, moved, strict=True):
            foreign = self._is_foreign(track)
            if self._left(track, is_moved):
                self._included(track.row, block, found=False, foreign=foreign)

    def _is_foreign(self, track: Track) -> bool:
        """Say whether another transaction carried an included reply: its only bytes are not in the chain, or failed there.

        A node that would not say so proves nothing.
        """
        receipt = track.findings.get(Question.RECEIPT)
        if receipt is None or track.row.rid not in self._signed_once:
            return False
        return receipt.value is None or (isinstance(receipt.value, Receipt) and not receipt.value.succeeded)

    async def found(self, track: Track, block: int) -> None:
        """Note that the contract has the reply of a row that holds no nonce."""
        self.state.drop(track)
        self.state.reusable.pop(track.row.rid, None)
        if await self.state.journal.run(moves.found_included, track.row.rid, block):
            self._included(track.row, block, found=True)

    def _included(self, row: Row, block: int, *, found: bool, foreign: bool = False) -> None:
        self._settled(row)
        self.state.alerts.passed("not-included")
        seconds = max(0.0, self.state.manager.ports.wall() - row.recorded_at)
        own = None if foreign else row.reply_hash
        self.state.manager.on_event(ReplyIncluded(row.rid, row.kind, block, seconds, found, own, foreign))

    def _settled(self, row: Row) -> None:
        """Forget what was remembered about a reply beside its row."""
        self._returned.pop(row.rid, None)
        self._signed_once.discard(row.rid)
        self.state.least_gas.pop(row.rid, None)
        self.state.alerts.clear_for(row.rid)

    async def release(self, track: Track, reason: str) -> None:
        """Take a reply's nonce away, which was used by something else or in vain; it waits for another."""
        row = track.row
        self.state.reusable[row.rid] = row
        times = self._returned.get(row.rid, 0)
        self._returned[row.rid] = times + 1
        next_attempt = self.state.manager.ports.wall() + self._delay(times)
        if self._left(track, await self.state.journal.run(moves.release, row.rid, next_attempt, reason)):
            self._say_returned(row, State.ANSWERED, reason)

    def _say_returned(self, row: Row, state: State, reason: str) -> None:
        self.state.stale = True
        self.state.manager.on_event(ReplyReturned(row.rid, row.kind, state, reason, self.state.manager.name))

    async def reject(self, track: Track, reason: str) -> None:
        """Give up a reply that can never be taken."""
        await self._close(track, "reject", State.REJECTED, reason)

    async def finish(self, track: Track, reason: str) -> None:
        """Let a reply be that is not this node's to give."""
        await self._close(track, "finish", State.DONE, reason)

    async def _close(self, track: Track, transition: str, state: State, reason: str) -> None:
        row = track.row
        self.state.reusable.pop(row.rid, None)
        self._settled(row)
        self._gone.pop(row.rid, None)
        if self._left(track, await self.state.journal.run(moves.close, row.rid, transition, reason)):
            self.state.manager.on_event(RequestClosed(row.rid, row.kind, state, reason, "reply"))

    async def defer(self, track: Track, reason: str) -> None:
        """Let a reply wait in the journal, without a nonce."""
        row, seconds = track.row, self._delay(track.row.deferred)
        self.state.drop(track)
        if await self.state.journal.run(
            moves.defer, row.rid, self.state.manager.ports.wall() + seconds, reason
        ):
            self.state.manager.on_event(RequestDeferred(row.rid, row.kind, STAGE, reason, seconds))

    async def finalize(self, finalized: Sequence[tuple[Track, int]]) -> None:
        """Note that included replies are there for good ⑤, none above its block."""
        if not finalized:
            return
        moved = await self.state.journal.run_each(
            moves.finalize, [(track.row.rid, block) for track, block in finalized]
        )
        for (track, _), is_moved in zip(finalized, moved, strict=True):
            self.state.drop(track)
            self._gone.pop(track.row.rid, None)
            self.state.alerts.clear_for(track.row.rid)
            if is_moved:
                self.state.manager.on_event(ReplyFinalized(track.row.rid, track.row.kind))

    async def resend(self, track: Track, reason: str, *, gone: bool = False) -> None:
        """Take an included reply back to answered. One that is ``gone`` again and again waits ever longer: each time it is paid."""
        seconds = 0.0
        if gone:
            times = self._gone[track.row.rid]
            seconds = self._delay(times) if times else 0.0
            self._gone[track.row.rid] += 1
        await self._unland(track, "resend", State.ANSWERED, reason, seconds)

    async def restart(self, track: Track, reason: str) -> None:
        """Take a request whose reply is gone, and of which no answer is kept, back to the start."""
        await self._unland(track, "restart", State.PENDING, reason)

    async def _unland(
        self, track: Track, transition: str, state: State, reason: str, seconds: float = 0.0
    ) -> None:
        row = track.row
        if row.raw is not None:
            self.state.reusable[row.rid] = row
        self.state.drop(track)
        if await self.state.journal.run(moves.unland, row.rid, transition, reason, seconds):
            self._say_returned(row, state, reason)

    def _left(self, track: Track, moved: bool) -> bool:
        """Take a row off what is in flight; one that somebody else moved makes the journal be read again."""
        self.state.drop(track)
        self.state.loaded = self.state.loaded and moved
        return moved

    def _delay(self, times: int) -> float:
        return REPLY_BACKOFF.seconds(times, self.state.manager.ports.random())
