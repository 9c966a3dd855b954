"""One emulated chain: takes transactions, makes blocks, reorganises. Speaks no JSON and knows no contract by name.

Everything is synchronous except ``run`` and the waits, so that a test may drive it by hand; one task at a time touches it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Never

import attrs
import trio

from kmsconn.emulator.blocks import (
    Block,
    Branch,
    ExecutionOutcome,
    Mined,
    Transaction,
    block_hash,
    from_signed,
)
from kmsconn.emulator.execution import BlockContext, EmulatedContract, Frame, Meter, intrinsic_gas
from kmsconn.emulator.mining import execute, place
from kmsconn.emulator.node_error import INVALID_PARAMS, NodeError, refused
from kmsconn.emulator.pool import Account, PoolKind, TransactionPool
from kmsconn.emulator.sequencer import pool_of
from kmsconn.emulator.state import NO_CHANGES, ChainState, Overlay, Storage, difference
from kmsconn.emulator.submission import Submission
from kmsconn.emulator.view import NodeView
from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.transactions import decode_transaction

ACTOR_GAS = 100_000_000
RICH = 10**24
_HASH_SEED = b"kmsconn emulator"
_REMEMBERED_STATES = 8  # one or two nodes that lag, and a historic read beside them

Arrange = Callable[[Sequence[Transaction], int], Sequence[Sequence[Transaction]]]


def all_in_the_last(transactions: Sequence[Transaction], blocks: int) -> Sequence[Sequence[Transaction]]:
    """Put every transaction into the last of the new blocks, in the old order."""
    return [*([()] * (blocks - 1)), transactions]


def keep_all(transaction: Transaction) -> bool:
    """Drop nothing."""
    del transaction
    return False


def _nobody(_: Transaction) -> None:
    """Is told things and keeps none."""


class EmulatedChain:
    """A chain with its contracts.

    ``clock`` gives Unix seconds for block times; ``base_fee`` (wei, None for a chain of before EIP-1559), ``finality``
    (blocks behind the head), ``finalized`` (the block at which finality stands still, None: it follows), ``stalled`` and
    ``default_balance`` may be changed at any time. ``on_submit`` is told each signed transaction that arrives, before it is judged.
    ``history``: how many blocks behind the head are kept whole (None: all); of older ones only the headers stay. So many further
    signed transactions as ``failing`` says are mined with status 0, whatever an estimate said.
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
        self.finality = finality
        self.finalized: int | None = None
        self.block_gas_limit = block_gas_limit
        self.default_balance = RICH
        self.stalled = False
        self.failing = 0
        self.history: int | None = None
        self.pruned_before = 0
        self.on_submit: Callable[[Transaction], None] = _nobody
        self.contracts: dict[Address, EmulatedContract] = {}
        self.pool: TransactionPool = pool_of(pool)
        self.state = ChainState()
        self._clock = clock
        self._salt = 0
        self._actors = 0
        self._actor_queue: list[Transaction] = []
        self._blocks: list[Block] = [self._genesis()]
        self._mined: dict[bytes, Mined] = {}
        self._loud: list[int] = []
        self._states: dict[tuple[bytes, bytes], Overlay] = {}
        self._changed = trio.Event()

    def _genesis(self) -> Block:
        parent = keccak256(_HASH_SEED + self.chain_id.to_bytes(32))
        timestamp = math.floor(self._clock())
        return Block(0, block_hash(parent, 0, timestamp, 0, ()), parent, timestamp, 0, self.base_fee)

    @property
    def head(self) -> Block:
        """Return the newest block."""
        return self._blocks[-1]

    def block(self, number: int) -> Block | None:
        """Return the canonical block of this number."""
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def find(self, transaction_hash: bytes) -> Mined | None:
        """Return a transaction of the canonical chain."""
        return self._mined.get(transaction_hash)

    def final_number(self, head: int) -> int:
        """Return the newest final block of a node whose head is this."""
        final = max(0, head - self.finality)
        return final if self.finalized is None else min(final, self.finalized)

    def blocks_with_logs(self, start: int, end: int) -> Iterator[Block]:
        """Yield the canonical blocks from ``start`` to ``end`` (both included) that hold logs."""
        position = bisect_left(self._loud, start)
        while position < len(self._loud) and self._loud[position] <= end:
            yield self._blocks[self._loud[position]]
            position += 1

    def account(self, address: Address, storage: Storage | None = None) -> Account:
        """Return nonce and balance of an account, at the head or in another state."""
        state = self.state if storage is None else storage
        return Account(
            state.get((address, "nonce"), 0), state.get((address, "balance"), self.default_balance)
        )

    def set_balance(self, address: Address, wei: int) -> None:
        """Give an account this balance, outside all blocks."""
        self.state.set_always((address, "balance"), wei)

    def view(self, lag: int = 0, branch: Branch | None = None) -> NodeView:
        """Return the chain as a node sees it: ``lag`` blocks behind, or on a branch that was taken off."""
        own = 0 if branch is None or not self._stands_on(branch) else len(branch.blocks)
        if branch is not None and lag < own:
            return NodeView(self, branch.blocks[own - 1 - lag], branch)
        newest = branch.root if branch is not None and own else self.head.number
        return NodeView(self, self._blocks[max(0, newest - (lag - own))])

    def _stands_on(self, branch: Branch) -> bool:
        root = self.block(branch.root)
        return root is not None and root.hash == branch.blocks[0].parent

    def state_of(self, block: Block, branch: Branch | None = None) -> Overlay:
        """Return the state after a canonical block, or after a block of ``branch``; writes to it are lost."""
        key = self.head.hash, block.hash
        base = self._states.get(key)
        if base is None:
            base = Overlay(self.state, self._difference(block, branch))
            while len(self._states) >= _REMEMBERED_STATES:
                self._states.pop(next(iter(self._states)))
            self._states[key] = base
        return base.fresh()

    def _difference(self, block: Block, branch: Branch | None) -> dict[tuple[object, ...], object]:
        root = block.number if branch is None else min(block.number, branch.root)
        undone = [later.changes for later in reversed(self._blocks[root + 1 :])]
        done = [] if branch is None else [b.changes for b in branch.blocks if b.number <= block.number]
        return difference(undone, done)

    async def wait_change(self) -> None:
        """Wait for the next block or reorganisation."""
        await self._changed.wait()

    def deploy(self, contract: EmulatedContract) -> None:
        """Put a contract at its address, in the past too."""
        self.contracts[contract.address] = contract

    def set_up(self, address: Address, action: Callable[[Frame], object]) -> None:
        """Change a contract's storage outside all blocks, as if it had always been so; logs are dropped."""
        context = BlockContext(self.chain_id, self.head.number, self.head.timestamp)
        action(Frame(_Always(self.state), context, address, ZERO_ADDRESS, b"", Meter(ACTOR_GAS)))

    def act(
        self, address: Address, action: Callable[[Frame], object], sender: Address = ZERO_ADDRESS
    ) -> bytes:
        """Queue a transaction of the emulator that runs ``action`` on a contract; return its hash.

        Repeating: a reorganisation runs it again, so ``action`` must depend on the frame alone.
        """
        return self._queue_actor(sender, address, b"", action)

    def transact(self, sender: Address, to: Address, calldata: bytes) -> bytes:
        """Queue a transaction of one of the emulator's users, without fee or signature; return its hash."""
        return self._queue_actor(sender, to, calldata, None)

    def _queue_actor(
        self, sender: Address, to: Address, data: bytes, action: Callable[[Frame], object] | None
    ) -> bytes:
        self._actors += 1
        seed = _HASH_SEED + self.chain_id.to_bytes(32) + self._actors.to_bytes(32) + sender + to + data
        transaction = Transaction(keccak256(seed), sender, to, data, ACTOR_GAS, action=action)
        self._actor_queue.append(transaction)
        return transaction.hash

    def check(self, raw: bytes) -> Transaction:
        """Decode a raw transaction and check what does not depend on the state. Raises NodeError."""
        try:
            transaction = from_signed(decode_transaction(raw))
        except Undecodable as error:
            raise NodeError(INVALID_PARAMS, f"failed to decode transaction: {error}") from error
        self._check_envelope(transaction)
        return transaction

    def _check_envelope(self, transaction: Transaction) -> None:
        envelope = transaction.envelope
        if envelope is not None and envelope.chain_id != self.chain_id:
            raise refused(f"invalid chain id for signer: have {envelope.chain_id} want {self.chain_id}")
        if transaction.tip > transaction.max_fee:
            raise refused("max priority fee per gas higher than max fee per gas")
        least = intrinsic_gas(transaction.data)
        if transaction.gas < least:
            raise refused(f"intrinsic gas too low: have {transaction.gas}, want {least}")
        if transaction.gas > self.block_gas_limit:
            raise refused("exceeds block gas limit")

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction for which nobody waits; return its hash. Raises NodeError when it is refused now."""
        transaction = self._arrived(raw)
        self.pool.record(transaction, self.account(transaction.sender), self.base_fee or 0)
        return transaction.hash

    def enter(self, raw: bytes) -> Submission:
        """Take a signed transaction as ``eth_sendRawTransaction`` does. Raises NodeError when it is refused now."""
        transaction = self._arrived(raw)
        return self.pool.enter(transaction, self.account(transaction.sender), self.base_fee or 0)

    def _arrived(self, raw: bytes) -> Transaction:
        transaction = self.check(raw)
        self.on_submit(transaction)
        return transaction

    def pending_nonce(self, sender: Address) -> int:
        """Return the next nonce of ``sender`` after everything that waits."""
        return self.pool.pending_nonce(sender, self.account(sender).nonce)

    def mine(self) -> Block:
        """Make one block of what waits: the emulator's own transactions first, then the pool's."""
        own, self._actor_queue = self._actor_queue, []
        pooled = self.pool.take(self.account, self.base_fee or 0, self.block_gas_limit)
        block = self._append([*own, *pooled], math.floor(self._clock()))
        self._prune()
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
        branch = self._pop(depth)
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
        branch = self._pop(depth)
        self._salt += 1
        self._give_back([transaction for transaction in branch.transactions if not drop(transaction)])
        self._announce()
        return branch

    def restore(self, branch: Branch) -> Branch:
        """Put a branch back (A → B → A), with its hashes; return the branch that it replaces.

        What only the replaced blocks held waits again. Raises ValueError when the branch's root is gone.
        """
        if not self._stands_on(branch):
            raise ValueError("the branch does not stand on this chain")
        replaced = self._pop(self.head.number - branch.root)
        for block in branch.blocks:
            self._append(list(block.transactions), block.timestamp, block)
        # The emulator's own transactions have no nonces, which would keep one from being mined twice.
        self._actor_queue = [t for t in self._actor_queue if t.hash not in self._mined]
        self._give_back([t for t in replaced.transactions if t.hash not in self._mined])
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

    def _pop(self, depth: int) -> Branch:
        if not 0 < depth <= self.head.number - self.pruned_before:
            raise ValueError(f"cannot take {depth} blocks off a chain of {self.head.number}")
        popped = self._blocks[-depth:]
        del self._blocks[-depth:]
        for block in reversed(popped):
            self.state.take_back(block.changes)
            for mined in block.mined:
                del self._mined[mined.transaction.hash]
        del self._loud[bisect_left(self._loud, popped[0].number) :]
        return Branch(tuple(popped))

    def _append(self, transactions: list[Transaction], now: int, again: Block | None = None) -> Block:
        """Execute and append a block; ``again`` is the block that is being put back, whose header is kept."""
        parent = self.head
        timestamp = max(now, parent.timestamp)
        salt, base_fee = (self._salt, self.base_fee) if again is None else (again.salt, again.base_fee)
        context = BlockContext(self.chain_id, parent.number + 1, timestamp)
        executed, left = self._execute_all(transactions, context, base_fee)
        hashes = tuple(transaction.hash for transaction, _ in executed)
        own_hash = block_hash(parent.hash, context.number, timestamp, salt, hashes)
        mined = place(executed, context, own_hash, base_fee)
        block = Block(
            context.number, own_hash, parent.hash, timestamp, salt, base_fee, mined, self.state.seal()
        )
        self._keep(block)
        self._give_back(left)
        return block

    def _execute_all(
        self, transactions: list[Transaction], context: BlockContext, base_fee: int | None
    ) -> tuple[list[tuple[Transaction, ExecutionOutcome]], list[Transaction]]:
        """Execute what can be executed now, in nonce order for each sender; return that and what is left."""
        executed: list[tuple[Transaction, ExecutionOutcome]] = []
        left = transactions
        progress = True
        while left and progress:
            waiting, left, progress = left, [], False
            for transaction in waiting:
                if self._executable(transaction):
                    executed.append((transaction, self._execute(transaction, context, base_fee)))
                    progress = True
                else:
                    left.append(transaction)
        return executed, left

    def _executable(self, transaction: Transaction) -> bool:
        if transaction.envelope is None:
            return True
        account = self.account(transaction.sender)
        return transaction.nonce == account.nonce and account.balance >= transaction.gas * transaction.max_fee

    def _execute(
        self, transaction: Transaction, context: BlockContext, base_fee: int | None
    ) -> ExecutionOutcome:
        if transaction.envelope is not None:
            self.state.set((transaction.sender, "nonce"), transaction.nonce + 1)
            if self.failing:
                self.failing -= 1
                transaction = attrs.evolve(transaction, data=b"")  # no contract knows such a function
        mark = self.state.checkpoint()
        outcome = execute(self.state, self.contracts, context, transaction)
        if not outcome.status:
            self.state.rollback(mark)
        self._charge(transaction, outcome.gas_used * transaction.price(base_fee))
        return outcome

    def _charge(self, transaction: Transaction, fee: int) -> None:
        if transaction.envelope is not None and fee:
            balance = self.account(transaction.sender).balance
            self.state.set((transaction.sender, "balance"), balance - fee)

    def _keep(self, block: Block) -> None:
        self._blocks.append(block)
        self._mined.update((mined.transaction.hash, mined) for mined in block.mined)
        if any(mined.logs for mined in block.mined):
            self._loud.append(block.number)

    def _prune(self) -> None:
        """Forget what stood in blocks that are older than ``history``: a long run must not grow by them."""
        if self.history is None:
            return
        for number in range(self.pruned_before, self.head.number - self.history):
            old = self._blocks[number]
            self._blocks[number] = attrs.evolve(old, mined=(), changes=NO_CHANGES)
            for mined in old.mined:
                del self._mined[mined.transaction.hash]
            self.pruned_before = number + 1
        del self._loud[: bisect_left(self._loud, self.pruned_before)]

    def _give_back(self, transactions: Iterable[Transaction]) -> None:
        own = [t for t in transactions if t.envelope is None]
        self._actor_queue[:0] = own
        self.pool.give_back(
            t for t in transactions if t.envelope is not None and t.nonce >= self.account(t.sender).nonce
        )

    def _announce(self) -> None:
        self._states.clear()
        self._changed.set()
        self._changed = trio.Event()


class _Always:
    """Writes that belong to no block."""

    def __init__(self, state: ChainState) -> None:
        self.get = state.get
        self.set = state.set_always
