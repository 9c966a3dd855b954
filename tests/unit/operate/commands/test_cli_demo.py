"""``kmsconn demo``: what is run, what is shown and printed of it, and with which status it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import trio

from kmsconn.emulator.commands import demo as command
from kmsconn.emulator.emulation import Emulation
from kmsconn.emulator.ground_truth import ChainVerdict, GroundTruth
from kmsconn.errors import ConfigError
from kmsconn.model.events import Event, ReplyIncluded, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.operate.commands.main import main, make_parser


@pytest.mark.parametrize(
    ("arguments", "requests", "keys"),
    [([], 40, False), (["--kinds", "all"], 300, True), (["--requests", "3"], 3, False)],
)
def test_without_a_number_forty_requests_come_and_more_beside_a_life_of_keys(
    arguments: list[str], requests: int, keys: bool
) -> None:
    plan = command.plan_of(make_parser().parse_args(["demo", *arguments]), Path("k.toml"))
    assert plan.load is not None
    assert (plan.load.count, plan.load.rate, plan.seed, plan.committee.keys) == (requests, 10.0, 0, keys)


def test_the_first_generation_has_no_life_of_keys() -> None:
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


IDENTIFIER = 2 << 248 | 0x1ABCD


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            ReplyIncluded(1, Kind.USER_DECRYPTION, 2, 0.25, id=IDENTIFIER),
            "1.5 s 0x02…1abcd user_decryption included 250 ms",
        ),
        (
            RequestClosed(3, Kind.PUBLIC_DECRYPTION, State.REJECTED, "why"),
            "1.5 s row 3 public_decryption rejected: why",
        ),
        (RequestClosed(3, Kind.ABORT_CRSGEN, State.DONE, "done"), "1.5 s row 3 abort_crsgen done"),
    ],
)
def test_a_request_that_ended_is_one_line(event: ReplyIncluded | RequestClosed, line: str) -> None:
    assert command.line(event, 1.5).split() == line.split()


def test_events_are_passed_on_and_told_once_a_request_ends() -> None:
    taken: list[Event] = []
    lines: list[str] = []
    included = ReplyIncluded(1, Kind.PUBLIC_DECRYPTION, 2, 0.5)
    command.told_in_lines(taken.append, lines.append)(included)
    assert (taken, len(lines)) == ([included], 1)


@pytest.mark.slow
def test_a_pipe_gets_a_line_for_each_request_and_what_came_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--requests", "3", "--rate", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\d+", "9", line).split()[-3:] for line in lines[:3]] == [["included", "9", "ms"]] * 3
    assert lines[3].startswith("emitted    3 in ")
    assert lines[-1] == "every request was answered once"


@pytest.mark.parametrize(("well", "status"), [(True, 0), (False, 1)])
def test_the_status_says_whether_every_request_was_answered_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], well: bool, status: int
) -> None:
    verdict = ChainVerdict(emitted=1, answered=int(well), doubled=0, strays=0, p50=None, p99=None)
    monkeypatch.setattr(GroundTruth, "verdict", lambda _: verdict)
    monkeypatch.setattr(trio, "run", lambda *_: None)
    assert main(["demo", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["open"] == status


def test_the_seed_draws_the_times_of_the_core_too(tmp_path: Path) -> None:
    plans = [command.plan_of(make_parser().parse_args(["demo"]), tmp_path / "k.toml") for _ in range(2)]
    first, second = ([plan.computing() for _ in range(9)] for plan in plans if callable(plan.computing))
    assert first == second
    assert all(command.COMPUTING[0] <= one <= command.COMPUTING[1] for one in first)
    assert isinstance(Emulation.of(plans[0]), Emulation)
