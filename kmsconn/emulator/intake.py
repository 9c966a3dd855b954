"""Signed transactions as they reach an emulated chain: checked, told of, and put into its pool. Executes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from kmsconn.emulator.blocks import Transaction, from_signed
from kmsconn.emulator.evm import EmulatedEvm
from kmsconn.emulator.execution import intrinsic_gas
from kmsconn.emulator.node_error import INVALID_PARAMS, NodeError, refused
from kmsconn.emulator.pool import TransactionPool
from kmsconn.emulator.submission import Submission
from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.transactions import decode_transaction


def _nobody(_: Transaction) -> None:
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
    on_submit: Callable[[Transaction], None] = _nobody

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

    def _arrived(self, raw: bytes) -> Transaction:
        transaction = self.check(raw)
        self.on_submit(transaction)
        return transaction

    def pending_nonce(self, sender: Address) -> int:
        """Return the next nonce of ``sender`` after everything that waits."""
        return self.pool.pending_nonce(sender, self._evm.account(sender).nonce)

    def take(self) -> list[Transaction]:
        """Take out what the next block holds, in order."""
        return self.pool.take(self._evm.account, self._base_fee(), self.gas_limit)

    def give_back(self, transactions: Iterable[Transaction]) -> None:
        """Let transactions wait again whose nonces were not used."""
        self.pool.give_back(t for t in transactions if t.nonce >= self._evm.account(t.sender).nonce)
