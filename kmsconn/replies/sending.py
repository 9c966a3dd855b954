"""Moves replies in the journal, signs, broadcasts and fills nonce gaps; decides nothing. An answer to a broadcast holds nobody up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal

import attrs
import trio

from kmsconn.chain.logs import read_number
from kmsconn.chain.port import Call
from kmsconn.errors import NonceTaken, Retryable, StageTimeout, Unreachable
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal import moves
from kmsconn.journal.moves import FIRST
from kmsconn.journal.values import Row, RowReply, Signing
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
from kmsconn.model.progress import PATIENCE
from kmsconn.replies.answers import Broadcast, Sent, read_sent
from kmsconn.replies.asking import ask_many
from kmsconn.replies.fees import highest_cost, in_ether, new_transaction
from kmsconn.replies.plan import Signature, Step
from kmsconn.replies.state import REPLY, UNSIGNED, TxState, tell_sent
from kmsconn.replies.table import REFUSED, Action, Found, out_of_gas, receipt_of
from kmsconn.replies.view import IncludedReply, Track, nonce_of
from kmsconn.replies.wallet import Signed, Wallet
from kmsconn.transport.waiting import Backoff

STAGE = "reply"
REPLY_BACKOFF = Backoff(first=0.5, cap=60.0)


Move = Callable[[Track, Found], Awaitable[None]]


@attrs.define
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
                self.state.backlog.loaded = False
        for outcome in outcomes:
            if isinstance(outcome, NonceTaken):
                raise outcome

    def _signed(self, track: Track, by: Signing) -> None:
        row, history = track.row, track.history
        first = row.state is State.ANSWERED and not history.returned and history.reusable is None
        history.reusable, history.signed_once = None, first
        self.state.alerts.to_a_block.went_on(row.rid, UNSIGNED)
        reply = RowReply(by.nonce, by.raw, by.reply_hash, row.reply.included_block)
        kept = row.on_chain, row.event, row.progress, row.answer, reply, row.times
        self.state.tracks.move(track, Row(row.rid, row.id, row.kind, State.SIGNED, *kept))
        track.signed_at = trio.current_time()
        self.state.manager.on_event(ReplySigned(row.rid, row.kind, by.nonce, by.reply_hash, id=row.id))

    async def confirm(self, steps: Sequence[Step]) -> None:
        """Note that replies are in the chain ④, each in its block."""
        nonces = self.state.nonces
        nonces.high = max([nonces.high, *(nonce_of(step.track.row) + 1 for step in steps)])
        blocks = [(step.track.row.rid, step.found.block) for step in steps]
        moved = await self.state.manager.journal.run_each(moves.confirm, blocks)
        for step, is_moved in zip(steps, moved, strict=True):
            if not is_moved:
                self._left(step.track, is_moved)
            else:
                self._included(step.track, step.found.block, found=False)
                row, receipt = step.track.row, receipt_of(step.track)
                at = (
                    (receipt.block, receipt.block_hash) if receipt is not None and receipt.heard else (0, b"")
                )
                self.state.tracks.stands(IncludedReply(row.rid, row.kind, row.id, *at, row.reply.hash or b""))

    @property
    def by_action(self) -> dict[Action, Move]:
        """What moves one reply by itself."""
        return {
            Action.DEFER: self.defer,
            Action.TAKE_BACK: self.take_back,
            Action.RELEASE: self.release,
            Action.REJECT: partial(self.close, "reject"),
            Action.FINISH: partial(self.close, "finish"),
        }

    async def found(self, track: Track, found: Found) -> None:
        """Note that the contract has the reply of a row that holds no nonce."""
        block = found.block
        foreign, track.history.reusable = track.history.lost, None
        self.state.tracks.drop(track)
        if await self._move("found_included", track.row.rid, block=block):
            self.state.tracks.newly_included = True
            self._included(track, block, found=True, foreign=foreign)

    def _included(self, track: Track, block: int, *, found: bool, foreign: bool = False) -> None:
        row, state = track.row, self.state
        track.history.included()
        state.tracks.drop(track)
        state.alerts.to_a_block.passed(REPLY, row.rid)
        seconds = max(0.0, state.manager.ports.wall() - row.times.recorded)
        own = None if foreign else row.reply.hash
        state.manager.on_event(
            ReplyIncluded(row.rid, row.kind, block, seconds, found, own, foreign, id=row.id)
        )

    async def release(self, track: Track, found: Found) -> None:
        """Take a reply's nonce away, which was used by something else or in vain; it waits for another."""
        row, history = track.row, track.history
        history.reusable, history.lost = row, history.signed_once and not track.lacks_receipt
        limit = out_of_gas(track)
        if limit is not None:
            history.least_gas = limit * 3 // 2
        next_attempt = self.state.manager.ports.wall() + self._delay(history.returned)
        history.returned += 1
        is_moved = await self._move("release", row.rid, next_attempt=next_attempt, reason=found.reason)
        if self._left(track, is_moved):
            self._say_returned(row, State.ANSWERED, found.reason, nonce_taken=found.again)

    async def take_back(self, track: Track, found: Found) -> None:
        """Take an included reply back to answered, or its request to the start where no answer is kept.

        It comes first, so that it claims its nonce. One that is gone again and again waits ever longer: each time it is paid.
        """
        row, history, chain = track.row, track.history, self.state.chain
        seconds = self._delay(history.gone) if found.again and history.gone else FIRST
        due = self.state.manager.ports.wall() + seconds
        history.gone += found.again
        if row.reply.raw is not None:
            history.reusable = row
        if chain is not None:
            finality = (chain.number - chain.final) * self.state.manager.endpoint.head.block_time
            self.state.alerts.returned(row, found.reason, trio.current_time(), chain.number, finality)
        self.state.tracks.drop(track)
        transition: Literal["resend", "restart"] = "restart" if row.answer is None else "resend"
        if await self._move(transition, row.rid, reason=found.reason, next_attempt=due):
            self._say_returned(row, State.PENDING if row.answer is None else State.ANSWERED, found.reason)

    def _say_returned(self, row: Row, state: State, reason: str, *, nonce_taken: bool = False) -> None:
        manager = self.state.manager
        self.state.backlog.unsure = True
        manager.on_event(
            ReplyReturned(row.rid, row.kind, state, reason, manager.endpoint.name, nonce_taken, id=row.id)
        )

    async def close(self, transition: Literal["reject", "finish"], track: Track, found: Found) -> None:
        """Reject a reply that can never be taken, or finish one that is not this node's to give."""
        row, reason = track.row, found.reason
        self.state.forget(row.rid)
        state = State.REJECTED if transition == "reject" else State.DONE
        if self._left(track, await self._move(transition, row.rid, reason=reason)):
            self.state.manager.on_event(RequestClosed(row.rid, row.kind, state, reason, "reply", id=row.id))

    async def defer(self, track: Track, found: Found) -> None:
        """Let a reply wait in the journal, without a nonce."""
        if found.alert:  # where others may be refused for the same, it has patience
            after, now = PATIENCE if found.alert == REFUSED else 0.0, trio.current_time()
            self.state.alerts.hold(
                track.row, found.alert, found.reason, now, critical=found.critical, after=after
            )
        row, manager, seconds = track.row, self.state.manager, self._delay(track.row.progress.deferred)
        self.state.tracks.drop(track)
        self.state.backlog.unsure = True
        if await manager.journal.run(moves.defer, row.rid, manager.ports.wall() + seconds, found.reason):
            manager.on_event(RequestDeferred(row.rid, row.kind, STAGE, found.reason, seconds, id=row.id))

    async def finalize(self, replies: Sequence[IncludedReply]) -> None:
        """Note that included replies are there for good ⑤, none above its block."""
        blocks = [(reply.rid, reply.block) for reply in replies]
        moved = await self.state.manager.journal.run_each(moves.finalize, blocks)
        for reply, is_moved in zip(replies, moved, strict=True):
            track = self.state.tracks.by_rid.get(reply.rid)
            if track is None or track.row.state is State.INCLUDED:  # else it has gone back since
                self.state.alerts.to_finality.passed(REPLY, reply.rid, order=reply.block)
                self.state.forget(reply.rid)
            if is_moved:
                self.state.manager.on_event(ReplyFinalized(reply.rid, reply.kind, id=reply.id))

    async def _move(self, transition: str, rid: int, **values: Any) -> bool:
        """Move a row in the journal; say whether it moved."""
        is_moved: bool = await self.state.manager.journal.run(moves.move, transition, rid, **values)
        return is_moved

    def _left(self, track: Track, moved: bool) -> bool:
        """Take a row off what is in flight; one that somebody else moved makes the journal be read again."""
        self.state.tracks.drop(track)
        self.state.backlog.loaded = self.state.backlog.loaded and moved
        return moved

    def _delay(self, times: int) -> float:
        return REPLY_BACKOFF.seconds(times, self.state.manager.ports.random())


BROADCAST_TIMEOUT = 8.0
"""Seconds for the answer to a broadcast; shorter than a connection waits before it counts as dead."""
NOT_OURS = (
    "the lease of this process was not renewed in time, so another one may send by now: nothing is sent"
)


@attrs.frozen
class Sender:
    """Sends for one transaction manager."""

    state: TxState
    wallet: Wallet
    reply_moves: ReplyMoves

    async def _signed(self, transactions: Sequence[Any]) -> list[Signed]:
        """Have transactions signed in their order, as many as the wallet can now; an alert says when it can sign none.

        Nothing else of a round waits for a wallet that is out of reach: what has its bytes is broadcast and confirmed meanwhile.
        """
        state = self.state
        if not transactions or state.signings.holds(trio.current_time()):
            return []
        try:
            signed = await self.wallet.sign(transactions)
        except Retryable as error:
            state.alerts.set("wallet", str(error), critical=True)
            state.signings.failed(trio.current_time())
            return []
        state.alerts.set("wallet", None)
        state.signings.worked()
        return signed

    async def sign(self, signatures: Sequence[Signature]) -> bool:
        """Sign and make durable, up to the first that the wallet could not sign now: a gap would hold up what follows."""
        new = [one.transaction for one in signatures if one.transaction is not None]
        made = iter(await self._signed(new))
        signed: list[tuple[Track, int, Signed]] = []
        for one in signatures:
            earlier = one.track.earlier
            if one.transaction is not None:
                found = next(made, None)
            else:
                assert earlier is not None
                assert earlier.reply.raw is not None
                found = earlier.reply.raw, earlier.reply.hash or b""
            if found is None:
                break
            signed.append((one.track, one.nonce, found))
        if not signed:
            return False
        if new:
            self.state.market.reply_cost = highest_cost(new[-1])
        self.state.backlog.unsure = True
        await self.reply_moves.sign(signed)
        return True

    def broadcast(self, steps: Sequence[Step], nursery: trio.Nursery) -> None:
        """Hand signed bytes to a node, in nonce order, unless a failure holds all back."""
        now = trio.current_time()
        if not steps or self.state.sends.holds(now):
            return
        tracks = sorted([step.track for step in steps], key=lambda track: nonce_of(track.row))
        for track in tracks:
            track.broadcast = track.broadcast or Broadcast(now, now)
            track.broadcast.goes_out(now)
        raws = [track.row.reply.raw or b"" for track in tracks]
        sent = [(track.row, track.broadcast) for track in tracks]
        nursery.start_soon(self._hand_over, raws, partial(self._sent, sent))

    async def _hand_over(self, raws: Sequence[bytes], sent: Any) -> None:
        """Broadcast in this order, unless another process may send by now; ``sent`` gets what came of each when it comes.

        They are calls of their own on one connection, all on their way at once: a sequencer answers only when the transaction is in a
        block, and nodes work through a batch one by one, which would cost a block for each.
        Cancellation: each may have been taken. Repeating: the same bytes again are known to the node.
        """
        unanswered = set(range(len(raws)))
        broken = False

        def take(place: int, result: Any) -> None:
            nonlocal broken
            unanswered.discard(place)
            broken = sent(place, result, first=not broken) or broken

        endpoint = self.state.manager.endpoint
        without: Retryable = StageTimeout("eth_sendRawTransaction", BROADCAST_TIMEOUT)
        if endpoint.may_send():
            with trio.move_on_after(BROADCAST_TIMEOUT):
                await endpoint.rpc.each(
                    [Call("eth_sendRawTransaction", (to_hex(raw),)) for raw in raws], take
                )
        else:
            without = Unreachable(NOT_OURS)
        for place in sorted(unanswered):
            take(place, without)
        if not broken:
            self.state.sends.worked()

    def _sent(
        self, sent: Sequence[tuple[Row, Broadcast | None]], place: int, result: Any, *, first: bool
    ) -> bool:
        """Note an answer to a broadcast, with an event when a node holds the bytes first; say whether it holds others back."""
        (row, broadcast), now, state = sent[place], trio.current_time(), self.state
        manager, answered_at = state.manager, row.times.answered
        said = read_sent(result, row.reply.hash)
        if broadcast is not None and broadcast.tell(said, now):
            since = None if answered_at is None else max(0.0, manager.ports.wall() - answered_at)
            manager.on_event(
                ReplySent(row.rid, row.kind, nonce_of(row), since, manager.endpoint.name, id=row.id)
            )
        tell_sent(state.alerts, row, said, result, now, funds=self._funds)
        state.news.notify()
        if said not in {Sent.FAILED, Sent.FUNDS}:
            return False
        if first:
            state.sends.failed(now)
        return True

    async def fill(self, gaps: Sequence[int], nursery: trio.Nursery) -> None:
        """Use nonces up by empty transfers to ourselves."""
        state, now = self.state, trio.current_time()
        block_time = state.manager.endpoint.head.block_time
        known = state.fillers
        due = [gap for gap in gaps if gap not in known or known[gap].is_due(now, block_time)]
        price = self.state.market.price
        if not due or price is None:
            return
        sender = self.wallet.address
        answers: list[Any] = []
        estimate = Call("eth_estimateGas", ({"from": to_hex(sender), "to": to_hex(sender)},))
        await ask_many(state.manager.endpoint.rpc, [estimate], lambda _p, result, _h: answers.append(result))
        percent = state.manager.settings.transactions.gas_multiplier_percent
        gas = read_number(answers[0], estimate.method) * percent // 100
        within = self.state.market.limits.for_gas(price, gas)
        if within is None:
            return
        signed = await self._signed(
            [
                new_transaction(
                    state.manager.endpoint.rpc.chain_id, sender, b"", gas, nonce=gap, price=within
                )
                for gap in due
            ]
        )
        sent = [state.fillers.setdefault(gap, Broadcast(now, now)) for gap in due[: len(signed)]]
        for one in sent:
            one.goes_out(now)
        nursery.start_soon(self._hand_over, [raw for raw, _ in signed], partial(self._filled, sent))

    def _filled(self, sent: Sequence[Broadcast], place: int, result: Any, *, first: bool) -> bool:
        del first
        sent[place].tell(read_sent(result), trio.current_time())
        self.state.news.notify()
        return False

    def _funds(self) -> str:
        """Say what the account has."""
        balance = None if self.state.chain is None else self.state.chain.balance
        has = "an unknown balance" if balance is None else in_ether(balance)
        return f"account {checksum(self.wallet.address)} has {has}"
