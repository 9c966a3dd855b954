"""What single runs of the benchmark are made of: rows, series, members, posts and their yardstick."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from bench import rows as module
from bench.http_posts import PostFigures, PostRound
from bench.members import LONGEST, HandOver, Held, follow, held_by
from bench.offering import Usage
from bench.proc import Sample
from bench.rows import Row, collect, show
from bench.series import as_columns, columns_of, stalled_alerts, thinned
from bench.straight import run
from bench.yardstick import machine_ms, work
from kmsconn.emulator.ground_truth import ground_truth_of
from kmsconn.emulator.load import Load, run_load
from tests.unit.requests.few_components import few_components


async def test_the_minimal_client_replies_in_one_block(tmp_path: Path) -> None:
    """Several requests a block; replies sent in one batch wait for each other's blocks."""
    async with few_components(tmp_path, block_time=0.25) as few, trio.open_nursery() as nursery:
        truth = ground_truth_of(few.dependencies)
        nursery.start_soon(run, few.settings(), few.ports)
        await trio.sleep(1)
        await run_load(Load(40, seconds=1), few.traffic, truth)
        verdict = truth.verdict()
        assert verdict.well, verdict
        assert (verdict.p99 or 9.0) <= 0.5
        nursery.cancel_scope.cancel()


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


BEFORE: Held = {"upkeep": (1, "a"), "audit": (2, "b")}


@pytest.mark.parametrize(
    ("later", "kept_after", "left", "seconds"),
    [
        pytest.param({"upkeep": (3, "b")}, LONGEST, 0, 2.0, id="another one holds it"),
        pytest.param(BEFORE, 5.0, 0, 5.0, id="it is kept"),
        pytest.param(BEFORE, LONGEST, 1, LONGEST, id="it is kept for too long"),
        pytest.param({}, LONGEST, 1, LONGEST, id="nobody takes it"),
    ],
)
async def test_a_lease_is_followed_to_its_next_holder(
    later: Mapping[str, tuple[int, str]], kept_after: float, left: int, seconds: float
) -> None:
    """The disturbance takes two seconds."""
    begun, found = trio.current_time(), list[HandOver]()

    async def ask() -> Held:
        await trio.lowlevel.checkpoint()
        return later if trio.current_time() - begun >= 2 else BEFORE

    assert await follow(ask, "term", held_by(BEFORE, "a"), found, kept_after) == left
    assert trio.current_time() - begun == pytest.approx(seconds, abs=0.02)
    assert [(one.kind, one.lease, round(one.seconds)) for one in found] == (
        [("term", "upkeep", 2)] if seconds == 2.0 else []
    )


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


ROUND = PostRound("both", 1.0, 2.0, 2.0)


def figures(posts: list[tuple[float, float, str, int]]) -> PostFigures:
    rows = [(1.0, 1.1, 1.2, 1.3, 1.5), (1.0, 1.1, None, None, None)]
    return PostFigures(ROUND, rows, 2, posts, 4, Usage(0.004, 0.25, 1, 1), Usage(1.0, 0.5, 1, 1), 3 << 20)


def test_cpu_is_for_each_answered_request_of_either_source() -> None:
    line = figures([(1.0, 1.25, "ok", 0), (1.0, 2.0, "ok", 1), (1.0, 1.1, "malformed", 0)]).line()
    assert line == (
        "| both | 1 of 2 | 500 · 500 · 500 | 2 of 4 | 250 · 1,000 · 1,000 | 1 | 1.33 | 25% · 50% | 3 | {'malformed': 1} |"
    )


def test_of_nothing_there_are_no_times() -> None:
    assert "| 0 of 4 | – · – · – | 0 | 4.00 |" in figures([]).line()


def test_the_work_is_the_same_in_every_version() -> None:
    assert work() == "8204a8d712d5b14c29b9681bc7db64e927d1ea5c3f192a3b7b84e86f4e5e197f"


def test_the_work_takes_cpu() -> None:
    assert machine_ms() > 0
