"""Figures follow from the moments of requests alone."""

from __future__ import annotations

import math

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


def test_a_load_is_sustained_if_all_of_it_is_answered_at_its_rate() -> None:
    well = outcome(rows(100, 10, 0.5), 100, 10)
    assert (well.sustained, round(well.rate, 6)) == (True, 10)
    late = outcome(rows(100, 10, 0.5, answer_rate=9), 100, 10)
    assert (late.sustained, round(late.rate, 6)) == (False, 9)
    *answered, last = rows(100, 10, 0.5)
    one_open = outcome([*answered, (*last[:4], None)], 100, 10)
    assert (one_open.sustained, one_open.answered) == (False, 99)
    invisible = outcome(rows(99, 10, 0.5), 100, 10)
    assert (invisible.sustained, invisible.visible, invisible.offered) == (False, 99, 100)


@pytest.mark.parametrize(
    ("visible", "answered", "rate"),
    [
        pytest.param(
            [0.0, 1.0, 2.0], [5.0, 5.0, 5.0], 1.0, id="a backlog in one block is no faster than its requests"
        ),
        pytest.param([1.0, 1.0], [2.0, 2.0], math.inf, id="one block of requests in one block"),
        *(([0.0, 1.0], few, 0.0) for few in ([], [1.0], [None, 1.0])),
    ],
)
def test_the_rate_of_replies(visible: list[float], answered: list[float | None], rate: float) -> None:
    assert rate_of(visible, answered) == rate


def test_a_row_without_one_of_the_moments_is_left_out() -> None:
    assert between([(0.0, None, None, None, None), (1.0, 1.5, None, None, None)], VISIBLE, STARTED) == [0.5]
    assert between([(0.0, 1.0, None, 2.0, 3.0)], GIVEN, SENT) == []


def test_the_nearest_rank_is_a_value_that_occurred_and_of_nothing_there_is_none() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [percentile(ordered, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert (spread([]).p50, spread([]).most, spread([]).count) == (None, None, 0)


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
