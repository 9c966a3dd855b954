"""Fees: the market's price, replacements, limits, jumps, and how often the market is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.chain.port import RpcError
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.transactions import Transaction
from kmsconn.model.events import Severity
from kmsconn.replies.fees import (
    CURRENT,
    FEE_HISTORY,
    GAS_PRICE,
    JUMP,
    FeeHistory,
    FeeLimits,
    Market,
    Price,
    bumped,
    market_fees,
    new_transaction,
    read_history,
    repriced,
)
from kmsconn.replies.state import TxAlerts, tell_market

TO = Address(b"\x01" * 20)
gas_price = Price


def at(nonce: int, price: Price) -> Transaction:
    return new_transaction(7, TO, b"data", 100, nonce=nonce, price=price)


amounts = st.integers(0, 2**80)


@pytest.mark.parametrize(
    ("rewards", "priority"), [([], 1), ([0, 0], 1), ([5], 5), ([3, 0, 5], 4), ([9, 1, 5], 5), ([1, 2], 1)]
)
def test_the_priority_is_the_median_of_what_was_paid_and_at_least_1_wei(
    rewards: list[int], priority: int
) -> None:
    assert read_history({"reward": [[hex(reward)] for reward in rewards]}) == priority


@pytest.mark.parametrize(("rewards", "priority"), [([["0x2", "0x99"], ["0x4"], []], 3), (None, 1), ([], 1)])
def test_a_history_is_read_at_its_first_percentile_and_gives_at_least_1_wei(
    rewards: Any, priority: int
) -> None:
    assert read_history({"reward": rewards}) == priority


def test_the_max_fee_is_twice_the_base_fee_and_the_priority() -> None:
    assert market_fees(100, 3) == Price(203, 3)


@pytest.mark.parametrize("history", [None, {}, {"reward": [["x"]]}, {"reward": [[None]]}, []])
def test_a_history_of_another_form_is_refused(history: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be decoded|quantity"):
        read_history(history)


def test_a_request_takes_the_form_that_its_price_asks_for() -> None:
    assert at(4, Price(9, 2)) == Transaction(7, 4, 2, 9, 100, TO, 0, b"data")
    assert at(4, gas_price(9)) == Transaction(7, 4, None, 9, 100, TO, 0, b"data")


@given(amounts, amounts, amounts, amounts)
def test_a_replacement_pays_an_eighth_more_and_no_less_than_the_market(
    fee: int, priority: int, market: int, market_priority: int
) -> None:
    old = at(4, Price(fee + priority, priority))
    new = repriced(old, Price(market + market_priority, market_priority), held=True)
    assert old.max_priority_fee is not None
    assert new.max_priority_fee is not None
    assert new.max_fee >= market + market_priority
    assert 8 * new.max_fee >= 9 * old.max_fee
    assert 8 * new.max_priority_fee >= 9 * old.max_priority_fee
    assert new.max_fee >= new.max_priority_fee
    assert (new.nonce, new.gas, new.data) == (old.nonce, old.gas, old.data)


@given(amounts, amounts)
def test_a_legacy_replacement_likewise(price: int, market: int) -> None:
    old = at(4, gas_price(price))
    for now in (gas_price(market), Price(market, 1)):
        new = repriced(old, now, held=True)
        assert new.is_legacy
        assert new.max_fee >= bumped(price)
    assert repriced(at(4, Price(16, 8)), gas_price(1), held=True) == at(4, Price(18, 9)), (
        "only a gas price is known"
    )


def test_bytes_that_no_node_holds_are_repriced_to_the_market_downwards_too() -> None:
    old = at(4, Price(10**30, 10**20))
    assert repriced(old, Price(203, 3), held=False) == at(4, Price(203, 3))
    assert repriced(at(4, gas_price(10**30)), gas_price(7), held=False) == at(4, gas_price(7))


LIMITS = FeeLimits(fee=1000, priority=50, cost=100_000)


@pytest.mark.parametrize(
    ("price", "named"),
    [
        (market_fees(2**120, 3), "max_fee_per_gas"),
        (market_fees(100, 51), "max_priority_fee_per_gas"),
        (gas_price(1001), "max_fee_per_gas"),
    ],
)
def test_a_price_beyond_a_limit_is_refused_with_figures_and_the_option(price: Any, named: str) -> None:
    assert LIMITS.refusal(market_fees(900, 50)) == ""
    said = LIMITS.refusal(price)
    assert named in said
    assert "gwei" in said


def test_the_margin_of_a_fee_gives_way_to_the_limits_and_its_need_does_not() -> None:
    assert LIMITS.for_gas(market_fees(600, 10), 100) == Price(1000, 10)
    assert LIMITS.for_gas(market_fees(600, 10), 150) == Price(666, 10)
    assert LIMITS.for_gas(market_fees(600, 10), 164) is None


@pytest.mark.parametrize(
    ("fee", "priority", "gas"), [(1000, 50, 100), (1001, 50, 1), (1000, 51, 1), (1000, 50, 101)]
)
def test_a_transaction_beyond_any_limit_is_not_allowed(fee: int, priority: int, gas: int) -> None:
    transaction = Transaction(1, 4, priority, fee, gas, TO, 0, b"")
    assert LIMITS.allows(transaction) is ((fee, priority, gas) == (1000, 50, 100))


def test_a_jump_far_above_the_median_waits_for_another_look() -> None:
    history = FeeHistory()
    for head in range(1, 4):
        history.accepts(gas_price(100), head, 0.0)
    assert history.median == 100
    assert history.accepts(gas_price(100 * JUMP), 4, 0.0)
    assert not history.accepts(gas_price(100 * JUMP + 1), 5, 0.0)
    assert history.accepts(gas_price(100), 5, 0.0)
    assert not history.accepts(gas_price(10**9), 6, 0.0)
    assert not history.accepts(gas_price(10**9), 6, 1.0)
    assert history.accepts(gas_price(10**9), 7, 1.0)


def test_a_second_look_confirms_only_what_the_first_one_said() -> None:
    history = FeeHistory()
    history.accepts(gas_price(100), 1, 0.0)
    history.accepts(gas_price(100), 2, 0.0)
    assert not history.accepts(gas_price(1000), 3, 0.0)
    assert not history.accepts(gas_price(10**9), 4, 0.0)
    assert history.accepts(gas_price(10**9), 5, 0.0)


def test_the_first_price_of_all_waits_for_another_look_and_a_lower_one_is_taken() -> None:
    history = FeeHistory()
    assert not history.accepts(gas_price(10**9), 1, 0.0)
    assert history.accepts(gas_price(100), 2, 0.0)
    assert history.median == 100


BASE_FEE, HEAD = 100, 10
NO_LIMITS = FeeLimits(2**200, 2**200, 2**250)


def market_with(answer: Any, at: float = 0.0, base_fee: int | None = BASE_FEE) -> Market:
    """Return a market with one answer, its history begun."""
    market = Market(NO_LIMITS)
    judged(market, answer, base_fee, at)
    return market


def judged(market: Market, answer: Any, base_fee: int | None = BASE_FEE, at: float = 0.0) -> None:
    """Let two looks at the chain follow, each with the answer."""
    for head in (HEAD - 1, HEAD):
        market.take(GAS_PRICE if base_fee is None else FEE_HISTORY, answer, at)
        market.judge(base_fee, head, at)


def test_the_market_is_asked_once_for_a_while() -> None:
    market = market_with({"reward": [["0x3"]]})
    assert market.price == Price(203, 3)
    assert market.question(BASE_FEE, CURRENT - 0.1) is None
    market.judge(50, HEAD, CURRENT - 0.1)
    assert market.price == Price(103, 3)
    assert market.question(BASE_FEE, CURRENT) is FEE_HISTORY


def test_a_chain_without_base_fee_is_asked_for_its_gas_price_and_zero_is_one() -> None:
    assert Market(NO_LIMITS).question(None, 0.0) is GAS_PRICE
    assert market_with("0x9", base_fee=None).price == gas_price(9)
    assert market_with({"reward": [["0x3"]]}, base_fee=0).price == Price(3, 3)


async def test_the_last_answer_serves_when_the_market_does_not_answer_and_the_alert_says_so() -> None:
    events: list[Any] = []
    market = market_with({"reward": [["0x3"]]})
    market.take(FEE_HISTORY, RpcError(-32000, "busy"), 60.0)
    market.judge(1, HEAD, 60.0)
    assert market.price == Price(5, 3)
    tell_market(TxAlerts("txmanager gateway", events.append), market)
    [alert] = events
    assert alert.text == "the connector pays the last known price: eth_feeHistory: -32000: busy"
    assert alert.severity is Severity.WARNING


@pytest.mark.parametrize("answer", [RpcError(-32601, "no such method"), {"reward": "x"}, None])
def test_a_market_that_never_answered_gives_no_price_and_says_why(answer: Any) -> None:
    market = market_with(answer)
    assert market.price is None
    assert "eth_feeHistory" in market.failure


def test_a_wild_base_fee_is_refused_with_figures() -> None:
    market = Market(LIMITS)
    judged(market, {"reward": [["0x3"]]}, 2**120)
    assert market.price is None
    assert "max_fee_per_gas" in market.refusal
