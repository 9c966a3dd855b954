"""Signs, broadcasts and fills nonce gaps. Broadcasts run beside the rounds: an answer is evidence for a later one, and holds nobody up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from kmsconn.errors import Retryable, StageTimeout, Unreachable
from kmsconn.journal.values import Row
from kmsconn.model.events import ReplySent
from kmsconn.replies.alerts import funds_of, tell_sent
from kmsconn.replies.answers import Sent, read_gas, read_sent
from kmsconn.replies.asking import Asker
from kmsconn.replies.fees import Market, TransactionRequest, gas_limit, highest_cost
from kmsconn.replies.moving import ReplyMoves
from kmsconn.replies.plan import Signature
from kmsconn.replies.questions import broadcast_call, transfer_estimate
from kmsconn.replies.state import TxState
from kmsconn.replies.view import Track, nonce_of
from kmsconn.replies.wallet import Signed
from kmsconn.transport.waiting import WakeUp

BROADCAST_TIMEOUT = 8.0
"""Seconds for the answer to a broadcast; shorter than a connection waits before it counts as dead."""
NOT_OURS = (
    "the lease of this process was not renewed in time, so another one may send by now: nothing is sent"
)
FILLER = b"filler"  # stands for the hash: any empty transfer of a nonce will do


@attrs.frozen
class Sender:
    """Sends for one transaction manager. ``news`` is notified of each answer."""

    state: TxState
    moves: ReplyMoves
    market: Market
    asker: Asker
    news: WakeUp

    async def _signed(self, transactions: Sequence[Any]) -> list[Signed]:
        """Have transactions signed in their order, as many as the wallet can now; an alert says when it can sign none.

        Nothing else of a round waits for a wallet that is out of reach: what has its bytes is broadcast and confirmed meanwhile.
        """
        state = self.state
        if not transactions or state.signings.holds(trio.current_time()):
            return []
        try:
            signed = await state.manager.wallet.sign(transactions)
        except Retryable as error:
            state.alerts.raise_("wallet", str(error), critical=True)
            state.signings.failed(trio.current_time())
            return []
        state.alerts.clear("wallet")
        state.signings.worked()
        return signed

    async def sign(self, signatures: Sequence[Signature]) -> bool:
        """Sign and make durable, up to the first that the wallet could not sign now: a gap would hold up what follows."""
        new = [one.transaction for one in signatures if one.transaction is not None]
        made = iter(await self._signed(new))
        signed: list[tuple[Track, int, Signed]] = []
        for one in signatures:
            found = _earlier(one) if one.transaction is None else next(made, None)
            if found is None:
                break
            signed.append((one.track, one.nonce, found))
        if not signed:
            return False
        if new:
            self.state.manager.memory.reply_cost = highest_cost(new[-1])
        self.state.backlog.unsure = True
        await self.moves.sign(signed)
        return True

    def broadcast(self, rows: Iterable[Row], nursery: trio.Nursery) -> None:
        """Hand signed bytes to a node, in nonce order, unless a failure holds all back."""
        now = trio.current_time()
        if self.state.sends.holds(now):
            return
        ordered = sorted(rows, key=nonce_of)
        for row in ordered:
            self.state.broadcasts.begin(row.rid, row.reply.hash or b"", now)
        if ordered:
            nursery.start_soon(
                self._hand_over, [row.reply.raw or b"" for row in ordered], partial(self._sent, ordered)
            )

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
                await endpoint.rpc.each([broadcast_call(raw) for raw in raws], take)
        else:
            without = Unreachable(NOT_OURS)
        for place in sorted(unanswered):
            take(place, without)
        if not broken:
            self.state.sends.worked()

    def _sent(self, rows: Sequence[Row], place: int, result: Any, *, first: bool) -> bool:
        """Note an answer to a broadcast; say whether it holds others back."""
        row, now = rows[place], trio.current_time()
        said = read_sent(result, row.reply.hash)
        self._note_sent(row, said, now)
        tell_sent(self.state.alerts, row, said, result, now, funds=self.funds())
        self.news.notify()
        if said not in {Sent.FAILED, Sent.FUNDS}:
            return False
        if first:
            self.state.sends.failed(now)
        return True

    def _note_sent(self, row: Row, said: Sent, now: float) -> None:
        """Note what a node said to a reply's bytes, with an event when a node holds them first."""
        if self.state.broadcasts.note(row.rid, row.reply.hash or b"", said, now):
            manager, answered_at = self.state.manager, row.times.answered
            since = None if answered_at is None else max(0.0, manager.ports.wall() - answered_at)
            manager.on_event(
                ReplySent(row.rid, row.kind, nonce_of(row), since, manager.endpoint.name, id=row.id)
            )

    async def fill(self, gaps: Sequence[int], nursery: trio.Nursery) -> None:
        """Use nonces up by empty transfers to ourselves."""
        state, now = self.state, trio.current_time()
        due = [gap for gap in gaps if state.fillers.due(gap, FILLER, now, state.manager.endpoint.block_time)]
        price = self.market.price
        if not due or price is None:
            return
        sender = state.manager.wallet.address
        answers: list[Any] = []
        await self.asker.ask([transfer_estimate(sender)], lambda _p, result, _h: answers.append(result))
        gas = gas_limit(read_gas(answers[0]), state.manager.settings.transactions.gas_multiplier_percent)
        within = self.market.limits.for_gas(price, gas)
        if within is None:
            return
        request = TransactionRequest(state.chain_id, sender, b"", gas)
        signed = await self._signed([request.at(gap, within) for gap in due])
        for gap in due[: len(signed)]:
            state.fillers.begin(gap, FILLER, now)
        nursery.start_soon(self._hand_over, [raw for raw, _ in signed], partial(self._filled, due))

    def _filled(self, gaps: Sequence[int], place: int, result: Any, *, first: bool) -> bool:
        del first
        self.state.fillers.note(gaps[place], FILLER, read_sent(result), trio.current_time())
        self.news.notify()
        return False

    def funds(self) -> str:
        """Say what the account has."""
        chain = self.state.chain
        return funds_of(self.state.manager.wallet.address, None if chain is None else chain.balance)


def _earlier(one: Signature) -> Signed | None:
    earlier = one.track.earlier
    if earlier is None or earlier.reply.raw is None or earlier.reply.hash is None:
        return None
    return earlier.reply.raw, earlier.reply.hash
