"""Keeps in view what a transaction manager decides about: the chain as one node shows it, and the replies that may need a step.

Each look asks one node for head, nonce, balance and finality. Asks nobody about a single reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any

import attrs
import trio

from kmsconn.chain.follower import UNREAD, Anchor
from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.logs import BlockHead, block_call, read_block, read_found, read_number
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import KmsconnError, StageTimeout, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_count, from_quantity, to_hex
from kmsconn.journal import queries
from kmsconn.journal.values import Row
from kmsconn.model.life import State
from kmsconn.replies.answers import read_listed
from kmsconn.replies.asking import ask_one_node
from kmsconn.replies.sending import ReplyMoves
from kmsconn.replies.state import TxManager, TxState, tell_market
from kmsconn.replies.view import NOT_FINAL, ChainView, IncludedReply, View
from kmsconn.replies.wallet import Wallet

LATEST = Call("eth_getBlockByNumber", ("latest", False))
FINALIZED = Call("eth_getBlockByNumber", ("finalized", False))
LOOK_TIMEOUT = 15.0  # seconds; longer than a connection waits, so that a dead one is noticed
DETAILS_EVERY = 2.0  # seconds; balance, finality and checkpoint change slowly
REPLIES_AT_ONCE = 256  # replies that are asked about and signed at once
NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS = 300.0, 60
"""Seconds, and blocks at least, until a reply in flight is named."""
NAMED_AT_ONCE = 16  # replies that an alert is about, the oldest ones
INCLUDED_AT_ONCE = 512  # included replies that are looked at for each head
BLOCKS_AT_ONCE = 32  # headers of final blocks in one look: more than any chain makes between two of them
POOL_TIMEOUT = 1.0  # seconds; a node that does not answer for its pool holds nobody up
POOL_BLOCKS = 3  # from the first look on: what may be mined at all of what a process before this one sent, is mined by then
NO_END = 2**62  # above every block


@cache
def nonce_call(sender: Address, block: str = "latest") -> Call:
    """Return the question for the sender's nonce at a block; at ``pending`` what waits in the node's pool counts, too."""
    return Call("eth_getTransactionCount", (to_hex(sender), block))


@attrs.define
class ChainObserver:
    """Looks at one chain, and remembers what only later looks can compare. Which branch it is, the chain's follower says."""

    manager: TxManager
    _heads: HeadTracker = attrs.field(factory=HeadTracker)
    _details_at: float = float("-inf")
    _finalized: int | None = None
    _young: int = 0
    """So many of the newest blocks were not final when finality was asked."""
    _balance: int | None = None
    _suspicious: bool = False
    _last: tuple[int, int, int] = (-1, -1, UNREAD)
    """The head's number, the nonce and the chain's generation of the look before."""
    _forked_at: float = attrs.field(factory=trio.current_time)

    async def look(self, final: Sequence[int] = ()) -> ChainView:
        """Look at the chain, now and then with blocks that are said to be final. Raises Unreachable, Overloaded, StageTimeout.

        Repeating: reads only.
        """
        now = trio.current_time()
        details = now - self._details_at >= DETAILS_EVERY
        count_call = nonce_call(self.manager.account)
        anchor = await self._anchor(details=details)
        calls = [
            LATEST,
            count_call,
            *anchor.calls,
            *((Call("eth_getBalance", count_call.params), FINALIZED) if details else ()),
            *(block_call(number) for number in final if details),
        ]
        try:
            with trio.fail_after(LOOK_TIMEOUT):
                block, count, *more = await ask_one_node(self.manager.endpoint.rpc, calls)
                head, nonce = read_block(block), read_number(count, count_call.method)
                found = None if anchor.block is None else read_found(more.pop(0))
                await self._compare(head, nonce, anchor, None if found is None else found.hash)
        except trio.TooSlowError as error:
            raise StageTimeout("a look at the chain", LOOK_TIMEOUT) from error
        except RpcError as error:
            raise Unreachable(f"the node answered {error}") from error
        if details:
            self._details_at = now
            balance, finalized, *blocks = more
            self._take_details(head, balance, finalized)
        view = self._view(head, nonce)
        return attrs.evolve(view, blocks=dict(zip(final, blocks, strict=True))) if details and final else view

    async def _anchor(self, *, details: bool) -> Anchor:
        """Return what the chain's follower wants to know of a look; where no reader of this process feeds it, from the journal."""
        follower = self.manager.endpoint.follower
        anchor = follower.anchor()
        if details and (anchor.block is None or anchor.block.number < self._last[0]):
            await follower.load()
            return follower.anchor()
        return anchor

    async def _compare(self, head: BlockHead, nonce: int, anchor: Anchor, found: bytes | None) -> None:
        """Take a head, and compare a look with those before: another branch or generation, or a lower head or nonce, is another epoch."""
        follower, last = self.manager.endpoint.follower, self._last
        lags = anchor.block is not None and found is None
        self._suspicious = not (lags or await follower.judge(anchor, found))
        follower.head.note(head.number, head.timestamp)
        self._last = head.number, nonce, follower.generation
        if self._suspicious or head.number < last[0] or nonce < last[1] or follower.generation != last[2]:
            self._forked_at = trio.current_time()

    def _take_details(self, head: BlockHead, balance: Any, finalized: Any) -> None:
        try:
            self._balance = from_quantity(balance)
        except (TypeError, ValueError):
            self._balance = None
        found = read_found(finalized)
        self._finalized = None if found is None else found.number
        self._young = 0 if found is None else max(0, head.number - found.number)

    def _view(self, head: BlockHead, nonce: int) -> ChainView:
        tracker, reorg_window = (
            self.manager.endpoint.follower.head,
            self.manager.settings.reading.reorg_window,
        )
        self._heads.note(head.number, head.timestamp)
        # a burst of before this process would pass for old; nothing is old until as much was seen of the chain
        blocks = (
            max(1, tracker.blocks_in(reorg_window)) if tracker.has_watched(reorg_window) else head.number + 1
        )
        # the finalized one was asked some looks ago, perhaps on a longer branch that went since: so it falls with the head
        final = head.number - (self.manager.config.confirmations if self._finalized is None else self._young)
        return ChainView(
            number=head.number,
            base_fee=head.base_fee,
            gas_limit=head.gas_limit,
            nonce=nonce,
            fresh=self._heads.number == head.number,
            reorg_blocks=blocks,
            final=max(NOT_FINAL, final if self._finalized is None else min(self._finalized, final)),
            balance=self._balance,
            at=trio.current_time(),
            forked_at=self._forked_at,
            suspicious=self._suspicious,
        )


@attrs.define
class Tracking:
    """Keeps a transaction manager's state up with chain and journal."""

    state: TxState
    observer: ChainObserver
    reply_moves: ReplyMoves
    _final: int = NOT_FINAL
    """The final block of the last time when the journal was asked for what stands up to it, and that time."""
    _final_at: float = float("-inf")
    _in_flight_since: dict[int, float] = attrs.field(factory=dict)
    """When each signed reply was first seen, whatever bytes it has had since."""

    async def look(self) -> None:
        """Look at the chain, and at the journal for what it makes due. Raises Retryable. Repeating: reads only."""
        state = self.state
        if not state.backlog.loaded:
            await state.load()
        known = NOT_FINAL if state.chain is None else state.chain.final
        ahead = 2 + int(DETAILS_EVERY / state.manager.endpoint.head.block_time)  # these may be final by then
        due = sorted(block for block in state.tracks.standing if block <= known + ahead)
        chain = state.chain = await self.observer.look(due[:BLOCKS_AT_ONCE])
        if isinstance(state.manager.wallet, Wallet):  # to a shadow its transactions are another connector's
            pooled = await self._pooled(chain)
            state.nonces.look(chain, state.tracks.nonces, state.manager.config.window, pooled)
        state.backlog.woken = True
        self.state.market.judge(chain.base_fee, chain.number, trio.current_time())
        tell_market(state.alerts, self.state.market)
        await self._load_included(chain)
        self._forget()
        self._name_late()
        state.alerts.show(trio.current_time())

    async def _load_included(self, chain: ChainView) -> None:
        """Track the included replies whose blocks are final.

        Of those there were none a moment ago, where nothing has changed since.
        """
        if not chain.fresh:
            return
        if chain.blocks:
            await self._settle(chain)
        tracks = self.state.tracks
        tracked = len(tracks.by_state[State.INCLUDED])
        final = min(chain.final, min(tracks.standing, default=NO_END) - 1)
        same = final == self._final and chain.at - self._final_at < DETAILS_EVERY
        if same and not tracked and not tracks.newly_included:
            return
        for row in await self._included(final, limit=INCLUDED_AT_ONCE + tracked):
            tracks.note(row)
        tracks.newly_included, self._final, self._final_at = False, final, chain.at

    async def _pooled(self, chain: ChainView) -> int:
        """Return the nonce behind what waits in a pool, in the first blocks; 0 where no node tells."""
        manager, first = self.state.manager, self.state.nonces.first_block
        if first is not None and chain.number >= first + POOL_BLOCKS:
            return 0
        call = nonce_call(manager.account, "pending")
        with trio.move_on_after(POOL_TIMEOUT), suppress(KmsconnError, ValueError):
            return from_count(await manager.endpoint.rpc.call(call.method, *call.params))
        return 0

    async def _settle(self, chain: ChainView) -> None:
        """Finalize the replies in final blocks by the headers of these: where the block is that their receipts name, and lists them."""
        stand: list[IncludedReply] = []
        for number, answer in chain.blocks.items():
            if number <= chain.final and not chain.suspicious:
                replies = self.state.tracks.standing.pop(number, ())
                stand += [one for one in replies if read_listed(one.block_hash, one.hash, answer)]
                self.state.tracks.newly_included = True  # whoever does not stand is asked about
        if stand:
            await self.reply_moves.finalize(stand)

    async def _included(self, up_to_block: int, *, limit: int) -> Sequence[Row]:
        state = self.state
        rows: Sequence[Row] = await state.manager.journal.run(
            queries.included, state.manager.endpoint.rpc.chain_id, up_to_block, limit
        )
        return rows

    async def load_answered(self) -> None:
        """Track what is answered and due, as much as there is room in flight."""
        state, backlog, journal = self.state, self.state.backlog, self.state.manager.journal
        tick, now, wall = journal.answers_tick, trio.current_time(), state.manager.ports.wall()
        if not backlog.is_due(tick, now, wall):
            return
        room = min(REPLIES_AT_ONCE, state.room)
        if not room:
            return
        backlog.asks(tick, now, wall)
        due = await journal.run(queries.answered, state.manager.endpoint.rpc.chain_id, wall, room)
        backlog.take(due)
        wanted = {row.rid for row in due.rows}
        for track in [*state.tracks.by_state[State.ANSWERED].values()]:
            if track.row.rid not in wanted:
                state.tracks.drop(track)
        for row in due.rows:
            known = state.tracks.by_rid.get(row.rid)
            # an included one went back with its block
            if known is None or known.row.state is not State.SIGNED:
                state.tracks.note(row)

    def _forget(self) -> None:
        """Drop what was remembered about replies and nonces that are not in question any more."""
        state = self.state
        kept = state.nonces.ripe | state.tracks.nonces
        state.fillers = {nonce: one for nonce, one in state.fillers.items() if nonce in kept}

    def _name_late(self) -> None:
        """Say which replies no block has taken for long, whatever nodes say to their bytes."""
        state, now = self.state, trio.current_time()
        signed, known = state.tracks.by_state[State.SIGNED].values(), self._in_flight_since
        self._in_flight_since = {track.row.rid: known.get(track.row.rid, now) for track in signed}
        if not signed:
            return
        late = max(NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS * state.manager.endpoint.head.block_time)
        waits = ((track.row, now - self._in_flight_since[track.row.rid]) for track in signed)
        for row, seconds in islice((one for one in waits if one[1] >= late), NAMED_AT_ONCE):
            text = f"no block has included it for {seconds / 60:.0f} minutes, with nonce {row.reply.nonce}"
            state.alerts.hold(row, "not-included", text, now)

    def view(self, chain: ChainView) -> View:
        """Return everything that a decision depends on."""
        state, manager, now = self.state, self.state.manager, trio.current_time()
        return View(
            chain=chain,
            tracks=state.tracks.by_rid,
            nonces=state.nonces.hold(chain, state.tracks.nonces, manager.config.window),
            config=manager.config,
            settings=manager.settings,
            operations=manager.profile.operations,
            limits=state.market.limits,
            price=state.market.price if now >= state.signings.until else None,
            now=now,
            block_time=manager.endpoint.head.block_time,
            sends_held=now < state.sends.until,
        )
