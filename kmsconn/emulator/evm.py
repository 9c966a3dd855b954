"""The contracts and accounts of an emulated chain, its transactions executed, and the chain as one node sees it. Makes no block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from kmsconn.emulator.blocks import Block, Branch, ChainHistory, EmulatedTransaction, ExecutionOutcome, Mined
from kmsconn.emulator.execution import (
    BlockContext,
    ChainState,
    Contracts,
    EmulatedContract,
    Frame,
    Meter,
    OutOfGas,
    Reverted,
    run,
)
from kmsconn.emulator.node_faults import revert_text
from kmsconn.emulator.pool import Account
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address


def execute(
    storage: ChainState, contracts: Contracts, context: BlockContext, transaction: EmulatedTransaction
) -> ExecutionOutcome:
    """Run a transaction's body. The writes of a failed one are still in ``storage``: the caller takes them back."""
    meter = Meter(transaction.gas)
    frame = Frame(storage, context, transaction.to, transaction.sender, transaction.data, meter)
    try:
        if transaction.action is None:
            run(contracts, frame)
        else:
            transaction.action(frame)
    except Reverted as refusal:
        text = f"execution reverted{revert_text(refusal.data)}"
        return ExecutionOutcome(0, meter.used, revert_data=refusal.data, error=text)
    except OutOfGas:
        return ExecutionOutcome(0, meter.limit, error="out of gas")
    ran = transaction.action is not None or transaction.to in contracts
    return ExecutionOutcome(1, meter.used, tuple(frame.logs), ran=ran)


def place(
    executed: list[tuple[EmulatedTransaction, ExecutionOutcome]],
    context: BlockContext,
    own_hash: bytes,
    base_fee: int | None,
) -> tuple[Mined, ...]:
    """Give the transactions of a block their places."""
    placed: list[Mined] = []
    gas, log_index = 0, 0
    for index, (transaction, outcome) in enumerate(executed):
        gas += outcome.gas_used
        logs = tuple(
            Log(e.address, e.topics, e.data, context.number, own_hash, transaction.hash, log_index + position)
            for position, e in enumerate(outcome.logs)
        )
        log_index += len(logs)
        price = transaction.price(base_fee)
        where = (context.number, own_hash, context.timestamp, index)
        placed.append(Mined(transaction, outcome, *where, price, gas, logs))
    return tuple(placed)


ACTOR_GAS = 100_000_000
RICH = 10**24


@attrs.define(eq=False)
class EmulatedEvm:
    """The state at the head, and what changes it. ``default_balance`` may be changed at any time.

    So many further signed transactions as ``failing`` says are mined with status 0, whatever an estimate said.
    """

    chain_id: int
    state: ChainState
    history: ChainHistory
    contracts: dict[Address, EmulatedContract] = attrs.field(factory=dict)
    default_balance: int = RICH
    failing: int = 0

    def account(self, address: Address, storage: ChainState | None = None) -> Account:
        """Return nonce and balance of an account, at the head or in another state."""
        get = (self.state if storage is None else storage).get
        return Account(get((address, "nonce"), 0), get((address, "balance"), self.default_balance))

    def set_balance(self, address: Address, wei: int) -> None:
        """Give an account this balance, outside all blocks."""
        with self.state.outside_blocks():
            self.state.set((address, "balance"), wei)

    def deploy(self, contract: EmulatedContract) -> None:
        """Put a contract at its address, in the past too."""
        self.contracts[contract.address] = contract

    def set_up(self, address: Address, action: Callable[..., object], *values: Any, **named: Any) -> None:
        """Change a contract's storage outside all blocks by an action on its frame, as if it had always been so; logs are dropped."""
        context = BlockContext(self.chain_id, self.history.head.number, self.history.head.timestamp)
        with self.state.outside_blocks():
            action(Frame(self.state, context, address, ZERO_ADDRESS, b"", Meter(ACTOR_GAS)), *values, **named)

    def execute_all(
        self, transactions: list[EmulatedTransaction], context: BlockContext, base_fee: int | None
    ) -> tuple[list[tuple[EmulatedTransaction, ExecutionOutcome]], list[EmulatedTransaction]]:
        """Execute what can be executed now, in nonce order for each sender; return that and what is left."""
        executed: list[tuple[EmulatedTransaction, ExecutionOutcome]] = []
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

    def _executable(self, transaction: EmulatedTransaction) -> bool:
        if transaction.envelope is None:
            return True
        account = self.account(transaction.sender)
        return transaction.nonce == account.nonce and account.balance >= transaction.gas * transaction.max_fee

    def _execute(
        self, transaction: EmulatedTransaction, context: BlockContext, base_fee: int | None
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
        if transaction.envelope is not None and (fee := outcome.gas_used * transaction.price(base_fee)):
            balance = self.account(transaction.sender).balance
            self.state.set((transaction.sender, "balance"), balance - fee)
        return outcome


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

    def state(self, block: Block | None = None) -> ChainState:
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
