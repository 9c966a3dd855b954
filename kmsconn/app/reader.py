"""One subscription per contract: a wake-up that pushes notify, and a reader that takes what happened from ``eth_getLogs``.

The push is never trusted with content: whatever notifies it, the reader reads from its cursor to the head, and the reorg window again and
again (design, ideas 1 and 2). A request is in the journal before the cursor passes it.
"""

from __future__ import annotations

import math
from functools import partial

import attrs
import trio

from kmsconn.app.components import ChainContext, Components
from kmsconn.app.decoding import DecodeCache
from kmsconn.app.first_block import FirstBlock
from kmsconn.app.fork_detector import ForkDetector
from kmsconn.app.recorder import Recorder
from kmsconn.app.retrying import until_kept
from kmsconn.app.stalled_alert import StalledAlert
from kmsconn.errors import Retryable, Unreachable
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal import queries, rewinding
from kmsconn.journal.values import Reread
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import (
    ChainReorganised,
    CursorMoved,
    OnEvent,
    RequestsMoved,
)
from kmsconn.protocols.port import Subscription
from kmsconn.rpc.checkpoints import Checkpoint
from kmsconn.rpc.cursor import Cursor, Range, plan, rewound, shrunk, took
from kmsconn.rpc.endpoint import Endpoint
from kmsconn.rpc.fork import Search
from kmsconn.rpc.heads import HeadTracker
from kmsconn.rpc.jsonrpc import is_range_limit
from kmsconn.rpc.logs import FINALIZED, LATEST, BlockHead, LogsRead, read_logs, read_pushed_head
from kmsconn.rpc.port import RpcError
from kmsconn.transport.wake_up import WakeUp

ANEW = 0.05  # seconds from a fork that was found to the next round
SLOW = 5.0  # seconds after which a read that failed counts as too wide
SUSPECT_SECONDS = 900.0  # seconds for which the old block of a request that left the chain is looked at again
BEFORE_ALL = -1  # a tick: every row has moved since
_SILENCE = 2.0  # polls; one that was missed is no silence
SUSPECT_BLOCKS = 16  # such blocks in one round


@attrs.define
class LogReader:
    """The subscription of one contract. ``rewinds`` counts how often the chain left what was read: what was asked before counts no more."""

    components: Components
    subscription: Subscription
    recorder: Recorder
    decode_cache: DecodeCache
    fork_detector: ForkDetector
    wake_up: WakeUp = attrs.field(factory=WakeUp)
    rewinds: int = 0
    _cursor: Cursor | None = None
    _window_read: float = -math.inf
    _last_round: float = math.inf
    _behind: trio.Event = attrs.field(factory=trio.Event)
    _reason: str = ""
    """Why the last read that failed did."""

    @classmethod
    def of(cls, components: Components, subscription: Subscription) -> LogReader:
        """Make the reader of a contract."""
        fork_detector = ForkDetector(components.chain_contexts[subscription.chain_id].endpoint)
        return cls(
            components,
            subscription,
            Recorder(components, subscription),
            DecodeCache(components.profile),
            fork_detector,
        )

    @property
    def chain_context(self) -> ChainContext:
        """The chain on which the contract is."""
        return self.components.chain_contexts[self.subscription.chain_id]

    @property
    def endpoint(self) -> Endpoint:
        """The way to it."""
        return self.chain_context.endpoint

    @property
    def head(self) -> HeadTracker:
        """What is known of the block up to which is read."""
        return self.chain_context.finalized if self.subscription.finalized else self.chain_context.head

    @property
    def _polling(self) -> float:
        return self.chain_context.polling

    @property
    def _tag(self) -> str:
        """The name of the block up to which is read."""
        return FINALIZED if self.subscription.finalized else LATEST

    @property
    def name(self) -> str:
        """The contract's address as text."""
        return checksum(self.subscription.contract)

    @property
    def cursor(self) -> int | None:
        """The first block not read; None before the start is known."""
        return None if self._cursor is None else self._cursor.next_block

    async def run(self) -> None:
        """Listen and read until cancelled. Cancellation: what was not recorded is read again. Repeating: reads are idempotent."""
        wanted = {
            "address": to_hex(self.subscription.contract),
            "topics": [[to_hex(t) for t in self.subscription.topics]],
        }
        async with trio.open_nursery() as nursery:
            if not self.subscription.finalized:  # a push tells of the head, long before
                nursery.start_soon(self.endpoint.listen, ("logs", wanted), self._ring)
            self._cursor = await self._start()
            nursery.start_soon(self._backfill)
            nursery.start_soon(self._read_once_more)
            await self._follow()

    def _ring(self, push: bytes | None) -> None:
        if push is None:  # (re)subscribed: what was missed meanwhile lies in the reorg window
            self._window_read = -math.inf
        self.wake_up.notify()

    async def _start(self) -> Cursor:
        journal, of = self.components.journal, self.subscription
        known = await until_kept(lambda: journal.run(queries.cursor, of.chain_id, of.contract))
        self.fork_detector.begin(
            await until_kept(lambda: journal.run(queries.checkpoints, of.chain_id, of.contract))
        )
        size, from_block = self.components.settings.get_logs_batch_size, self.chain_context.from_block
        looks = self._first_looks()
        head = await looks.head()  # else the first question would span everything since the last run
        if known is not None:
            origin = from_block or 0
            return Cursor(self._stepped_back(known, origin), size=size, origin=origin)
        first = await looks.block(head, from_block)
        await self._begin(first)
        return Cursor(first.number, size=size, origin=first.number)

    def _first_looks(self) -> FirstBlock:
        return FirstBlock(self.endpoint, self._tag, self.head, self._polling, self._stalled_alert("logs"))

    async def _begin(self, first: BlockHead) -> None:
        """Note where a contract begins that was never read."""
        journal, of = self.components.journal, self.subscription
        begun = Reread(first.number, first.number, first.number - 1)
        await until_kept(lambda: journal.run(rewinding.note_reread, of.chain_id, of.contract, begun))
        if first.hash is not None:
            self.fork_detector.begin_at(Checkpoint(first.number, first.hash))

    def _stepped_back(self, next_block: int, origin: int) -> int:
        """Begin below the cursor: while nobody read, the last answer may have hidden something that no later one shows."""
        return max(
            min(origin, next_block), next_block - self.head.blocks_in(self.components.settings.reorg_window)
        )

    def _stalled_alert(self, what: str) -> StalledAlert:
        return StalledAlert(
            f"{self.endpoint.name} {self.name}", what, self.components.on_event, lambda: self.endpoint.is_down
        )

    async def _follow(self) -> None:
        stalled = self._stalled_alert("logs")
        beat = self.components.heartbeats.part(f"reader of {self.name}", self.endpoint.name)
        while True:
            beat()
            rewinds = self.rewinds
            if await self._round():
                stalled.worked()
            elif rewinds != self.rewinds:
                await trio.sleep(ANEW)
                continue
            else:
                stalled.failed(self._reason)
                await trio.sleep(self._polling)
            with trio.move_on_after(self._polling):
                await self.wake_up.wait()

    async def _round(self) -> bool:
        """Read the tail, and the reorg window when it is due; say whether the answers could be trusted."""
        settings, now = self.components.settings, trio.current_time()
        if now - self._last_round > max(settings.reorg_window / 2, _SILENCE * self._polling):
            self._after_silence()
        cursor = self._known_cursor()
        again = now - self._window_read >= settings.reorg_window / 4
        head = self.head.number if self.head.number is not None else cursor.next_block
        todo = plan(cursor, head, self.head.blocks_to_suspect(settings.reorg_window), again=again)
        if todo.backfill is not None:
            self._behind.set()
        for blocks in (todo.tail, *todo.reorg_window):
            if not await self._read(blocks):
                return False
        self._last_round = now
        if again:
            self._window_read = now
            return await self._look_again(self.head.blocks_to_suspect(settings.reorg_window))
        return True

    def _after_silence(self) -> None:
        cursor = self._known_cursor()
        self._cursor = attrs.evolve(cursor, next_block=self._stepped_back(cursor.next_block, cursor.origin))
        self._last_round = math.inf  # once; the next round that succeeds starts the watch again

    async def _look_again(self, reorg_window: int) -> bool:
        """Read blocks again that leave the reorg window while a request is missing there.

        One bad answer, the last one before a block leaves the reorg window, must not lose what stands in it.
        """
        components, head = self.components, self.head.number or 0
        oldest = head - self.head.blocks_in(SUSPECT_SECONDS)
        chain, contract = self.subscription.chain_id, self.subscription.contract
        blocks = await until_kept(
            lambda: components.journal.run(queries.suspect_blocks, chain, contract, oldest, SUSPECT_BLOCKS)
        )
        for block in blocks:
            if block < head - reorg_window and not await self._read(Range(block, block)):
                return False
        return True

    async def _backfill(self) -> None:
        """Read what lies between the cursor and the live tail, one range after the other, beside it."""
        stalled = self._stalled_alert("back-fill")
        while True:
            await self._behind.wait()
            self._behind = trio.Event()
            while (blocks := self._next_backfill()) is not None:
                if await self._read(blocks):
                    stalled.worked()
                else:
                    stalled.failed(self._reason)
                    await trio.sleep(self._polling)

    async def _read_once_more(self) -> None:
        """Read again from the configured block, once for each value of the option, beside the live end; a restart goes on with it.

        Only what is missing is added: what such a read does not hold is not judged.
        """
        journal, of = self.components.journal, self.subscription
        todo = await self._once_more()
        stalled = self._stalled_alert("once more")
        while todo is not None and todo.next_block <= todo.to_block:
            last = min(todo.to_block, todo.next_block + self._known_cursor().size - 1)
            if await self.read_again(todo.next_block, last):
                stalled.worked()
                todo = attrs.evolve(todo, next_block=last + 1)
                await until_kept(partial(journal.run, rewinding.note_reread, of.chain_id, of.contract, todo))
            else:
                stalled.failed(self._reason)
                await trio.sleep(self._polling)

    async def _once_more(self) -> Reread | None:
        """Return what is to be read once more: what was begun, else from the configured block where that was not done before."""
        journal, of, cursor = self.components.journal, self.subscription, self._known_cursor()
        from_block = self.chain_context.from_block
        known = await until_kept(lambda: journal.run(queries.reread, of.chain_id, of.contract))
        if from_block is None or (known is not None and known.from_block == from_block):
            return known
        return Reread(from_block, from_block, cursor.next_block - 1)

    def _next_backfill(self) -> Range | None:
        if self.head.number is None:
            return None
        return plan(self._known_cursor(), self.head.number, 0, again=False).backfill

    async def read_again(self, first: int, last: int, *, judging: bool = False) -> bool:
        """Look once more for what is missing in blocks below the cursor; say whether all could be read. Repeating: harmless.

        What such a read does not hold is not judged, unless ``judging``: it may come from the node that hid something before.
        """
        while first <= last:
            end = min(last, first + self._known_cursor().size - 1)
            if not await self._read(Range(first, end), asked=None if judging else BEFORE_ALL):
                return False
            first = end + 1
        return True

    async def _read(self, blocks: Range, asked: int | None = None) -> bool:
        asked, started = self.components.journal.tick if asked is None else asked, trio.current_time()
        try:
            return await self._ask(blocks, asked)
        except (Retryable, RpcError) as error:
            self._reason = str(error)
            if trio.current_time() - started > SLOW:
                self._cursor = shrunk(self._known_cursor())
            return False

    async def _ask(self, blocks: Range, asked: int) -> bool:
        """Read blocks from a node that shows the chain that was read so far; go back to the fork when that chain is gone."""
        of, kept, rewinds = self.subscription, self.fork_detector.newest, self.rewinds
        found = await read_logs(
            self.endpoint,
            of.contract,
            of.topics,
            blocks.first,
            blocks.last,
            head=self._tag,
            kept=None if kept is None else kept.number,
        )
        self.head.note(found.head_number, found.head_timestamp)
        self._reason = _what_is_wrong(found)
        if found.failure is not None and is_range_limit(found.failure):
            self._cursor = shrunk(self._known_cursor())
        look = await self.fork_detector.look(
            found, kept, self.head.blocks_to_suspect(self.components.settings.reorg_window)
        )
        if rewinds != self.rewinds:
            self._reason = "the chain was reorganised meanwhile"
        elif look.fork is not None:
            await self._rewind(look.fork, found)
        elif look.mistrust:
            self._reason = look.mistrust
        elif found.trusted:
            await self._record(found, asked)
            return True
        elif found.malformed:
            await self._record_legible(found)
        return False

    async def _rewind(self, search: Search, found: LogsRead) -> None:
        """Go back to a fork: what stands above it is read again, and judged by that."""
        components, chain, contract = self.components, self.subscription.chain_id, self.subscription.contract
        self.rewinds += 1
        self._reason = "the chain was reorganised"
        self._window_read = -math.inf
        self._cursor = rewound(self._known_cursor(), search.fork)
        self.fork_detector.rewind(search.fork)
        self.head.follow_down(found.head_number, found.head_timestamp)
        done = await until_kept(
            lambda: components.journal.run(rewinding.rewind, chain, contract, search.fork, found.head_number)
        )
        components.on_event(ChainReorganised(chain, contract, search.fork, search.depth, done.reopened))
        self._tell_cursor(found)
        if done.gone:
            components.on_event(RequestsMoved(chain, 0, done.gone, 0))
        components.chain_contexts[chain].wake_up.notify()

    async def _record_legible(self, found: LogsRead) -> None:
        """Take the logs of an answer with objects that are none, judge no absence by it, and leave the cursor: it is read again."""
        decoded = self.decode_cache.decode(found.logs)
        if decoded.arrivals or decoded.undecodable:
            await self.recorder.record(found, decoded, self._known_cursor().next_block, BEFORE_ALL)

    async def _record(self, found: LogsRead, asked: int) -> None:
        rewinds, before, extension = self.rewinds, self.cursor, self.fork_detector.extended(found)
        decoded = self.decode_cache.decode(found.logs)
        cursor = took(self._known_cursor(), found.from_block, found.to_block).next_block
        await self.recorder.record(found, decoded, cursor, asked, extension)
        if rewinds == self.rewinds:
            self.fork_detector.extend(extension)
            self._cursor = took(self._known_cursor(), found.from_block, found.to_block, logs=len(found.logs))
        if before != self._known_cursor().next_block:
            self._tell_cursor(found)

    def _tell_cursor(self, found: LogsRead) -> None:
        of, cursor = self.subscription, self._known_cursor()
        self.components.on_event(CursorMoved(of.chain_id, of.contract, cursor.next_block, found.head_number))

    def _known_cursor(self) -> Cursor:
        assert self._cursor is not None, "reading begins once the start is known"
        return self._cursor


def _what_is_wrong(found: LogsRead) -> str:
    """Say why a read that cannot be trusted is not."""
    if found.failure is not None:
        return str(found.failure)
    if found.malformed:
        blocks = f"blocks {found.from_block} to {found.to_block}"
        return f"the answer to eth_getLogs of {blocks} holds an object that is no log that was asked for: {found.malformed[0]}"
    return "the node does not have the blocks that were asked for"


async def follow_heads(chain_context: ChainContext, on_event: OnEvent) -> None:
    """Take a chain's new heads as they are pushed: the chain's time, and a wake-up for the transaction manager."""
    alerts = Alerts(on_event)

    def take(push: bytes | None) -> None:
        # a push is a hint; the reader's own reads bring the head too
        if push is not None:
            alerts.put(chain_context.endpoint.name, "unreadable-push", _note_pushed(chain_context.head, push))
        chain_context.wake_up.notify()

    await chain_context.endpoint.listen(("newHeads",), take)


def _note_pushed(head: HeadTracker, push: bytes) -> str:
    """Take a pushed head; return what is wrong with one that cannot be read."""
    try:
        head.note(*read_pushed_head(push))
    except Unreachable as error:
        return str(error)
    return ""
