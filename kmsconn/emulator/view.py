"""A chain as one node sees it: behind the head, or still on a branch that the others left. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import attrs

from kmsconn.emulator.blocks import Block, Branch, Mined
from kmsconn.emulator.execution import BlockContext, EmulatedContract, Frame, Meter, run
from kmsconn.emulator.state import Overlay
from kmsconn.ethereum.addresses import Address


class History(Protocol):
    """A chain as a view needs it."""

    chain_id: int
    contracts: dict[Address, EmulatedContract]

    def block(self, number: int) -> Block | None:
        """Return the canonical block of this number."""
        ...

    def find(self, transaction_hash: bytes) -> Mined | None:
        """Return a transaction of the canonical chain."""
        ...

    def blocks_with_logs(self, start: int, end: int) -> Iterator[Block]:
        """Yield the canonical blocks of the range that have logs."""
        ...

    def state_of(self, block: Block, branch: Branch | None = None) -> Overlay:
        """Return the state after a block, perhaps one of a branch."""
        ...


@attrs.frozen
class NodeView:
    """A chain as one node sees it: its head, and the branch that it still follows, if any."""

    chain: History
    head: Block
    branch: Branch | None = None

    def block(self, number: int) -> Block | None:
        """Return the block of this number, None above the head."""
        if number > self.head.number:
            return None
        if self.branch is not None and number > self.branch.root:
            return self.branch.blocks[number - self.branch.root - 1]
        return self.chain.block(number)

    def by_hash(self, wanted: bytes) -> Block | None:
        """Return the block with this hash, looking backward from the head."""
        number = self.head.number
        while (block := self.block(number)) is not None:
            if block.hash == wanted:
                return block
            number -= 1
        return None

    def find(self, transaction_hash: bytes) -> Mined | None:
        """Return a mined transaction that this node has seen."""
        if self.branch is not None:
            for block in self.branch.blocks:
                for mined in block.mined:
                    if mined.transaction.hash == transaction_hash and block.number <= self.head.number:
                        return mined
        mined_there = self.chain.find(transaction_hash)
        limit = self.head.number if self.branch is None else self.branch.root
        return mined_there if mined_there is not None and mined_there.block_number <= limit else None

    def mined(self, start: int, end: int) -> Iterator[Mined]:
        """Yield the transactions with logs from block ``start`` to ``end``, as far as this node has them."""
        end = min(end, self.head.number)
        limit = end if self.branch is None else min(end, self.branch.root)
        blocks: list[Block] = list(self.chain.blocks_with_logs(start, limit))
        if self.branch is not None:
            blocks += [block for block in self.branch.blocks if start <= block.number <= end]
        for block in blocks:
            yield from (mined for mined in block.mined if mined.logs)

    def state(self, block: Block | None = None) -> Overlay:
        """Return the state at the head or after another of this view's blocks; writes to it are lost."""
        return self.chain.state_of(block or self.head, self.branch)

    def call(
        self, to: Address, data: bytes, *, sender: Address, gas: int, block: Block | None = None
    ) -> tuple[bytes, int]:
        """Run a message that leaves no trace; return its result and the gas it used. Raises Reverted or OutOfGas."""
        at = block or self.head
        context = BlockContext(self.chain.chain_id, at.number, at.timestamp)
        frame = Frame(self.state(at), context, to, sender, data, Meter(gas))
        return run(self.chain.contracts, frame), frame.meter.used
