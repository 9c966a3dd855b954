"""Which transactions wait for a block: what every pool offers, and a pool like geth's. Executes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

import attrs

from kmsconn.emulator.blocks import Transaction
from kmsconn.emulator.node_error import NodeError, refused
from kmsconn.emulator.submission import Submission, taken
from kmsconn.ethereum.addresses import Address, checksum

_REPLACEMENT_PERCENT = 110

PoolKind = Literal["arbitrum", "arbitrum at once", "geth"]
"""Arbitrum's sequencer, the same with answers before the block, and a mempool like geth's."""


@attrs.frozen
class Account:
    """A sender at the head."""

    nonce: int
    balance: int


Accounts = Callable[[Address], Account]


class TransactionPool(Protocol):
    """Transactions on their way into a block. ``public``: a node tells of those that wait."""

    public: bool

    def record(self, transaction: Transaction, account: Account, base_fee: int) -> None:
        """Take a signed transaction or refuse it, at once. Raises NodeError with the node's words."""
        ...

    def enter(self, transaction: Transaction, account: Account, base_fee: int) -> Submission:
        """Take a signed transaction as ``eth_sendRawTransaction`` does. Raises NodeError for what is refused at once."""
        ...

    def take(self, accounts: Accounts, base_fee: int, gas_limit: int) -> list[Transaction]:
        """Take out what the next block holds, in order."""
        ...

    def give_back(self, transactions: Iterable[Transaction]) -> None:
        """Take transactions that a block could not hold; what this pool does not keep is lost."""
        ...

    def find(self, transaction_hash: bytes) -> Transaction | None:
        """Return a waiting transaction."""
        ...

    def pending_nonce(self, sender: Address, nonce: int) -> int:
        """Return the next nonce of ``sender`` after what waits without a gap; ``nonce`` is the head's."""
        ...


def check_funds(transaction: Transaction, account: Account) -> None:
    """Refuse a sender who could not pay the gas limit at its highest price. Raises NodeError."""
    value = 0 if transaction.envelope is None else transaction.envelope.value
    want = transaction.gas * transaction.max_fee + value
    if account.balance < want:
        who = checksum(transaction.sender)
        raise refused(
            f"insufficient funds for gas * price + value: address {who} have {account.balance} want {want}"
        )


def nonce_refusal(transaction: Transaction, expected: int) -> NodeError:
    """Return the refusal of a transaction whose nonce is not the expected one."""
    word = "low" if transaction.nonce < expected else "high"
    who = checksum(transaction.sender)
    return refused(f"nonce too {word}: address {who}, tx: {transaction.nonce} state: {expected}")


def check_not_low(transaction: Transaction, expected: int) -> None:
    """Refuse a nonce that was used. Raises NodeError."""
    if transaction.nonce < expected:
        raise nonce_refusal(transaction, expected)


class GethPool:
    """A mempool: keeps later nonces, takes replacements that pay a tenth more, waits for the base fee to fall."""

    public = True

    def __init__(self, minimum_tip: int = 0) -> None:
        self.minimum_tip = minimum_tip
        self._waiting: dict[Address, dict[int, Transaction]] = {}
        self._hashes: dict[bytes, Transaction] = {}

    def record(self, transaction: Transaction, account: Account, base_fee: int) -> None:
        """Take a transaction of this or a later nonce, or a replacement. Raises NodeError."""
        del base_fee
        if transaction.hash in self._hashes:
            raise refused("already known")
        check_not_low(transaction, account.nonce)
        if transaction.tip < self.minimum_tip:
            raise refused(
                f"transaction underpriced: tip needed {self.minimum_tip}, tip permitted {transaction.tip}"
            )
        check_funds(transaction, account)
        self._check_replacement(transaction)
        self._put(transaction)

    def enter(self, transaction: Transaction, account: Account, base_fee: int) -> Submission:
        """Take a transaction and answer at once. Raises NodeError."""
        self.record(transaction, account, base_fee)
        return taken(transaction)

    def _check_replacement(self, transaction: Transaction) -> None:
        held = self._waiting.get(transaction.sender, {}).get(transaction.nonce)
        if held is not None and not (
            _outbids(transaction.max_fee, held.max_fee) and _outbids(transaction.tip, held.tip)
        ):
            raise refused("replacement transaction underpriced")

    def _put(self, transaction: Transaction) -> None:
        queue = self._waiting.setdefault(transaction.sender, {})
        held = queue.get(transaction.nonce)
        if held is not None:
            del self._hashes[held.hash]
        queue[transaction.nonce] = transaction
        self._hashes[transaction.hash] = transaction

    def take(self, accounts: Accounts, base_fee: int, gas_limit: int) -> list[Transaction]:
        """Take out the runs of nonces that pay the base fee, highest first tip first, as far as the gas limit allows."""
        queues = [self._ready(sender, accounts(sender).nonce, base_fee) for sender in list(self._waiting)]
        queues = sorted((queue for queue in queues if queue), key=lambda queue: -queue[0].tip)
        return self._fit([transaction for queue in queues for transaction in queue], gas_limit)

    def _ready(self, sender: Address, nonce: int, base_fee: int) -> list[Transaction]:
        queue = self._waiting[sender]
        for stale in [n for n in queue if n < nonce]:
            self._remove(queue[stale])
        ready = []
        while (transaction := queue.get(nonce)) is not None and transaction.max_fee >= base_fee:
            ready.append(transaction)
            nonce += 1
        return ready

    def _fit(self, candidates: list[Transaction], gas_limit: int) -> list[Transaction]:
        taken, full = [], set[Address]()
        for transaction in candidates:
            if transaction.sender in full or transaction.gas > gas_limit:
                full.add(transaction.sender)
                continue
            gas_limit -= transaction.gas
            self._remove(transaction)
            taken.append(transaction)
        return taken

    def _remove(self, transaction: Transaction) -> None:
        queue = self._waiting[transaction.sender]
        del queue[transaction.nonce], self._hashes[transaction.hash]
        if not queue:
            del self._waiting[transaction.sender]

    def give_back(self, transactions: Iterable[Transaction]) -> None:
        """Keep them for a later block, unless a replacement took their place."""
        for transaction in transactions:
            if transaction.nonce not in self._waiting.get(transaction.sender, {}):
                self._put(transaction)

    def find(self, transaction_hash: bytes) -> Transaction | None:
        """Return a waiting transaction."""
        return self._hashes.get(transaction_hash)

    def pending_nonce(self, sender: Address, nonce: int) -> int:
        """Return the first nonce from ``nonce`` on that nothing waits for."""
        queue = self._waiting.get(sender, {})
        while nonce in queue:
            nonce += 1
        return nonce


def _outbids(offered: int, held: int) -> bool:
    return offered * 100 >= held * _REPLACEMENT_PERCENT
