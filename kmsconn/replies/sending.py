"""Moves replies in the journal, signs, broadcasts and fills nonce gaps; decides nothing. An answer to a broadcast holds nobody up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import attrs
import trio

from kmsconn.chain.logs import read_number
from kmsconn.chain.port import Call, Receipt
from kmsconn.errors import NonceTaken, Retryable, StageTimeout, Unreachable
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal import inspecting, moves
from kmsconn.journal.moves import FIRST, Signing
from kmsconn.journal.rows import Row, RowReply
from kmsconn.model.alerts import STANDSTILL
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
from kmsconn.replies.answers import (
    THERE,
    WAITS_FOR_A_BLOCK,
    Broadcast,
    Question,
    Sent,
    is_hopeless,
    read_receipt,
    read_sent,
)
from kmsconn.replies.asking import call_for, read_finding
from kmsconn.replies.fees import new_transaction
from kmsconn.replies.plan import Steps
from kmsconn.replies.signing import Signatures
from kmsconn.replies.state import INCLUDED, REPLY, UNSIGNED, TxState, tell_sent
from kmsconn.replies.table import REFUSED
from kmsconn.replies.view import (
    Action,
    Found,
    IncludedReply,
    Step,
    Track,
    nonce_of,
    out_of_gas,
    receipt_of,
    transaction_of,
)
from kmsconn.replies.wallet import Wallet
from kmsconn.transport.waiting import Backoff, together

STAGE = "reply"
REPLY_BACKOFF = Backoff(first=0.5, cap=60.0)


@attrs.define
class ReplyMoves:
    """Moves the replies of one transaction manager, and sends nothing."""

    state: TxState

    async def perform(self, steps: Steps, fills: Sequence[int], nursery: trio.Nursery) -> bool:
        """Carry out what was decided, but for what it asks; say whether that changed something at once."""
        del fills, nursery
        confirms = steps[Action.CONFIRM]
        confirmed = [step for step in confirms if step.track.row.state is State.SIGNED]
        found = [step for step in confirms if step.track.row.state is State.ANSWERED]
        by_action = (
            (self.found, found),
            (self.defer, steps[Action.DEFER]),
            (self.take_back, steps[Action.TAKE_BACK]),
            (self.release, steps[Action.RELEASE]),
            (partial(self.close, "reject"), steps[Action.REJECT]),
            (partial(self.close, "finish"), steps[Action.FINISH]),
        )
        others = [partial(move, step.track, step.found) for move, several in by_action for step in several]
        if confirmed:
            await self.confirm(confirmed)
        if final := [(step.track.row, step.found.block) for step in steps[Action.FINALIZE]]:
            await self.finalize([IncludedReply(row.rid, row.kind, row.id, block) for row, block in final])
        if others:
            await together(others)
        return bool(confirmed or others)

    async def confirm(self, steps: Sequence[Step]) -> None:
        """Note that replies are in the chain ④, each in its block."""
        state = self.state
        state.nonces.high = max([state.nonces.high, *(nonce_of(step.track.row) + 1 for step in steps)])
        for step in steps:
            if receipt_of(step.track) is None:
                await self._name_mined(step.track)
        blocks = [(step.found.block, step.track.row.rid) for step in steps]
        moved = await state.manager.journal.run(moves.move_all, "confirm", blocks)
        for step in steps:
            if step.track.row.rid not in moved:
                state.tracks.drop(step.track)
                state.backlog.loaded = False
                continue
            row, receipt = step.track.row, receipt_of(step.track)
            self._included(step.track, step.found.block, row.reply.hash, found=False)
            if receipt is not None:
                state.strangers.explained(nonce_of(row))
            if receipt is not None and receipt.succeeded and receipt.gas_used is not None:
                # no transaction uses more than its limit, whatever a node says
                state.tracks.used[row.kind].append(min(receipt.gas_used, transaction_of(row).gas))
            at = (receipt.block, receipt.block_hash) if receipt is not None and receipt.heard else (0, b"")
            state.tracks.stands(IncludedReply(row.rid, row.kind, row.id, *at, row.reply.hash or b""))

    async def found(self, track: Track, found: Found) -> None:
        """Note that the contract has the reply of a row that holds no nonce, and the transaction that carried it, if it was ours."""
        mined = await self._mined(track)
        if await self._move(track, "found_included", block=found.block, reply_hash=mined):
            self.state.tracks.newly_included = True
            self._included(track, found.block, mined, found=True)

    async def _name_mined(self, track: Track) -> None:
        """Note which transaction of a signed reply was mined, if it was signed at several prices."""
        row, mined = track.row, await self._mined(track)
        if mined not in {None, row.reply.hash}:
            await self.state.manager.journal.run(moves.note_mined, row.rid, mined)
            track.row = attrs.evolve(row, reply=attrs.evolve(row.reply, hash=mined))

    async def _mined(self, track: Track) -> bytes | None:
        """Return which transaction that was ever signed for a reply is in the chain; None for none, or if no node tells.

        After a higher price the one at an earlier price may be included all the same.
        """
        manager = self.state.manager
        hashes = await manager.journal.run(inspecting.signed_hashes, track.row.rid)
        calls = [Call("eth_getTransactionReceipt", (to_hex(one),)) for one in hashes]
        try:
            answers = await manager.endpoint.rpc.batch(calls) if calls else []
        except Retryable:
            return None
        for transaction_hash, answer in zip(hashes, answers, strict=True):
            receipt = read_receipt(track.row.event.contract, answer)
            if isinstance(receipt, Receipt) and receipt.succeeded:
                return bytes(transaction_hash)
        return None

    def _included(self, track: Track, block: int, own: bytes | None, *, found: bool) -> None:
        row, state, history = track.row, self.state, track.history
        history.least_gas = history.returned = 0  # all that it says of a reply on its way is over
        state.tracks.drop(track)
        state.alerts.to_a_block.passed(REPLY, row.rid)
        state.alerts.to_a_block.worked(REPLY, INCLUDED, trio.current_time())
        seconds = max(0.0, state.manager.ports.wall() - row.times.recorded)
        told = ReplyIncluded(row.rid, row.kind, block, seconds, found, own, id=row.id)
        state.manager.on_event(told)

    async def release(self, track: Track, found: Found) -> None:
        """Take a reply's nonce away, which was used by something else or in vain; it waits for another."""
        row, history = track.row, track.history
        if receipt_of(track) is not None:
            self.state.strangers.explained(nonce_of(row))
        limit = out_of_gas(track)
        if limit is not None:
            history.least_gas = limit * 3 // 2
            text = f"all its gas was used ({limit}), and it was paid in vain: the node's estimate was too low"
            self.state.alerts.hold(row, "out-of-gas", text, trio.current_time())
        due = self.state.manager.ports.wall() + self._delay(history.returned)
        history.returned += 1
        if await self._move(track, "release", next_attempt=due, reason=found.reason):
            self._say_returned(row, State.ANSWERED, found.reason, nonce_taken=found.again)

    async def take_back(self, track: Track, found: Found) -> None:
        """Take an included reply back to answered, or its request to the start where no answer is kept.

        It comes first, so that it claims its nonce. One that is gone again and again waits ever longer: each time it is paid.
        """
        row, history, chain = track.row, track.history, self.state.chain
        seconds = self._delay(history.gone) if found.again and history.gone else FIRST
        due = self.state.manager.ports.wall() + seconds
        history.gone += found.again
        if chain is not None and found.again:
            finality = (chain.number - chain.final) * self.state.manager.endpoint.follower.head.block_time
            self.state.alerts.returned(row, found.reason, trio.current_time(), chain.number, finality)
        then, to = ("restart", State.PENDING) if row.answer is None else ("resend", State.ANSWERED)
        if await self._move(track, then, reason=found.reason, next_attempt=due):
            self._say_returned(row, to, found.reason)

    def _say_returned(self, row: Row, state: State, reason: str, *, nonce_taken: bool = False) -> None:
        manager = self.state.manager
        self.state.backlog.unsure = True
        name = manager.endpoint.name
        manager.on_event(ReplyReturned(row.rid, row.kind, state, reason, name, nonce_taken, id=row.id))

    async def close(self, transition: str, track: Track, found: Found) -> None:
        """Reject a reply that can never be taken, or finish one that is not this node's to give."""
        row, reason = track.row, found.reason
        if not await self._attested(track):
            return
        self.state.forget(row.rid)
        state = State.REJECTED if transition == "reject" else State.DONE
        if await self._move(track, transition, reason=reason):
            self.state.manager.on_event(RequestClosed(row.rid, row.kind, state, reason, STAGE, id=row.id))

    async def _attested(self, track: Track) -> bool:
        """Say whether witnesses, too, say that the contract never takes a reply; else it waits."""
        manager = self.state.manager
        endpoint = manager.endpoint
        rid = track.row.rid
        call, said = call_for(track, Question.ESTIMATE, manager.account), ""
        for witness in endpoint.denials.needed(rid, endpoint.witnesses):
            try:
                answers = await witness.batch([call])
            except Retryable as error:
                said = str(error)
                break
            other = read_finding(manager.profile, track, Question.ESTIMATE, answers[0])
            assert not isinstance(other, Receipt | bool | None)
            if not (is_hopeless(other) or getattr(other, "plan", None) is not None):
                said = f"another node says {other}"
                endpoint.denials.note(rid)
                break
        if said:
            await self.defer(track, Found(f"one node says that it is never taken; {said}", alert=REFUSED))
        return not said

    async def defer(self, track: Track, found: Found) -> None:
        """Let a reply wait in the journal, without a nonce."""
        row, manager, seconds = track.row, self.state.manager, self._delay(track.row.progress.deferred)
        if found.alert:  # where others may be refused for the same, it has patience
            after, now = STANDSTILL if found.alert == REFUSED else 0.0, trio.current_time()
            self.state.alerts.hold(row, found.alert, found.reason, now, critical=found.critical, after=after)
        self.state.tracks.drop(track)
        self.state.backlog.unsure = True
        if await manager.journal.run(moves.defer, row.rid, manager.ports.wall() + seconds, found.reason):
            manager.on_event(RequestDeferred(row.rid, row.kind, STAGE, found.reason, seconds, id=row.id))

    async def finalize(self, replies: Sequence[IncludedReply]) -> None:
        """Note that included replies are there for good ⑤, none above its block."""
        blocks = [(reply.block, reply.rid) for reply in replies]
        moved = await self.state.manager.journal.run(moves.move_all, "finalize", blocks)
        for reply in {one.rid: one for one in replies}.values():  # one that came back stands there once more
            track = self.state.tracks.by_rid.get(reply.rid)
            if track is None or track.row.state is State.INCLUDED:  # else it has gone back since
                self.state.alerts.to_finality.passed(REPLY, reply.rid, order=reply.block)
                self.state.forget(reply.rid)
            if reply.rid in moved:
                self.state.manager.on_event(ReplyFinalized(reply.rid, reply.kind, id=reply.id))

    async def _move(self, track: Track, transition: str, **values: Any) -> bool:
        """Move a row in the journal, and no more keep it in view; one that somebody else moved makes the journal be read again."""
        self.state.tracks.drop(track)
        moved: bool = await self.state.manager.journal.run(moves.move, transition, track.row.rid, **values)
        self.state.backlog.loaded = self.state.backlog.loaded and moved
        return moved

    def _delay(self, times: int) -> float:
        return REPLY_BACKOFF.seconds(times, self.state.manager.ports.random())


BROADCAST_TIMEOUT = 8.0
"""Seconds for the answer to a broadcast; shorter than a connection waits before it counts as dead."""
NOT_OURS = (
    "the lease of this process was not renewed in time, so another one may send by now: nothing is sent"
)

Outgoing = tuple[Broadcast, bytes, Row | None]
"""Bytes that go out, and what becomes of them: those of a row, or of an empty transfer."""


@attrs.define
class Sender(ReplyMoves):
    """Moves the replies of one transaction manager, and sends them."""

    signatures: Signatures
    fillings: Signatures
    """Of empty transfers: they do not wait for a batch of replies."""
    rows: ClassVar = None
    """Those of the whole table."""

    @classmethod
    def of(cls, state: TxState, wallet: Wallet) -> Sender:
        """Return the sender of a transaction manager."""
        return cls(state, Signatures(state, wallet), Signatures(state, wallet))

    async def perform(self, steps: Steps, fills: Sequence[int], nursery: trio.Nursery) -> bool:
        """Carry out what was decided; broadcasts and a slow wallet go on in ``nursery``."""
        if due := steps[Action.BROADCAST]:
            self.broadcast([step.track for step in due], nursery)
        moved = await super().perform(steps, fills, nursery)
        signed = bool(steps[Action.SIGN]) and await self.sign(steps[Action.SIGN], nursery)
        if fills:
            await self.fill(fills, nursery)
        return moved or signed

    async def sign(self, steps: Sequence[Step], nursery: trio.Nursery) -> bool:
        """Make signed bytes durable ③, each with its nonce, in this order; what is not signed yet the wallet signs in ``nursery``.

        Raises NonceTaken, when all others are durable, for one whose nonce another reply holds.
        Repeating: other bytes or another nonce for the same reply.
        """
        ready, signings = await self.signatures.of_replies(steps, nursery)
        if signings:
            await self._keep(ready, signings)
        return bool(signings)

    async def _keep(self, steps: Sequence[Step], signings: Sequence[Signing]) -> None:
        """Make signed bytes durable. Raises NonceTaken as ``sign`` does."""
        state = self.state
        for one in signings:
            state.tracks.own.note(one.nonce, one.reply_hash)
        outcomes = await state.manager.journal.run_each(moves.sign, [{"signing": one} for one in signings])
        for step, signing, outcome in zip(steps, signings, outcomes, strict=True):
            if outcome is True:
                self._signed(step.track, signing)
            elif step.track.row.state is State.ANSWERED:
                state.tracks.drop(step.track)
                state.backlog.unsure = True
            else:
                state.backlog.loaded = False
        for outcome in outcomes:
            if isinstance(outcome, NonceTaken):
                raise outcome

    def _signed(self, track: Track, by: Signing) -> None:
        row = track.row
        self.state.alerts.to_a_block.went_on(row.rid, UNSIGNED)
        self.state.alerts.to_a_block.worked(REPLY, UNSIGNED, trio.current_time())
        reply = RowReply(by.nonce, by.raw, by.reply_hash, row.reply.included_block)
        kept = row.on_chain, row.event, row.progress, row.answer, reply, row.times
        track.moved(Row(row.rid, row.id, row.kind, State.SIGNED, *kept))
        track.signed_at = trio.current_time()
        self.state.manager.on_event(ReplySigned(row.rid, row.kind, by.nonce, by.reply_hash, id=row.id))

    def broadcast(self, tracks: Sequence[Track], nursery: trio.Nursery) -> None:
        """Hand signed bytes to a node, in nonce order, unless a failure holds all back."""
        now, sent = trio.current_time(), list[Outgoing]()
        if self.state.sends.holds(now):
            return
        for track in sorted(tracks, key=lambda track: nonce_of(track.row)):
            track.broadcast = track.broadcast or Broadcast(now, now)
            track.broadcast.goes_out(now)
            sent.append((track.broadcast, track.row.reply.raw or b"", track.row))
        nursery.start_soon(self._hand_over, sent)

    async def _hand_over(self, sent: Sequence[Outgoing]) -> None:
        """Broadcast in this order, unless another process may send by now, and note what came of each when it comes.

        They are calls of their own on one connection, all on their way at once: a sequencer answers only when the transaction is in a
        block, and nodes work through a batch one by one, which would cost a block for each.
        Cancellation: each may have been taken. Repeating: the same bytes again are known to the node.
        """
        state, unanswered, broken = self.state, set(range(len(sent))), False

        def take(place: int, result: Any) -> None:
            nonlocal broken
            unanswered.discard(place)
            said = self._sent(*sent[place], result)
            if said in {Sent.FAILED, Sent.FUNDS}:
                if not broken:
                    state.sends.failed(trio.current_time())
                broken = True

        may_send = state.manager.endpoint.may_send()
        if may_send:
            calls = [Call("eth_sendRawTransaction", (to_hex(raw),)) for _, raw, _ in sent]
            with trio.move_on_after(BROADCAST_TIMEOUT):
                await state.manager.endpoint.rpc.each(calls, take)
        for place in sorted(unanswered):
            late = StageTimeout("eth_sendRawTransaction", BROADCAST_TIMEOUT)
            take(place, late if may_send else Unreachable(NOT_OURS))
        if not broken:
            state.sends.worked()

    def _sent(self, broadcast: Broadcast, _raw: bytes, row: Row | None, result: Any) -> Sent:
        """Note an answer to a broadcast, with an event when a node holds a reply's bytes first."""
        now, state = trio.current_time(), self.state
        said = read_sent(result, None if row is None else row.reply.hash)
        is_news = broadcast.tell(said, now)
        if row is not None:
            manager, answered_at = state.manager, row.times.answered
            if is_news:
                since = None if answered_at is None else max(0.0, manager.ports.wall() - answered_at)
                told = ReplySent(row.rid, row.kind, nonce_of(row), since, manager.endpoint.name, id=row.id)
                manager.on_event(told)
            track = state.tracks.by_rid.get(row.rid)
            if said in THERE or (track is not None and track.broadcast is broadcast):
                tell_sent(state, row, said, result)
        if said not in WAITS_FOR_A_BLOCK or state.sends.failures:
            state.manager.wake.go_on()
        return said

    async def fill(self, gaps: Sequence[int], nursery: trio.Nursery) -> None:
        """Use nonces up by empty transfers to ourselves."""
        state, now, sender = self.state, trio.current_time(), self.state.manager.account
        endpoint, price, known = state.manager.endpoint, state.market.price, state.fillers
        block_time = endpoint.follower.head.block_time
        again = [gap for gap in gaps if gap in known and known[gap].is_due(now, block_time)]
        new = [gap for gap in gaps if gap not in known]
        room = state.purse.room(now)
        text = f"{len(new)} nonces below a reply are free, and no more empty transfers are paid now"
        state.alerts.set("nonce-gaps", text if room < len(new) else None, critical=True)
        due = sorted([*again, *new[:room]])
        if not due or price is None or self.fillings.busy:
            return
        estimate = Call("eth_estimateGas", ({"from": to_hex(sender), "to": to_hex(sender)},))
        [answer] = await endpoint.rpc.batch([estimate])
        percent = state.manager.settings.transactions.gas_multiplier_percent
        gas = read_number(answer, estimate.method) * percent // 100
        within = state.market.limits.for_gas(price, gas)
        if within is None:
            return
        chain_id = endpoint.rpc.chain_id
        empty = [new_transaction(chain_id, sender, b"", gas, nonce=gap, price=within) for gap in due]
        made = await self.fillings.of(empty, nursery)
        sent = list[Outgoing]()
        for one in made:
            if one is None:
                break
            gap, (raw, raw_hash) = one.transaction.nonce, one.signed
            self.fillings.used(one)
            state.tracks.own.note(gap, raw_hash)
            state.purse.coins -= gap not in known
            known.setdefault(gap, Broadcast(now, now)).goes_out(now)
            sent.append((known[gap], raw, None))
        if sent:
            nursery.start_soon(self._hand_over, sent)
