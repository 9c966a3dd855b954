"""One look at the chain, as the transaction manager judges it."""

from __future__ import annotations

import math

import attrs

from kmsconn.journal.values import Row

NOT_FINAL = -1


@attrs.frozen
class ChainView:
    """One look at the chain: the latest block and the sender's account, all of one node.

    ``fresh``: no node of this chain has shown a later block. ``reorg_blocks``: how many blocks the reorg window holds. ``final``: the
    newest block that cannot go any more, ``NOT_FINAL`` before one is known. ``balance`` in wei, None where the node does not say.
    ``reorganised_at``: when a look last found another block than before, or a lower head or nonce, as a node that lags shows it too;
    at first the start, before which everything may have happened.
    """

    number: int
    timestamp: int
    base_fee: int | None
    gas_limit: int | None
    nonce: int
    fresh: bool
    reorg_blocks: int
    final: int
    balance: int | None
    at: float
    reorganised_at: float = -math.inf

    @property
    def settled(self) -> int:
        """The newest block that is older than the reorg window."""
        return self.number - self.reorg_blocks

    def is_old(self, row: Row) -> bool:
        """Say whether a row's request is older than the reorg window: only then is a final no believed."""
        return row.event.log.block_number <= self.settled
