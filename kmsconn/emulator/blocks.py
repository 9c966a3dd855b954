"""Blocks, transactions and logs of an emulated chain as immutable values, and their history. Executes and formats nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Literal

import attrs

from kmsconn.emulator.execution import NO_CHANGES, ChainState, Changes, Emitted, Frame, difference
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.transactions import SignedTransaction, Transaction


@attrs.frozen
class EmulatedTransaction:
    """Something to execute: a signed transaction, or one of the emulator's own actors (no envelope, no fee, no nonce rule)."""

    hash: bytes
    sender: Address
    to: Address
    data: bytes
    gas: int
    envelope: Transaction | None = None
    action: Callable[[Frame], object] | None = attrs.field(default=None, eq=False)
    signature: bytes = bytes(65)
    """r ‖ s ‖ v, v 27 or 28; zeros without an envelope."""

    @property
    def nonce(self) -> int:
        """Return the nonce; 0 for the emulator's own."""
        return 0 if self.envelope is None else self.envelope.nonce

    @property
    def max_fee(self) -> int:
        """Return the most that it pays per gas."""
        return 0 if self.envelope is None else self.envelope.max_fee

    @property
    def tip(self) -> int:
        """Return the most that it pays per gas above the base fee."""
        tip = None if self.envelope is None else self.envelope.max_priority_fee
        return self.max_fee if tip is None else tip

    def price(self, base_fee: int | None) -> int:
        """Return what it pays per gas in a block with this base fee."""
        return self.max_fee if base_fee is None else min(self.max_fee, base_fee + self.tip)


def from_signed(signed: SignedTransaction) -> EmulatedTransaction:
    """Return a decoded signed transaction as something to execute."""
    envelope = signed.transaction
    sent = signed.hash, signed.sender, envelope.to, envelope.data, envelope.gas, envelope
    return EmulatedTransaction(*sent, signature=signed.signature)


@attrs.frozen
class ExecutionOutcome:
    """What executing a transaction did."""

    status: Literal[0, 1]
    gas_used: int
    logs: tuple[Emitted, ...] = ()
    revert_data: bytes | None = None
    error: str = ""
    ran: bool = True
    """Whether code ran: a transaction to an address without any succeeds, and changes nothing there."""

    @property
    def took_effect(self) -> bool:
        """Whether the contract took the transaction."""
        return self.status == 1 and self.ran


@attrs.frozen
class Mined:
    """A transaction with its place and outcome."""

    transaction: EmulatedTransaction
    outcome: ExecutionOutcome
    block_number: int
    block_hash: bytes
    timestamp: int
    index: int
    price: int
    cumulative_gas: int
    logs: tuple[Log, ...]


@attrs.frozen
class Block:
    """One block; an empty one is a small object. ``salt`` tells forks apart."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    salt: int
    base_fee: int | None
    mined: tuple[Mined, ...] = ()
    changes: Changes = attrs.field(default=NO_CHANGES, eq=False)

    @property
    def gas_used(self) -> int:
        """Return the gas of all its transactions."""
        return self.mined[-1].cumulative_gas if self.mined else 0

    @property
    def transactions(self) -> tuple[EmulatedTransaction, ...]:
        """Return its transactions in order."""
        return tuple(mined.transaction for mined in self.mined)


def block_hash(
    parent: bytes, number: int, timestamp: int, salt: int, transactions: tuple[bytes, ...]
) -> bytes:
    """Return the hash of a block: over parent, number, time, salt and transaction hashes."""
    head = parent + number.to_bytes(8) + timestamp.to_bytes(8) + salt.to_bytes(8)
    return keccak256(head + b"".join(transactions))


@attrs.frozen
class Branch:
    """Blocks that were taken off a chain, oldest first, and what they stood on."""

    blocks: tuple[Block, ...]

    @property
    def root(self) -> int:
        """Return the number of the block that the branch stands on."""
        return self.blocks[0].number - 1

    @property
    def transactions(self) -> tuple[EmulatedTransaction, ...]:
        """Return all transactions of the branch in order."""
        return tuple(transaction for block in self.blocks for transaction in block.transactions)


class ChainHistory:
    """The canonical blocks. ``kept``: how many behind the head are kept whole (None: all); of older ones only the headers stay."""

    def __init__(self, genesis: Block, state: ChainState) -> None:
        self.kept: int | None = None
        self.pruned_before = 0
        self._state = state
        self._blocks: list[Block] = [genesis]
        self._mined: dict[bytes, Mined] = {}
        self._loud: list[int] = []

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

    def state_of(self, block: Block, branch: Branch | None = None) -> ChainState:
        """Return the state after a canonical block, or after a block of ``branch``; writes to it are lost."""
        root = block.number if branch is None else min(block.number, branch.root)
        undone = [later.changes for later in reversed(self._blocks[root + 1 :])]
        done = [] if branch is None else [b.changes for b in branch.blocks if b.number <= block.number]
        return self._state.beside(difference(undone, done))
