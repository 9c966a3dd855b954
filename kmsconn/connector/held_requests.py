"""Asks the chain whether the requests that hold up a lane are in their blocks at all.

A node may show logs that no block holds. Their requests wait, since no contract and no other node knows them, and say nothing of whether
honest ones pass. A read takes no request away, for a node may hide logs as well; so such a request stays, and is answered once its log is
shown again. It only no more counts as evidence that nothing passes (``Progress.not_there``).

A request is not there if the node in use shows its block without its log, and so do witnesses. Nothing is asked while everything passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import attrs
import trio

from kmsconn.chain.logs import read_logs
from kmsconn.chain.port import Rpc
from kmsconn.chain.witness import WITNESSES
from kmsconn.errors import JournalFailed, Retryable
from kmsconn.ethereum.abi import Log
from kmsconn.journal import queries
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import Progress
from kmsconn.requests.components import Components

INTERVAL = 5.0  # seconds between looks
AHEAD = 6.0
"""Seconds before a lane is said not to pass, from which on its requests are asked about."""
AGAIN = 60.0  # seconds until a request that is not there is asked about again
AT_ONCE = 16  # requests of a lane that are asked about in one look


@attrs.define
class HeldRequests:
    """The looks of one process; ``held`` returns what is held up on its way to an answer, and of each chain to a block."""

    components: Components
    held: Callable[[], Iterable[Progress]]
    _again: dict[int, float] = attrs.field(factory=dict)
    """When each request that was not there is asked about again."""

    async def look(self) -> float:
        """Look once at each lane that is, or soon will be, said not to pass. Cancellation: at any time. Repeating: reads only."""
        now = trio.current_time()
        for progress in self.held():
            progress.not_there.intersection_update(progress)
            for lane, rids in progress.stopped(now + AHEAD):
                await self._ask(progress, rids, lane.several)
        self._again = {rid: at for rid, at in self._again.items() if at > now}
        return INTERVAL

    async def _ask(self, progress: Progress, rids: Iterable[int], several: int) -> None:
        """Ask about requests until as many are there as show that a lane does not pass."""
        due = (rid for rid in rids if rid not in self._again)
        for rid in islice(due, AT_ONCE):
            if several <= 0:
                return
            try:
                row = await self.components.journal.run(queries.row, rid)
            except JournalFailed:
                return
            if row is None or await self._is_there(row):
                progress.not_there.discard(rid)
                several -= 1
            else:
                progress.not_there.add(rid)
                self._again[rid] = trio.current_time() + AGAIN

    async def _is_there(self, row: Row) -> bool:
        """Say whether a request is in its block, as far as nodes answer; one that came over HTTP is in none."""
        if row.over_http:
            return True
        chain_id = row.event.chain_id
        nodes: list[Rpc] = [self.components.chain_contexts[chain_id].follower]
        nodes += [chains[chain_id] for chains in self.components.witnesses[:WITNESSES]]
        for node in nodes:
            try:
                if await _shows(node, row.event.log):
                    return True
            except Retryable:
                return True
        return False


async def _shows(node: Rpc, log: Log) -> bool:
    """Say whether a node does not show the block of a log without it. Raises Unreachable, Overloaded."""
    found = await read_logs(node, log.address, log.topics[:1], log.block_number, log.block_number)
    said = log.transaction_hash, log.topics, log.data
    return not found.trusted or any(
        (one.transaction_hash, one.topics, one.data) == said for one in found.logs
    )
