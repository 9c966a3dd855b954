"""The names that a query reads are found, so that what is proved about them is about all of them."""

from __future__ import annotations

import pytest

from tests.queries import Reading, kept, named_by_text, readings


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("kmsconn_ready == 0 unless kmsconn_draining == 1", ["kmsconn_ready", "kmsconn_draining"]),
        ('up{job="kmsconn"} == 0 or absent(up{job="kmsconn"})', ["up", "up"]),
        ("histogram_quantile(0.5, sum by (le) (rate(a_bucket[$__rate_interval])))", ["a_bucket"]),
        ('(a{x="sum"} > bool 60) * on (job, kind) (b > bool 0)', ["a", "b"]),
        ("a offset 2h", ["a"]),
        ("predict_linear(a[6h], 86400) < 0 and x:y:ratio1h > 1e3", ["a", "x:y:ratio1h"]),
    ],
)  # fmt: skip
def test_the_metrics_of_an_expression_are_found(expression: str, names: list[str]) -> None:
    assert [one.name for one in readings(expression)] == names


def test_matchers_and_clauses_name_labels() -> None:
    expression = 'sum by (job, kind) (a{state=~"x|y",kind!="z"})'
    assert list(readings(expression)) == [Reading("a", frozenset({"state", "kind"}))]
    assert kept(expression) == {"job", "kind"}


def test_texts_name_labels() -> None:
    assert named_by_text(["{{ $labels.chain }} and {{ $value }}", "{{kind}} 5m"]) == {"chain", "kind"}
