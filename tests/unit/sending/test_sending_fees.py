"""Fees: the market's price, replacements, and how often the market is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.transactions import Eip1559Transaction, LegacyTransaction
from kmsconn.sending.fees import (
    KEPT,
    Errand,
    FeeReader,
    Fees,
    GasPrice,
    bumped,
    gas_limit,
    market_fees,
    median_priority,
    read_history,
    replacement,
)

TO = Address(b"\x01" * 20)
ERRAND = Errand(7, TO, b"data", 100)
amounts = st.integers(0, 2**80)


@pytest.mark.parametrize(
    ("rewards", "priority"),
    [([], 1), ([0, 0], 1), ([5], 5), ([3, 0, 5], 4), ([9, 1, 5], 5), ([1, 2], 1)],
)
def test_the_priority_is_the_median_of_what_was_paid_and_at_least_1_wei(
    rewards: list[int], priority: int
) -> None:
    assert median_priority(rewards) == priority


def test_a_history_is_read_at_its_first_percentile() -> None:
    assert read_history({"reward": [["0x2", "0x99"], ["0x4"], []]}) == 3


@pytest.mark.parametrize("history", [{"reward": None}, {"reward": []}])
def test_a_history_without_rewards_gives_the_least_priority(history: Any) -> None:
    assert read_history(history) == 1


@pytest.mark.parametrize("history", [None, {}, {"reward": [["x"]]}, {"reward": [[None]]}, []])
def test_a_history_of_another_form_is_refused(history: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|quantity"):
        read_history(history)


def test_the_max_fee_is_twice_the_base_fee_and_the_priority() -> None:
    assert market_fees(100, 3) == Fees(203, 3)


def test_the_gas_limit_is_rounded_down() -> None:
    assert gas_limit(333, 115) == 382


def test_an_errand_takes_the_form_that_its_price_asks_for() -> None:
    assert ERRAND.at(4, Fees(9, 2)) == Eip1559Transaction(7, 4, 2, 9, 100, TO, 0, b"data")
    assert ERRAND.at(4, GasPrice(9)) == LegacyTransaction(7, 4, 9, 100, TO, 0, b"data")


@given(amounts, amounts, amounts, amounts)
def test_a_replacement_pays_an_eighth_more_and_no_less_than_the_market(
    fee: int, priority: int, market: int, market_priority: int
) -> None:
    old = ERRAND.at(4, Fees(fee + priority, priority))
    new = replacement(old, Fees(market + market_priority, market_priority))
    assert isinstance(old, Eip1559Transaction)
    assert isinstance(new, Eip1559Transaction)
    assert new.max_fee >= market + market_priority
    assert 8 * new.max_fee >= 9 * old.max_fee
    assert 8 * new.max_priority_fee >= 9 * old.max_priority_fee
    assert new.max_fee >= new.max_priority_fee
    assert (new.nonce, new.gas, new.data) == (old.nonce, old.gas, old.data)


@given(amounts, amounts)
def test_a_legacy_replacement_likewise(price: int, market: int) -> None:
    old = ERRAND.at(4, GasPrice(price))
    for now in (GasPrice(market), Fees(market, 1)):
        new = replacement(old, now)
        assert isinstance(new, LegacyTransaction)
        assert new.gas_price >= bumped(price)


def test_a_typed_transaction_is_bumped_where_only_a_gas_price_is_known() -> None:
    assert replacement(ERRAND.at(4, Fees(16, 8)), GasPrice(1)) == ERRAND.at(4, Fees(18, 9))


class Market:
    """Answers from a list; counts the questions."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.now = 100.0

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        self.asked += [call.method for call in calls]
        return [self.answers.pop(0)]

    def reader(self) -> FeeReader:
        return FeeReader(self.batch, lambda: self.now)


async def test_the_market_is_asked_once_for_a_while() -> None:
    market = Market({"reward": [["0x3"]]}, {"reward": [["0x5"]]})
    reader = market.reader()
    assert await reader.price(100) == Fees(203, 3)
    market.now += KEPT - 0.1
    assert await reader.price(50) == Fees(103, 3)
    market.now += 0.2
    assert await reader.price(50) == Fees(105, 5)
    assert market.asked == ["eth_feeHistory"] * 2


async def test_a_chain_without_base_fee_is_asked_for_its_gas_price() -> None:
    market = Market("0x9")
    assert await market.reader().price(None) == GasPrice(9)
    assert market.asked == ["eth_gasPrice"]


async def test_a_base_fee_of_zero_is_a_base_fee() -> None:
    assert await Market({"reward": [["0x3"]]}).reader().price(0) == Fees(3, 3)


async def test_the_last_answer_serves_when_the_market_does_not_answer() -> None:
    market = Market({"reward": [["0x3"]]}, RpcError(-32000, "busy"))
    reader = market.reader()
    await reader.price(1)
    market.now += KEPT
    assert await reader.price(1) == Fees(5, 3)


@pytest.mark.parametrize("answer", [RpcError(-32601, "no such method"), {"reward": "x"}, None])
async def test_a_market_that_never_answered_is_trouble(answer: Any) -> None:
    with pytest.raises(Unreachable):
        await Market(answer).reader().price(1)
