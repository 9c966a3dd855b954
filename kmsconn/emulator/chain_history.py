"""The blocks of an emulated chain, their transactions and the states between them. Executes nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import attrs

from kmsconn.emulator.blocks import Block, Branch, Mined
from kmsconn.emulator.state import NO_CHANGES, ChainState, Overlay, difference

_REMEMBERED_STATES = 8  # one or two nodes that lag, and a historic read beside them


class ChainHistory:
    """The canonical blocks. ``kept``: how many behind the head are kept whole (None: all); of older ones only the headers stay."""

    def __init__(self, genesis: Block, state: ChainState) -> None:
        self.kept: int | None = None
        self.pruned_before = 0
        self._state = state
        self._blocks: list[Block] = [genesis]
        self._mined: dict[bytes, Mined] = {}
        self._loud: list[int] = []
        self._states: dict[tuple[bytes, bytes], Overlay] = {}

    @property
    def head(self) -> Block:
        """Return the newest block."""
        return self._blocks[-1]

    def block(self, number: int) -> Block | None:
        """Return the canonical block of this number."""
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def at(self, number: int) -> Block:
        """Return the canonical block of this number. Raises IndexError above the head."""
        return self._blocks[number]

    def has(self, transaction_hash: bytes) -> bool:
        """Tell whether a transaction is in the canonical chain."""
        return transaction_hash in self._mined

    def find(self, transaction_hash: bytes) -> Mined | None:
        """Return a transaction of the canonical chain."""
        return self._mined.get(transaction_hash)

    def blocks_with_logs(self, start: int, end: int) -> Iterator[Block]:
        """Yield the canonical blocks from ``start`` to ``end`` (both included) that hold logs."""
        position = bisect_left(self._loud, start)
        while position < len(self._loud) and self._loud[position] <= end:
            yield self._blocks[self._loud[position]]
            position += 1

    def carries(self, branch: Branch) -> bool:
        """Tell whether a branch that was taken off stands on this chain."""
        root = self.block(branch.root)
        return root is not None and root.hash == branch.blocks[0].parent

    def append(self, block: Block) -> None:
        """Add the next block."""
        self._blocks.append(block)
        self._mined.update((mined.transaction.hash, mined) for mined in block.mined)
        if any(mined.logs for mined in block.mined):
            self._loud.append(block.number)

    def pop(self, depth: int) -> Branch:
        """Take the newest blocks off, and their changes back. Raises ValueError for more than there are."""
        if not 0 < depth <= self.head.number - self.pruned_before:
            raise ValueError(f"cannot take {depth} blocks off a chain of {self.head.number}")
        popped = self._blocks[-depth:]
        del self._blocks[-depth:]
        for block in reversed(popped):
            self._state.take_back(block.changes)
            for mined in block.mined:
                del self._mined[mined.transaction.hash]
        del self._loud[bisect_left(self._loud, popped[0].number) :]
        return Branch(tuple(popped))

    def prune(self) -> None:
        """Forget what stood in blocks that are older than ``kept``: a long run must not grow by them."""
        if self.kept is None:
            return
        for number in range(self.pruned_before, self.head.number - self.kept):
            old = self._blocks[number]
            self._blocks[number] = attrs.evolve(old, mined=(), changes=NO_CHANGES)
            for mined in old.mined:
                del self._mined[mined.transaction.hash]
            self.pruned_before = number + 1
        del self._loud[: bisect_left(self._loud, self.pruned_before)]

    def state_of(self, block: Block, branch: Branch | None = None) -> Overlay:
        """Return the state after a canonical block, or after a block of ``branch``; writes to it are lost."""
        key = self.head.hash, block.hash
        base = self._states.get(key)
        if base is None:
            base = Overlay(self._state, self._difference(block, branch))
            while len(self._states) >= _REMEMBERED_STATES:
                self._states.pop(next(iter(self._states)))
            self._states[key] = base
        return base.fresh()

    def _difference(self, block: Block, branch: Branch | None) -> dict[tuple[object, ...], object]:
        root = block.number if branch is None else min(block.number, branch.root)
        undone = [later.changes for later in reversed(self._blocks[root + 1 :])]
        done = [] if branch is None else [b.changes for b in branch.blocks if b.number <= block.number]
        return difference(undone, done)

    def forget_states(self) -> None:
        """Forget the states that were looked at: the head is another one."""
        self._states.clear()
