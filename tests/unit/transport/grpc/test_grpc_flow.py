"""Credit that we give, windows that we are given, and who may come in."""

from __future__ import annotations

import pytest

from kmsconn.transport.grpc.frames import LARGEST_WINDOW, Allowance, Claim, Credit, Window


@pytest.mark.parametrize(("taken", "granted"), [([49], 0), ([30, 20], 50), ([100], 100)])
def test_credit_is_granted_again_once_half_of_it_is_used_up(taken: list[int], granted: int) -> None:
    credit = Credit(100)
    assert [credit.take(size) for size in taken] == [True] * len(taken)
    assert credit.grant() == granted
    assert credit.left == 100 - sum(taken) + granted


def test_a_byte_more_than_the_credit_is_too_much() -> None:
    assert not Credit(100).take(101)


def test_a_window_may_become_negative_and_is_never_larger_than_31_bits() -> None:
    window = Window(10)
    assert window.widen(-30)
    assert window.left == -20
    assert Window(0).widen(LARGEST_WINDOW)
    assert not Window(1).widen(LARGEST_WINDOW)


@pytest.mark.parametrize(
    ("asked", "at_once", "given_back", "then", "used"),
    [
        pytest.param([60, 40], [0, 1], 0, [], 40, id="what fits is let in"),
        pytest.param([60, 50], [0], 0, [1], 50, id="what does not waits for room"),
        pytest.param([60, 90, 10], [0], 0, [1, 2], 100, id="nobody overtakes who asked before"),
        pytest.param([60, 90, 40], [0], 1, [2], 100, id="who leaves while waiting lets the next one pass"),
        pytest.param([500, 1], [0], 0, [1], 1, id="one alone may be larger than all there is"),
    ],
)
def test_who_may_come_in_and_who_waits(
    asked: list[int], at_once: list[int], given_back: int, then: list[int], used: int
) -> None:
    allowance, let_in, claims = Allowance(100), list[int](), list[Claim]()
    for name, size in enumerate(asked):
        claims.append(allowance.ask(size, lambda name=name: let_in.append(name)))  # type: ignore[misc]
    assert let_in == at_once
    assert allowance.used == sum(asked[name] for name in at_once)
    allowance.give_back(claims[given_back])
    assert let_in == [*at_once, *then]
    assert allowance.used == used


def test_all_is_free_once_all_is_given_back() -> None:
    allowance = Allowance(100)
    for claim in [allowance.ask(30 + number, lambda: None) for number in range(20)]:
        allowance.give_back(claim)
    assert allowance.used == 0
    assert not allowance._waiting
