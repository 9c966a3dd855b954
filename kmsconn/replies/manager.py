"""The transaction manager: one level-triggered loop per chain that owns the inclusion of replies. No task per transaction.

A round looks at the chain, loads what that makes due from the journal, decides, and acts. A shadow is run by the same loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

import attrs
import trio

from kmsconn.chain.looking import DETAILS_EVERY, NOT_FINAL, ChainObserver, ChainView, is_listed
from kmsconn.errors import Down, JournalFailed, NonceTaken, Retryable
from kmsconn.journal import queries
from kmsconn.model.alerts import STANDSTILL
from kmsconn.model.life import State
from kmsconn.replies.asking import Questioner, judge_market
from kmsconn.replies.attesting import NonceAttesting
from kmsconn.replies.plan import decide
from kmsconn.replies.sending import Sender
from kmsconn.replies.shadow import Shadow
from kmsconn.replies.state import INCLUDED, NOT_INCLUDED, REPLY, TxManager, TxState, TxStatistics
from kmsconn.replies.view import Action, IncludedReply, Track, View, top
from kmsconn.replies.wallet import Wallet
from kmsconn.transport.waiting import Backoff, Hold

IDLE = 1.0  # seconds without a wake-up until the next look
EAGER = 0.25  # likewise, while something is in flight and no heads are heard
SLOWEST = 12.0  # seconds between blocks of the slowest chain to keep up with
ROUND_BACKOFF = Backoff(first=0.5, cap=2.0)  # once the chain is back every reply waits for it; few calls
PACE = 0.05  # seconds between looks under load; what is answered in between needs no look to be asked about
BREATH = 0.005  # seconds between rounds: answers of one moment are taken together
CURRENT = 0.1  # seconds for which a look at the chain is good enough for what an answer makes possible, where no heads are heard
STEPS_AT_ONCE = 8  # decisions that follow from each other before the chain is looked at again
REPLIES_AT_ONCE = 256  # replies that are asked about and signed at once
NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS = 300.0, 60
"""Seconds, and blocks at least, until a reply in flight is named."""
PASSED_BY = 12
"""Blocks that pass by several replies, of which none takes one, until no reply passes; a chain that makes no blocks shows nothing."""
NAMED_AT_ONCE = 16  # replies that an alert is about, the oldest ones
INCLUDED_AT_ONCE = 512  # included replies that are looked at for each head
BLOCKS_AT_ONCE = 32  # headers of final blocks in one look: more than any chain makes between two of them
POOL_BLOCKS = 3  # from the first look on: what may be mined at all of what a process before this one sent, is mined by then
NO_END = 2**62  # above every block


async def run_txmanager(manager: TxManager) -> None:
    """Send the replies of a chain until ``manager.closing`` is set and no reply is answered or signed; finality is not waited for.

    A shadow ends at once, for nothing of it waits for anybody.
    Failures of the chain, and of the journal, are alerts and waited out.
    Cancellation: at any await; a signed transaction is durable before it is broadcast. Repeating: goes on from journal and chain.
    """
    rounds = Rounds.of(manager)
    manager.statistics = rounds.statistics
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.run, nursery)
        await rounds.wait_until_empty()
        nursery.cancel_scope.cancel()


@attrs.define
class Lateness:
    """Names the replies of one transaction manager that no block takes, and knows since when no look is answered."""

    state: TxState
    blind_since: float | None = None
    """When a look was made first, since one was answered last."""
    _head: int = 0
    """The highest head that a look has seen."""

    def name(self, chain: ChainView) -> None:
        """Say which replies no block has taken for long, whatever nodes say to their bytes."""
        state, now = self.state, trio.current_time()
        late = max(NOT_INCLUDED_AFTER, NOT_INCLUDED_BLOCKS * state.manager.endpoint.follower.head.block_time)
        signed = state.tracks.in_state(State.SIGNED)
        is_later, self._head = chain.number > self._head, max(chain.number, self._head)
        for track in signed:
            track.in_flight_since = min(track.in_flight_since, now)
            track.heads += is_later
        for track in islice((one for one in signed if now - one.in_flight_since >= late), NAMED_AT_ONCE):
            minutes, row = (now - track.in_flight_since) / 60, track.row
            text = f"no block has included it for {minutes:.0f} minutes, with nonce {row.reply.nonce}"
            state.alerts.hold(row, NOT_INCLUDED, text, now)
        self._name_passed_by(signed, now)

    def _name_passed_by(self, signed: Sequence[Track], now: float) -> None:
        """Name the replies that blocks pass by, if there are several and none was included since."""
        alerts = self.state.alerts
        passed_by = [
            track
            for track in signed
            if track.heads >= PASSED_BY
            and now - track.in_flight_since >= STANDSTILL
            and alerts.to_a_block.stands_still(REPLY, INCLUDED, track.in_flight_since)
        ]
        if len(passed_by) >= REPLY.several:
            text = f"{PASSED_BY} blocks have passed and none of them has included it"
            for track in passed_by[:NAMED_AT_ONCE]:
                since = track.in_flight_since
                alerts.hold(track.row, NOT_INCLUDED, text, now, since=since)


@attrs.define
class Rounds:
    """The rounds of one transaction manager: each looks, decides, acts, and rests until there may be something to do."""

    state: TxState
    moves: Sender | Shadow
    """What is done with the replies: an account without a wallet has a shadow, which reads what another connector sent."""
    observer: ChainObserver
    questioner: Questioner
    backoff: Hold
    attesting: NonceAttesting
    lateness: Lateness
    heard: bool = False
    """The last rest ended by a notification: heads are heard."""
    owed: bool = True
    """There is a new head, and the last look was too recent for another one."""
    looked_at: float = float("-inf")
    _final: int = NOT_FINAL
    """The final block of the last time when the journal was asked for what stands up to it, and that time."""
    _final_at: float = float("-inf")

    @classmethod
    def of(cls, manager: TxManager) -> Rounds:
        """Return the rounds of a transaction manager that begins."""
        state, wallet, endpoint = TxState.of(manager), manager.wallet, manager.endpoint
        return cls(
            state,
            Sender.of(state, wallet) if isinstance(wallet, Wallet) else Shadow.of(state),
            ChainObserver(endpoint.rpc, endpoint.follower, manager.account, endpoint.confirmations),
            Questioner(state),
            Hold(ROUND_BACKOFF, manager.ports.random),
            NonceAttesting(state),
            Lateness(state),
        )

    async def wait_until_empty(self) -> None:
        """Return once the manager is closing and the journal holds nothing to send: that needs no chain, which may not answer."""
        await self.state.manager.closing.wait()
        while isinstance(self.moves, Sender):
            if not await self._owes():
                return
            await trio.sleep(EAGER)

    async def _owes(self) -> bool:
        """Say whether something is answered or signed, or the journal does not tell."""
        manager, chain_id = self.state.manager, self.state.manager.endpoint.rpc.chain_id
        with suppress(JournalFailed):
            due = await manager.journal.run(queries.answered, chain_id, manager.ports.wall(), 1)
            waits = due.rows or due.next_due is not None
            return bool(waits or await manager.journal.run(queries.signed, chain_id))
        return True

    async def run(self, nursery: trio.Nursery) -> None:
        """Make rounds for ever; questions and broadcasts go on in ``nursery``."""
        state = self.state
        while True:
            state.manager.beat()
            try:
                await self._look()
                state.search_strangers(nursery)
                await self._act(nursery)
            except (Retryable, NonceTaken) as error:
                await self._failed(error)
                continue
            if self.backoff.failures:
                self.backoff.worked()
                state.alerts.set("rounds", None)
            await self._rest()

    def _due(self, seconds: float) -> float:
        """Return when the next look is due: soon after a new head that may mean something for a reply, else ``seconds`` after the last."""
        return self.looked_at + (PACE if self.owed and self.state.tracks.by_rid else seconds)

    async def _look(self) -> None:
        """Look at the chain, and at the journal for what that makes due, unless it was done just now."""
        state, now, wake = self.state, trio.current_time(), self.state.manager.wake
        self.owed, wake.told, wake.rests = self.owed or wake.told, False, False
        if now < self._due(IDLE if self.heard else CURRENT):
            return
        self.owed, self.looked_at = False, now
        if not state.backlog.loaded:
            await state.load()
        known = NOT_FINAL if state.chain is None else state.chain.final
        block_time = state.manager.endpoint.follower.head.block_time
        ahead = 2 + int(DETAILS_EVERY / block_time)  # these may be final by then
        due = sorted(block for block in state.tracks.standing if block <= known + ahead)[:BLOCKS_AT_ONCE]
        asked = {block: state.tracks.standing.pop(block) for block in due}  # once, if the node hangs at one
        if self.lateness.blind_since is None:
            self.lateness.blind_since = now
        chain = state.chain = await self.observer.look(due)
        self.lateness.blind_since = None
        state.tracks.standing.update(asked)
        if isinstance(self.moves, Sender):  # to a shadow its transactions are another connector's
            first = state.nonces.first_block
            early = first is None or chain.number < first + POOL_BLOCKS
            pooled = await self.observer.pooled() if early else 0
            await self.attesting.attest(chain)
            state.strangers.look(chain, state.tracks.nonces, pooled)
            state.nonces.look(chain, state.tracks.nonces, state.manager.endpoint.window, pooled)
        judge_market(state, chain)
        if chain.fresh:
            await self._load_included(chain)
        if state.fillers:
            kept = state.nonces.ripe | state.tracks.nonces
            state.fillers = {nonce: one for nonce, one in state.fillers.items() if nonce in kept}
        waiting = {track.row.state for track in state.tracks.by_rid.values()}
        for states, cause in (({State.SIGNED}, "funds"), ({State.SIGNED, State.ANSWERED}, "wallet")):
            if not waiting & states:  # it was said of a reply that has passed
                state.alerts.set(cause, None)
        self.lateness.name(chain)
        state.alerts.show(trio.current_time())

    async def _load_included(self, chain: ChainView) -> None:
        """Track the included replies whose blocks are final, but for those whose headers show that they are there for good.

        Of those there were none a moment ago, where nothing has changed since.
        """
        tracks, manager = self.state.tracks, self.state.manager
        await self._settle(chain)
        tracked = len(tracks.in_state(State.INCLUDED))
        final = min(chain.final, min(tracks.standing, default=NO_END) - 1)
        same = final == self._final and chain.at - self._final_at < DETAILS_EVERY
        if same and not tracked and not tracks.newly_included:
            return
        limit, chain_id = INCLUDED_AT_ONCE + tracked, manager.endpoint.rpc.chain_id
        for row in await manager.journal.run(queries.included, chain_id, final, limit):
            tracks.note(row)
        tracks.newly_included, self._final, self._final_at = False, final, chain.at

    async def _settle(self, chain: ChainView) -> None:
        """Finalize the replies in final blocks by the headers of these: where the block is that their receipts name, and lists them."""
        stand: list[IncludedReply] = []
        for number, answer in chain.blocks.items():
            if number <= chain.final and not chain.suspicious:
                replies = self.state.tracks.standing.pop(number, ())
                stand += [one for one in replies if is_listed(one.block_hash, one.hash, answer)]
                self.state.tracks.newly_included = True  # whoever does not stand is asked about
        if stand:
            await self.moves.finalize(stand)

    async def _act(self, nursery: trio.Nursery) -> None:
        """Decide and act until nothing more follows at once.

        Raises Retryable and NonceTaken. Cancellation: what was signed is durable or was never sent.
        """
        state, chain, moves = self.state, self.state.chain, self.moves
        assert chain is not None
        for _ in range(STEPS_AT_ONCE):
            if isinstance(moves, Sender):
                await self._load_answered()
                self.questioner.ask_market(chain, nursery)
            if not state.tracks.by_rid:
                break
            steps, fills = decide(self.view(chain), state.tracks.by_rid.values(), moves.rows)
            if asks := steps[Action.ASK]:
                wanted = [(step.track, question) for step in asks for question in step.found.questions]
                self.questioner.ask(wanted, nursery)
            if not await moves.perform(steps, fills, nursery):
                break
        if isinstance(moves, Shadow):
            await moves.step(chain)

    async def _load_answered(self) -> None:
        """Track what is answered and due, as much as there is room in flight."""
        state, backlog, journal = self.state, self.state.backlog, self.state.manager.journal
        tick, wall = journal.answers_tick, state.manager.ports.wall()
        if not backlog.is_due(tick, wall):
            return
        room = min(REPLIES_AT_ONCE, state.manager.endpoint.window - len(state.tracks.in_state(State.SIGNED)))
        if room <= 0:
            return
        due = await journal.run(queries.answered, state.manager.endpoint.rpc.chain_id, wall, room)
        backlog.take(due, tick, wall)
        wanted = {row.rid for row in due.rows}
        for track in state.tracks.in_state(State.ANSWERED):
            if track.row.rid not in wanted:
                state.tracks.drop(track)
        for row in due.rows:
            known = state.tracks.by_rid.get(row.rid)
            if known is None or known.row.state is not State.SIGNED:  # as one whose block has gone
                state.tracks.note(row)

    def view(self, chain: ChainView) -> View:
        """Return everything that a decision depends on."""
        state, manager, now = self.state, self.state.manager, trio.current_time()
        return View(
            chain=chain,
            nonces=state.nonces,
            in_flight=state.tracks.nonces,
            window=manager.endpoint.window,
            replace_after=manager.endpoint.replace_after,
            settings=manager.settings,
            operations=manager.profile.operations,
            limits=state.market.limits,
            price=state.market.price if now >= state.signings.until else None,
            now=now,
            block_time=manager.endpoint.follower.head.block_time,
            sends_held=now < state.sends.until,
        )

    def statistics(self) -> TxStatistics:
        """Return the figures of the last look and of what is in view."""
        state, chain, price = self.state, self.state.chain, self.state.market.price
        tracked = Counter(track.row.state for track in state.tracks.by_rid.values())
        return TxStatistics(
            balance=None if chain is None else chain.balance,
            next_nonce=None if chain is None else top(chain.nonce, state.tracks.nonces, state.nonces.high),
            in_flight=tracked[State.SIGNED],
            waiting=tracked[State.ANSWERED],
            included=tracked[State.INCLUDED],
            fee=None if price is None else price.needed,
            priority=None if price is None else price.priority or 0,
            reply_cost=state.market.reply_cost,
        )

    async def _failed(self, error: Exception) -> None:
        self.state.backlog.loaded = False  # something may have moved that was not noted here
        self.looked_at = float("-inf")
        if not (isinstance(error, JournalFailed) and self.state.manager.journal.failures.text):
            self.state.alerts.set("rounds", str(error), critical=self._is_blind(error))
        self.backoff.failed(trio.current_time())
        await trio.sleep_until(self.backoff.until)

    def _is_blind(self, error: Exception) -> bool:
        """Say whether no look at the chain was answered for so long that no reply passes; one that is gone has an alert of its own."""
        if self.lateness.blind_since is None:
            return False
        lasts = trio.current_time() - self.lateness.blind_since >= STANDSTILL
        return lasts and isinstance(self.moves, Sender) and not isinstance(error, Down)

    async def _rest(self) -> None:
        """Wait for an answer, a wake-up, or the time of the next look."""
        state, tracks, wake = self.state, self.state.tracks, self.state.manager.wake
        # nothing happens between two blocks
        pace = min(state.manager.endpoint.follower.head.block_time, SLOWEST)
        unpriced = state.market.price is None and tracks.in_state(State.ANSWERED)
        waits = unpriced or tracks.in_state(State.SIGNED)
        seconds = max(IDLE, pace / 2) if self.heard or not waits else max(EAGER, pace / 4)
        wake.rests, due, now = not tracks.by_rid, self._due(seconds), trio.current_time()
        if due <= now:
            await trio.lowlevel.checkpoint()  # what this round has asked goes out before the next look
        if not await wake.rest(min(now + BREATH, due), due):
            self.looked_at = float("-inf")
            self.heard = self.owed or wake.told
        elif wake.told:
            self.heard = True
