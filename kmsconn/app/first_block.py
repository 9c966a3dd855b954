"""Finds the block at which the reading of a contract begins: the configured one, else a head that a second look confirms."""

from __future__ import annotations

import attrs
import trio

from kmsconn.app.stalled_alert import StalledAlert
from kmsconn.errors import Retryable
from kmsconn.ethereum.hexes import quantity
from kmsconn.model.debounce import CONFIRMING
from kmsconn.rpc.endpoint import Endpoint
from kmsconn.rpc.heads import HeadTracker
from kmsconn.rpc.logs import BlockHead, read_block
from kmsconn.rpc.port import RpcError


@attrs.frozen
class FirstBlock:
    """Asks one chain until it answers. ``tag`` names the block up to which is read, ``polling`` the seconds between two questions."""

    endpoint: Endpoint
    tag: str
    tracker: HeadTracker
    polling: float
    stalled: StalledAlert

    async def head(self) -> BlockHead:
        """Return the head, and note it. Cancellation: at any await. Repeating: reads only."""
        head = await self._block(self.tag)
        self.tracker.note(head.number, head.timestamp)
        return head

    async def block(self, head: BlockHead, from_block: int | None) -> BlockHead:
        """Return where a contract begins that was never read; below the head with its hash.

        What lies below is never read: a head that is too high, said once, must not hide what comes until then.
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
                self.stalled.failed(f"the {block} block cannot be had: {error}")
                await trio.sleep(self.polling)
            else:
                self.stalled.worked()
                return found
