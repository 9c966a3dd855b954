"""One emulated chain: makes blocks of what waits, and reorganises. Speaks no JSON and knows no contract by name.

Everything is synchronous except ``run`` and the waits, so that a test may drive it by hand; one task at a time touches it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Never

import attrs
import trio

from kmsconn.emulator.actors import HASH_SEED, ActorQueue
from kmsconn.emulator.blocks import Block, Branch, Transaction, block_hash
from kmsconn.emulator.chain_history import ChainHistory
from kmsconn.emulator.evm import EmulatedEvm
from kmsconn.emulator.execution import BlockContext
from kmsconn.emulator.intake import TransactionIntake
from kmsconn.emulator.mining import place
from kmsconn.emulator.pool import PoolKind
from kmsconn.emulator.sequencer import pool_of
from kmsconn.emulator.state import ChainState
from kmsconn.emulator.view import NodeView
from kmsconn.ethereum.keccak import keccak256

Arrange = Callable[[Sequence[Transaction], int], Sequence[Sequence[Transaction]]]


def all_in_the_last(transactions: Sequence[Transaction], blocks: int) -> Sequence[Sequence[Transaction]]:
    """Put every transaction into the last of the new blocks, in the old order."""
    return [*([()] * (blocks - 1)), transactions]


def keep_all(transaction: Transaction) -> bool:
    """Drop nothing."""
    del transaction
    return False


@attrs.define
class FinalBlocks:
    """Which block is final: ``depth`` blocks behind the head; ``stands_at``: where finality stands still (None: it follows)."""

    depth: int = 64
    stands_at: int | None = None

    def newest(self, head: int) -> int:
        """Return the newest final block of a node whose head is this."""
        final = max(0, head - self.depth)
        return final if self.stands_at is None else min(final, self.stands_at)


class EmulatedChain:
    """A chain with its contracts.

    ``clock`` gives Unix seconds for block times; ``base_fee`` (wei, None for a chain of before EIP-1559), ``block_time`` and
    ``stalled`` may be changed at any time. ``evm`` has contracts and accounts, ``history`` the blocks, ``intake`` takes signed
    transactions, ``actors`` those of the emulator's own users.
    """

    def __init__(
        self,
        chain_id: int,
        clock: Callable[[], float],
        *,
        block_time: float = 0.25,
        base_fee: int | None = 100_000_000,
        pool: PoolKind = "arbitrum",
        finality: int = 64,
        block_gas_limit: int = 1 << 50,
    ) -> None:
        self.chain_id = chain_id
        self.block_time = block_time
        self.base_fee = base_fee
        self.stalled = False
        self.finality = FinalBlocks(finality)
        state = ChainState()
        self.history = ChainHistory(_genesis(chain_id, math.floor(clock()), base_fee), state)
        self.evm = EmulatedEvm(chain_id, state, self.history)
        self.actors = ActorQueue(chain_id)
        self.intake = TransactionIntake(self.evm, lambda: self.base_fee or 0, pool_of(pool), block_gas_limit)
        self._clock = clock
        self._salt = 0
        self._changed = trio.Event()

    @property
    def head(self) -> Block:
        """Return the newest block."""
        return self.history.head

    def view(self, lag: int = 0, branch: Branch | None = None) -> NodeView:
        """Return the chain as a node sees it: ``lag`` blocks behind, or on a branch that was taken off."""
        own = 0 if branch is None or not self.history.carries(branch) else len(branch.blocks)
        if branch is not None and lag < own:
            return NodeView(self.evm, branch.blocks[own - 1 - lag], branch)
        newest = branch.root if branch is not None and own else self.head.number
        return NodeView(self.evm, self.history.at(max(0, newest - (lag - own))))

    def block(self, number: int) -> Block | None:
        """Return the canonical block of this number."""
        return self.history.block(number)

    async def wait_change(self) -> None:
        """Wait for the next block or reorganisation."""
        await self._changed.wait()

    def mine(self) -> Block:
        """Make one block of what waits: the emulator's own transactions first, then the pool's."""
        block = self._append([*self.actors.take(), *self.intake.take()], math.floor(self._clock()))
        self.history.prune()
        self._announce()
        return block

    def mine_many(self, count: int) -> None:
        """Make ``count`` blocks at once: a burst."""
        for _ in range(count):
            self.mine()

    def reorg(
        self,
        depth: int,
        *,
        drop: Callable[[Transaction], bool] = keep_all,
        arrange: Arrange = all_in_the_last,
        shorter: int = 0,
    ) -> Branch:
        """Replace the last ``depth`` blocks by as many others, less ``shorter``, and return what was taken off.

        ``drop`` says which transactions are gone for ever; ``arrange`` distributes the others over the new blocks. Requests
        in another order get other ids. A sender's transactions are put in nonce order; those left behind a gap are
        lost on Arbitrum and kept by a geth-like pool.
        """
        branch = self.history.pop(depth)
        survivors = [transaction for transaction in branch.transactions if not drop(transaction)]
        self._salt += 1
        made = branch.blocks[: max(0, depth - shorter)]
        if not made:
            self._give_back(survivors)
        for old, transactions in zip(made, arrange(survivors, len(made)) if made else (), strict=True):
            self._append(list(transactions), old.timestamp)
        self._announce()
        return branch

    def rewind(self, depth: int, *, drop: Callable[[Transaction], bool] = keep_all) -> Branch:
        """Take the last ``depth`` blocks off and put none in their place; what is not dropped waits again. Return what was taken off."""
        branch = self.history.pop(depth)
        self._salt += 1
        self._give_back([transaction for transaction in branch.transactions if not drop(transaction)])
        self._announce()
        return branch

    def restore(self, branch: Branch) -> Branch:
        """Put a branch back (A → B → A), with its hashes; return the branch that it replaces.

        What only the replaced blocks held waits again. Raises ValueError when the branch's root is gone.
        """
        if not self.history.carries(branch):
            raise ValueError("the branch does not stand on this chain")
        replaced = self.history.pop(self.head.number - branch.root)
        for block in branch.blocks:
            self._append(list(block.transactions), block.timestamp, block)
        self.actors.drop(self.history.has)
        self._give_back([t for t in replaced.transactions if not self.history.has(t.hash)])
        self._announce()
        return replaced

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Never:
        """Make a block every ``block_time`` seconds of Trio time until cancelled, none while ``stalled``."""
        task_status.started()
        due = trio.current_time()
        while True:
            due = max(due + self.block_time, trio.current_time())
            await trio.sleep_until(due)
            if not self.stalled:
                self.mine()

    def _append(self, transactions: list[Transaction], now: int, again: Block | None = None) -> Block:
        """Execute and append a block; ``again`` is the block that is being put back, whose header is kept."""
        parent = self.head
        timestamp = max(now, parent.timestamp)
        salt, base_fee = (self._salt, self.base_fee) if again is None else (again.salt, again.base_fee)
        context = BlockContext(self.chain_id, parent.number + 1, timestamp)
        executed, left = self.evm.execute_all(transactions, context, base_fee)
        hashes = tuple(transaction.hash for transaction, _ in executed)
        own_hash = block_hash(parent.hash, context.number, timestamp, salt, hashes)
        mined = place(executed, context, own_hash, base_fee)
        block = Block(
            context.number, own_hash, parent.hash, timestamp, salt, base_fee, mined, self.evm.state.seal()
        )
        self.history.append(block)
        self._give_back(left)
        return block

    def _give_back(self, transactions: Iterable[Transaction]) -> None:
        self.actors.give_back([t for t in transactions if t.envelope is None])
        self.intake.give_back([t for t in transactions if t.envelope is not None])

    def _announce(self) -> None:
        self.history.forget_states()
        self._changed.set()
        self._changed = trio.Event()


def _genesis(chain_id: int, timestamp: int, base_fee: int | None) -> Block:
    parent = keccak256(HASH_SEED + chain_id.to_bytes(32))
    return Block(0, block_hash(parent, 0, timestamp, 0, ()), parent, timestamp, 0, base_fee)
