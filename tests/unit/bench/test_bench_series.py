"""Samples over the time of a run, and a machine that stood still."""

from __future__ import annotations

from bench.proc import Sample
from bench.series import as_columns, columns_of, stalled_alerts, thinned


def samples(*moments: float) -> list[Sample]:
    return [Sample(moment, moment / 10, 100, 5) for moment in moments]


def test_samples_are_thinned_to_a_period() -> None:
    assert [one.at for one in thinned(samples(0, 0.25, 0.5, 1.0, 1.2, 3.0), 1.0)] == [0, 1.0, 3.0]


def test_columns_hold_all_of_a_side() -> None:
    assert as_columns(samples(1, 2)) == {
        "at": [1, 2], "resident": [100, 100], "descriptors": [5, 5], "cpu": [0.1, 0.2],
    }  # fmt: skip


def test_the_machine_has_no_columns() -> None:
    assert set(columns_of({"connector": samples(1), "machine": samples(1)})) == {"connector"}


def test_a_machine_that_stood_still_is_seen_by_the_missing_samples() -> None:
    assert stalled_alerts(samples(0, 1, 2, 22, 23, 26)) == [(2, 20)]


def test_of_one_sample_nothing_follows() -> None:
    assert stalled_alerts(samples(5)) == stalled_alerts([]) == []
