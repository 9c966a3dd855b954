"""The queue of Arbitrum's sequencer: transactions are judged, and their callers answered, when a block is made. Executes nothing.

As in nitro's execution/gethexec: `tx_pre_checker.go` refuses at once what the head's state forbids, and `sequencer.go` judges the
nonces of a block in order of arrival. A nonce that is too high is held for a second; when the missing one comes meanwhile, it
follows in the same block. Nothing is kept for later, nothing is replaced, and no node tells of what waits. Left out: the queue's
size and the bytes of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kmsconn.emulator.blocks import Transaction
from kmsconn.emulator.node_error import NodeError, refused
from kmsconn.emulator.pool import (
    Account,
    Accounts,
    GethPool,
    PoolKind,
    TransactionPool,
    check_funds,
    check_not_low,
    nonce_refusal,
)
from kmsconn.emulator.submission import HOLD_SECONDS, QUEUE_SECONDS, Submission, taken, too_late
from kmsconn.ethereum.addresses import Address, checksum

HELD_AT_MOST: Final = 1_024  # nonce-failure-cache-size; the oldest is refused in favour of a newer one


class ArbitrumPool:
    """The sequencer's queue; see the module's text.

    ``at_once``: it answers before the block, refuses later nonces at once, and nodes tell of what waits. No sequencer is like that.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.public = at_once
        self._queue: list[Submission] = []
        self._held: dict[tuple[Address, int], Submission] = {}
        self._placed: dict[bytes, Submission] = {}

    def record(self, transaction: Transaction, account: Account, base_fee: int) -> None:
        """Take the sender's next nonce and refuse anything else, at once, as nobody waits for an answer. Raises NodeError."""
        if self.find(transaction.hash) is not None:
            raise refused("already known")
        expected = self.pending_nonce(transaction.sender, account.nonce)
        if transaction.nonce != expected:
            raise nonce_refusal(transaction, expected)
        self._queued(transaction, account, base_fee)

    def enter(self, transaction: Transaction, account: Account, base_fee: int) -> Submission:
        """Queue a transaction that the head's state does not forbid; it is answered with a block. Raises NodeError."""
        if self.public:
            self.record(transaction, account, base_fee)
            return taken(transaction)
        return self._queued(transaction, account, base_fee)

    def _queued(self, transaction: Transaction, account: Account, base_fee: int) -> Submission:
        check_not_low(transaction, account.nonce)
        if transaction.max_fee < base_fee:
            raise _below_base_fee(transaction, base_fee)
        check_funds(transaction, account)
        entered = Submission(transaction)
        self._queue.append(entered)
        return entered

    def take(self, accounts: Accounts, base_fee: int, gas_limit: int) -> list[Transaction]:
        """Judge everything that waits; take out and answer what the block holds: a sequencer's block has room."""
        del base_fee, gas_limit
        queue, self._queue = self._queue, []
        self._held = {key: one for key, one in self._held.items() if not one.over}
        nonces: dict[Address, int] = {}
        placed = [one for entered in queue for one in self._run_of(entered, accounts, nonces)]
        for one in placed:
            one.answer()
        self._placed = {one.transaction.hash: one for one in placed}
        return [one.transaction for one in placed]

    def _run_of(
        self, entered: Submission, accounts: Accounts, nonces: dict[Address, int]
    ) -> Iterator[Submission]:
        """Yield what goes into the block by this submission: itself, and the held ones that waited for its nonce."""
        following: Submission | None = entered
        while following is not None and self._fits(following, accounts, nonces):
            yield following
            sender, nonce = following.transaction.sender, following.transaction.nonce
            nonces[sender] = nonce + 1
            following = self._held.pop((sender, nonce + 1), None)

    def _fits(self, entered: Submission, accounts: Accounts, nonces: dict[Address, int]) -> bool:
        """Tell whether a submission goes into the block now; answer or hold it otherwise."""
        transaction = entered.transaction
        expected = nonces.get(transaction.sender, accounts(transaction.sender).nonce)
        if entered.over:
            return False
        if entered.age >= QUEUE_SECONDS:
            entered.answer(too_late())
        elif transaction.nonce < expected:
            entered.answer(nonce_refusal(transaction, expected))
        elif transaction.nonce > expected:
            self._hold(entered, nonce_refusal(transaction, expected))
        return transaction.nonce == expected and not entered.over

    def _hold(self, entered: Submission, refusal: NodeError) -> None:
        key = entered.transaction.sender, entered.transaction.nonce
        if self.public or key in self._held or entered.age >= HOLD_SECONDS:
            entered.answer(refusal)
            return
        entered.held = refusal
        self._held[key] = entered
        if len(self._held) > HELD_AT_MOST:
            oldest = self._held.pop(next(iter(self._held)))
            oldest.answer(oldest.held)

    def give_back(self, transactions: Iterable[Transaction]) -> None:
        """Refuse those of the block that was just made, whose callers have not heard yet; lose the others of a reorganisation."""
        for transaction in transactions:
            placed = self._placed.get(transaction.hash)
            if placed is not None:
                placed.answer(refused("insufficient funds for gas * price + value"))

    def find(self, transaction_hash: bytes) -> Transaction | None:
        """Return a queued transaction."""
        waiting = (one.transaction for one in self._queue if not one.over)
        return next((transaction for transaction in waiting if transaction.hash == transaction_hash), None)

    def pending_nonce(self, sender: Address, nonce: int) -> int:
        """Return the nonce after those that the queue has without a gap."""
        mine = {
            one.transaction.nonce for one in self._queue if one.transaction.sender == sender and not one.over
        }
        while nonce in mine:
            nonce += 1
        return nonce


def _below_base_fee(transaction: Transaction, base_fee: int) -> NodeError:
    who = checksum(transaction.sender)
    return refused(
        f"max fee per gas less than block base fee: address {who}, maxFeePerGas: {transaction.max_fee}, baseFee: {base_fee}"
    )


def pool_of(kind: PoolKind) -> TransactionPool:
    """Return an empty pool of this kind."""
    return GethPool() if kind == "geth" else ArbitrumPool(at_once=kind == "arbitrum at once")
