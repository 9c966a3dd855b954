"""``kmsconn demo``: what is drawn and printed of a demonstration, and with which status it ends. In virtual time."""

from __future__ import annotations

import argparse
import io
import json
import re
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from rich.console import Console

from kmsconn.emulator.commands import demo as command
from kmsconn.emulator.commands import demo_view as view
from kmsconn.emulator.demo import (
    Demo,
    DemoPlan,
    DemoResult,
    ProgressRow,
    ProgressStage,
    ProgressTable,
    Totals,
    run_demo,
)
from kmsconn.emulator.ground_truth import ChainVerdict
from kmsconn.emulator.key_life import KeyResult, KeyVerdict
from kmsconn.errors import ConfigError
from kmsconn.ethereum.ids import CRS_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.model.requests import Kind
from kmsconn.operate.commands.main import make_parser
from kmsconn.transport.ports import offload_inline

BASE = 1_767_225_600.0


def wall() -> float:
    """Return a wall clock that goes with Trio's."""
    return BASE + trio.current_time()


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    """Return a console of 100 columns and what it prints to."""
    file = io.StringIO()
    return Console(file=file, width=100, height=40, force_terminal=terminal, color_system=None), file


def drawn(demo: Demo, seconds: float = 1.0) -> str:
    """Return a frame as text."""
    screen, file = console()
    screen.print(view.frame(demo, seconds))
    return file.getvalue()


def still(plan: DemoPlan | None = None, rows: int = 0) -> Demo:
    """Return a demonstration at which nothing happens, with some rows."""
    demo = Demo.of(plan or DemoPlan(), lambda: BASE)
    quiet = ProgressTable(demo.ground_truth, demo.ledger, clock=lambda: 0.0)
    for number in range(1, rows + 1):
        quiet.rows[number] = ProgressRow(number, Kind.USER_DECRYPTION, make_id(USER_DECRYPTION_TAG, number))
    return attrs.evolve(demo, progress=quiet)


async def finished(folder: Path, plan: DemoPlan) -> Demo:
    """Return a demonstration after its end."""
    demo = Demo.of(plan, wall)
    await run_demo(demo, folder / "journal.db", offload=offload_inline, wall=wall)
    return demo


# --- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], DemoPlan(40, 10.0, 0)),
        (["--kinds", "all"], DemoPlan(300, keys=True)),
        (["--requests", "3"], DemoPlan(3)),
    ],
)
def test_without_a_number_forty_requests_come_and_more_beside_a_life_of_keys(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: DemoPlan
) -> None:
    plans: list[DemoPlan] = []
    real = Demo.of
    monkeypatch.setattr(Demo, "of", classmethod(lambda _, plan, wall: real(noted(plans, plan), wall)))
    monkeypatch.setattr(trio, "run", lambda *_: None)
    parsed = make_parser().parse_args(["demo", "--json", *arguments])
    assert (parsed.rate, parsed.seed) == (10.0, 0)
    command.execute(parsed)
    assert plans == [expected]


def test_the_first_generation_has_no_life_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="httpz-rc7 has no emulated key lifecycle"):
        command.execute(make_parser().parse_args(["demo", "--kinds", "all", "--profile", "httpz-rc7"]))


@pytest.mark.parametrize(
    "arguments",
    [["--requests", "0"], ["--requests", "x"], ["--rate", "0"], ["--rate", "-1"], ["--rate", "inf"]],
)
def test_wrong_numbers_are_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(["demo", *arguments])
    assert caught.value.code == 2


# --- frames ---------------------------------------------------------------------------------------------------------


async def test_a_frame_shows_each_request_with_form_stage_and_latency(tmp_path: Path) -> None:
    demo = await finished(tmp_path, DemoPlan(requests=3, rate=20))
    rows = [line.split() for line in drawn(demo).splitlines() if " ms" in line and "…" in line]
    assert [row[1] for row in rows] == list(demo.ledger.forms.values())
    assert {row[3] for row in rows} == {"included"}


def test_a_frame_has_the_same_height_from_the_first_request_to_the_last() -> None:
    heights = {
        drawn(still(rows=rows)).count("\n") for rows in (0, 1, view.LEAST_ROWS, view.LEAST_ROWS + 1, 90)
    }
    assert len(heights) == 1


def test_a_frame_fits_a_small_terminal() -> None:
    assert drawn(still(rows=40)).count("\n") <= 24


def test_a_frame_shows_the_newest_requests_the_newest_last() -> None:
    lines = [line for line in drawn(still(rows=20)).splitlines() if line.startswith("  02…")]
    assert [line.split()[0] for line in lines] == [f"02…{number:04x}" for number in range(6, 21)]


@pytest.mark.parametrize("stage", ProgressStage)
def test_the_stage_is_named(stage: ProgressStage) -> None:
    demo = still(rows=1)
    demo.progress.rows[1].stage = stage
    assert stage.name.lower() in drawn(demo)


def test_a_request_that_waits_says_why() -> None:
    demo = still(rows=1)
    demo.progress.rows[1].note = "access is not granted"
    assert "pending  access is not granted" in drawn(demo)


def test_a_request_that_failed_says_why() -> None:
    demo = still(rows=1)
    demo.progress.rows[1].note, demo.progress.rows[1].closed = "rejected: [bold] type", True
    assert "rejected: [bold] type" in drawn(demo)


def test_totals_stand_below() -> None:
    demo = still(rows=2)
    demo.ledger.note(b"1", "public")
    assert "1 of 40 requested   2 seen   0 answered   0 included   0 failed" in drawn(demo).splitlines()[-1]


@pytest.mark.parametrize(
    ("identifier", "expected"), [(1 << 248 | 1, "01…0001"), (2 << 248 | 0x1ABCD, "02…1abcd")]
)
def test_an_id_is_written_as_kind_and_number(identifier: int, expected: str) -> None:
    assert view.short_id(identifier) == expected


# --- live, and as lines ---------------------------------------------------------------------------------------------


async def shown(folder: Path, *, terminal: bool) -> str:
    """Return what is printed while a demonstration of three requests runs."""
    demo = Demo.of(DemoPlan(requests=3, rate=20), wall)
    screen, file = console(terminal=terminal)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(command.show_live if terminal else command.show_lines, demo, screen)
        await run_demo(demo, folder / "journal.db", offload=offload_inline, wall=wall)
        nursery.cancel_scope.cancel()
    return file.getvalue()


async def test_a_terminal_sees_the_last_frame_whole(tmp_path: Path) -> None:
    last = (await shown(tmp_path, terminal=True)).rpartition("requested")[2]
    assert last.startswith("   3 seen   3 answered   3 included   0 failed")


async def test_elsewhere_each_request_is_one_line_without_control_characters(tmp_path: Path) -> None:
    lines = (await shown(tmp_path, terminal=False)).splitlines()
    assert [re.sub(r"\d{3}", "250", line).split()[-3:] for line in lines] == [["included", "250", "ms"]] * 3
    assert not any("\x1b" in line for line in lines)


async def test_a_line_tells_of_a_request_that_failed() -> None:
    demo = still(rows=1)
    demo.progress.rows[1].note, demo.progress.rows[1].closed = "rejected: why", True
    assert "rejected: why" in view.line(demo.progress, demo.progress.rows[1], 1.0)


# --- results --------------------------------------------------------------------------------------------------------


async def test_the_summary_of_a_good_run(tmp_path: Path) -> None:
    result = (await finished(tmp_path, DemoPlan(requests=3, rate=20))).result()
    p50, p99 = (f"{1_000 * (seconds or 0):.0f} ms" for seconds in (result.verdict.p50, result.verdict.p99))
    assert list(view.summary(result)) == [
        "3 requests: 3 answered by the Core, 3 replies included, none twice",
        f"from the event's block to the reply's: p50 {p50}, p99 {p99}",
    ]


def test_the_summary_of_a_bad_run_says_so() -> None:
    assert "NOT every request was answered once: 40 have no reply" in list(view.summary(still().result()))


async def test_the_result_for_machines(tmp_path: Path) -> None:
    result = (await finished(tmp_path, DemoPlan(requests=3, rate=20))).result()
    p50, p99 = (1_000 * (seconds or 0) for seconds in (result.verdict.p50, result.verdict.p99))
    assert p50 in {250.0, 500.0}
    assert command.as_json(result) == {
        "requests": 3, "answered": 3, "included": 3, "failed": 0, "doubled": 0, "strays": 0, "p50_ms": p50, "p99_ms": p99,
    }  # fmt: skip


ASKED = ("prepKeygenResponse", 1)
KEYS = KeyResult(KeyVerdict((ASKED,), (ASKED,), frozenset(), 0), ("announcement", "key"), 2)


def with_keys(keys: KeyResult) -> DemoResult:
    totals = Totals(requested=1, seen=1, answered=1, included=1, failed=0, doubled=0)
    return DemoResult(
        1, totals, ChainVerdict(emitted=1, answered=1, doubled=0, strays=0, p50=None, p99=None), keys
    )


def test_what_came_of_the_keys_is_said() -> None:
    assert list(view.summary(with_keys(KEYS)))[2:] == [
        "keys: 2 of 2 steps (announcement, key)",
        "      1 replies included on Ethereum, 0 open, 0 aborted, none twice",
    ]
    assert command.as_json(with_keys(KEYS))["keys"] == {
        "steps": ["announcement", "key"], "included": 1, "open": 0, "aborted": 0, "doubled": 0, "well": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "keys",
    [
        attrs.evolve(KEYS, done=("announcement",)),
        attrs.evolve(KEYS, verdict=attrs.evolve(KEYS.verdict, replied=())),
        attrs.evolve(KEYS, verdict=attrs.evolve(KEYS.verdict, doubled=1)),
    ],
)
def test_a_life_of_keys_that_is_not_well_is_no_good_run(keys: KeyResult) -> None:
    result = with_keys(keys)
    assert (result.well, with_keys(KEYS).well) == (False, True)
    assert "the key lifecycle failed" in list(view.summary(result))[-1]


def test_the_step_that_is_under_way_is_shown() -> None:
    demo = still(DemoPlan(keys=True), 1)
    assert demo.keys is not None
    demo.keys.doing = "abort of a CRS"
    demo.progress.rows[2] = ProgressRow(
        2, Kind.ABORT_CRSGEN, make_id(CRS_TAG, 2), note="done", closed=True, well=True
    )
    text = drawn(demo)
    assert "keys: abort of a CRS" in text
    assert "abort_crsgen" in text


def noted(plans: list[DemoPlan], plan: DemoPlan) -> DemoPlan:
    plans.append(plan)
    return plan


def run_command(monkeypatch: pytest.MonkeyPatch, *, well: bool, as_json: bool = True) -> int:
    """Execute the command with a demonstration that has ended so."""
    included = 1 if well else 0
    totals = Totals(requested=1, seen=1, answered=1, included=included, failed=0, doubled=0)
    verdict = ChainVerdict(emitted=1, answered=included, doubled=0, strays=0, p50=None, p99=None)
    monkeypatch.setattr(Demo, "result", lambda _: DemoResult(1, totals, verdict))
    monkeypatch.setattr(trio, "run", lambda *_: None)
    return command.execute(
        argparse.Namespace(requests=1, rate=1.0, seed=0, json=as_json, profile="fhevm", kinds="decryptions")
    )


@pytest.mark.parametrize(("well", "status"), [(True, 0), (False, 1)])
def test_the_status_says_whether_every_request_was_answered_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], well: bool, status: int
) -> None:
    assert run_command(monkeypatch, well=well) == status
    assert json.loads(capsys.readouterr().out)["failed"] == status


def test_without_json_the_summary_is_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(monkeypatch, well=True, as_json=False)
    assert "1 requests: 1 answered by the Core, 1 replies included, none twice" in capsys.readouterr().out


@pytest.mark.parametrize(("height", "lines"), [(0, 21), (24, 23), (40, 39), (200, 54)])
def test_a_frame_is_as_high_as_the_terminal_and_as_its_requests_need(height: int, lines: int) -> None:
    screen, file = console()
    screen.print(view.frame(still(DemoPlan(requests=48), rows=60), 1.0, height))
    assert file.getvalue().count("\n") == lines
