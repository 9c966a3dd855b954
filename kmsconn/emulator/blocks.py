"""Blocks, transactions and logs of an emulated chain, as immutable values. Executes nothing and formats nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from kmsconn.emulator.execution import Emitted, Frame
from kmsconn.emulator.state import NO_CHANGES, Changes
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.transactions import Eip1559Transaction, LegacyTransaction, SignedTransaction

Envelope = Eip1559Transaction | LegacyTransaction


@attrs.frozen
class Transaction:
    """Something to execute: a signed transaction, or one of the emulator's own actors (no envelope, no fee, no nonce rule)."""

    hash: bytes
    sender: Address
    to: Address
    data: bytes
    gas: int
    envelope: Envelope | None = None
    action: Callable[[Frame], object] | None = attrs.field(default=None, eq=False)

    @property
    def nonce(self) -> int:
        """Return the nonce; 0 for the emulator's own."""
        return 0 if self.envelope is None else self.envelope.nonce

    @property
    def max_fee(self) -> int:
        """Return the most that it pays per gas."""
        match self.envelope:
            case None:
                return 0
            case LegacyTransaction():
                return self.envelope.gas_price
            case Eip1559Transaction():
                return self.envelope.max_fee

    @property
    def tip(self) -> int:
        """Return the most that it pays per gas above the base fee."""
        match self.envelope:
            case Eip1559Transaction():
                return self.envelope.max_priority_fee
            case _:
                return self.max_fee

    def price(self, base_fee: int | None) -> int:
        """Return what it pays per gas in a block with this base fee."""
        return self.max_fee if base_fee is None else min(self.max_fee, base_fee + self.tip)


def from_signed(signed: SignedTransaction) -> Transaction:
    """Return a decoded signed transaction as something to execute."""
    envelope = signed.transaction
    return Transaction(signed.hash, signed.sender, envelope.to, envelope.data, envelope.gas, envelope)


@attrs.frozen
class ExecutionOutcome:
    """What executing a transaction did."""

    status: Literal[0, 1]
    gas_used: int
    logs: tuple[Emitted, ...] = ()
    revert_data: bytes | None = None
    error: str = ""


@attrs.frozen
class Mined:
    """A transaction with its place and outcome."""

    transaction: Transaction
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
    def transactions(self) -> tuple[Transaction, ...]:
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
    def transactions(self) -> tuple[Transaction, ...]:
        """Return all transactions of the branch in order."""
        return tuple(transaction for block in self.blocks for transaction in block.transactions)
