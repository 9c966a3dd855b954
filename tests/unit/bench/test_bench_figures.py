"""Figures follow from the moments of requests alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import (
    GIVEN,
    SENT,
    STARTED,
    VISIBLE,
    Moments,
    between,
    outcome,
    percentile,
    rate_of,
    spread,
)


def rows(count: int, rate: float, latency: float, *, answer_rate: float | None = None) -> list[Moments]:
    """Return requests at a rate, each answered after this time and not faster than ``answer_rate``."""
    spacing = 1 / (answer_rate or rate)
    return [
        (n / rate, n / rate + 0.01, n / rate + 0.02, n / rate + 0.05, max(n / rate, n * spacing) + latency)
        for n in range(count)
    ]


def test_own_times_are_from_the_event_to_the_start_and_from_the_answer_to_the_sending() -> None:
    found = outcome(rows(100, 10, 0.5), 100, 10)
    assert found.hearing.p50 == pytest.approx(10)
    assert found.sending.p50 == pytest.approx(30)
    assert found.whole.p50 == pytest.approx(500)


def test_a_load_that_is_answered_at_its_rate_is_sustained() -> None:
    found = outcome(rows(100, 10, 0.5), 100, 10)
    assert (found.sustained, round(found.rate, 6)) == (True, 10)


def test_a_load_that_is_answered_late_is_not_sustained() -> None:
    found = outcome(rows(100, 10, 0.5, answer_rate=9), 100, 10)
    assert (found.sustained, round(found.rate, 6)) == (False, 9)


def test_a_load_with_an_open_request_is_not_sustained() -> None:
    *answered, last = rows(100, 10, 0.5)
    found = outcome([*answered, (*last[:4], None)], 100, 10)
    assert (found.sustained, found.answered) == (False, 99)


def test_a_request_that_never_became_visible_counts_as_offered() -> None:
    found = outcome(rows(99, 10, 0.5), 100, 10)
    assert (found.sustained, found.visible, found.offered) == (False, 99, 100)


def test_replies_that_come_all_at_once_are_no_faster_than_their_requests() -> None:
    """A connector that was stuck and then answers a backlog in one block has not answered at an infinite rate."""
    assert rate_of([0.0, 1.0, 2.0], [5.0, 5.0, 5.0]) == 1.0


@pytest.mark.parametrize("answered", [[], [1.0], [None, 1.0]])
def test_of_less_than_two_replies_there_is_no_rate(answered: Sequence[float | None]) -> None:
    assert rate_of([0.0, 1.0], answered) == 0.0


def test_one_block_of_requests_answered_in_one_block_has_no_rate_that_counts() -> None:
    assert rate_of([1.0, 1.0], [2.0, 2.0]) == math.inf


def test_a_row_without_one_of_the_moments_is_left_out() -> None:
    assert between([(0.0, None, None, None, None), (1.0, 1.5, None, None, None)], VISIBLE, STARTED) == [0.5]
    assert between([(0.0, 1.0, None, 2.0, 3.0)], GIVEN, SENT) == []


def test_of_nothing_there_is_no_percentile() -> None:
    assert (spread([]).p50, spread([]).most, spread([]).count) == (None, None, 0)


def test_the_nearest_rank_is_a_value_that_occurred() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.99), percentile(ordered, 1.0)) == (50, 99, 100)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_has_its_share_of_values_at_or_below(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found is not None
    below = sum(value <= found for value in ordered)
    assert below >= share * len(ordered) - 1e-9


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_spreads_are_ordered(values: list[float]) -> None:
    found = spread(values)
    assert found.p50 is not None
    assert found.p99 is not None
    assert found.most is not None
    assert found.p50 <= found.p99 <= found.most == 1000 * max(values)
