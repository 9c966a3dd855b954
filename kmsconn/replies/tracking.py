"""Keeps in view what a transaction manager decides about: the chain as one node shows it, and the replies that may need a step.

Each look asks one node for head, nonce, balance and finality. Asks nobody about a single reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import attrs
import trio

from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.port import Call
from kmsconn.errors import StageTimeout
from kmsconn.journal import queries
from kmsconn.journal.values import Row
from kmsconn.model.life import State
from kmsconn.replies.alerts import tell_market
from kmsconn.replies.asking import ask_one_node
from kmsconn.replies.chain_view import NOT_FINAL, ChainView
from kmsconn.replies.fees import Market
from kmsconn.replies.questions import (
    FINALIZED,
    LATEST,
    HeadAnswer,
    balance_call,
    block_call,
    nonce_call,
    read_block_hash,
    read_block_number,
    read_head,
    read_wei,
)
from kmsconn.replies.state import TxManager, TxState
from kmsconn.replies.view import TxPolicy, View

LOOK_TIMEOUT = 15.0  # seconds; longer than a connection waits, so that a dead one is noticed
DETAILS_EVERY = 2.0  # seconds; balance, finality and checkpoint change slowly
REPLIES_AT_ONCE = 256  # replies that are asked about and signed at once
NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS = 300.0, 60
"""Seconds, and blocks at least, until a reply in flight is named."""
NAMED_AT_ONCE = 16  # replies that an alert is about, the oldest ones
INCLUDED_AT_ONCE = 512  # included replies that are looked at for each head


@attrs.define
class ChainObserver:
    """Looks at one chain, and remembers what only later looks can compare."""

    manager: TxManager
    reorganised: bool = False
    """A block that was seen is another one now; for whoever tracks replies to read and to clear."""
    _heads: HeadTracker = attrs.field(factory=HeadTracker)
    _details_at: float = float("-inf")
    _finalized: int | None = None
    _young: int = 0
    """So many of the newest blocks were not final when finality was asked."""
    _balance: int | None = None
    _checkpoint: tuple[int, str] | None = None
    _last: HeadAnswer | None = None
    _reorganised_at: float = attrs.field(factory=trio.current_time)

    async def look(self) -> ChainView:
        """Look at the chain. Raises Unreachable, Overloaded, StageTimeout. Repeating: reads only."""
        now = trio.current_time()
        details = now - self._details_at >= DETAILS_EVERY
        calls = [LATEST, nonce_call(self.manager.wallet.address), *(self._details() if details else ())]
        try:
            with trio.fail_after(LOOK_TIMEOUT):
                block, nonce, *more = await ask_one_node(self.manager.endpoint.rpc, calls)
        except trio.TooSlowError as error:
            raise StageTimeout("a look at the chain", LOOK_TIMEOUT) from error
        head = read_head(block, nonce)
        if details:
            self._details_at = now
            self._take_details(head, block, more)
        self._compare(head)
        return self._view(head)

    def _compare(self, head: HeadAnswer) -> None:
        last, self._last = self._last, head
        if last is not None and (head.number < last.number or head.nonce < last.nonce):
            self._reorganised_at = trio.current_time()

    def _details(self) -> Sequence[Call]:
        checkpoint = () if self._checkpoint is None else (block_call(self._checkpoint[0]),)
        return (balance_call(self.manager.wallet.address), FINALIZED, *checkpoint)

    def _take_details(self, head: HeadAnswer, block: Any, results: Sequence[Any]) -> None:
        balance, finalized, *checkpoint = results
        self._balance = read_wei(balance)
        self._finalized = read_block_number(finalized)
        self._young = 0 if self._finalized is None else max(0, head.number - self._finalized)
        found = read_block_hash(checkpoint[0]) if checkpoint else None
        if found is not None and self._checkpoint is not None and found != self._checkpoint[1]:
            self.reorganised = True
            self._reorganised_at = trio.current_time()
        own = read_block_hash(block)
        self._checkpoint = None if own is None else (head.number, own)

    def _view(self, head: HeadAnswer) -> ChainView:
        tracker, reorg_window = self.manager.endpoint.head, self.manager.settings.reading.reorg_window
        tracker.note(head.number, head.timestamp)
        self._heads.note(head.number, head.timestamp)
        # a burst of before this process would pass for old; nothing is old until as much was seen of the chain
        blocks = (
            max(1, tracker.blocks_in(reorg_window)) if tracker.has_watched(reorg_window) else head.number + 1
        )
        return ChainView(
            number=head.number,
            timestamp=head.timestamp,
            base_fee=head.base_fee,
            gas_limit=head.gas_limit,
            nonce=head.nonce,
            fresh=self._heads.number == head.number,
            reorg_blocks=blocks,
            final=self._final(head),
            balance=self._balance,
            at=trio.current_time(),
            reorganised_at=self._reorganised_at,
        )

    def _final(self, head: HeadAnswer) -> int:
        """Return the newest block that cannot go: the finalized one, or so many below the head where the node knows none.

        The finalized one was asked some looks ago, perhaps on a longer branch that went since. So it falls with the head.
        """
        if self._finalized is not None:
            return max(NOT_FINAL, min(self._finalized, head.number - self._young))
        return max(NOT_FINAL, head.number - self.manager.config.confirmations)


@attrs.define
class Tracking:
    """Keeps a transaction manager's state up with chain and journal."""

    state: TxState
    observer: ChainObserver
    market: Market
    policy: TxPolicy
    _included_from: int = 0
    """Below this block every included reply was looked at once."""
    _final: int = NOT_FINAL
    """The final block of the last time when the journal was asked for what stands up to it, and that time."""
    _final_at: float = float("-inf")
    _in_flight_since: dict[int, float] = attrs.field(factory=dict)
    """When each signed reply was first seen, whatever bytes it has had since."""

    async def look(self) -> None:
        """Look at the chain, and at the journal for what it makes due. Raises Retryable. Repeating: reads only."""
        state = self.state
        await state.load()
        chain = state.chain = await self.observer.look()
        state.nonces.look(chain, state.tracks.nonces, self.policy.window)
        state.backlog.woken = True
        self.market.judge(chain, trio.current_time())
        tell_market(state.alerts, self.market)
        await self._load_included(chain)
        self._forget()
        self._name_late()
        state.alerts.show(trio.current_time())

    async def _load_included(self, chain: ChainView) -> None:
        """Track the included replies that are to be looked at: once when the reorg window is over, and again when they may be final."""
        if self.observer.reorganised:
            self.observer.reorganised, self._included_from = False, 0
        await self._load_open_again(chain)
        if chain.fresh:
            await self._load_young(chain)
            await self._load_final(chain)

    async def _load_young(self, chain: ChainView) -> None:
        """Track the included replies whose blocks left the reorg window."""
        if chain.settled < self._included_from:
            return
        rows = await self._included(chain.settled, INCLUDED_AT_ONCE, from_block=self._included_from)
        full = len(rows) == INCLUDED_AT_ONCE
        self._included_from = (rows[-1].reply.included_block or 0) if full else chain.settled + 1

    async def _load_final(self, chain: ChainView) -> None:
        """Track the included replies whose blocks are final; a moment ago there were none, where nothing has changed since."""
        tracks = self.state.tracks
        tracked = len(tracks.of(State.INCLUDED))
        same = chain.final == self._final and chain.at - self._final_at < DETAILS_EVERY
        if same and not tracked and not tracks.newly_included:
            return
        await self._included(chain.final, INCLUDED_AT_ONCE + tracked)
        tracks.newly_included, self._final, self._final_at = False, chain.final, chain.at

    async def _included(self, up_to_block: int, limit: int, *, from_block: int = 0) -> Sequence[Row]:
        state = self.state
        rows = await state.manager.journal.run(
            queries.included, state.chain_id, up_to_block, limit, from_block=from_block
        )
        for row in rows:
            state.tracks.note(row)
        return rows

    async def _load_open_again(self, chain: ChainView) -> None:
        """Track included replies whose nonce is open again: a reorganisation took their block."""
        state = self.state
        ripe, tracks = state.nonces.ripe, state.tracks
        if not ripe or not (tracks.of(State.ANSWERED) or tracks.of(State.SIGNED)):
            return
        for row in await state.manager.journal.run(
            queries.included_from_nonce, state.chain_id, chain.nonce, INCLUDED_AT_ONCE
        ):
            if row.reply.nonce in ripe:
                tracks.note(row)

    async def load_answered(self) -> None:
        """Track what is answered and due, as much as there is room in flight."""
        state, backlog, journal = self.state, self.state.backlog, self.state.manager.journal
        tick, now, wall = journal.tick, trio.current_time(), state.manager.ports.wall()
        if not backlog.is_due(tick, now, wall):
            return
        room = min(REPLIES_AT_ONCE, state.room)
        if not room:
            return
        backlog.asks(tick, now, wall)
        due = await journal.run(queries.answered, state.chain_id, wall, room)
        backlog.take(due)
        wanted = {row.rid for row in due.rows}
        for track in state.tracks.of(State.ANSWERED):
            if track.row.rid not in wanted:
                state.tracks.drop(track)
        for row in due.rows:
            known = state.tracks.by_rid.get(row.rid)
            if known is None or known.row.state is State.ANSWERED:
                state.tracks.note(row)

    def _forget(self) -> None:
        """Drop what was remembered about replies and nonces that are not in question any more."""
        state = self.state
        state.broadcasts.keep({track.row.rid for track in state.tracks.of(State.SIGNED)})
        state.fillers.keep(state.nonces.ripe | state.tracks.nonces)

    def _name_late(self) -> None:
        """Say which replies no block has taken for long, whatever nodes say to their bytes."""
        state, now = self.state, trio.current_time()
        signed, known = state.tracks.of(State.SIGNED), self._in_flight_since
        self._in_flight_since = {track.row.rid: known.get(track.row.rid, now) for track in signed}
        if not signed:
            return
        late = max(NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS * state.manager.endpoint.block_time)
        waits = ((track.row, now - self._in_flight_since[track.row.rid]) for track in signed)
        for row, seconds in islice((one for one in waits if one[1] >= late), NAMED_AT_ONCE):
            text = f"no block has included it for {seconds / 60:.0f} minutes, with nonce {row.reply.nonce}"
            state.alerts.hold(row, "not-included", text, now)

    def view(self, chain: ChainView) -> View:
        """Return everything that a decision depends on."""
        state, now = self.state, trio.current_time()
        return View(
            chain=chain,
            tracks=state.tracks.by_rid,
            signed=state.tracks.of(State.SIGNED),
            broadcasts=state.broadcasts,
            nonces=state.nonces.snapshot(chain, state.tracks.nonces, self.policy.window),
            policy=self.policy,
            price=self.market.price,
            now=now,
            block_time=state.manager.endpoint.block_time,
            sends_held=state.sends.holds(now),
            may_sign=not state.signings.holds(now),
        )
