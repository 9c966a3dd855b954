"""Finds the cursor at which the reading of a contract begins.

A contract that was read before goes on at its cursor, and what is not settled is read again at once. One that was never read begins at
the configured block, else at a head that a second look confirms. A contract that was read before is also read once more from the
configured block, once for each value of the option, beside the live end; a restart goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Never

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.fork import Checkpoint
from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.logs import BlockHead, read_block
from kmsconn.chain.port import RpcError
from kmsconn.errors import Retryable
from kmsconn.ethereum.hexes import quantity
from kmsconn.journal import queries, recording, retention
from kmsconn.journal.journal import until_kept
from kmsconn.journal.queries import ReadUpTo, Reread
from kmsconn.model.debounce import CONFIRMING
from kmsconn.requests.cursor import Cursor
from kmsconn.requests.range_reader import RangeReader, WatchedContract


@attrs.frozen
class FirstBlock:
    """Asks one chain until it answers. ``tag`` names the block up to which is read, ``polling`` the seconds between two questions."""

    endpoint: Endpoint
    tag: str
    tracker: HeadTracker
    polling: float
    tell: Callable[[str | None], None]

    async def head(self) -> BlockHead:
        """Return the head, and note it. Cancellation: at any await. Repeating: reads only."""
        head = await self._block(self.tag)
        self.tracker.note(head.number, head.timestamp)
        return head

    async def block(self, head: BlockHead, from_block: int | None) -> BlockHead:
        """Return where a contract begins that was never read; below the head with its hash.

        Blocks below are never read: one answer with a head that is too high must not hide the requests that come until then.
        """
        if from_block is None:
            return await self._confirmed(head)
        found = await self._block(quantity(from_block)) if from_block <= head.number else head
        hash_ = found.hash if found.number == from_block else None
        return BlockHead(from_block, found.timestamp, hash_)

    async def _confirmed(self, head: BlockHead) -> BlockHead:
        while True:
            await trio.sleep(CONFIRMING)
            later = await self._block(self.tag)
            if later.number >= head.number:
                return head
            head = later
            self.tracker.follow_down(head.number, head.timestamp)

    async def _block(self, block: str) -> BlockHead:
        """Ask for a block until it is had: a node that knows no finalized block answers all else."""
        while True:
            try:
                found = read_block(await self.endpoint.call("eth_getBlockByNumber", block, False))
            except (Retryable, RpcError) as error:
                self.tell(f"the {block} block is unknown: {error}")
                await trio.sleep(self.polling)
            else:
                self.tell(None)
                return found


async def begin_reading(contract: WatchedContract) -> tuple[Cursor, ReadUpTo]:
    """Return where to begin, and what is settled. Repeating: the same."""
    journal, of, follower = contract.journal, contract.subscription, contract.chain_context.follower
    await follower.load()  # what is durable of the chain is read before what is of the contract
    known = await until_kept(lambda: journal.run(queries.progress, of.chain_id, of.contract))
    size, from_block = (
        contract.components.settings.reading.get_logs_batch_size,
        contract.chain_context.from_block,
    )
    looks = first_looks(contract)
    head = await looks.head()  # else the first question would span everything since the last run
    if known is not None:
        return Cursor(known.next_block, size=size, origin=min(from_block or 0, known.next_block)), known
    first = await looks.block(head, from_block)
    begun, progress = (
        Reread(first.number, first.number, first.number - 1),
        ReadUpTo(first.number, first.number - 1, first.number - 1, float(head.timestamp)),
    )
    await until_kept(lambda: journal.run(retention.note_reread, of.chain_id, of.contract, begun))
    kept = None if first.hash is None else Checkpoint(first.number, first.hash)
    await until_kept(lambda: journal.run(recording.begin, of.chain_id, of.contract, progress, kept))
    if kept is not None:
        await follower.note(kept)
    return Cursor(first.number, size=size, origin=first.number), progress


def first_looks(contract: WatchedContract) -> FirstBlock:
    """Make the first questions about a contract's chain."""
    polling, tell = contract.chain_context.polling, partial(contract.tell, "logs")
    return FirstBlock(contract.endpoint, contract.tag, contract.head, polling, tell)


async def follow_head(contract: WatchedContract) -> Never:
    """Ask for the head now and then, for ever: of a contract that another process reads. Cancellation: its alert is cleared."""
    looks = first_looks(contract)
    try:
        while True:
            await looks.head()
            await trio.sleep(looks.polling)
    finally:
        looks.tell(None)


async def read_once_more(ranges: RangeReader) -> None:
    """Read once more; such a read adds missing requests.

    Cancellation: the next start goes on with it. Repeating: harmless.
    """
    contract, of = ranges.contract, ranges.contract.subscription
    journal, tell = contract.journal, partial(contract.tell, "back-fill", part=" once more")
    todo = await _what_to_read(ranges)
    while todo is not None and todo.next_block <= todo.to_block:
        last = min(todo.to_block, todo.next_block + ranges.cursor.size - 1)
        if await ranges.read_again(todo.next_block, last):
            tell(None)
            todo = attrs.evolve(todo, next_block=last + 1)
            await until_kept(partial(journal.run, retention.note_reread, of.chain_id, of.contract, todo))
        else:
            tell(ranges.reason)
            await trio.sleep(contract.chain_context.polling)


async def _what_to_read(ranges: RangeReader) -> Reread | None:
    """Return what was begun, else what follows from the configured block where that was not done before."""
    contract, of, cursor = ranges.contract, ranges.contract.subscription, ranges.cursor
    from_block = contract.chain_context.from_block
    known = await until_kept(lambda: contract.journal.run(queries.reread, of.chain_id, of.contract))
    if from_block is None or (known is not None and known.from_block == from_block):
        return known
    return Reread(from_block, from_block, cursor.next_block - 1)
