"""Which transactions wait for a block: a pool like geth's, and the queue of Arbitrum's sequencer. Executes nothing.

As in nitro's execution/gethexec: `tx_pre_checker.go` refuses at once what the head's state forbids, and `sequencer.go` judges the
nonces of a block in order of arrival. A nonce that is too high is held for a second; when the missing one comes meanwhile, it
follows in the same block. Nothing is kept for later, nothing is replaced, and no node tells of what waits. Left out: the queue's
size and the bytes of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

import attrs
import trio

from kmsconn.emulator.blocks import EmulatedTransaction
from kmsconn.emulator.node_faults import NodeError, refused
from kmsconn.ethereum.addresses import Address, checksum

HOLD_SECONDS: Final = 1.0  # nonce-failure-cache-expiry of nitro's execution/gethexec/sequencer.go
QUEUE_SECONDS: Final = 12.0  # queue-timeout of the same file; its caller is let go after twice that


@attrs.define(eq=False)
class Submission:
    """One transaction on its way into a block, from the call that brought it to the answer to that call.

    ``age``: seconds since it came, in the steps that matter to a sequencer. ``held``: the refusal of a nonce that is too high,
    while the missing one may still come. ``over``: it was answered, or nobody waits for it any more.
    """

    transaction: EmulatedTransaction
    age: float = 0.0
    held: NodeError | None = None
    over: bool = False
    refusal: NodeError | None = None
    _answered: trio.Event = attrs.field(factory=trio.Event, init=False)

    def answer(self, refusal: NodeError | None = None) -> None:
        """Answer the call: the transaction is taken, or refused. The last answer before the caller looks counts."""
        self.refusal, self.held, self.over = refusal, None, True
        self._answered.set()

    async def wait(self) -> None:
        """Wait for the answer. Raises NodeError when the transaction is refused.

        Cancellation: the caller is gone, and a sequencer leaves out what nobody waits for.
        """
        start = trio.current_time()
        try:
            for age in (HOLD_SECONDS, QUEUE_SECONDS, 2 * QUEUE_SECONDS):
                with trio.move_on_at(start + age):
                    await self._answered.wait()
                    break
                self.age = age
                if self.held is not None or age > QUEUE_SECONDS:
                    self.answer(self.held or too_late())
        finally:
            self.over = True
        if self.refusal is not None:
            raise self.refusal


def taken(transaction: EmulatedTransaction) -> Submission:
    """Return a submission that was answered at once."""
    done = Submission(transaction)
    done.answer()
    return done


def too_late() -> NodeError:
    """Return the answer to a transaction that stayed in the queue for too long."""
    return refused("context deadline exceeded")


_REPLACEMENT_PERCENT = 110

PoolKind = Literal["arbitrum", "arbitrum at once", "geth"]
"""Arbitrum's sequencer, the same with answers before the block, and a mempool like geth's."""


@attrs.frozen
class Account:
    """A sender at the head."""

    nonce: int
    balance: int


Accounts = Callable[[Address], Account]


def check_funds(transaction: EmulatedTransaction, account: Account) -> None:
    """Refuse a sender who could not pay the gas limit at its highest price. Raises NodeError."""
    value = 0 if transaction.envelope is None else transaction.envelope.value
    want = transaction.gas * transaction.max_fee + value
    if account.balance < want:
        who = checksum(transaction.sender)
        has = f"address {who} have {account.balance} want {want}"
        raise refused(f"insufficient funds for gas * price + value: {has}")


def nonce_refusal(transaction: EmulatedTransaction, expected: int) -> NodeError:
    """Return the refusal of a transaction whose nonce is not the expected one."""
    word = "low" if transaction.nonce < expected else "high"
    who = checksum(transaction.sender)
    return refused(f"nonce too {word}: address {who}, tx: {transaction.nonce} state: {expected}")


def check_not_low(transaction: EmulatedTransaction, expected: int) -> None:
    """Refuse a nonce that was used. Raises NodeError."""
    if transaction.nonce < expected:
        raise nonce_refusal(transaction, expected)


class GethPool:
    """A mempool: keeps later nonces, takes replacements that pay a tenth more, waits for the base fee to fall."""

    public = True
    """Whether a node tells of those that wait."""

    def __init__(self) -> None:
        self._waiting: dict[Address, dict[int, EmulatedTransaction]] = {}
        self._hashes: dict[bytes, EmulatedTransaction] = {}

    def record(self, transaction: EmulatedTransaction, account: Account, base_fee: int) -> None:
        """Take a transaction of this or a later nonce, or a replacement. Raises NodeError."""
        del base_fee
        if transaction.hash in self._hashes:
            raise refused("already known")
        check_not_low(transaction, account.nonce)
        check_funds(transaction, account)
        self._check_replacement(transaction)
        self._put(transaction)

    def enter(self, transaction: EmulatedTransaction, account: Account, base_fee: int) -> Submission:
        """Take a transaction and answer at once. Raises NodeError."""
        self.record(transaction, account, base_fee)
        return taken(transaction)

    def _check_replacement(self, transaction: EmulatedTransaction) -> None:
        held = self._waiting.get(transaction.sender, {}).get(transaction.nonce)
        offered = transaction.max_fee, transaction.tip
        if held is not None and not all(map(_outbids, offered, (held.max_fee, held.tip))):
            raise refused("replacement transaction underpriced")

    def _put(self, transaction: EmulatedTransaction) -> None:
        queue = self._waiting.setdefault(transaction.sender, {})
        held = queue.get(transaction.nonce)
        if held is not None:
            del self._hashes[held.hash]
        queue[transaction.nonce] = transaction
        self._hashes[transaction.hash] = transaction

    def take(self, accounts: Accounts, base_fee: int, gas_limit: int) -> list[EmulatedTransaction]:
        """Take out the runs of nonces that pay the base fee, highest first tip first, as far as the gas limit allows."""
        queues = [self._ready(sender, accounts(sender).nonce, base_fee) for sender in list(self._waiting)]
        queues = sorted((queue for queue in queues if queue), key=lambda queue: -queue[0].tip)
        return self._fit([transaction for queue in queues for transaction in queue], gas_limit)

    def _ready(self, sender: Address, nonce: int, base_fee: int) -> list[EmulatedTransaction]:
        queue = self._waiting[sender]
        for stale in [n for n in queue if n < nonce]:
            self._remove(queue[stale])
        ready = []
        while (transaction := queue.get(nonce)) is not None and transaction.max_fee >= base_fee:
            ready.append(transaction)
            nonce += 1
        return ready

    def _fit(self, candidates: list[EmulatedTransaction], gas_limit: int) -> list[EmulatedTransaction]:
        taken, full = [], set[Address]()
        for transaction in candidates:
            if transaction.sender in full or transaction.gas > gas_limit:
                full.add(transaction.sender)
                continue
            gas_limit -= transaction.gas
            self._remove(transaction)
            taken.append(transaction)
        return taken

    def _remove(self, transaction: EmulatedTransaction) -> None:
        queue = self._waiting[transaction.sender]
        del queue[transaction.nonce], self._hashes[transaction.hash]
        if not queue:
            del self._waiting[transaction.sender]

    def give_back(self, transactions: Iterable[EmulatedTransaction]) -> None:
        """Keep them for a later block, unless a replacement took their place."""
        for transaction in transactions:
            if transaction.nonce not in self._waiting.get(transaction.sender, {}):
                self._put(transaction)

    def find(self, transaction_hash: bytes) -> EmulatedTransaction | None:
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

    def record(self, transaction: EmulatedTransaction, account: Account, base_fee: int) -> None:
        """Take the sender's next nonce and refuse anything else, at once, as nobody waits for an answer. Raises NodeError."""
        if self.find(transaction.hash) is not None:
            raise refused("already known")
        expected = self.pending_nonce(transaction.sender, account.nonce)
        if transaction.nonce != expected:
            raise nonce_refusal(transaction, expected)
        self._queued(transaction, account, base_fee)

    def enter(self, transaction: EmulatedTransaction, account: Account, base_fee: int) -> Submission:
        """Queue a transaction that the head's state does not forbid; it is answered with a block. Raises NodeError."""
        if self.public:
            self.record(transaction, account, base_fee)
            return taken(transaction)
        return self._queued(transaction, account, base_fee)

    def _queued(self, transaction: EmulatedTransaction, account: Account, base_fee: int) -> Submission:
        check_not_low(transaction, account.nonce)
        if transaction.max_fee < base_fee:
            fees = f"maxFeePerGas: {transaction.max_fee}, baseFee: {base_fee}"
            who = checksum(transaction.sender)
            raise refused(f"max fee per gas less than block base fee: address {who}, {fees}")
        check_funds(transaction, account)
        entered = Submission(transaction)
        self._queue.append(entered)
        return entered

    def take(self, accounts: Accounts, base_fee: int, gas_limit: int) -> list[EmulatedTransaction]:
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

    def give_back(self, transactions: Iterable[EmulatedTransaction]) -> None:
        """Refuse those of the block that was just made, whose callers have not heard yet; lose the others of a reorganisation."""
        for transaction in transactions:
            placed = self._placed.get(transaction.hash)
            if placed is not None:
                placed.answer(refused("insufficient funds for gas * price + value"))

    def find(self, transaction_hash: bytes) -> EmulatedTransaction | None:
        """Return a queued transaction."""
        waiting = (one.transaction for one in self._queue if not one.over)
        return next((transaction for transaction in waiting if transaction.hash == transaction_hash), None)

    def pending_nonce(self, sender: Address, nonce: int) -> int:
        """Return the nonce after those that the queue has without a gap."""
        waiting = (one.transaction for one in self._queue if not one.over)
        mine = {transaction.nonce for transaction in waiting if transaction.sender == sender}
        while nonce in mine:
            nonce += 1
        return nonce


TransactionPool = GethPool | ArbitrumPool


def pool_of(kind: PoolKind) -> TransactionPool:
    """Return an empty pool of this kind."""
    return GethPool() if kind == "geth" else ArbitrumPool(at_once=kind == "arbitrum at once")
