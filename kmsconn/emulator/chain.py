"""One emulated chain: takes signed transactions, makes blocks of what waits, and reorganises. Speaks no JSON and knows no contract by name.

Everything is synchronous except ``run`` and the waits, so that a test may drive it by hand; one task at a time touches it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Never

import attrs
import trio

from kmsconn.emulator.blocks import Block, Branch, ChainHistory, EmulatedTransaction, block_hash, from_signed
from kmsconn.emulator.evm import ACTOR_GAS, EmulatedEvm, NodeView, place
from kmsconn.emulator.execution import BlockContext, ChainState, Frame, intrinsic_gas
from kmsconn.emulator.node_faults import INVALID_PARAMS, NodeError, NodeFaults, refused
from kmsconn.emulator.pool import PoolKind, Submission, TransactionPool, pool_of
from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.transactions import decode_transaction

HASH_SEED = b"kmsconn emulator"


@attrs.define(eq=False)
class ActorQueue:
    """What waits for the next block."""

    chain_id: int
    _count: int = attrs.field(default=0, init=False)
    _waiting: list[EmulatedTransaction] = attrs.field(factory=list, init=False)

    def act(
        self, address: Address, action: Callable[[Frame], object], sender: Address = ZERO_ADDRESS
    ) -> bytes:
        """Queue a transaction of the emulator that runs ``action`` on a contract; return its hash.

        Repeating: a reorganisation runs it again, so ``action`` must depend on the frame alone.
        """
        return self._queue(sender, address, b"", action)

    def transact(self, sender: Address, to: Address, calldata: bytes) -> bytes:
        """Queue a transaction of one of the emulator's users, without fee or signature; return its hash."""
        return self._queue(sender, to, calldata, None)

    def take(self) -> list[EmulatedTransaction]:
        """Take out everything that waits."""
        taken, self._waiting = self._waiting, []
        return taken

    def give_back(self, transactions: Iterable[EmulatedTransaction]) -> None:
        """Let transactions wait again, before all others."""
        self._waiting[:0] = transactions

    def drop(self, is_mined: Callable[[bytes], bool]) -> None:
        """Forget what is mined, by its hash: there are no nonces, which would keep it from being mined twice."""
        self._waiting = [one for one in self._waiting if not is_mined(one.hash)]

    def _queue(
        self, sender: Address, to: Address, data: bytes, action: Callable[[Frame], object] | None
    ) -> bytes:
        self._count += 1
        seed = HASH_SEED + self.chain_id.to_bytes(32) + self._count.to_bytes(32) + sender + to + data
        transaction = EmulatedTransaction(keccak256(seed), sender, to, data, ACTOR_GAS, action=action)
        self._waiting.append(transaction)
        return transaction.hash


def _nobody(_: EmulatedTransaction) -> None:
    """Is told things and keeps none."""


@attrs.define(eq=False)
class TransactionIntake:
    """The way into the pool. ``on_submit`` is told each signed transaction that arrives, before it is judged.

    ``gas_limit``: the most of a block. All three may be changed at any time.
    """

    _evm: EmulatedEvm
    _base_fee: Callable[[], int]
    pool: TransactionPool
    gas_limit: int
    on_submit: Callable[[EmulatedTransaction], None] = _nobody

    def check(self, raw: bytes) -> EmulatedTransaction:
        """Decode a raw transaction and check what does not depend on the state. Raises NodeError."""
        try:
            transaction = from_signed(decode_transaction(raw))
        except Undecodable as error:
            raise NodeError(INVALID_PARAMS, f"failed to decode transaction: {error}") from error
        self._check_envelope(transaction)
        return transaction

    def _check_envelope(self, transaction: EmulatedTransaction) -> None:
        envelope = transaction.envelope
        if envelope is not None and envelope.chain_id != self._evm.chain_id:
            raise refused(f"invalid chain id for signer: have {envelope.chain_id} want {self._evm.chain_id}")
        if transaction.tip > transaction.max_fee:
            raise refused("max priority fee per gas higher than max fee per gas")
        least = intrinsic_gas(transaction.data)
        if transaction.gas < least:
            raise refused(f"intrinsic gas too low: have {transaction.gas}, want {least}")
        if transaction.gas > self.gas_limit:
            raise refused("exceeds block gas limit")

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction for which nobody waits; return its hash. Raises NodeError when it is refused now."""
        transaction = self._arrived(raw)
        self.pool.record(transaction, self._evm.account(transaction.sender), self._base_fee())
        return transaction.hash

    def enter(self, raw: bytes) -> Submission:
        """Take a signed transaction as ``eth_sendRawTransaction`` does. Raises NodeError when it is refused now."""
        transaction = self._arrived(raw)
        return self.pool.enter(transaction, self._evm.account(transaction.sender), self._base_fee())

    def _arrived(self, raw: bytes) -> EmulatedTransaction:
        transaction = self.check(raw)
        self.on_submit(transaction)
        return transaction

    def pending_nonce(self, sender: Address) -> int:
        """Return the next nonce of ``sender`` after everything that waits."""
        return self.pool.pending_nonce(sender, self._evm.account(sender).nonce)

    def take(self) -> list[EmulatedTransaction]:
        """Take out what the next block holds, in order."""
        return self.pool.take(self._evm.account, self._base_fee(), self.gas_limit)

    def give_back(self, transactions: Iterable[EmulatedTransaction]) -> None:
        """Let transactions wait again whose nonces were not used."""
        self.pool.give_back(t for t in transactions if t.nonce >= self._evm.account(t.sender).nonce)


Arrange = Callable[[Sequence[EmulatedTransaction], int], Sequence[Sequence[EmulatedTransaction]]]


def all_in_the_last(
    transactions: Sequence[EmulatedTransaction], blocks: int
) -> Sequence[Sequence[EmulatedTransaction]]:
    """Put every transaction into the last of the new blocks, in the old order."""
    return [*([()] * (blocks - 1)), transactions]


def keep_all(_transaction: EmulatedTransaction) -> bool:
    """Drop nothing."""
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
        parent, now = keccak256(HASH_SEED + chain_id.to_bytes(32)), math.floor(clock())
        genesis = Block(0, block_hash(parent, 0, now, 0, ()), parent, now, 0, base_fee)
        self.history = ChainHistory(genesis, state)
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
        drop: Callable[[EmulatedTransaction], bool] = keep_all,
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

    def _append(self, transactions: list[EmulatedTransaction], now: int, again: Block | None = None) -> Block:
        """Execute and append a block; ``again`` is the block that is being put back, whose header is kept."""
        parent = self.head
        timestamp = max(now, parent.timestamp)
        salt, base_fee = (self._salt, self.base_fee) if again is None else (again.salt, again.base_fee)
        context = BlockContext(self.chain_id, parent.number + 1, timestamp)
        executed, left = self.evm.execute_all(transactions, context, base_fee)
        hashes = tuple(transaction.hash for transaction, _ in executed)
        own_hash = block_hash(parent.hash, context.number, timestamp, salt, hashes)
        mined = place(executed, context, own_hash, base_fee)
        changes = self.evm.state.seal()
        block = Block(context.number, own_hash, parent.hash, timestamp, salt, base_fee, mined, changes)
        self.history.append(block)
        self._give_back(left)
        return block

    def _give_back(self, transactions: Iterable[EmulatedTransaction]) -> None:
        self.actors.give_back([t for t in transactions if t.envelope is None])
        self.intake.give_back([t for t in transactions if t.envelope is not None])

    def _announce(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@attrs.define
class NodeLimits:
    """What a node refuses. Every attribute may be changed at any time.

    ``log_range`` in blocks and ``pruned_before`` (a block number) limit what it tells; ``unsupported`` names methods that
    it does not know; ``batch`` calls are the most that it takes in a batch.
    """

    log_range: int | None = None
    pruned_before: int = 0
    unsupported: set[str] = attrs.field(factory=set)
    batch: int | None = None


class NodeStanding:
    """One node's chain, faults and limits. Every attribute may be changed at any time.

    ``lag`` in blocks; ``fork``: a branch that this node still follows; ``log_fork``: one from which it still answers for logs, out of a
    cache, though its headers are the chain's.
    """

    def __init__(self, chain: EmulatedChain, faults: NodeFaults | None = None) -> None:
        self.chain = chain
        self.faults = faults or NodeFaults()
        self.lag = 0
        self.fork: Branch | None = None
        self.log_fork: Branch | None = None
        self.limits = NodeLimits()
        self.tip = 0
        self.calls: Counter[str] = Counter()

    @property
    def behind(self) -> bool:
        """Tell whether the node's head is not the chain's."""
        return bool(self.lag) or self.fork is not None

    def view(self) -> NodeView:
        """Return the chain as this node sees it now."""
        return self.chain.view(self.lag, self.fork)
