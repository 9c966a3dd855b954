"""Settles blocks of one contract: from then on they are never read again.

Blocks up to ``settled`` are settled. Those up to ``passed`` were read before ``since``, and nothing was learned of them after it. Once that
is a reorg window ago and the headers of the blocks with requests agree, the second number becomes the first.
"""

from __future__ import annotations

import attrs

from kmsconn.chain.port import RpcError
from kmsconn.errors import Retryable
from kmsconn.journal import queries, recording
from kmsconn.journal.journal import until_kept
from kmsconn.journal.queries import ReadUpTo
from kmsconn.requests.cursor import Range
from kmsconn.requests.range_reader import HEADERS_AT_ONCE, RangeReader


@attrs.frozen
class Settling:
    """The settling of what a reader reads."""

    ranges: RangeReader

    async def settle(self, lowest: int, learned: int) -> None:
        """Settle blocks after all from ``lowest`` on were read again, where they are old enough and nothing was learned of them since.

        ``learned`` is what it was before that. What cannot be settled now is settled later. Repeating: harmless.
        """
        ranges, progress = self.ranges, self.ranges.progress
        now = float(ranges.last.head_timestamp)
        if now < progress.since:  # the node of then had a wild time
            ranges.progress = attrs.evolve(progress, since=now)
        if ranges.learned != learned or lowest > progress.settled + 1 or ranges.cursor.island is not None:
            return
        due, end = now - progress.since >= ranges.contract.reorg_window, ranges.cursor.next_block - 1
        if due and await self._agree(progress.settled + 1, progress.passed) and ranges.learned == learned:
            await self._settle(attrs.evolve(progress, settled=progress.passed, passed=end, since=now))

    def unsettled(self, head: int) -> Range | None:
        """Return a range of blocks that are not settled though they are far below the head: a back-fill has read them."""
        ranges, first = self.ranges, self.ranges.settled + 1
        last = min(first + ranges.cursor.size, head - ranges.contract.near, ranges.cursor.next_block) - 1
        return Range(first, last) if first <= last else None

    async def settle_old(self, blocks: Range) -> bool:
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
        journal, of = ranges.contract.journal, ranges.contract.subscription
        done = await until_kept(
            lambda: journal.run(recording.settle, of.chain_id, of.contract, generation, now)
        )
        if done and generation == ranges.generation:
            ranges.progress = now
        return done

    async def _agree(self, first: int, last: int) -> bool:
        """Say whether the chain's headers are those under which the requests in some blocks were read; those of others leave the chain."""
        ranges, of, journal = self.ranges, self.ranges.contract.subscription, self.ranges.contract.journal
        while first <= last:
            standing = await journal.run(
                queries.standing, of.chain_id, of.contract, (first, last), HEADERS_AT_ONCE
            )
            if not standing:
                return True
            try:
                headers = await ranges.headers([block.number for block in standing])
            except (Retryable, RpcError) as error:
                ranges.reason = str(error)
                return False
            if not headers:
                return False
            if any(headers[block.number] != block.hash for block in standing):
                nothing = attrs.evolve(ranges.last, logs=(), from_block=1, to_block=0)
                await ranges.keep(nothing, ranges.cursor.next_block, ranges.generation, headers=headers)
                return False
            first = standing[-1].number + 1
        return True
