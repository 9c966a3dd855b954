"""What a transaction manager is given, and what it remembers. Asks no node.

All memory here is a cache: the journal and the chain rebuild it, so a transaction manager may end at any await.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row
from kmsconn.model.debounce import Debounce
from kmsconn.model.events import OnEvent
from kmsconn.model.life import State
from kmsconn.protocols.port import Profile
from kmsconn.rpc.heads import HeadTracker
from kmsconn.rpc.port import PipelinedRpc
from kmsconn.transport.backoff import Backoff, Hold
from kmsconn.transport.ports import Ports
from kmsconn.transport.wake_up import WakeUp
from kmsconn.txmanager.alerts import TxAlerts
from kmsconn.txmanager.broadcasts import REPLACE_AFTER, Broadcasts
from kmsconn.txmanager.fees import FeeLimits, Price
from kmsconn.txmanager.view import ChainView, Track, nonce_of
from kmsconn.txmanager.wallet import Wallet

SEND_BACKOFF = Backoff(first=0.25, cap=15.0)
SIGNING_BACKOFF = Backoff(first=0.5, cap=15.0)
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


def limits_of(settings: Settings) -> FeeLimits:
    """Return what the settings let a reply cost."""
    return FeeLimits(settings.max_fee_per_gas, settings.max_priority_fee_per_gas, settings.max_reply_cost)
