"""What a lane is given, what it remembers, and how a reply moves on: each transition with its event. Asks no node.

All memory here is a cache: the journal and the chain rebuild it, so a lane may end at any await.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress

import attrs
import trio

from kmsconn.chain.doorbell import Doorbell
from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.port import PipelinedRpc
from kmsconn.config.settings import Settings
from kmsconn.errors import NonceTaken, Retryable
from kmsconn.ethereum.transactions import Transaction
from kmsconn.journal.port import Journal, Row, Signing
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import (
    OnEvent,
    ReplyBuried,
    ReplyLanded,
    ReplyReturned,
    ReplySent,
    ReplySigned,
    RequestClosed,
    RequestParked,
    Severity,
)
from kmsconn.model.life import State
from kmsconn.net.ports import Ports
from kmsconn.protocols.port import Profile, Revert
from kmsconn.sending.fees import FeeReader
from kmsconn.sending.flights import REPLACE, Flights
from kmsconn.sending.node import Head, Node, nonce_of
from kmsconn.sending.nonces import SecondLook
from kmsconn.sending.outcomes import Says, Sent, Unclear, is_not_ours
from kmsconn.sending.pauses import Brake, pause
from kmsconn.sending.wallet import Signed, Wallet

STAGE = "reply"
HOLE_PATIENCE = 3.0  # seconds; filling a hole that was none does no harm


@attrs.frozen
class Lane:
    """What one lane needs: its chain, the journal, who sends, and when to wake.

    ``wake`` rings when an answer became durable, when a new head was heard and when ``closing`` was set; ``closing`` makes the lane
    end once nothing is answered or signed. ``window`` is how many replies may fly at once. A landed reply is buried once its block has
    ``confirmations`` upon it and is older than the overlap; one without a receipt for ``replace_after`` seconds is replaced.
    """

    rpc: PipelinedRpc
    journal: Journal
    wallet: Wallet
    profile: Profile
    head: HeadTracker
    wake: Doorbell
    settings: Settings
    ports: Ports
    on_event: OnEvent
    name: str = "gateway"
    window: int = 512
    confirmations: int = 0
    replace_after: float = REPLACE
    closing: trio.Event = attrs.field(factory=trio.Event)


@attrs.frozen
class Sight:
    """One round's view: the head that a node answered, whether no node of the lane answered a later one, and what is old enough."""

    head: Head
    fresh: bool
    overlap_blocks: int
    now: float

    @property
    def settled(self) -> int:
        """The newest block that is older than the overlap."""
        return self.head.number - self.overlap_blocks

    def is_old(self, row: Row) -> bool:
        """Say whether a row's request is older than the overlap: only then is a final no believed."""
        return row.log.block_number <= self.settled


@attrs.define
class Desk:
    """A lane at work."""

    lane: Lane
    node: Node
    fees: FeeReader
    sends: Brake
    signings: Brake
    holes: SecondLook
    absent: SecondLook
    gone: SecondLook
    flights: Flights = attrs.field(factory=Flights)
    flying: dict[int, Row] = attrs.field(factory=dict)
    loaded: bool = False
    kept: dict[int, Row] = attrs.field(factory=dict)
    """Replies whose bytes lost their block or their nonce: while that nonce is open they go out with the same bytes."""
    fillers: Flights = attrs.field(factory=Flights)
    high: int = 0
    buried_at: int = -1
    waiting: bool = True
    """Something on chain is answered and not signed, due or not."""
    more: bool = False
    """Something is due that the last round did not take."""
    rang: bool = False
    """The last rest ended by a ring: heads are heard."""
    _heads: HeadTracker = attrs.field(factory=HeadTracker)
    _returned: dict[int, int] = attrs.field(factory=dict)
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.lane.on_event), takes_self=True), init=False
    )

    @classmethod
    def of(cls, lane: Lane) -> Desk:
        """Return the desk of a lane that begins."""
        node = Node(lane.rpc, lane.wallet.address)
        overlap = lane.settings.overlap
        return cls(
            lane=lane,
            node=node,
            fees=FeeReader(node.batch, trio.current_time),
            sends=Brake(lane.ports.random, first=0.25, cap=15.0),
            signings=Brake(lane.ports.random, first=0.5, cap=15.0),
            holes=SecondLook(min(overlap, HOLE_PATIENCE)),
            absent=SecondLook(overlap),
            gone=SecondLook(overlap),
        )

    @property
    def chain_id(self) -> int:
        """The lane's chain."""
        return self.lane.rpc.chain_id

    @property
    def journal(self) -> Journal:
        """The lane's journal."""
        return self.lane.journal

    def in_nonce_order(self) -> list[Row]:
        """Return what flies, lowest nonce first."""
        return sorted(self.flying.values(), key=nonce_of)

    def nonces(self) -> set[int]:
        """Return the nonces that fly."""
        return {nonce_of(row) for row in self.flying.values()}

    # --- seeing

    async def load(self) -> None:
        """Read what flies from the journal, once; every other change of it is made here."""
        if not self.loaded:
            self.flying = {row.rid: row for row in await self.journal.signed(self.chain_id)}
            self.loaded = True

    def see(self, head: Head) -> Sight:
        """Note a head and return the round's view."""
        self.lane.head.note(head.number, head.timestamp)
        self._heads.note(head.number, head.timestamp)
        fresh = self._heads.number == head.number
        self.high = max(self.high, head.nonce)
        overlap = self.lane.settings.overlap
        watched = self.lane.head.has_watched(overlap)
        # a burst of before this process would pass for old; nothing is old until as much was seen of the chain
        blocks = (
            max(1, self.lane.confirmations, self.lane.head.blocks_in(overlap)) if watched else head.number + 1
        )
        return Sight(head, fresh, blocks, trio.current_time())

    @property
    def block_time(self) -> float:
        """Seconds between blocks, as far as known."""
        return self.lane.head.block_time or 0.0

    async def is_on_chain(self, row: Row) -> bool:
        """Say whether the last trusted read saw the request of a flying row; what flies is not read again for that."""
        now = await self.journal.row(row.rid)
        return now is not None and now.on_chain

    # --- moving on

    async def signed(self, transactions: Sequence[Transaction]) -> list[Signed]:
        """Have transactions signed in their order, as many as the wallet can now; trouble is told when it can sign none.

        Nothing else of a round waits for the wallet: what has its bytes is sent and settled meanwhile.
        """
        if not transactions or self.signings.holds(trio.current_time()):
            return []
        try:
            signed = await self.lane.wallet.sign(transactions)
        except Retryable as error:
            self.alert("wallet", str(error), Severity.CRITICAL)
            self.signings.failed(trio.current_time())
            return []
        self.clear("wallet")
        self.signings.worked()
        return signed

    async def sign(self, sealed: Sequence[tuple[Row, int, Signed]]) -> list[bool]:
        """Make signed bytes durable ③, each with its nonce, in this order; say which rows were still to be signed.

        Raises NonceTaken, when all others are signed, for one whose nonce another reply holds.
        Repeating: other bytes or another nonce for the same reply.
        """
        signings = [Signing(row.rid, nonce, *signed) for row, nonce, signed in sealed]
        outcomes = await self.journal.sign(signings)
        for (row, *_), signing, outcome in zip(sealed, signings, outcomes, strict=True):
            if outcome is True:
                self._signed(row, signing)
        for outcome in outcomes:
            if isinstance(outcome, NonceTaken):
                raise outcome
        return [outcome is True for outcome in outcomes]

    def _signed(self, row: Row, by: Signing) -> None:
        self.flying[row.rid] = attrs.evolve(
            row, state=State.SIGNED, nonce=by.nonce, raw=by.raw, reply_hash=by.reply_hash
        )
        self.kept.pop(row.rid, None)
        self.lane.on_event(ReplySigned(row.rid, row.kind, by.nonce, by.reply_hash))

    def note_sent(self, row: Row, said: Sent, now: float) -> None:
        """Note what a node said to a reply's bytes."""
        if self.flights.note(row.rid, row.reply_hash or b"", said, now):
            since = None if row.answered_at is None else max(0.0, self.lane.ports.wall() - row.answered_at)
            self.lane.on_event(ReplySent(row.rid, row.kind, nonce_of(row), since, self.lane.name))

    async def land(self, landings: Sequence[tuple[Row, int]]) -> None:
        """Note that replies are in the chain ④, each in its block."""
        self.high = max([self.high, *(nonce_of(row) + 1 for row, _ in landings)])
        moved = await self.journal.land([(row.rid, block) for row, block in landings])
        for (row, block), is_moved in zip(landings, moved, strict=True):
            if self._left(row, is_moved):
                self._landed(row, block, found=False)

    async def found(self, row: Row, block: int) -> None:
        """Note that the contract has the reply of a row that holds no nonce."""
        self.kept.pop(row.rid, None)
        if await self.journal.found_landed(row.rid, block):
            self._landed(row, block, found=True)

    def _landed(self, row: Row, block: int, *, found: bool) -> None:
        self._returned.pop(row.rid, None)
        seconds = max(0.0, self.lane.ports.wall() - row.admitted_at)
        self.lane.on_event(ReplyLanded(row.rid, row.kind, block, seconds, found))

    async def release(self, row: Row, reason: str) -> None:
        """Take a reply's nonce away, which was used by something else or in vain; it waits for another."""
        self.kept[row.rid] = row
        times = self._returned.get(row.rid, 0)
        self._returned[row.rid] = times + 1
        wait = self._wait(times)
        if self._left(row, await self.journal.release(row.rid, self.lane.ports.wall() + wait, reason)):
            self.lane.on_event(ReplyReturned(row.rid, row.kind, State.ANSWERED, reason, self.lane.name))

    async def reject(self, row: Row, reason: str) -> None:
        """Give up a reply that can never be taken."""
        self.kept.pop(row.rid, None)
        if self._left(row, await self.journal.close(row.rid, "reject", reason)):
            self.lane.on_event(RequestClosed(row.rid, row.kind, State.REJECTED, reason))

    async def finish(self, row: Row, reason: str) -> None:
        """Let a reply be that is not this node's to give."""
        self.kept.pop(row.rid, None)
        if self._left(row, await self.journal.close(row.rid, "finish", reason)):
            self.lane.on_event(RequestClosed(row.rid, row.kind, State.DONE, reason))

    async def give_up(self, row: Row, said: Says, reason: str) -> None:
        """End a reply that can never be taken, by what the contract said."""
        await (self.finish if is_not_ours(said) else self.reject)(row, reason)

    async def explained(self, says: Sequence[Says]) -> list[Says]:
        """Return what the contract said with the verdicts that only its state tells; Unclear where that cannot be had now.

        One reply whose question finds no answer must not hold up the others. Repeating: reads only.
        """
        return [await self._explained(said) for said in says]

    async def _explained(self, said: Says) -> Says:
        if not isinstance(said, Revert) or said.inquiry is None:
            return said
        try:
            return attrs.evolve(said, verdict=await self.node.inquire(said.inquiry()), inquiry=None)
        except Retryable as error:
            return Unclear(f"{said}; what it means could not be asked: {error}")

    async def park(self, row: Row, reason: str) -> None:
        """Let a reply wait in the journal, without a nonce."""
        wait = self._wait(row.parked)
        if await self.journal.park(row.rid, self.lane.ports.wall() + wait, reason):
            self.lane.on_event(RequestParked(row.rid, row.kind, STAGE, reason, wait))

    async def bury(self, rows: Sequence[Row]) -> None:
        """Note that landed replies are there for good ⑤."""
        moved = await self.journal.bury([row.rid for row in rows])
        for row in compress(rows, moved):
            self.lane.on_event(ReplyBuried(row.rid, row.kind))

    async def unland(self, row: Row, reason: str) -> None:
        """Take a landed reply back to answered, or to seen where no answer was kept."""
        transition, state = ("restart", State.SEEN) if row.answer is None else ("resend", State.ANSWERED)
        if row.raw is not None:
            self.kept[row.rid] = row
        if await self.journal.unland(row.rid, transition, reason):
            self.lane.on_event(ReplyReturned(row.rid, row.kind, state, reason, self.lane.name))

    def _left(self, row: Row, moved: bool) -> bool:
        """Take a row off what flies; one that somebody else moved makes the lane read the journal again."""
        self.flying.pop(row.rid, None)
        self.loaded = self.loaded and moved
        return moved

    def _wait(self, times: int) -> float:
        return pause(times, self.lane.ports.random(), first=0.5, cap=60.0)

    # --- what to say

    @property
    def dependency(self) -> str:
        """The name under which this lane's alerts are raised: another lane's recovery is not its own."""
        return f"txmanager {self.lane.name}"

    def alert(self, cause: str, text: str, severity: Severity = Severity.WARNING) -> None:
        """Raise an alert of this lane, once."""
        if (self.dependency, cause) not in self._alerts:
            self._alerts.raise_(self.dependency, cause, text, severity)

    def clear(self, cause: str) -> None:
        """Clear an alert of this lane."""
        self._alerts.clear(self.dependency, cause)

    def forget_all_but(self, open_holes: Iterable[int], answered: Iterable[Row]) -> None:
        """Drop what was remembered about replies and nonces that are not in question any more."""
        self.flights.keep(self.flying.keys())
        self.absent.keep(self.flying.keys() | self.kept.keys() | {row.rid for row in answered})
        holes = set(open_holes)
        self.holes.keep(holes)
        self.fillers.keep(holes | self.nonces())
