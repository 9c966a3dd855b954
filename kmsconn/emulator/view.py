"""A chain as one node sees it: behind the head, or still on a branch that the others left. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from kmsconn.emulator.blocks import Block, Branch, Mined
from kmsconn.emulator.evm import EmulatedEvm
from kmsconn.emulator.execution import BlockContext, Frame, Meter, run
from kmsconn.emulator.state import Overlay
from kmsconn.ethereum.addresses import Address


@attrs.frozen
class NodeView:
    """A chain as one node sees it: its head, and the branch that it still follows, if any."""

    evm: EmulatedEvm
    head: Block
    branch: Branch | None = None

    def block(self, number: int) -> Block | None:
        """Return the block of this number, None above the head."""
        if number > self.head.number:
            return None
        if self.branch is not None and number > self.branch.root:
            return self.branch.blocks[number - self.branch.root - 1]
        return self.evm.history.block(number)

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
        mined_there = self.evm.history.find(transaction_hash)
        limit = self.head.number if self.branch is None else self.branch.root
        return mined_there if mined_there is not None and mined_there.block_number <= limit else None

    def mined(self, start: int, end: int) -> Iterator[Mined]:
        """Yield the transactions with logs from block ``start`` to ``end``, as far as this node has them."""
        end = min(end, self.head.number)
        limit = end if self.branch is None else min(end, self.branch.root)
        blocks: list[Block] = list(self.evm.history.blocks_with_logs(start, limit))
        if self.branch is not None:
            blocks += [block for block in self.branch.blocks if start <= block.number <= end]
        for block in blocks:
            yield from (mined for mined in block.mined if mined.logs)

    def state(self, block: Block | None = None) -> Overlay:
        """Return the state at the head or after another of this view's blocks; writes to it are lost."""
        return self.evm.history.state_of(block or self.head, self.branch)

    def call(
        self, to: Address, data: bytes, *, sender: Address, gas: int, block: Block | None = None
    ) -> tuple[bytes, int]:
        """Run a message that leaves no trace; return its result and the gas it used. Raises Reverted or OutOfGas."""
        at = block or self.head
        context = BlockContext(self.evm.chain_id, at.number, at.timestamp)
        frame = Frame(self.state(at), context, to, sender, data, Meter(gas))
        return run(self.evm.contracts, frame), frame.meter.used
