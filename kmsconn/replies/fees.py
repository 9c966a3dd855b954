"""What a transaction may cost: the market's price, the operator's limits, replacements, and the transactions that carry them. Pure.

The base fee comes with each look at the chain; ``asking`` asks for the priority fee, or for the gas price. A price that jumps far
above the recent median waits for another look; one beyond a limit is not used at all, and the reason has the figures.
Source: fhevm-0.14.md 8.3 steps 2 and 4; EIP-1559.
"""

from __future__ import annotations

from collections import deque
from statistics import median_high, median_low
from typing import Any

import attrs

from kmsconn.chain.port import Call, JsonFeeHistory, read
from kmsconn.errors import KmsconnError
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity
from kmsconn.ethereum.transactions import Transaction, in_ether, in_gwei
from kmsconn.frozen import frozen
from kmsconn.model.debounce import Suspicion

LEAST_PRIORITY = 1  # wei
FEE_HISTORY = Call("eth_feeHistory", ("0xa", "latest", [20]))
GAS_PRICE = Call("eth_gasPrice")


@frozen
class Price:
    """Wei for a unit of gas: the most to pay, and of it the priority fee (EIP-1559). ``needed`` is what a block takes now.

    Without a priority fee it is the gas price of a chain that has no base fee, which is all that.
    """

    max_fee: int
    priority: int | None = None
    needed: int = attrs.field(default=attrs.Factory(lambda self: self.max_fee, takes_self=True), eq=False)

    def at_most(self, wei: int) -> Price:
        """Return this price with a lower limit, not below what is needed now."""
        return Price(max(self.needed, min(self.max_fee, wei)), self.priority, self.needed)


def new_transaction(
    chain_id: int, to: Address, data: bytes, gas: int, *, nonce: int, price: Price
) -> Transaction:
    """Return the transaction that calls ``to`` with ``data``, with this nonce at this price."""
    return Transaction(chain_id, nonce, price.priority, price.max_fee, gas, to, 0, data)


def market_fees(base_fee: int, priority: int) -> Price:
    """Return twice the base fee and the priority fee: it stays valid while the base fee doubles."""
    return Price(2 * base_fee + priority, priority, base_fee + priority)


def read_history(history: Any) -> int:
    """Return the priority fee that an ``eth_feeHistory`` with one percentile suggests: the median, at least 1 wei. Raises ValueError.

    The median is that of the rewards that are not zero, the mean of the middle two.
    """
    try:
        rewards = read(history, JsonFeeHistory).reward or ()
        paid = [fee for block in rewards if block and (fee := from_quantity(block[0]))]
    except ValueError as error:
        raise ValueError("the node's fee history cannot be decoded") from error
    return max(LEAST_PRIORITY, (median_low(paid) + median_high(paid)) // 2) if paid else LEAST_PRIORITY


def bumped(fee: int) -> int:
    """Return the least fee that replaces ``fee`` in every pool: an eighth more, rounded up."""
    return fee + -(-fee // 8)


def repriced(old: Transaction, price: Price, *, held: bool) -> Transaction:
    """Return the same transaction at the market's price; where a node may hold its bytes, for at least an eighth more than before."""
    is_alike = (price.priority is None) is old.is_legacy
    fee, priority = (price.max_fee, price.priority or 0) if is_alike else (0, 0)
    if held or not is_alike:
        fee, priority = max(fee, bumped(old.max_fee)), max(priority, bumped(old.max_priority_fee or 0))
    return attrs.evolve(old, max_priority_fee=None if old.is_legacy else priority, max_fee=fee)


# --- limits


@attrs.frozen
class FeeLimits:
    """What an operator lets a reply cost at most: wei for a unit of gas, of it for the priority fee, and for one reply."""

    fee: int
    priority: int
    cost: int

    def refusal(self, price: Price) -> str:
        """Return why nothing is signed at a price, with the figures; empty when it is within the limits."""
        if price.needed > self.fee:
            return f"the gas price is {in_gwei(price.needed)}, the limit is {in_gwei(self.fee)} (max_fee_per_gas)"
        if (price.priority or 0) > self.priority:
            return (
                f"the priority fee is {in_gwei(price.priority or 0)}, the limit is {in_gwei(self.priority)} "
                "(max_priority_fee_per_gas)"
            )
        return ""

    def affords(self, price: Price, gas: int) -> bool:
        """Say whether a reply with this gas limit may cost what is needed now."""
        return gas * price.needed <= self.cost

    def for_gas(self, price: Price, gas: int) -> Price | None:
        """Return the price at which a reply with this gas limit stays within the limits; None when none does."""
        if not self.affords(price, gas):
            return None
        return price.at_most(min(self.fee, self.cost // max(1, gas)))

    def allows(self, transaction: Transaction) -> bool:
        """Say whether a transaction is within the limits."""
        return (
            transaction.max_fee <= self.fee
            and (transaction.max_priority_fee or 0) <= self.priority
            and transaction.most_cost <= self.cost
        )

    def too_dear(self, price: Price, gas: int) -> str:
        """Return why a reply with this gas limit is not signed, with the figures."""
        return (
            f"a reply with {gas} gas at {in_gwei(price.needed)} costs {in_ether(gas * price.needed)}, "
            f"allowed are {in_ether(self.cost)} (max_reply_cost)"
        )


# --- jumps

JUMP = 8  # times the recent median: an honest base fee needs 18 full blocks for that (EIP-1559)
_SAMPLES = 64
CONFIRM_AFTER = 3.0  # seconds; on a chain that makes no blocks


@attrs.define
class FeeHistory:
    """The prices of the last looks: one that is far above their median is believed only when another look says so too."""

    _needed: deque[int] = attrs.field(factory=lambda: deque(maxlen=_SAMPLES))
    median: int | None = attrs.field(default=None, init=False)
    """The median of what a unit of gas cost lately, in wei; None before two looks agreed."""
    _jump: Suspicion | None = None
    _claimed: int = 0

    def accepts(self, price: Price, head: int, now: float) -> bool:
        """Take the price of a look at ``head``; say whether it may be used: no jump, or one that a later look confirms."""
        if self.median is None or price.needed > JUMP * max(1, self.median):
            if not self._confirms(price.needed, head, now):
                return False
            self._needed.clear()
        self._jump = None
        self._needed.append(price.needed)
        self.median = median_low(self._needed)
        return True

    def _confirms(self, needed: int, head: int, now: float) -> bool:
        if self._jump is None or needed > JUMP * max(1, self._claimed):
            self._jump, self._claimed = None, needed
        self._jump = Suspicion.noted(self._jump, head, now)
        return self._jump.is_confirmed(CONFIRM_AFTER)


# --- the market

CURRENT = 3.0  # seconds until the market is asked again; the last answer is used until then, and until there is a newer one
ASKED_AGAIN_AFTER = 0.25  # likewise, after an answer that another one has to confirm


@attrs.define
class Market:
    """The price on one chain. ``refusal`` says which of the operator's limits it is beyond, where there is none for that."""

    limits: FeeLimits
    history: FeeHistory = attrs.field(factory=FeeHistory)
    price: Price | None = None
    refusal: str = ""
    failure: str = ""
    """Why the last question found no answer; empty when it found one."""
    reply_cost: int | None = None
    """What the last signed reply may cost at most, in wei."""
    _answer: int | None = None
    """None before there was one, and after one that made a price which another one has to confirm."""
    _due: float = float("-inf")

    def question(self, base_fee: int | None, now: float) -> Call | None:
        """Return the question that is due, which is on its way then; None while the last answer is current or one is on its way."""
        if now < self._due:
            return None
        self._due = float("inf")
        return GAS_PRICE if base_fee is None else FEE_HISTORY

    def take(self, question: Call, result: Any, now: float) -> None:
        """Take an answer; one that cannot be read leaves the last one in use."""
        self._due = now + CURRENT
        try:
            if isinstance(result, KmsconnError):
                raise result
            self._answer = from_quantity(result) if question is GAS_PRICE else read_history(result)
            self.failure = ""
        except (ValueError, TypeError, KmsconnError) as error:
            self.failure = f"{question.method}: {error}"

    def judge(self, base_fee: int | None, head: int, now: float) -> None:
        """Find the price for a look at the chain; ``base_fee`` None: it has no fee market."""
        self.price, answer = None, self._answer
        if answer is None:
            return
        price = Price(answer) if base_fee is None else market_fees(base_fee, answer)
        if not self.history.accepts(price, head, now):
            self._answer, self._due = None, min(self._due, now + ASKED_AGAIN_AFTER)
            return
        self.refusal = self.limits.refusal(price)
        if not self.refusal:
            self.price = price.at_most(self.limits.fee)
