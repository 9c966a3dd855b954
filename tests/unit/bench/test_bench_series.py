"""Windows and open requests over time follow from the requests alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.proc import Sample
from bench.series import Window, as_columns, columns_of, cores, open_over, stalled_alerts, thinned, windows

MOMENT = st.floats(0, 1000)
REQUESTS = st.lists(
    st.tuples(MOMENT, st.none() | st.floats(0, 100)).map(
        lambda pair: (pair[0], None if pair[1] is None else pair[0] + pair[1])
    )
)


def test_a_window_has_the_requests_that_became_visible_in_it() -> None:
    requests = [(0.5, 0.75), (9.9, 10.9), (10.0, 10.5)]
    assert windows(requests, 10.0) == [Window(5.0, 250.0, 1000.0), Window(15.0, 500.0, 500.0)]


def test_requests_that_are_open_have_no_latency() -> None:
    assert windows([(1.0, None)], 10.0) == []


def test_open_requests_are_those_visible_and_not_answered() -> None:
    requests = [(1.0, 3.0), (2.0, None), (4.0, 5.0)]
    assert open_over(requests, [0.0, 1.5, 2.5, 3.5, 4.5, 9.0]) == [0, 1, 2, 1, 2, 1]


@given(REQUESTS, MOMENT)
def test_open_requests_are_counted_as_one_by_one(
    requests: list[tuple[float, float | None]], moment: float
) -> None:
    one_by_one = sum(
        visible <= moment and (answered is None or answered > moment) for visible, answered in requests
    )
    assert open_over(requests, [moment]) == [one_by_one]


@given(REQUESTS, st.floats(0.1, 100))
def test_every_answered_request_is_in_a_window(
    requests: list[tuple[float, float | None]], width: float
) -> None:
    assert bool(windows(requests, width)) == any(answered is not None for _, answered in requests)


def samples(*moments: float) -> list[Sample]:
    return [Sample(moment, moment / 10, 100, 5) for moment in moments]


def test_samples_are_thinned_to_a_period() -> None:
    assert [one.at for one in thinned(samples(0, 0.25, 0.5, 1.0, 1.2, 3.0), 1.0)] == [0, 1.0, 3.0]


def test_columns_hold_all_of_a_side() -> None:
    assert as_columns(samples(1, 2)) == {
        "at": [1, 2], "resident": [100, 100], "descriptors": [5, 5], "cpu": [0.1, 0.2],
    }  # fmt: skip


def test_cores_are_cpu_seconds_of_a_second() -> None:
    assert cores([0.0, 1.0, 2.0, 6.0, 6.5], [10.0, 10.5, 12.0, 16.0, 99.0], 2.0) == [(1.0, 1.0), (4.0, 1.0)]


def test_the_machine_has_no_columns() -> None:
    assert set(columns_of({"connector": samples(1), "machine": samples(1)})) == {"connector"}


def test_a_machine_that_stood_still_is_seen_by_the_missing_samples() -> None:
    assert stalled_alerts(samples(0, 1, 2, 22, 23, 26)) == [(2, 20)]


def test_of_one_sample_nothing_follows() -> None:
    assert stalled_alerts(samples(5)) == stalled_alerts([]) == []
