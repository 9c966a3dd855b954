"""What a transaction manager is given, what it remembers, and how a reply moves on: each transition with its event. Asks no node.

All memory here is a cache: the journal and the chain rebuild it, so a transaction manager may end at any await.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.errors import NonceTaken
from kmsconn.journal import moves, queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row, Signing
from kmsconn.model.events import (
    OnEvent,
    ReplyFinalized,
    ReplyIncluded,
    ReplyReturned,
    ReplySent,
    ReplySigned,
    RequestClosed,
    RequestDeferred,
)
from kmsconn.model.life import State
from kmsconn.protocols.port import Profile
from kmsconn.rpc.heads import HeadTracker
from kmsconn.rpc.port import PipelinedRpc
from kmsconn.transport.backoff import Backoff, Hold
from kmsconn.transport.ports import Ports
from kmsconn.transport.wake_up import WakeUp
from kmsconn.txmanager.alerts import TxAlerts
from kmsconn.txmanager.broadcasts import REPLACE_AFTER, Broadcasts
from kmsconn.txmanager.evidence import Receipt, Sent
from kmsconn.txmanager.fees import FeeLimits, Price
from kmsconn.txmanager.nonces import Debounce
from kmsconn.txmanager.view import ChainView, Question, Track, nonce_of
from kmsconn.txmanager.wallet import Signed, Wallet

STAGE = "reply"
SEND_BACKOFF = Backoff(first=0.25, cap=15.0)
SIGNING_BACKOFF = Backoff(first=0.5, cap=15.0)
REPLY_BACKOFF = Backoff(first=0.5, cap=60.0)
GAP_SECONDS = (
    3.0  # until a nonce gap is believed without a later head; filling a gap that was none does no harm
)
WINDOW = (
    512  # replies in flight: some seconds of blocks of the fastest chain, and a bound on what one look costs
)


@attrs.frozen
class TxStatistics:
    """A snapshot for metrics. Wei where amounts are meant; None where it is not known yet.

    ``reply_cost`` is what the last signed reply may cost at most; ``fee`` and ``priority`` are the present price of a unit of gas.
    """

    balance: int | None
    next_nonce: int | None
    in_flight: int
    waiting: int
    included: int
    fee: int | None
    priority: int | None
    reply_cost: int | None

    @property
    def replies_left(self) -> int | None:
        """How many replies the balance pays for at the present cost."""
        return self.balance // self.reply_cost if self.balance is not None and self.reply_cost else None


@attrs.define
class Memory:
    """What ``statistics`` shows; written by the executor."""

    balance: int | None = None
    next_nonce: int | None = None
    in_flight: int = 0
    waiting: int = 0
    included: int = 0
    price: Price | None = None
    reply_cost: int | None = None


@attrs.frozen
class TxManager:
    """What one transaction manager needs: its chain, the journal, who sends, and when to wake.

    ``wake`` is notified when an answer became durable, when a new head was heard and when ``closing`` was set; ``closing`` makes it
    end once nothing is answered or signed. ``window`` is how many replies may be in flight at once. An included reply is final once its
    block is; where the node has no ``finalized`` block, once ``confirmations`` blocks stand upon it. One without a receipt for
    ``replace_after`` seconds is replaced. ``traces`` is a way to the chain of its own, since a trace may take long; None: ``rpc``.
    """

    rpc: PipelinedRpc
    journal: Journal
    wallet: Wallet
    profile: Profile
    head: HeadTracker
    wake: WakeUp
    settings: Settings
    ports: Ports
    on_event: OnEvent
    name: str = "gateway"
    window: int = WINDOW
    confirmations: int = 0
    replace_after: float = REPLACE_AFTER
    traces: PipelinedRpc | None = None
    beat: Callable[[], None] = lambda: None
    """Is called with each round."""
    closing: trio.Event = attrs.field(factory=trio.Event)
    memory: Memory = attrs.field(factory=Memory)

    def statistics(self) -> TxStatistics:
        """Return a snapshot; cheap, and at most a round old."""
        seen = self.memory
        price = seen.price
        return TxStatistics(
            balance=seen.balance,
            next_nonce=seen.next_nonce,
            in_flight=seen.in_flight,
            waiting=seen.waiting,
            included=seen.included,
            fee=None if price is None else price.needed,
            priority=None if price is None else price.priority,
            reply_cost=seen.reply_cost,
        )


@attrs.define
class TxState:
    """A transaction manager at work."""

    manager: TxManager
    alerts: TxAlerts
    sends: Hold
    signings: Hold
    gaps: Debounce
    tracks: dict[int, Track] = attrs.field(factory=dict)
    broadcasts: Broadcasts = attrs.field(factory=Broadcasts)
    fillers: Broadcasts = attrs.field(factory=Broadcasts)
    reusable: dict[int, Row] = attrs.field(factory=dict)
    """Replies whose bytes lost their block or their nonce, by rid."""
    chain: ChainView | None = None
    high: int = 0
    """No nonce below it is free: it was seen used."""
    stranger_block: int = 0
    """The newest block by which a transaction that the journal does not know had used a nonce: it may have been a reply of ours."""
    loaded: bool = False
    waiting: bool = True
    """Something on chain is answered and not signed, due or not."""
    stale: bool = True
    """The journal may hold answers that are not among the tracks."""
    least_gas: dict[int, int] = attrs.field(factory=dict)
    """What replies need at least that ran out of gas before, by rid."""
    _returned: dict[int, int] = attrs.field(factory=dict)
    _signed_once: set[int] = attrs.field(factory=set)
    """Replies of which this process signed all bytes there ever were, and only one set of them."""

    @classmethod
    def of(cls, manager: TxManager) -> TxState:
        """Return the state of a transaction manager that begins."""
        random = manager.ports.random
        return cls(
            manager=manager,
            alerts=TxAlerts(manager.name, manager.on_event),
            sends=Hold(SEND_BACKOFF, random),
            signings=Hold(SIGNING_BACKOFF, random),
            gaps=Debounce(min(manager.settings.reorg_window, GAP_SECONDS)),
        )

    @property
    def chain_id(self) -> int:
        """The chain."""
        return self.manager.rpc.chain_id

    @property
    def journal(self) -> Journal:
        """The journal."""
        return self.manager.journal

    @property
    def block_time(self) -> float:
        """Seconds between blocks, as far as known."""
        return self.manager.head.block_time or 0.0

    # --- tracks

    def in_state(self, state: State) -> list[Track]:
        """Return the tracks whose row is in a state."""
        return [track for track in self.tracks.values() if track.row.state is state]

    @property
    def signed_rows(self) -> dict[int, Row]:
        """What is in flight, by rid."""
        return {track.row.rid: track.row for track in self.in_state(State.SIGNED)}

    def nonces(self) -> set[int]:
        """Return the nonces in flight."""
        return {nonce_of(row) for row in self.signed_rows.values()}

    @property
    def room(self) -> int:
        """How many more replies may be in flight."""
        return max(0, self.manager.window - len(self.in_state(State.SIGNED)))

    async def load(self) -> None:
        """Read what is in flight from the journal, once; every other change of it is made here."""
        if self.loaded:
            return
        rows = {row.rid: row for row in await self.journal.run(queries.signed, self.chain_id)}
        for track in self.in_state(State.SIGNED):
            if track.row.rid not in rows:
                del self.tracks[track.row.rid]
        for row in rows.values():
            self.track(row)
        self.loaded = self.stale = True

    def track(self, row: Row) -> Track:
        """Return the track of a row, with the row as it is now."""
        track = self.tracks.get(row.rid)
        if track is None:
            track = self.tracks[row.rid] = Track(row)
        elif track.row.state is not row.state or track.row.reply_hash != row.reply_hash:
            track.moved(row)
        else:
            track.row = row
        track.reusable = self.reusable.get(row.rid)
        track.least_gas = self.least_gas.get(row.rid, 0)
        return track

    def drop(self, track: Track) -> None:
        """Forget a reply that needs nothing now."""
        if self.tracks.get(track.row.rid) is track:
            del self.tracks[track.row.rid]

    # --- moving on

    async def sign(self, signed: Sequence[tuple[Track, int, Signed]]) -> None:
        """Make signed bytes durable ③, each with its nonce, in this order.

        Raises NonceTaken, when all others are signed, for one whose nonce another reply holds.
        Repeating: other bytes or another nonce for the same reply.
        """
        signings = [Signing(track.row.rid, nonce, *one) for track, nonce, one in signed]
        outcomes = await self.journal.run_each(moves.sign, signings)
        for (track, *_), signing, outcome in zip(signed, signings, outcomes, strict=True):
            if outcome is True:
                self._signed(track, signing)
            elif track.row.state is State.ANSWERED:
                self.drop(track)
            else:
                self.loaded = False
        for outcome in outcomes:
            if isinstance(outcome, NonceTaken):
                raise outcome

    def _signed(self, track: Track, by: Signing) -> None:
        row = track.row
        first = row.state is State.ANSWERED and row.rid not in self._returned
        earlier = self.reusable.pop(row.rid, None)
        track.reusable = None
        (self._signed_once.add if first and earlier is None else self._signed_once.discard)(row.rid)
        self.alerts.clear_for(row.rid)
        track.moved(
            attrs.evolve(row, state=State.SIGNED, nonce=by.nonce, raw=by.raw, reply_hash=by.reply_hash)
        )
        track.signed_at = trio.current_time()
        self.manager.on_event(ReplySigned(row.rid, row.kind, by.nonce, by.reply_hash))

    def note_sent(self, row: Row, said: Sent, now: float) -> None:
        """Note what a node said to a reply's bytes."""
        if self.broadcasts.note(row.rid, row.reply_hash or b"", said, now):
            since = None if row.answered_at is None else max(0.0, self.manager.ports.wall() - row.answered_at)
            self.manager.on_event(ReplySent(row.rid, row.kind, nonce_of(row), since, self.manager.name))

    async def confirm(self, confirmed: Sequence[tuple[Track, int]]) -> None:
        """Note that replies are in the chain ④, each in its block."""
        if not confirmed:
            return
        self.high = max([self.high, *(nonce_of(track.row) + 1 for track, _ in confirmed)])
        moved = await self.journal.run_each(
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
        self.drop(track)
        self.reusable.pop(track.row.rid, None)
        if await self.journal.run(moves.found_included, track.row.rid, block):
            self._included(track.row, block, found=True)

    def _included(self, row: Row, block: int, *, found: bool, foreign: bool = False) -> None:
        self._settled(row)
        self.alerts.passed("not-included", trio.current_time())
        seconds = max(0.0, self.manager.ports.wall() - row.recorded_at)
        own = None if foreign else row.reply_hash
        self.manager.on_event(ReplyIncluded(row.rid, row.kind, block, seconds, found, own, foreign))

    def _settled(self, row: Row) -> None:
        """Forget what was remembered about a reply beside its row."""
        self._returned.pop(row.rid, None)
        self._signed_once.discard(row.rid)
        self.least_gas.pop(row.rid, None)
        self.alerts.clear_for(row.rid)

    async def release(self, track: Track, reason: str) -> None:
        """Take a reply's nonce away, which was used by something else or in vain; it waits for another."""
        row = track.row
        self.reusable[row.rid] = row
        times = self._returned.get(row.rid, 0)
        self._returned[row.rid] = times + 1
        next_attempt = self.manager.ports.wall() + self._delay(times)
        if self._left(track, await self.journal.run(moves.release, row.rid, next_attempt, reason)):
            self._say_returned(row, State.ANSWERED, reason)

    def _say_returned(self, row: Row, state: State, reason: str) -> None:
        self.stale = True
        self.manager.on_event(ReplyReturned(row.rid, row.kind, state, reason, self.manager.name))

    async def reject(self, track: Track, reason: str) -> None:
        """Give up a reply that can never be taken."""
        await self._close(track, "reject", State.REJECTED, reason)

    async def finish(self, track: Track, reason: str) -> None:
        """Let a reply be that is not this node's to give."""
        await self._close(track, "finish", State.DONE, reason)

    async def _close(self, track: Track, transition: str, state: State, reason: str) -> None:
        row = track.row
        self.reusable.pop(row.rid, None)
        self._settled(row)
        if self._left(track, await self.journal.run(moves.close, row.rid, transition, reason)):
            self.manager.on_event(RequestClosed(row.rid, row.kind, state, reason, "reply"))

    async def defer(self, track: Track, reason: str) -> None:
        """Let a reply wait in the journal, without a nonce."""
        row, seconds = track.row, self._delay(track.row.deferred)
        self.drop(track)
        if await self.journal.run(moves.defer, row.rid, self.manager.ports.wall() + seconds, reason):
            self.manager.on_event(RequestDeferred(row.rid, row.kind, STAGE, reason, seconds))

    async def finalize(self, finalized: Sequence[tuple[Track, int]]) -> None:
        """Note that included replies are there for good ⑤, none above its block."""
        if not finalized:
            return
        moved = await self.journal.run_each(
            moves.finalize, [(track.row.rid, block) for track, block in finalized]
        )
        for (track, _), is_moved in zip(finalized, moved, strict=True):
            self.drop(track)
            self.alerts.clear_for(track.row.rid)
            if is_moved:
                self.manager.on_event(ReplyFinalized(track.row.rid, track.row.kind))

    async def resend(self, track: Track, reason: str) -> None:
        """Take an included reply back to answered."""
        await self._unland(track, "resend", State.ANSWERED, reason)

    async def restart(self, track: Track, reason: str) -> None:
        """Take a request whose reply is gone, and of which no answer is kept, back to the start."""
        await self._unland(track, "restart", State.PENDING, reason)

    async def _unland(self, track: Track, transition: str, state: State, reason: str) -> None:
        row = track.row
        if row.raw is not None:
            self.reusable[row.rid] = row
        self.drop(track)
        if await self.journal.run(moves.unland, row.rid, transition, reason):
            self._say_returned(row, state, reason)

    def _left(self, track: Track, moved: bool) -> bool:
        """Take a row off what is in flight; one that somebody else moved makes the journal be read again."""
        self.drop(track)
        self.loaded = self.loaded and moved
        return moved

    def _delay(self, times: int) -> float:
        return REPLY_BACKOFF.seconds(times, self.manager.ports.random())


def limits_of(settings: Settings) -> FeeLimits:
    """Return what the settings let a reply cost."""
    return FeeLimits(settings.max_fee_per_gas, settings.max_priority_fee_per_gas, settings.max_reply_cost)
