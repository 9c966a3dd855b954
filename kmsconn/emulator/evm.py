"""The contracts and accounts of an emulated chain, and the execution of its transactions. Makes no blocks."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kmsconn.emulator.blocks import ExecutionOutcome, Transaction
from kmsconn.emulator.chain_history import ChainHistory
from kmsconn.emulator.execution import BlockContext, EmulatedContract, Frame, Meter
from kmsconn.emulator.mining import execute
from kmsconn.emulator.pool import Account
from kmsconn.emulator.state import ChainState, Storage
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address

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

    def account(self, address: Address, storage: Storage | None = None) -> Account:
        """Return nonce and balance of an account, at the head or in another state."""
        state = self.state if storage is None else storage
        return Account(
            state.get((address, "nonce"), 0), state.get((address, "balance"), self.default_balance)
        )

    def set_balance(self, address: Address, wei: int) -> None:
        """Give an account this balance, outside all blocks."""
        self.state.set_always((address, "balance"), wei)

    def deploy(self, contract: EmulatedContract) -> None:
        """Put a contract at its address, in the past too."""
        self.contracts[contract.address] = contract

    def set_up(self, address: Address, action: Callable[[Frame], object]) -> None:
        """Change a contract's storage outside all blocks, as if it had always been so; logs are dropped."""
        context = BlockContext(self.chain_id, self.history.head.number, self.history.head.timestamp)
        action(Frame(_Always(self.state), context, address, ZERO_ADDRESS, b"", Meter(ACTOR_GAS)))

    def execute_all(
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


class _Always:
    """Writes that belong to no block."""

    def __init__(self, state: ChainState) -> None:
        self.get = state.get
        self.set = state.set_always
