"""What a unit of gas costs now, as far as nodes are believed. Pure; the questioner asks.

The base fee comes with each look at the chain, the priority fee (or the gas price) from a question of its own. A price that jumps far
above the recent median waits for another look; one beyond the operator's limits is not used at all, and the reason has the figures.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.ethereum.hexes import from_quantity
from kmsconn.rpc.port import Call
from kmsconn.txmanager.fees import FeeHistory, FeeLimits, GasPrice, Price, in_gwei, market_fees, read_history
from kmsconn.txmanager.questions import FEE_HISTORY, GAS_PRICE
from kmsconn.txmanager.view import ChainView

CURRENT = 3.0  # seconds for which an answer is taken as current
AGAIN_AFTER = 0.25  # seconds until an answer is asked for again that another one has to confirm
USABLE = 30.0  # seconds for which it is used while a newer one is on its way


@attrs.define
class Market:
    """The price on one chain. ``refusal`` says why there is none; empty when nobody was asked yet."""

    limits: FeeLimits
    history: FeeHistory = attrs.field(factory=FeeHistory)
    price: Price | None = None
    refusal: str = ""
    beyond: bool = False
    """The refusal is the operator's limit."""
    asked: bool = False
    failure: str = ""
    """Why the last question found no answer; empty when it found one."""
    _answer: int | None = None
    _at: float = float("-inf")
    _due: float = float("-inf")
    _suspected: bool = False
    """The last answer made a price that another one has to confirm."""

    def question(self, chain: ChainView, now: float) -> Call | None:
        """Return the question that is due, None while the last answer is current or one is on its way."""
        if self.asked or now < self._due:
            return None
        return GAS_PRICE if chain.base_fee is None else FEE_HISTORY

    def take(self, question: Call, result: Any, now: float) -> None:
        """Take an answer; one that cannot be read leaves the last one in use."""
        self.asked, self._suspected = False, False
        self._at, self._due = now, now + CURRENT
        try:
            self._answer = _read(question, result)
            self.failure = ""
        except (ValueError, TypeError, KmsconnError) as error:
            self.failure = f"{question.method}: {error}"

    def judge(self, chain: ChainView, now: float) -> None:
        """Find the price for a look at the chain."""
        self.price = None
        if self._suspected:
            return
        self.refusal, self.beyond = self.failure, False
        if self._answer is None or (now - self._at > USABLE and not self.failure):
            return
        price = self._offered(chain, self._answer)
        if not self.history.accepts(price, chain.number, now):
            self._suspected, self._due = True, now + AGAIN_AFTER
            self.refusal = self._jump(price)
            return
        self.refusal = self.limits.refusal(price)
        self.beyond = bool(self.refusal)
        self.price = None if self.beyond else price.at_most(self.limits.fee)

    @staticmethod
    def _offered(chain: ChainView, answer: int) -> Price:
        return GasPrice(answer) if chain.base_fee is None else market_fees(chain.base_fee, answer)

    def _jump(self, price: Price) -> str:
        median = self.history.median
        if median is None:
            return ""
        return f"a unit of gas costs {in_gwei(price.needed)}, lately {in_gwei(median)}: another look has to confirm it"


def _read(question: Call, result: Any) -> int:
    if isinstance(result, KmsconnError):
        raise result
    return from_quantity(result) if question is GAS_PRICE else read_history(result)
