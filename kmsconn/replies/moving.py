"""Moves replies in the journal and reports each transition as an event. Decides nothing and asks no node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs
import trio

from kmsconn.errors import NonceTaken
from kmsconn.journal import moves
from kmsconn.journal.values import Row, RowReply, Signing
from kmsconn.model.events import (
    ReplyFinalized,
    ReplyIncluded,
    ReplyReturned,
    ReplySigned,
    RequestClosed,
    RequestDeferred,
)
from kmsconn.model.life import State
from kmsconn.replies.state import TxState
from kmsconn.replies.table import Found, out_of_gas
from kmsconn.replies.view import Track, nonce_of
from kmsconn.replies.wallet import Signed
from kmsconn.transport.waiting import Backoff

STAGE = "reply"
REPLY_BACKOFF = Backoff(first=0.5, cap=60.0)
FIRST = -86_400.0  # seconds from now: due before all that was answered today


@attrs.frozen
class ReplyMoves:
    """Moves the replies of one transaction manager."""

    state: TxState

    async def sign(self, signed: Sequence[tuple[Track, int, Signed]]) -> None:
        """Make signed bytes durable ③, each with its nonce, in this order.

        Raises NonceTaken, when all others are signed, for one whose nonce another reply holds.
        Repeating: other bytes or another nonce for the same reply.
        """
        signings = [Signing(track.row.rid, nonce, *one) for track, nonce, one in signed]
        outcomes = await self.state.manager.journal.run_each(moves.sign, signings)
        for (track, *_), signing, outcome in zip(signed, signings, outcomes, strict=True):
            if outcome is True:
                self._signed(track, signing)
            elif track.row.state is State.ANSWERED:
                self.state.tracks.drop(track)
            else:
                self.state.loaded = False
        for outcome in outcomes:
            if isinstance(outcome, NonceTaken):
                raise outcome

    def _signed(self, track: Track, by: Signing) -> None:
        row, history = track.row, track.history
        first = row.state is State.ANSWERED and not history.returned and history.reusable is None
        history.reusable, history.signed_once = None, first
        self.state.alerts.signed(row.rid)
        reply = RowReply(by.nonce, by.raw, by.reply_hash, row.reply.included_block)
        signed = attrs.evolve(row, state=State.SIGNED, reply=reply)
        self.state.tracks.move(track, signed)
        track.signed_at = trio.current_time()
        self.state.manager.on_event(ReplySigned(row.rid, row.kind, by.nonce, by.reply_hash, id=row.id))

    async def confirm(self, confirmed: Sequence[tuple[Track, int]]) -> None:
        """Note that replies are in the chain ④, each in its block."""
        if not confirmed:
            return
        nonces = self.state.nonces
        nonces.high = max([nonces.high, *(nonce_of(track.row) + 1 for track, _ in confirmed)])
        blocks = [(track.row.rid, block) for track, block in confirmed]
        moved = await self.state.manager.journal.run_each(moves.confirm, blocks)
        for (track, block), is_moved in zip(confirmed, moved, strict=True):
            if self._left(track, is_moved):
                self._included(track, block, found=False)

    async def found(self, track: Track, block: int) -> None:
        """Note that the contract has the reply of a row that holds no nonce."""
        foreign, track.history.reusable = track.history.lost, None
        self.state.tracks.drop(track)
        if await self.state.manager.journal.run(moves.found_included, track.row.rid, block):
            self._included(track, block, found=True, foreign=foreign)

    def _included(self, track: Track, block: int, *, found: bool, foreign: bool = False) -> None:
        row, state = track.row, self.state
        track.history.included()
        state.tracks.drop(track)
        state.tracks.newly_included = True
        state.alerts.included(row.rid)
        seconds = max(0.0, state.manager.ports.wall() - row.times.recorded)
        own = None if foreign else row.reply.hash
        state.manager.on_event(
            ReplyIncluded(row.rid, row.kind, block, seconds, found, own, foreign, id=row.id)
        )

    async def release(self, track: Track, found: Found) -> None:
        """Take a reply's nonce away, which was used by something else or in vain; it waits for another."""
        row, history = track.row, track.history
        history.reusable, history.lost = row, history.signed_once
        limit = out_of_gas(track)
        if limit is not None:
            history.least_gas = limit * 3 // 2
        next_attempt = self.state.manager.ports.wall() + self._delay(history.returned)
        history.returned += 1
        is_moved = await self.state.manager.journal.run(moves.release, row.rid, next_attempt, found.reason)
        if self._left(track, is_moved):
            self._say_returned(row, State.ANSWERED, found.reason, nonce_taken=found.again)

    async def take_back(self, track: Track, found: Found) -> None:
        """Take an included reply back to answered, or its request to the start where no answer is kept.

        It comes first, so that it claims its nonce. One that is gone again and again waits ever longer: each time it is paid.
        """
        row, history, chain = track.row, track.history, self.state.chain
        seconds = self._delay(history.gone) if found.again and history.gone else FIRST
        history.gone += found.again
        if row.reply.raw is not None:
            history.reusable = row
        if chain is not None:
            finality = (chain.number - chain.final) * self.state.manager.endpoint.block_time
            self.state.alerts.returned(row, found.reason, trio.current_time(), chain.number, finality)
        self.state.tracks.drop(track)
        transition: Literal["resend", "restart"] = "restart" if row.answer is None else "resend"
        if await self.state.manager.journal.run(moves.unland, row.rid, transition, found.reason, seconds):
            self._say_returned(row, State.PENDING if row.answer is None else State.ANSWERED, found.reason)

    def _say_returned(self, row: Row, state: State, reason: str, *, nonce_taken: bool = False) -> None:
        manager = self.state.manager
        self.state.backlog.unsure = True
        manager.on_event(
            ReplyReturned(row.rid, row.kind, state, reason, manager.endpoint.name, nonce_taken, id=row.id)
        )

    async def close(self, track: Track, transition: Literal["reject", "finish"], reason: str) -> None:
        """Reject a reply that can never be taken, or finish one that is not this node's to give."""
        row = track.row
        self._forget(track)
        state = State.REJECTED if transition == "reject" else State.DONE
        if self._left(track, await self.state.manager.journal.run(moves.close, row.rid, transition, reason)):
            self.state.manager.on_event(RequestClosed(row.rid, row.kind, state, reason, "reply", id=row.id))

    async def defer(self, track: Track, reason: str) -> None:
        """Let a reply wait in the journal, without a nonce."""
        row, manager, seconds = track.row, self.state.manager, self._delay(track.row.progress.deferred)
        self.state.tracks.drop(track)
        self.state.backlog.unsure = True
        if await manager.journal.run(moves.defer, row.rid, manager.ports.wall() + seconds, reason):
            manager.on_event(RequestDeferred(row.rid, row.kind, STAGE, reason, seconds, id=row.id))

    async def finalize(self, finalized: Sequence[tuple[Track, int]]) -> None:
        """Note that included replies are there for good ⑤, none above its block."""
        if not finalized:
            return
        blocks = [(track.row.rid, block) for track, block in finalized]
        moved = await self.state.manager.journal.run_each(moves.finalize, blocks)
        for (track, _), is_moved in zip(finalized, moved, strict=True):
            self.state.alerts.finalized(track.row)
            self._forget(track)
            if is_moved:
                self.state.manager.on_event(ReplyFinalized(track.row.rid, track.row.kind, id=track.row.id))

    def _forget(self, track: Track) -> None:
        """Forget a reply with its history."""
        self.state.tracks.forget(track)
        self.state.alerts.forget(track.row.rid)

    def _left(self, track: Track, moved: bool) -> bool:
        """Take a row off what is in flight; one that somebody else moved makes the journal be read again."""
        self.state.tracks.drop(track)
        self.state.loaded = self.state.loaded and moved
        return moved

    def _delay(self, times: int) -> float:
        return REPLY_BACKOFF.seconds(times, self.state.manager.ports.random())
