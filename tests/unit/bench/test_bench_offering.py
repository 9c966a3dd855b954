"""What is picked from the samples belongs to the load."""

from __future__ import annotations

import pytest

from bench.figures import span
from bench.offering import between
from bench.proc import Sample

SAMPLES = [Sample(float(at), 0.0, 0, 0) for at in (10, 12, 14, 16)]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(12.5, 13.5, (12, 14)), (12, 14, (12, 14)), (9, 17, (10, 16)), (10.5, 15, (10, 16)), (20, 21, (16, 16))],
)
def test_samples_enclose_the_span_where_they_can(start: float, end: float, expected: tuple[int, int]) -> None:
    first, last = between(SAMPLES, start, end)
    assert (first.at, last.at) == expected


def test_a_span_is_from_the_first_request_to_the_last_moment_of_any() -> None:
    rows = [(2.0, 3.0, None, None, None), (1.0, 1.5, 1.6, 1.7, 4.0), (1.1, 1.2, 1.3, 1.4, 2.0)]
    assert span(rows) == (1.0, 4.0)
