"""What a transaction manager keeps in view: the chain as it looks, and the replies that may need a step. Asks about no single reply."""

from __future__ import annotations

from itertools import islice

import attrs
import trio

from kmsconn.journal import queries
from kmsconn.model.life import State
from kmsconn.txmanager import nonces
from kmsconn.txmanager.alerts import tell_market
from kmsconn.txmanager.looking import ChainObserver
from kmsconn.txmanager.market import Market
from kmsconn.txmanager.state import TxState
from kmsconn.txmanager.view import ChainView, View

REPLIES_AT_ONCE = 256  # replies that are asked about and signed at once
NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS = 300.0, 60
"""Seconds, and blocks at least, until a reply in flight is named."""
NAMED_AT_ONCE = 16  # replies that an alert is about, the oldest ones
INCLUDED_AT_ONCE = 512  # included replies that are looked at for each head


@attrs.define
class Tracking:
    """Keeps a transaction manager's state up with chain and journal."""

    state: TxState
    observer: ChainObserver
    market: Market
    _ripe: frozenset[int] = frozenset()
    _included_from: int = 0
    """Below this block every included reply was looked at once."""
    _in_flight_since: dict[int, float] = attrs.field(factory=dict)
    """When each signed reply was first seen, whatever bytes it has had since."""

    async def look(self) -> None:
        """Look at the chain, and at the journal for what it makes due. Raises Retryable. Repeating: reads only."""
        state = self.state
        await state.load()
        chain = await self.observer.look()
        state.chain = chain
        self._see_strangers(chain)
        state.high = max(state.high, chain.nonce)
        state.stale = True
        self._see_gaps(chain)
        self.market.judge(chain, trio.current_time())
        tell_market(self.state.alerts, self.market)
        await self._load_included(chain)
        self._forget()
        self._name_late()

    def _see_strangers(self, chain: ChainView) -> None:
        """Note that the account has sent what this journal does not know: the reply of a lost one, or of another process."""
        state = self.state
        if chain.nonce > nonces.top(0, state.nonces(), state.high):
            state.stranger_block = chain.number

    def _see_gaps(self, chain: ChainView) -> None:
        state, window = self.state, self.state.manager.window
        found = nonces.gaps(chain.nonce, state.nonces(), state.high, window) if chain.fresh else ()
        state.gaps.keep(found)
        self._ripe = frozenset(
            gap for gap in found if state.gaps.confirms(gap, trio.current_time(), chain.number)
        )

    async def _load_included(self, chain: ChainView) -> None:
        """Track the included replies that are to be looked at: once when the reorg window is over, and again when they may be final."""
        state = self.state
        if self.observer.reorganised:
            self.observer.reorganised, self._included_from = False, 0
        await self._load_open_again(chain)
        if not chain.fresh:
            return
        young = await state.journal.run(
            queries.included, state.chain_id, chain.settled, INCLUDED_AT_ONCE, from_block=self._included_from
        )
        full = len(young) == INCLUDED_AT_ONCE
        self._included_from = (
            (young[-1].included_block or 0) if full else max(self._included_from, chain.settled + 1)
        )
        tracked = len(state.in_state(State.INCLUDED))
        deep = await state.journal.run(
            queries.included, state.chain_id, chain.final, INCLUDED_AT_ONCE + tracked
        )
        for row in (*young, *deep[: INCLUDED_AT_ONCE + tracked]):
            state.track(row)

    async def _load_open_again(self, chain: ChainView) -> None:
        """Track included replies whose nonce is open again: a reorganisation took their block."""
        state = self.state
        if not self._ripe or not (state.in_state(State.ANSWERED) or state.in_state(State.SIGNED)):
            return
        for row in await state.journal.run(
            queries.included_from_nonce, state.chain_id, chain.nonce, INCLUDED_AT_ONCE
        ):
            if row.nonce in self._ripe:
                state.track(row)

    async def load_answered(self) -> None:
        """Track what is answered and due, as much as there is room in flight."""
        state = self.state
        if not state.stale:
            return
        room = min(REPLIES_AT_ONCE, state.room)
        if not room:
            return
        state.stale = False
        due = await state.journal.run(queries.answered, state.chain_id, state.manager.ports.wall(), room)
        state.waiting = bool(due.rows) or due.next_due is not None
        wanted = {row.rid for row in due.rows}
        for track in state.in_state(State.ANSWERED):
            if track.row.rid not in wanted:
                state.drop(track)
        for row in due.rows:
            if row.rid not in state.tracks or state.tracks[row.rid].row.state is State.ANSWERED:
                state.track(row)

    def _forget(self) -> None:
        """Drop what was remembered about replies and nonces that are not in question any more."""
        state = self.state
        signed = state.signed_rows
        state.broadcasts.keep(signed.keys())
        state.fillers.keep(self._ripe | state.nonces())
        state.alerts.forget(trio.current_time())

    def _name_late(self) -> None:
        """Say which replies no block has taken for long, whatever nodes say to their bytes."""
        state, now = self.state, trio.current_time()
        known, signed = self._in_flight_since, state.signed_rows
        self._in_flight_since = {rid: known.get(rid, now) for rid in signed}
        late = max(NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS * state.block_time)
        named = (one for one in self._in_flight_since.items() if now - one[1] >= late)
        for rid, since in islice(named, NAMED_AT_ONCE):
            text = (
                f"no block has taken it for {(now - since) / 60:.0f} minutes, with nonce {signed[rid].nonce}"
            )
            state.alerts.raise_for(signed[rid], "not-included", text, now)

    def view(self, chain: ChainView) -> View:
        """Return everything that a decision depends on."""
        state, manager = self.state, self.state.manager
        now = trio.current_time()
        in_flight = state.nonces()
        missing = nonces.gaps(chain.nonce, in_flight, state.high, manager.window)
        open_gaps = missing if chain.fresh else ()
        operations = manager.profile.operations
        return View(
            chain=chain,
            tracks=state.tracks,
            broadcasts=state.broadcasts,
            high=state.high,
            stranger_block=state.stranger_block,
            missing=missing,
            gaps=open_gaps,
            ripe=self._ripe.intersection(open_gaps),
            price=self.market.price,
            limits=self.market.limits,
            gas_percent=manager.settings.gas_multiplier_percent,
            spare_gas=lambda kind, estimate: operations[kind].spare(estimate),
            now=now,
            block_time=state.block_time,
            window=manager.window,
            sends_held=state.sends.holds(now),
            may_sign=not state.signings.holds(now),
            tracing=manager.settings.trace_reverted_tx,
            replace_after=manager.replace_after,
            absence_seconds=manager.settings.reorg_window,
        )
