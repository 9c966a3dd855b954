"""One subscription per contract: a wake-up that pushes notify, and a reader that takes what happened from ``eth_getLogs``.

The push is never trusted with content: whatever notifies it, the reader reads from its cursor to the head, and what is not settled again
and again: at a start, after a reconnection, and each quarter of the reorg window. A request is in the journal before the cursor passes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import trio

from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.logs import read_pushed_head
from kmsconn.errors import Unreachable
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.alerts import Board
from kmsconn.model.events import BackfillProgressed
from kmsconn.requests.components import ChainContext
from kmsconn.requests.cursor import Range, plan
from kmsconn.requests.range_reader import RangeReader, WatchedContract
from kmsconn.requests.reading_start import begin_reading, read_once_more
from kmsconn.requests.settling import Settling
from kmsconn.transport.waiting import WakeUp

BACKFILL_REPORT_INTERVAL = 10.0
"""Seconds between two reports: often enough for somebody who watches, rare enough for a log."""


@attrs.define
class BackfillProgress:
    """One back-fill of a contract, from its first block on. ``make`` makes the event of done and all blocks."""

    make: Callable[[int, int], BackfillProgressed]
    first: int
    told: float
    """When it was last told, or when it began."""
    spoke: bool = False

    def after(self, last_read: int, last: int, now: float) -> BackfillProgressed | None:
        """Return the report that is due once ``last_read`` of the blocks up to ``last`` has been read; the end is told if anything was."""
        done, blocks = last_read - self.first + 1, last - self.first + 1
        ended = done >= blocks
        if now - self.told < BACKFILL_REPORT_INTERVAL and not (ended and self.spoke):
            return None
        self.told, self.spoke = now, True
        return self.make(min(done, blocks), blocks)


ANEW = 0.05  # seconds from a fork that was found to the next round


@attrs.define
class LogReader:
    """The subscription of one contract: says which blocks are read, and when."""

    contract: WatchedContract
    ranges: RangeReader
    settling: Settling
    wake_up: WakeUp = attrs.field(factory=WakeUp)
    _behind: trio.Event = attrs.field(factory=trio.Event)

    @classmethod
    def of(cls, contract: WatchedContract) -> LogReader:
        """Make the reader of a contract."""
        ranges = RangeReader.of(contract)
        return cls(contract, ranges, Settling(ranges))

    async def run(self) -> None:
        """Listen and read until cancelled. Cancellation: what was not recorded is read again. Repeating: reads are idempotent."""
        of = self.contract.subscription
        wanted = {"address": to_hex(of.contract), "topics": [[to_hex(topic) for topic in of.topics]]}
        async with trio.open_nursery() as nursery:
            if not of.finalized:  # a push tells of the head, long before
                nursery.start_soon(self.contract.endpoint.listen, ("logs", wanted), self._take_push)
            self.ranges.begin(*await begin_reading(self.contract))
            nursery.start_soon(self._backfill)
            nursery.start_soon(read_once_more, self.ranges)
            await self._follow()

    def _take_push(self, push: bytes | None) -> None:
        if push is None:  # (re)subscribed: what was missed meanwhile is not settled
            self.ranges.read_again_at = -math.inf
        self.wake_up.notify()

    async def _follow(self) -> None:
        contract, ranges, polling = self.contract, self.ranges, self.contract.chain_context.polling
        beat = contract.components.heartbeats.part(f"reader of {contract.name}", contract.endpoint.name)
        while True:
            beat()
            if await self._round():
                contract.tell("logs", None)
            elif await ranges.keep_up():
                await trio.sleep(ANEW)
                continue
            else:
                contract.tell("logs", ranges.reason)
                await trio.sleep(polling)
            with trio.move_on_after(polling):
                await self.wake_up.wait()

    async def _round(self) -> bool:
        """Read the tail, and what is not settled when that is due; say whether the answers could be trusted."""
        contract, ranges, now = self.contract, self.ranges, trio.current_time()
        head = ranges.cursor.next_block if contract.head.number is None else contract.head.number
        learned, lowest = ranges.learned, None
        if now >= ranges.read_again_at:
            lowest = max(ranges.settled + 1, head - 2 * contract.near)
        todo = plan(ranges.cursor, head, lowest)
        if todo.backfill is not None or (lowest is not None and lowest > ranges.settled + 1):
            self._behind.set()
        for blocks in (todo.tail, *todo.again):
            if not await ranges.read(blocks):
                return False
        if lowest is not None:
            ranges.read_again_at = now + contract.reorg_window / 4
            await self.settling.settle(lowest, learned)
        return True

    async def _backfill(self) -> None:
        """Read what lies between the cursor and the live tail, one range after the other, beside it; then settle what is old."""
        while True:
            await self._behind.wait()
            self._behind = trio.Event()
            progress: BackfillProgress | None = None
            while (blocks := self._next_backfill()) is not None:
                progress = progress or BackfillProgress(self._progressed, blocks.first, trio.current_time())
                if await self.ranges.read(blocks):
                    self.contract.tell("back-fill", None)
                    self._tell(progress, blocks)
                else:
                    self.contract.tell("back-fill", self.ranges.reason)
                    await trio.sleep(self.contract.chain_context.polling)
            while (blocks := self.settling.unsettled(self.contract.head.number or 0)) is not None:
                if not await self.settling.settle_old(blocks):
                    await trio.sleep(self.contract.chain_context.polling)

    def _tell(self, progress: BackfillProgress, read: Range) -> None:
        """Report the progress of the back-fill where that is due; it ends where the live tail began."""
        tail = self._next_backfill()
        end = read.last if tail is None or read.last is None else self.contract.head.number
        if read.last is not None and end is not None:
            event = progress.after(read.last, end, trio.current_time())
            if event is not None:
                self.contract.components.on_event(event)

    def _progressed(self, done: int, blocks: int) -> BackfillProgressed:
        of = self.contract.subscription
        return BackfillProgressed(of.chain_id, of.contract, done, blocks)

    def _next_backfill(self) -> Range | None:
        head = self.contract.head.number
        return None if head is None else plan(self.ranges.cursor, head).backfill


async def follow_heads(chain_context: ChainContext, board: Board) -> None:
    """Take a chain's new heads as they are pushed: the chain's time, and a wake-up for the transaction manager."""

    def take(push: bytes | None) -> None:
        # a push is a hint; the reader's own reads bring the head too
        if push is not None:
            board.set("unreadable-push", chain_context.endpoint.name, _note_pushed(chain_context.head, push))
        chain_context.wake_up.notify()

    await chain_context.endpoint.listen(("newHeads",), take)


def _note_pushed(head: HeadTracker, push: bytes) -> str:
    """Take a pushed head; return what is wrong with one that cannot be read."""
    try:
        head.note(*read_pushed_head(push))
    except Unreachable as error:
        return str(error)
    return ""
