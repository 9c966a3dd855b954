"""Compares the blocks where requests stand with the chain's, each once, when the reorg window has passed them.

Ids are reused after a reorganisation, so a number alone says nothing of what was asked. The block's hash does: it stands for all logs of
the block. Where it differs, the block is read again, and a request that does not stand there is off chain.
"""

from __future__ import annotations

import attrs

from kmsconn.chain.fork import Checkpoints
from kmsconn.chain.logs import read_hashes
from kmsconn.chain.port import RpcError
from kmsconn.journal import queries
from kmsconn.requests.known_ids import KnownIds
from kmsconn.requests.range_reader import RangeReader
from kmsconn.requests.reader import SUSPECT_SECONDS

BLOCKS = 16  # block hashes in one batch: there are nodes that take no more than 20 calls


@attrs.define
class BlockComparison:
    """The comparison for one contract; ``compared`` is the block up to which the hashes are the chain's."""

    ranges: RangeReader
    ids: KnownIds
    compared: int | None = None

    async def compare(self, settled: int) -> None:
        """Compare up to a block that the reorg window has passed. Raises Retryable. Repeating: goes on where it ended."""
        contract, of = self.ranges.contract, self.ranges.contract.subscription
        if self.compared is None:
            self.compared = max(0, settled - contract.head.blocks_in(SUSPECT_SECONDS))
        while self.compared < settled:
            standing = await contract.journal.run(
                queries.standing, of.chain_id, of.contract, (self.compared + 1, settled), BLOCKS
            )
            if standing and not await self._are_on_chain(standing):
                return
            self.compared = standing[-1].number if len(standing) == BLOCKS else settled

    async def _are_on_chain(self, standing: Checkpoints) -> bool:
        """Say whether all of these blocks are the chain's; the others are read again, and compared again in the next round."""
        try:
            hashes = await read_hashes(self.ranges.contract.endpoint, [block.number for block in standing])
        except RpcError:
            return False
        replaced = [
            block for block, hash_ in zip(standing, hashes, strict=True) if hash_ not in {None, block.hash}
        ]
        for block in replaced:
            self.ids.begin_again()
            await self.ranges.read_again(block.number, block.number, judging=True)
        return not replaced and None not in hashes
