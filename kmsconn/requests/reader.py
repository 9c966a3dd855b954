"""One subscription per contract: a wake-up that pushes notify, and a reader that takes what happened from ``eth_getLogs``.

The push is never trusted with content: whatever notifies it, the reader reads from its cursor to the head, and what is not settled again
and again: at a start, after a reconnection, and each quarter of the reorg window. A request is in the journal before the cursor passes it.

What is settled is never read again. Blocks up to ``settled`` are; those up to ``passed`` were read before ``since``, and nothing was
learned of them after it. Once that is a reorg window ago and the headers of the blocks with requests agree, the second number becomes
the first.

A contract that was read before goes on at its cursor, and what is not settled is read again at once. One that was never read begins at
the configured block, else at a head that a second look confirms. A contract that was read before is also read once more from the
configured block, once for each value of the option, beside the live end; a restart goes on with it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Never

import attrs
import trio

from kmsconn.chain.fork import Checkpoint
from kmsconn.chain.logs import BlockHead, pushed_block, read_block, read_pushed_head
from kmsconn.chain.port import RpcError
from kmsconn.errors import Retryable, Unreachable
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.journal import queries, recording, retention
from kmsconn.journal.queries import ReadUpTo, Reread
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.events import BackfillProgressed
from kmsconn.requests.components import ChainContext
from kmsconn.requests.cursor import Cursor, Range, plan
from kmsconn.requests.range_reader import HEADERS_AT_ONCE, RangeReader, WatchedContract
from kmsconn.transport.waiting import WakeUp


async def first_head(contract: WatchedContract) -> BlockHead:
    """Return the head of a contract's chain once a node tells it, and note it. Cancellation: at any await. Repeating: reads only."""
    head = await _block(contract, contract.tag)
    contract.head.note(head.number, head.timestamp)
    return head


async def _first_block(contract: WatchedContract, head: BlockHead) -> BlockHead:
    """Return where a contract begins that was never read; below the head with its hash.

    Blocks below are never read: one answer with a head that is too high must not hide the requests that come until then.
    """
    from_block = contract.chain_context.from_block
    if from_block is None:
        return await _confirmed(contract, head)
    found = await _block(contract, quantity(from_block)) if from_block <= head.number else head
    return BlockHead(from_block, found.timestamp, found.hash if found.number == from_block else None)


async def _confirmed(contract: WatchedContract, head: BlockHead) -> BlockHead:
    while True:
        await trio.sleep(CONFIRMING)
        later = await _block(contract, contract.tag)
        if later.number >= head.number:
            return head
        head = later
        contract.head.follow_down(head.number, head.timestamp)


async def _block(contract: WatchedContract, block: str) -> BlockHead:
    """Ask for a block until it is had: a node that knows no finalized block answers all else."""
    while True:
        try:
            found = read_block(await contract.endpoint.call("eth_getBlockByNumber", block, False))
        except (Retryable, RpcError) as error:
            contract.tell("logs", f"the {block} block is unknown: {error}")
            await trio.sleep(contract.chain_context.polling)
        else:
            contract.tell("logs", None)
            return found


async def begin_reading(contract: WatchedContract) -> tuple[Cursor, ReadUpTo]:
    """Return where to begin, and what is settled. Repeating: the same."""
    follower = contract.chain_context.follower
    await follower.load()  # what is durable of the chain is read before what is of the contract
    known = await contract.run(queries.progress)
    size = contract.components.settings.reading.get_logs_batch_size
    from_block = contract.chain_context.from_block
    head = await first_head(contract)  # else the first question would span everything since the last run
    if known is not None:
        return Cursor(known.next_block, size=size, origin=min(from_block or 0, known.next_block)), known
    first = await _first_block(contract, head)
    before = first.number - 1
    progress = ReadUpTo(first.number, before, before, float(head.timestamp))
    await contract.run(retention.note_reread, Reread(first.number, first.number, before))
    kept = None if first.hash is None else Checkpoint(first.number, first.hash)
    await contract.run(recording.begin, progress, kept)
    if kept is not None:
        await follower.note(kept)
    return Cursor(first.number, size=size, origin=first.number), progress


async def follow_head(contract: WatchedContract) -> Never:
    """Ask for the head now and then, for ever: of a contract that another process reads. Cancellation: its alert is cleared."""
    try:
        while True:
            await first_head(contract)
            await trio.sleep(contract.chain_context.polling)
    finally:
        contract.tell("logs", None)


async def read_once_more(ranges: RangeReader) -> None:
    """Read once more; such a read adds missing requests.

    Cancellation: the next start goes on with it. Repeating: harmless.
    """
    contract = ranges.contract
    tell = partial(contract.tell, "back-fill", part=" once more")
    todo = await _what_to_read(ranges)
    while todo is not None and todo.next_block <= todo.to_block:
        last = min(todo.to_block, todo.next_block + ranges.cursor.size - 1)
        if await ranges.read_again(todo.next_block, last):
            tell(None)
            todo = attrs.evolve(todo, next_block=last + 1)
            await contract.run(retention.note_reread, todo)
        else:
            tell(ranges.reason)
            await trio.sleep(contract.chain_context.polling)


async def _what_to_read(ranges: RangeReader) -> Reread | None:
    """Return what was begun, else what follows from the configured block where that was not done before."""
    from_block, cursor = ranges.contract.chain_context.from_block, ranges.cursor
    known = await ranges.contract.run(queries.reread)
    if from_block is None or (known is not None and known.from_block == from_block):
        return known
    return Reread(from_block, from_block, cursor.next_block - 1)


BACKFILL_REPORT_INTERVAL = 10.0
"""Seconds between two reports: often enough for somebody who watches, rare enough for a log. The end is told if anything was."""


ANEW = 0.05  # seconds from a fork that was found to the next round
AGAIN_AT_ONCE = 1000  # ranges that are read again beside the live end: one wild head is far above all blocks


@attrs.define
class LogReader:
    """The subscription of one contract: says which blocks are read, and when."""

    contract: WatchedContract
    ranges: RangeReader
    wake_up: WakeUp = attrs.field(factory=WakeUp)
    _behind: trio.Event = attrs.field(factory=trio.Event)
    _pushed: float = -math.inf
    """The highest block of what was pushed since the last round began."""

    @classmethod
    def of(cls, contract: WatchedContract) -> LogReader:
        """Make the reader of a contract."""
        return cls(contract, RangeReader.of(contract))

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
        self._pushed = max(self._pushed, math.inf if push is None else pushed_block(push))
        self.wake_up.notify()

    async def _follow(self) -> None:
        contract, ranges, polling = self.contract, self.ranges, self.contract.chain_context.polling
        beat = contract.components.heartbeats.part(f"reader of {contract.name}", contract.endpoint.name)
        while True:
            beat()
            self._pushed, is_read = -math.inf, False
            if await self._round():
                contract.tell("logs", None)
                # the node pushed it while it answered for this very block
                is_read = ranges.last.from_block <= self._pushed <= ranges.last.to_block
            else:
                contract.tell("logs", ranges.reason)
                if await ranges.keep_up():
                    await trio.sleep(ANEW)
                    continue
                await trio.sleep(polling)
            with trio.move_on_after(polling):
                await self.wake_up.wait(anew=is_read)

    async def _round(self) -> bool:
        """Read the tail, and what is not settled when that is due; say whether the answers could be trusted."""
        contract, ranges, now = self.contract, self.ranges, trio.current_time()
        head = ranges.cursor.next_block if contract.head.number is None else contract.head.number
        learned, lowest = ranges.learned, None
        if now >= ranges.read_again_at:
            most = AGAIN_AT_ONCE * ranges.cursor.size
            lowest = max(ranges.settled + 1, head - min(2 * contract.near, most))
        todo = plan(ranges.cursor, head, lowest)
        if todo.backfill is not None or (lowest is not None and lowest > ranges.settled + 1):
            self._behind.set()
        for blocks in (todo.tail, *todo.again):
            if not await ranges.read(blocks):
                return False
        if lowest is not None:
            ranges.read_again_at = now + contract.reorg_window / 4
            await self._settle_read(lowest, learned)
        return True

    async def _backfill(self) -> None:
        """Read what lies between the cursor and the live tail, one range after the other, beside it; then settle what is old."""
        while True:
            await self._behind.wait()
            self._behind = trio.Event()
            first, told, spoke = None, trio.current_time(), False
            while (blocks := self._next_backfill()) is not None:
                first = blocks.first if first is None else first
                if not await self.ranges.read(blocks):
                    self.contract.tell("back-fill", self.ranges.reason)
                    await trio.sleep(self.contract.chain_context.polling)
                    continue
                self.contract.tell("back-fill", None)
                is_over, now = self._next_backfill() is None, trio.current_time()
                if now - told >= BACKFILL_REPORT_INTERVAL or (is_over and spoke):
                    told, spoke = now, True
                    self._report(first, blocks.last or 0, is_over=is_over)
            self.contract.tell("back-fill", None)  # a wild head, that is none any more, had it begin
            while (blocks := self._unsettled(self.contract.head.number or 0)) is not None:
                if not await self._settle_old(blocks):
                    await trio.sleep(self.contract.chain_context.polling)

    def _report(self, first: int, last_read: int, *, is_over: bool) -> None:
        """Tell how far a back-fill is; it ends where the live tail began."""
        of, done = self.contract.subscription, last_read - first + 1
        blocks = done if is_over else max(done, (self.contract.head.number or 0) - first + 1)
        self.contract.components.on_event(BackfillProgressed(of.chain_id, of.contract, done, blocks))

    def _next_backfill(self) -> Range | None:
        head = self.contract.head.number
        return None if head is None else plan(self.ranges.cursor, head).backfill

    async def _settle_read(self, lowest: int, learned: int) -> None:
        """Settle blocks after all from ``lowest`` on were read again, where they are old enough and nothing was learned of them since.

        ``learned`` is what it was before that. What cannot be settled now is settled later. Repeating: harmless.
        """
        ranges, progress = self.ranges, self.ranges.progress
        now = float(ranges.last.head.timestamp)
        if now < progress.since:  # the node of then had a wild time
            ranges.progress = attrs.evolve(progress, since=now)
        if ranges.learned != learned or lowest > progress.settled + 1 or ranges.cursor.island is not None:
            return
        due, end = now - progress.since >= ranges.contract.reorg_window, ranges.cursor.next_block - 1
        if due and await self._agree(progress.settled + 1, progress.passed) and ranges.learned == learned:
            await self._settle(attrs.evolve(progress, settled=progress.passed, passed=end, since=now))

    def _unsettled(self, head: int) -> Range | None:
        """Return a range of blocks that are not settled though they are far below the head: a back-fill has read them."""
        ranges, first = self.ranges, self.ranges.settled + 1
        last = min(first + ranges.cursor.size, head - ranges.contract.near, ranges.cursor.next_block) - 1
        return Range(first, last) if first <= last else None

    async def _settle_old(self, blocks: Range) -> bool:
        """Read once more and settle what is older than any window; say whether it could be done. Repeating: harmless."""
        ranges, learned, last = self.ranges, self.ranges.learned, blocks.last
        if last is None or not await ranges.read(blocks) or ranges.learned != learned:
            return False
        if not await self._agree(blocks.first, last):
            return False
        passed = max(ranges.progress.passed, last)
        return await self._settle(attrs.evolve(ranges.progress, settled=last, passed=passed))

    async def _settle(self, now: ReadUpTo) -> bool:
        ranges, generation = self.ranges, self.ranges.generation
        done = await ranges.contract.run(recording.settle, generation, now)
        if done and generation == ranges.generation:
            ranges.progress = now
        return done

    async def _agree(self, first: int, last: int) -> bool:
        """Say whether the chain's headers are those under which the requests in some blocks were read; those of others leave the chain."""
        ranges = self.ranges
        while first <= last:
            standing = await ranges.contract.run(queries.standing, (first, last), HEADERS_AT_ONCE)
            if not standing:
                return True
            try:
                headers = await ranges.headers([block.number for block in standing])
                if not headers:
                    return False
                if any(headers[block.number] != block.hash for block in standing):
                    nothing = attrs.evolve(ranges.last, logs=(), from_block=1, to_block=0)
                    await ranges.keep(nothing, ranges.cursor.next_block, ranges.generation, headers=headers)
                    return False
            except Retryable as error:
                ranges.reason = str(error)
                return False
            first = standing[-1].number + 1
        return True


async def follow_heads(chain_context: ChainContext) -> None:
    """Take a chain's new heads as they are pushed: the chain's time, and a wake-up for the transaction manager."""
    endpoint = chain_context.endpoint

    def take(push: bytes | None) -> None:
        # a push is a hint; the reader's own reads bring the head too
        if push is not None:
            wrong = ""
            try:
                chain_context.head.note(*read_pushed_head(push))
            except Unreachable as error:
                wrong = str(error)
            endpoint.keeper.board.set("unreadable-push", endpoint.name, wrong)
        chain_context.wake_up.head_came()

    await endpoint.listen(("newHeads",), take)
