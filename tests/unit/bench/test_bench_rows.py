"""Rows of single calls are shown as text and as JSON, and collected from processes."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from bench import rows as module
from bench.rows import Row, collect, show

ROW = Row("a call", "kmsconn", 12.34, 567.8)


def test_a_row_is_a_line() -> None:
    assert str(ROW).split() == ["a", "call", "kmsconn", "12.3", "us", "568/s"]
    assert str(Row("a", "b", 1.0)).split() == ["a", "b", "1.0", "us"]


def test_rows_are_shown_as_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench"])
    show([ROW])
    assert capsys.readouterr().out == f"{ROW}\n"


def test_rows_survive_the_way_through_a_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--json"])
    show([ROW, Row("another", "b", 1.5)])
    said = capsys.readouterr().out

    def run(command: list[str], **_: Any) -> Any:
        assert command[-2:] == ["some.module", "--json"]
        return SimpleNamespace(stdout=said)

    monkeypatch.setattr(subprocess, "run", run)
    assert list(collect(["some.module"])) == [ROW, Row("another", "b", 1.5)]
    assert json.loads(said.splitlines()[0])["per_second"] == 567.8


@pytest.mark.parametrize("name", module.MODULES)
def test_every_module_has_rows(name: str) -> None:
    found = __import__(name, fromlist=["rows"])
    assert callable(found.rows)
