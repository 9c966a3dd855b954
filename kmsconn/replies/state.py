"""The parts and the memory of a transaction manager: endpoint, limits, tracked replies, statistics, alerts. Asks no node.

All memory here is a cache: the journal and the chain rebuild it, so a transaction manager may end at any await. An alert is raised for each
cause once, until it is over; texts have the figures and what to do.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence

import attrs
import trio

from kmsconn.chain.follower import Follower
from kmsconn.chain.looking import ChainView
from kmsconn.chain.port import PipelinedRpc, Rpc
from kmsconn.chain.witness import Denials
from kmsconn.config.settings import Settings
from kmsconn.errors import KmsconnError
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.transactions import in_ether
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.queries import Due
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import PATIENCE, WINDOW, Board, Lane, Progress, Reason, alert_of
from kmsconn.model.debounce import Debounce
from kmsconn.model.events import OnEvent
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.profile import Profile
from kmsconn.replies.answers import REPLACE_AFTER, THERE, Accepts, Broadcast, Finds, Question, Sent, Unclear
from kmsconn.replies.fees import FeeLimits, Market
from kmsconn.replies.strangers import OwnTransactions, Strangers
from kmsconn.replies.table import REFUSED
from kmsconn.replies.view import FILLS, IncludedReply, NonceTracker, ReplyHistory, Track, transaction_of
from kmsconn.replies.wallet import Wallet
from kmsconn.transport.ports import Ports
from kmsconn.transport.waiting import Backoff, Hold, WakeUp

ALERT_KEPT_FOR = 120.0  # seconds after which a reply that was not heard of again keeps no alert; the longest wait of a deferred one is 60
LAST_USED = 16  # included replies of a kind whose gas is remembered; what one wrong receipt said is forgotten after as many
MOST_STANDING = 4096  # blocks with replies that are not final yet
NOT_INCLUDED = "not-included"
REPLY = Lane("reply")
UNSIGNED, SENT, INCLUDED = range(3)  # how far on its way a reply is

CAUSES = {
    Question.ESTIMATE: "gas-estimate-unanswered",
    Question.RECEIPT: "receipt-unanswered",
    Question.TRACE: "trace-unanswered",
}
"""Of alerts about questions that have no answer; all others are put to the contract."""


@attrs.define
class TxAlerts:
    """The alerts of one transaction manager, under its name: another one's recovery is not its own.

    An alert about replies lasts while one of them has its cause. It is critical while several wait for a minute and none was included
    since, and after ``STANDSTILL`` seconds if none has even got as far: then no reply passes at all. On its way to a block a reply passes
    when it is included. That proves nothing of one that was taken back: its node may show receipts of what it swallows. Such a one passes
    when it is final.
    """

    dependency: str
    """What the alerts are about."""
    on_event: OnEvent
    _board: Board = attrs.field(
        default=attrs.Factory(lambda self: Board(self.on_event, trio.current_time), takes_self=True),
        init=False,
    )
    to_a_block: Progress = attrs.field(factory=Progress)
    to_finality: Progress = attrs.field(factory=Progress)
    """By blocks: one that is final proves that replies passed when it was included, not now."""

    def set(self, cause: str, text: str | None, *, critical: bool = False, remedy: str = "") -> None:
        """Raise an alert, or clear it where there is nothing to say."""
        self._board.set(cause, self.dependency, text, critical=critical, remedy=remedy)

    def hold(
        self,
        row: Row,
        cause: str,
        text: str,
        now: float,
        *,
        critical: bool = False,
        after: float = 0.0,
        since: float | None = None,
    ) -> None:
        """Note that a reply waits on its way to a block; ``since`` as in ``Progress.hold``."""
        reason = Reason(self.dependency, cause, _about(row, text), after=after, critical=critical)
        step = UNSIGNED
        if row.state is State.SIGNED:
            step = INCLUDED if cause == NOT_INCLUDED else SENT
        self.to_a_block.hold(REPLY, row.rid, reason, now=now, step=step, keep=ALERT_KEPT_FOR, since=since)

    def returned(self, row: Row, text: str, now: float, head: int, finality: float) -> None:
        """Note that a reply that was included is not there. Honest ones have as long again as a block takes to be final, in seconds."""
        after = PATIENCE + finality
        reason = Reason(self.dependency, NOT_INCLUDED, _about(row, text), after=after)
        self.to_finality.hold(REPLY, row.rid, reason, now=now, keep=WINDOW + after, order=head)

    def show(self, now: float) -> None:
        """Raise what holds up replies now, and clear what does not any more."""
        found = [*self.to_a_block.holdups(now), *self.to_finality.holdups(now)]
        alerts = [alert_of(one, "reply", "replies") for one in found]
        self._board.show("replies", sorted(alerts, key=lambda one: one.critical))


def _about(row: Row, text: str) -> str:
    return f"the reply to request {row.id:#066x}: {text}"


def tell_market(alerts: TxAlerts, market: Market) -> None:
    """Say why nothing can be signed, or that it can again."""
    if why := market.refusal or market.failure:
        remedy = "raise the option in the text, if the chain really costs as much" if market.refusal else ""
        what = "nothing is signed" if market.price is None else "the connector pays the last known price"
        alerts.set("fees", f"{what}: {why}", critical=bool(market.refusal), remedy=remedy)
    elif market.price is not None:
        alerts.set("fees", None)


def tell_sent(state: TxState, row: Row, said: Sent, result: object) -> None:
    """Say that bytes were not taken, or that they are again."""
    alerts = state.alerts
    if said in THERE:
        alerts.set("funds", None)
        alerts.to_a_block.free(row.rid, {"broadcast"})
        alerts.to_a_block.worked(REPLY, SENT, trio.current_time())
    elif said is Sent.FUNDS:
        balance = None if state.chain is None else state.chain.balance
        account = checksum(state.manager.account)
        paid = _what_it_pays(balance, transaction_of(row).most_cost)
        alerts.set("funds", f"account {account} has {paid} ({result})", critical=True)
    elif said in {Sent.FAILED, Sent.UNANSWERED, Sent.CAPPED, Sent.REFUSED}:
        # never the text of an answer that is none: it may be a megabyte, or nested too deeply to be written
        is_answer = not isinstance(result, KmsconnError)
        why = "the node's answer is not the transaction's hash" if is_answer else str(result)
        text = f"the transaction with nonce {row.reply.nonce} was not accepted: {why}"
        alerts.hold(row, "broadcast", text, trio.current_time())


def _what_it_pays(balance: int | None, cost: int) -> str:
    """Return what a balance pays of a reply that a node calls too dear; what is enough for it alone is not called too little."""
    if balance is None:
        return f"an unknown balance, a reply needs {in_ether(cost)}"
    if balance < cost:
        return f"{in_ether(balance)}, a reply needs {in_ether(cost)}"
    others = "the node counts the replies in flight before it as well, or a fee beside the gas"
    return f"{in_ether(balance)}, enough for this reply of {in_ether(cost)} alone: {others}"


def tell_answer(alerts: TxAlerts, row: Row, question: Question, said: Finds, now: float) -> None:
    """Say that a question about a reply has no answer, or none that tells, and when it has one again; not what needs no answer."""
    cause = CAUSES.get(question, "contract-unanswered")
    if not isinstance(said, Unclear):
        alerts.to_a_block.free(row.rid, {cause, REFUSED} if isinstance(said, Accepts) else {cause})
    elif question is not Question.TRACE and (question, row.state) != (Question.RECEIPT, State.INCLUDED):
        which = f" of {to_hex(row.reply.hash)}" if question is Question.RECEIPT and row.reply.hash else ""
        alerts.hold(row, cause, f"{question.value}{which}: {said.reason}", now)


GAP_SECONDS = 3.0
"""Until a nonce gap is believed without a later head; filling a gap that was none does no harm."""
COIN_SECONDS = 60.0
"""Until one more empty transfer may be paid."""
MOST_IN_FLIGHT = 512
"""Replies in flight: some seconds of blocks of the fastest chain, and a bound on what one look costs."""
LOOK_AGAIN = 30.0  # seconds after which the journal is asked for answers without a sign of new ones


@attrs.frozen
class TxStatistics:
    """A snapshot for metrics. Wei where amounts are meant; None where it is not known yet.

    ``reply_cost`` is what the last signed reply may cost at most; ``fee`` and ``priority`` are the present price of a unit of gas.
    """

    balance: int | None = None
    next_nonce: int | None = None
    in_flight: int = 0
    waiting: int = 0
    included: int = 0
    fee: int | None = None
    priority: int | None = None
    reply_cost: int | None = None

    @property
    def replies_left(self) -> int | None:
        """How many replies the balance pays for at the present cost."""
        return self.balance // self.reply_cost if self.balance is not None and self.reply_cost else None


@attrs.frozen
class TxEndpoint:
    """Where replies go: the chain's RPC endpoint, what follows the chain, and its name.

    ``traces`` is a way to the same node of its own, since a trace may take long; None: ``rpc``. ``may_send`` is asked right before each
    broadcast: False where another process may send by now. An included reply is final once its block is; where the node has no
    ``finalized`` block, once ``confirmations`` blocks stand upon it. One without a receipt for ``replace_after`` seconds is replaced.
    ``window`` replies may be in flight at once.
    """

    rpc: PipelinedRpc
    follower: Follower
    name: str = "gateway"
    traces: PipelinedRpc | None = None
    may_send: Callable[[], bool] = lambda: True
    confirmations: int = 0
    replace_after: float = REPLACE_AFTER
    window: int = MOST_IN_FLIGHT
    witnesses: Sequence[Rpc] = ()
    """Other nodes of the chain, for what cannot be undone (``chain.witness``)."""
    denials: Denials = attrs.field(factory=Denials)
    leave: Callable[[str], None] = lambda _reason: None
    """Goes on to another node, for a reason."""


@attrs.define(eq=False)
class TxManager:
    """The parts of one transaction manager: its chain, the journal, the wallet, and what wakes it; ``statistics`` gives its figures.

    Without a wallet, with the account alone, it is a shadow: it follows the replies that another connector sends.
    ``wake`` is notified when a new head was heard and when ``closing`` was set, and goes on when an answer became durable;
    ``closing`` makes it end once nothing is answered or signed. ``beat`` is called with each round.
    """

    endpoint: TxEndpoint
    journal: Journal
    wallet: Wallet | Address
    profile: Profile
    wake: WakeUp
    settings: Settings
    ports: Ports
    on_event: OnEvent
    beat: Callable[[], None] = lambda: None
    closing: trio.Event = attrs.field(factory=trio.Event)
    statistics: Callable[[], TxStatistics] = TxStatistics
    progress: Progress = attrs.field(factory=Progress)
    """What holds up replies on their way to a block."""

    @property
    def account(self) -> Address:
        """The account that sends."""
        return self.wallet.address if isinstance(self.wallet, Wallet) else self.wallet

    @property
    def name(self) -> str:
        """What alerts are about, and what the heartbeat is called."""
        return f"{'txmanager' if isinstance(self.wallet, Wallet) else 'shadow'} {self.endpoint.name}"


@attrs.define
class Tracks:
    """The replies that may need a step, by rid, and what is remembered of replies beside their rows."""

    by_rid: dict[int, Track] = attrs.field(factory=dict)
    histories: dict[int, ReplyHistory] = attrs.field(factory=dict)
    standing: dict[int, list[IncludedReply]] = attrs.field(factory=dict)
    """By block, until it is final: the replies whose receipts show that the contract took them. Others are asked about one by one."""
    used: defaultdict[Kind, deque[int]] = attrs.field(
        factory=lambda: defaultdict(lambda: deque(maxlen=LAST_USED))
    )
    """The gas that the last included replies of each kind used."""
    own: OwnTransactions = attrs.field(factory=OwnTransactions)
    newly_included: bool = True
    """A reply became included since the journal was asked for final ones."""

    def in_state(self, state: State) -> list[Track]:
        """Return the replies whose rows are in a state."""
        return [track for track in self.by_rid.values() if track.row.state is state]

    @property
    def nonces(self) -> frozenset[int]:
        """The nonces in flight."""
        rows = [track.row for track in self.by_rid.values()]
        return frozenset(
            [row.reply.nonce for row in rows if row.state is State.SIGNED and row.reply.nonce is not None]
        )

    def note(self, row: Row) -> Track:
        """Return the track of a row, with the row as it is now."""
        if row.reply.nonce is not None and row.reply.hash is not None:
            self.own.note(row.reply.nonce, row.reply.hash)
        track = self.by_rid.get(row.rid)
        if track is None:
            history = self.histories.setdefault(row.rid, ReplyHistory())
            track = self.by_rid[row.rid] = Track(row, history, used=self.used[row.kind])
        elif track.row.state is not row.state or track.row.reply.hash != row.reply.hash:
            track.moved(row)
        track.row = row
        return track

    def drop(self, track: Track) -> None:
        """Forget a reply that needs nothing now; its history stays while it says something."""
        rid = track.row.rid
        if self.by_rid.get(rid) is track:
            del self.by_rid[rid]
        if track.history == ReplyHistory():
            self.histories.pop(rid, None)

    def stands(self, reply: IncludedReply) -> None:
        """Note in which block an included reply stands, where its receipt shows that the contract took it."""
        if reply.block_hash and len(self.standing) < MOST_STANDING:
            self.standing.setdefault(reply.block, []).append(reply)
        else:
            self.newly_included = True


@attrs.define
class Backlog:
    """What is known of the answers in the journal, and whether to ask for them again.

    They change only as rows move, which ``Journal.answers_tick`` tells, as deferred ones become due, and by what is done here.
    """

    unsure: bool = True
    """The tracks may lack answers that were in the journal before."""
    loaded: bool = False
    """The tracks have what was signed."""
    _tick: int = -1
    _between: tuple[float, float] = (0.0, 0.0)
    """The wall times between which the last word of the journal holds; a clock that was set back makes deferred answers due."""

    def is_due(self, tick: int, wall: float) -> bool:
        """Say whether the journal may tell something new."""
        first, last = self._between
        return self.unsure or tick != self._tick or not first <= wall < last

    def take(self, due: Due, tick: int, wall: float) -> None:
        """Note what the journal said that was asked at this tick and time; what moved meanwhile is asked for again."""
        again = wall + LOOK_AGAIN
        self.unsure, self._tick, self._between = False, tick, (wall, min(again, due.next_due or again))


@attrs.define
class Purse:
    """What may be spent without a reply: so many empty transfers at once, and one more each minute."""

    coins: float = FILLS
    at: float = 0.0

    def room(self, now: float) -> int:
        """Return how many may be paid now."""
        self.coins, self.at = min(FILLS, self.coins + (now - self.at) / COIN_SECONDS), now
        return int(self.coins)


@attrs.define
class TxState:
    """The memory of a transaction manager at work."""

    manager: TxManager
    market: Market
    alerts: TxAlerts
    nonces: NonceTracker
    sends: Hold
    signings: Hold
    strangers: Strangers
    tracks: Tracks
    fillers: dict[int, Broadcast] = attrs.field(factory=dict)
    """What became of empty transfers, by nonce."""
    purse: Purse = attrs.field(factory=lambda: Purse(at=trio.current_time()))
    chain: ChainView | None = None
    backlog: Backlog = attrs.field(factory=Backlog)

    @classmethod
    def of(cls, manager: TxManager) -> TxState:
        """Return the state of a transaction manager that begins."""
        random, limits = manager.ports.random, manager.settings.transactions
        tracks = Tracks()
        return cls(
            manager=manager,
            market=Market(
                FeeLimits(limits.max_fee_per_gas, limits.max_priority_fee_per_gas, limits.max_reply_cost)
            ),
            alerts=TxAlerts(manager.name, manager.on_event, manager.progress),
            nonces=NonceTracker(
                Debounce(min(manager.settings.reading.reorg_window, GAP_SECONDS)),
                jumps=Debounce(manager.settings.reading.reorg_window),
            ),
            sends=Hold(Backoff(first=0.25, cap=15.0), random),
            signings=Hold(Backoff(first=0.5, cap=15.0), random),
            strangers=Strangers(
                manager.endpoint.rpc,
                manager.account,
                manager.endpoint.name,
                manager.ports.wall(),
                tracks.own,
                manager.on_event,
            ),
            tracks=tracks,
        )

    def forget(self, rid: int) -> None:
        """Forget a reply with its history and what it holds up: it is over."""
        for remembered in (self.tracks.by_rid, self.tracks.histories):
            remembered.pop(rid, None)
        for progress in (self.alerts.to_a_block, self.alerts.to_finality):
            progress.free(rid)

    def search_strangers(self, nursery: trio.Nursery) -> None:
        """Search for transactions that this process did not sign, while no other process of this node can have sent them."""
        assert self.chain is not None
        if self.manager.endpoint.may_send():
            self.strangers.search(self.chain, self.manager.settings.reading.reorg_window, nursery)
        else:
            self.strangers.forget()

    async def load(self) -> None:
        """Read what is in flight from the journal; every other change of it is made here."""
        rows = await self.manager.journal.run(queries.signed, self.manager.endpoint.rpc.chain_id)
        rids = {row.rid for row in rows}
        for track in self.tracks.in_state(State.SIGNED):
            if track.row.rid not in rids:
                self.tracks.drop(track)
        for row in rows:
            self.tracks.note(row)
        self.backlog.loaded = self.backlog.unsure = True
