"""What a transaction may cost: market fees, replacements, and the transactions that carry them. Never imports trio.

Source: fhevm-0.14.md 8.3 steps 2 and 4; EIP-1559. ``FeeReader`` is the only part that asks anybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity
from kmsconn.ethereum.transactions import Eip1559Transaction, LegacyTransaction, Transaction

Batch = Callable[[Sequence[Call]], Awaitable[list[Any]]]

LEAST_PRIORITY = 1  # wei
HISTORY = Call("eth_feeHistory", ("0xa", "latest", [20]))
GAS_PRICE = Call("eth_gasPrice")


@attrs.frozen
class Fees:
    """Wei for a unit of gas on a chain with a fee market (EIP-1559)."""

    max_fee: int
    priority: int


@attrs.frozen
class GasPrice:
    """Wei for a unit of gas on a chain without base fee."""

    price: int


Price = Fees | GasPrice


@attrs.frozen
class Errand:
    """A transaction without nonce and fee: whom it calls with what, and its gas limit."""

    chain_id: int
    to: Address
    data: bytes
    gas: int

    def at(self, nonce: int, price: Price) -> Transaction:
        """Return the transaction with this nonce at this price."""
        if isinstance(price, GasPrice):
            return LegacyTransaction(self.chain_id, nonce, price.price, self.gas, self.to, 0, self.data)
        return Eip1559Transaction(
            self.chain_id, nonce, price.priority, price.max_fee, self.gas, self.to, 0, self.data
        )


def gas_limit(estimate: int, multiplier_percent: int) -> int:
    """Return the gas limit for an estimate, rounded down."""
    return estimate * multiplier_percent // 100


def market_fees(base_fee: int, priority: int) -> Fees:
    """Return twice the base fee and the priority fee: it stays valid while the base fee doubles."""
    return Fees(2 * base_fee + priority, priority)


def median_priority(rewards: Sequence[int]) -> int:
    """Return the median of the rewards that are not zero (the mean of the middle two), at least 1 wei."""
    paid = sorted(reward for reward in rewards if reward)
    if not paid:
        return LEAST_PRIORITY
    middle = len(paid) // 2
    median = paid[middle] if len(paid) % 2 else (paid[middle - 1] + paid[middle]) // 2
    return max(median, LEAST_PRIORITY)


def read_history(history: Any) -> int:
    """Return the priority fee that an ``eth_feeHistory`` with one percentile suggests. Raises ValueError."""
    try:
        return median_priority([from_quantity(block[0]) for block in history["reward"] or () if block])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError("a fee history that cannot be read") from error


def bumped(fee: int) -> int:
    """Return the least fee that replaces ``fee`` in every pool: an eighth more, rounded up."""
    return fee + -(-fee // 8)


def replacement(old: Transaction, price: Price) -> Transaction:
    """Return the same transaction at the market's price, but for at least an eighth more than before."""
    if isinstance(old, LegacyTransaction):
        market = price.price if isinstance(price, GasPrice) else 0
        return attrs.evolve(old, gas_price=max(bumped(old.gas_price), market))
    market_fee, priority = (price.max_fee, price.priority) if isinstance(price, Fees) else (0, 0)
    return attrs.evolve(
        old,
        max_priority_fee=max(bumped(old.max_priority_fee), priority),
        max_fee=max(bumped(old.max_fee), market_fee),
    )


KEPT = 3.0  # seconds for which a price is taken as current


@attrs.define
class FeeReader:
    """Asks the market, at most once in ``KEPT`` seconds, for the priority fee or the gas price."""

    batch: Batch
    clock: Callable[[], float]
    _answers: dict[str, tuple[float, int]] = attrs.field(factory=dict)

    async def price(self, base_fee: int | None) -> Price:
        """Return the price for now; ``base_fee`` is the latest block's, None on a chain without one.

        Raises Retryable when the market cannot be asked and never could. Repeating: reads only.
        """
        if base_fee is None:
            return GasPrice(await self._fresh(GAS_PRICE, from_quantity))
        return market_fees(base_fee, await self._fresh(HISTORY, read_history))

    async def _fresh(self, question: Call, read: Callable[[Any], int]) -> int:
        at, answer = self._answers.get(question.method, (float("-inf"), 0))
        if self.clock() - at < KEPT:
            return answer
        [result] = await self.batch([question])
        try:
            answer = self._understood(question, result, read)
        except Unreachable:
            if question.method not in self._answers:
                raise
        self._answers[question.method] = self.clock(), answer
        return answer

    @staticmethod
    def _understood(question: Call, result: Any, read: Callable[[Any], int]) -> int:
        if isinstance(result, RpcError):
            raise Unreachable(f"{question.method}: {result}") from result
        try:
            return read(result)
        except (ValueError, TypeError) as error:
            raise Unreachable(f"{question.method} gave what cannot be read") from error
