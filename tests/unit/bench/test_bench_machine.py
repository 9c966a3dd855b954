"""A result says on what it was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import PARAMETERS, SIZES, Found, beyond, is_whole, parser, report
from bench.connector import OURS, recipe_of
from bench.machine import ROOT, commit_of, cpu_model, describe, write_report
from bench.offering import Climb
from bench.rows import Row
from tests.unit.bench.test_bench_table import CASE


def test_the_model_is_read_from_cpuinfo() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: A CPU @ 2: x\nmodel name\t: other\n") == "A CPU @ 2: x"
    assert cpu_model("") == "unknown"


def test_machine_versions_and_date_are_told() -> None:
    found = describe()
    assert set(found) == {
        "date", "commit", "cpu", "cores", "memory_bytes", "kernel", "python", "libraries",
    }  # fmt: skip
    assert found["libraries"]["trio"]


def test_outside_of_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == ""


def test_the_report_has_machine_parameters_and_cases(tmp_path: Path) -> None:
    arguments = parser().parse_args(["--name", "first", "--rates", "10", "50"])
    climbs = {65536: Climb({}, [CASE], {})}
    write_report(
        tmp_path / "r", arguments, PARAMETERS, report(arguments, Found(climbs, {}, [Row("a", "b", 1.0)]))
    )
    found = json.loads((tmp_path / "r").read_text())
    assert found["machine"]["libraries"]["trio"]
    assert found["parameters"] == {
        "name": "first", "profile": "fhevm", "forms": [], "sizes": list(SIZES), "rates": [10.0, 50.0], "seconds": 10.0, "computing": 0.01,
    }  # fmt: skip
    assert found["cases"][0]["outcome"]["whole"]["p50"] == CASE.outcome.whole.p50
    assert found["connector"] == "kmsconn"
    assert found["calls"] == [{"name": "a", "by": "b", "cpu_us": 1.0, "per_second": None}]


def test_a_recipe_from_arguments(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text("url={gateway_url}")
    told = ["--connector", "other {out}", "--config-template", str(template), "--checkout", str(ROOT)]
    found = recipe_of(parser().parse_args(told))
    assert (found.command, found.template, found.python_path) == (
        "other {out}",
        "url={gateway_url}",
        str(ROOT),
    )
    assert recipe_of(parser().parse_args([])).command == OURS


def test_a_folder_without_kmsconn_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With it, the installed kmsconn would be measured in its place."""
    with pytest.raises(SystemExit):
        parser().parse_args(["--checkout", str(tmp_path)])
    assert "no checkout of kmsconn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "whole"),
    [
        ([], True), (["--quick"], False), (["--loads-only"], False), (["--ceiling"], False), (["--connector", "x"], False),
        (["--profile", "httpz-rc7"], False),
    ],
)  # fmt: skip
def test_single_calls_and_the_ceiling_belong_to_the_whole(told: list[str], whole: bool) -> None:
    assert is_whole(parser().parse_args(told)) is whole


def test_the_ceiling_is_looked_for_beyond_what_was_sustained() -> None:
    assert beyond(Climb({}, [CASE], {}), [10.0, 50.0, 100.0]) == [50.0, 100.0]
