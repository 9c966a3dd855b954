"""What a result was measured on and what processes used; what single runs are made of: rows, series, members, yardsticks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio

from bench import rows as module
from bench.__main__ import PARAMETERS, SIZES, Found, beyond, is_whole, parser, report
from bench.connector import OURS, recipe_of
from bench.http_posts import PostFigures, PostRound
from bench.instructions import InstructionCount, place_of
from bench.machine import ROOT, commit_of, cpu_model, describe, write_report
from bench.members import LONGEST, HandOver, Held, follow, held_by
from bench.offering import Climb, Usage
from bench.proc import PAGE, TICK, Sample, Stat, descendants, look, look_at_machine, parse_busy, parse_stat
from bench.rows import Row, collect, show
from bench.series import as_columns, columns_of, stalled_alerts, thinned
from bench.straight import run
from bench.yardstick import machine_ms, work
from kmsconn.emulator.ground_truth import ground_truth_of
from kmsconn.emulator.load import Load, run_load
from kmsconn.model.requests import Request
from kmsconn.transport.waiting import together
from tests.unit.bench.test_bench_table import CASE
from tests.unit.requests.few_components import few_components


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


NUMBERS = "S 7 1 1 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 3 0 5000 1000000 123 18446744073709551615"


def stat(pid: int, parent: int) -> Stat:
    return Stat(pid, parent, 0.0, 0)


@pytest.mark.parametrize(("roots", "whole"), [([5], {5, 6, 7}), ([6, 8], {6, 7, 8, 9}), ([99], set())])
def test_descendants_are_children_and_theirs(roots: list[int], whole: set[int]) -> None:
    stats = [stat(1, 0), stat(5, 1), stat(6, 5), stat(7, 6), stat(8, 1), stat(9, 8)]
    assert {one.pid for one in descendants(roots, stats)} == whole


def test_cpu_time_is_user_and_system_with_that_of_ended_children() -> None:
    found = parse_stat(f"42 (python) {NUMBERS}")
    assert found.cpu == (11 + 22 + 33 + 44) * TICK
    assert (found.pid, found.parent, found.resident) == (42, 7, 123 * PAGE)
    assert parse_stat(f"42 (a) S (b c) {NUMBERS}") == found, "a name may hold blanks and parentheses"


def test_processes_are_looked_at_each_for_itself_and_of_one_that_is_gone_nothing_is_seen() -> None:
    found, gone = look([os.getpid()], [2**22 + 1])
    assert found.resident > 1_000_000
    assert found.descriptors >= 3
    # it may have children: servers that other tests have started
    assert 0 < found.each[os.getpid()] <= found.cpu == pytest.approx(sum(found.each.values()))
    assert look_at_machine().cpu > found.cpu
    assert (gone.cpu, gone.resident, gone.descriptors) == (0, 0, 0)


def test_a_child_counts_with_its_parent() -> None:
    alone = look([os.getpid()])[0].resident
    loud = "print(flush=True); input()"
    with subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", loud], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # a child that was just forked has nothing of its own
        together = look([os.getpid()])[0].resident
        child.communicate(b"\n")
    assert together > alone


def test_a_machine_is_busy_unless_it_is_idle_or_waits_for_a_disk() -> None:
    assert parse_busy("cpu  1 2 4 1000 1000 8 16 32 1000 1000\ncpu0 1 1 1 1 1 1 1 1 1 1\n") == 63 * TICK


TURNS, REPEATS = 1000, 8


async def busy() -> None:
    for _ in range(TURNS):
        pass
    await trio.lowlevel.checkpoint()


async def root() -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(REPEATS):  # the interpreter tells of instructions from the second or third time on
            nursery.start_soon(busy)


def measured(*, begun: bool) -> InstructionCount:
    """Count while tasks below the root are busy, and another one that is not below it."""
    count = InstructionCount(root)

    async def both() -> None:
        before = sys.gettrace()  # of a coverage measurement
        if begun:
            count.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root)
            nursery.start_soon(busy)
        sys.settrace(before)

    trio.run(both, instruments=[count])
    return count


def test_the_tasks_below_the_root_are_counted() -> None:
    count = measured(begun=True)
    assert count.calls["busy"] == 2 * REPEATS  # each goes on once
    assert count.instructions[busy.__code__] > TURNS


def test_nothing_is_counted_before_it_begins() -> None:
    count = measured(begun=False)
    assert (count.steps, count.instructions.total()) == (0, 0)


def test_code_belongs_to_its_package_also_where_attrs_made_it() -> None:
    made = (together, Request.__init__, trio.sleep, attrs.evolve)
    assert [place_of(one.__code__) for one in made] == [
        "kmsconn/transport",
        "attrs of kmsconn/model",
        "trio",
        "attr",
    ]


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
