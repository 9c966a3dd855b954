"""Which transactions wait for a block: Arbitrum's rule (the next nonce or none) and a pool like geth's. Executes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

from kmsconn.emulator.blocks import Transaction
from kmsconn.emulator.node_error import refused
from kmsconn.ethereum.addresses import Address, checksum

_REPLACEMENT_PERCENT = 110


@attrs.frozen
class Account:
    """A sender at the head."""

    nonce: int
    balance: int


Accounts = Callable[[Address], Account]


class Pool(Protocol):
    """Transactions on their way into a block."""

    def admit(self, transaction: Transaction, account: Account, base_fee: int) -> None:
        """Take a signed transaction. Raises NodeError with the node's words."""
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


def _check_not_low(transaction: Transaction, expected: int) -> None:
    if transaction.nonce < expected:
        raise refused(f"nonce too low: {_nonces(transaction, expected)}")


def _nonces(transaction: Transaction, expected: int) -> str:
    return f"address {checksum(transaction.sender)}, tx: {transaction.nonce} state: {expected}"


class ArbitrumPool:
    """A sequencer's queue: the next nonce in order of arrival, nothing for later, no replacement."""

    def __init__(self) -> None:
        self._queue: dict[bytes, Transaction] = {}
        self._next: dict[Address, int] = {}

    def admit(self, transaction: Transaction, account: Account, base_fee: int) -> None:
        """Take the transaction with the sender's next nonce; anything else is refused at once. Raises NodeError."""
        if transaction.hash in self._queue:
            raise refused("already known")
        expected = self.pending_nonce(transaction.sender, account.nonce)
        _check_not_low(transaction, expected)
        if transaction.nonce > expected:
            raise refused(f"nonce too high: {_nonces(transaction, expected)}")
        if transaction.max_fee < base_fee:
            raise refused(_below_base_fee(transaction, base_fee))
        check_funds(transaction, account)
        self._queue[transaction.hash] = transaction
        self._next[transaction.sender] = transaction.nonce + 1

    def take(self, accounts: Accounts, base_fee: int, gas_limit: int) -> list[Transaction]:
        """Take out everything: a sequencer's block has room."""
        del accounts, base_fee, gas_limit
        taken = list(self._queue.values())
        self._queue.clear()
        self._next.clear()
        return taken

    def give_back(self, transactions: Iterable[Transaction]) -> None:
        """Lose them: a sequencer keeps nothing for later."""

    def find(self, transaction_hash: bytes) -> Transaction | None:
        """Return a queued transaction."""
        return self._queue.get(transaction_hash)

    def pending_nonce(self, sender: Address, nonce: int) -> int:
        """Return the nonce after the last queued one."""
        return max(nonce, self._next.get(sender, 0))


def _below_base_fee(transaction: Transaction, base_fee: int) -> str:
    who = checksum(transaction.sender)
    return f"max fee per gas less than block base fee: address {who}, maxFeePerGas: {transaction.max_fee}, baseFee: {base_fee}"


class GethPool:
    """A mempool: keeps later nonces, takes replacements that pay a tenth more, waits for the base fee to fall."""

    def __init__(self, minimum_tip: int = 0) -> None:
        self.minimum_tip = minimum_tip
        self._waiting: dict[Address, dict[int, Transaction]] = {}
        self._hashes: dict[bytes, Transaction] = {}

    def admit(self, transaction: Transaction, account: Account, base_fee: int) -> None:
        """Take a transaction of this or a later nonce, or a replacement. Raises NodeError."""
        del base_fee
        if transaction.hash in self._hashes:
            raise refused("already known")
        _check_not_low(transaction, account.nonce)
        if transaction.tip < self.minimum_tip:
            raise refused(
                f"transaction underpriced: tip needed {self.minimum_tip}, tip permitted {transaction.tip}"
            )
        check_funds(transaction, account)
        self._check_replacement(transaction)
        self._put(transaction)

    def _check_replacement(self, transaction: Transaction) -> None:
        held = self._waiting.get(transaction.sender, {}).get(transaction.nonce)
        if held is not None and not (
            _outbids(transaction.max_fee, held.max_fee) and _outbids(transaction.tip, held.tip)
        ):
            raise refused("replacement transaction underpriced")

    def _put(self, transaction: Transaction) -> None:
        lane = self._waiting.setdefault(transaction.sender, {})
        held = lane.get(transaction.nonce)
        if held is not None:
            del self._hashes[held.hash]
        lane[transaction.nonce] = transaction
        self._hashes[transaction.hash] = transaction

    def take(self, accounts: Accounts, base_fee: int, gas_limit: int) -> list[Transaction]:
        """Take out the runs of nonces that pay the base fee, highest first tip first, as far as the gas limit allows."""
        lanes = [self._ready(sender, accounts(sender).nonce, base_fee) for sender in list(self._waiting)]
        lanes = sorted((lane for lane in lanes if lane), key=lambda lane: -lane[0].tip)
        return self._fit([transaction for lane in lanes for transaction in lane], gas_limit)

    def _ready(self, sender: Address, nonce: int, base_fee: int) -> list[Transaction]:
        lane = self._waiting[sender]
        for stale in [n for n in lane if n < nonce]:
            self._remove(lane[stale])
        ready = []
        while (transaction := lane.get(nonce)) is not None and transaction.max_fee >= base_fee:
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
        lane = self._waiting[transaction.sender]
        del lane[transaction.nonce], self._hashes[transaction.hash]
        if not lane:
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
        lane = self._waiting.get(sender, {})
        while nonce in lane:
            nonce += 1
        return nonce


def _outbids(offered: int, held: int) -> bool:
    return offered * 100 >= held * _REPLACEMENT_PERCENT
