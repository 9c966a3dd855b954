"""The disturbances of a soak, its verdict and its words. Nothing is started."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from bench.proc import Sample
from bench.soak import (
    DISTURBANCES,
    LONGEST_OUTAGE,
    Diary,
    Happening,
    in_order,
    parser,
    play,
    progress,
    signs_of,
    summary,
    verdict_of,
)
from tests.unit.emulator.test_control import Handler

STATUS = {"emitted": 10, "answered": 10, "doubled": 0, "strays": 0, "p50": 0.2, "p99": 0.3}


@pytest.mark.parametrize(
    ("change", "offered", "lost"),
    [({}, 10, 0), ({"answered": 7}, 10, 3), ({"doubled": 1}, 10, 0), ({"strays": 1}, 10, 0), ({}, 11, 1)],
)
def test_everything_answered_once_is_well(change: dict[str, int], offered: int, lost: int) -> None:
    """A request that was offered and never reached the chain is lost as well."""
    found = verdict_of({**STATUS, **change}, offered)
    assert (found.lost, found.well) == (lost, (change, offered) == ({}, 10))


def test_a_load_lasts_half_an_hour_unless_said_otherwise() -> None:
    arguments = parser().parse_args([])
    assert (arguments.minutes, arguments.rate) == (30, 50)


class Posts:
    """In place of dependencies: notes what is posted, and when."""

    def __init__(self) -> None:
        self.dependencies = self
        self.posted: list[tuple[float, str]] = []
        self.begun = trio.current_time()

    async def post(self, path: str) -> None:
        self.posted.append((round(trio.current_time() - self.begun, 3), path))


async def test_acts_happen_at_their_share_and_are_undone() -> None:
    pair: Any = Posts()
    diary = Diary()
    await play(pair, 1800, diary.note)
    assert pair.posted[:3] == [
        (300, "/core0/restart"),
        (600, "/gateway/shut"),
        (600 + LONGEST_OUTAGE, "/gateway/open"),
    ]
    assert [one.name for one in diary.happened][:3] == ["Core restarts", "node gone", "node gone no more"]


async def test_outages_of_a_short_run_are_short() -> None:
    pair: Any = Posts()
    await play(pair, 60, Diary().note)
    assert pair.posted[1:3] == [(20, "/gateway/shut"), (22, "/gateway/open")]


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda disturbance: disturbance.name)
async def test_the_emulator_can_do_every_disturbance_and_undo_it(disturbance: Any) -> None:
    desk = Handler()
    for path in (*disturbance.paths, *disturbance.back):
        assert (await desk.post(path)).status == 204
    assert all(toggle_port.is_open for toggle_port in desk.dependencies.toggle_ports.values())


def test_disturbances_are_over_before_the_next() -> None:
    gaps = [
        later.at - disturbance.at
        for disturbance, later in zip(DISTURBANCES, [*DISTURBANCES[1:], None], strict=True)
        if later
    ]
    assert min(gaps) > 1 / 30


def test_a_machine_that_stood_still_is_told_in_its_place() -> None:
    samples = [Sample(float(at), 0.0, 0, 0) for at in (1, 2, 30, 31)]
    happened = [Happening(1.5, "node gone"), Happening(30.5, "node gone no more")]
    assert [one.name for one in in_order(happened, samples)] == [
        "node gone", "machine still 28 s", "node gone no more",
    ]  # fmt: skip


def test_how_far_it_is_in_a_line() -> None:
    assert progress({**STATUS, "answered": 7}, 64 << 20, 30, 12.3).split() == [
        "12", "s", "10", "emitted", "3", "open", "0", "doubled", "64", "MB", "30", "fds",
    ]  # fmt: skip


FOUND: dict[str, Any] = {
    "verdict": {"emitted": 10, "answered": 9, "lost": 1, "doubled": 0, "strays": 0, "well": False},
    "outcome": {"whole": {"p50": 250.0, "p99": 500.0, "most": None}},
    "samples": {
        "connector": {
            "resident": [60 << 20, 90 << 20, 80 << 20], "descriptors": [20, 30, 25], "cpu": [1.0, 1.02, 1.045],
        }
    },
    "logged": {"connector": {"Traceback": 0, "starting anew": 0}},
    "happened": [{"at": 1.0, "name": "node gone"}, {"at": 2.0, "name": "machine still 20 s"}],
}  # fmt: skip


def test_the_end_in_words() -> None:
    assert summary(FOUND) == [
        "emitted 10, answered 9, lost 1, doubled 0, strays 0",
        "machine still 20 s",
        "from the event's block to the reply's: p50 250 ms, p99 500 ms, most - ms",
        "memory of the connector 60 to 90, at the end 80 MB, descriptors 20 to 30, at the end 25",
        "CPU for each answered request: connector 5.0 ms",
        "SOMETHING WAS LOST OR DOUBLED",
    ]


def test_the_end_of_several_processes_in_words() -> None:
    life = {"resident": [60 << 20, 90 << 20, 80 << 20], "descriptors": [20, 30, 25], "cpu": [1.0, 5.2, 7.9]}
    several = {
        "samples": FOUND["samples"] | {"database": life},
        "logged": {"connector-0": {"Traceback": 2, "starting anew": 0}, "connector-1": {"Traceback": 0}},
    }
    assert summary(FOUND | several)[3:-1] == [
        "memory of the connector 60 to 90, at the end 80 MB, descriptors 20 to 30, at the end 25",
        "memory of the database 60 to 90, at the end 80 MB, descriptors 20 to 30, at the end 25",
        "CPU for each answered request: connector 5.0 ms, database 766.7 ms",
        "connector-0 has logged 2 times: Traceback",
    ]


def test_a_log_is_searched_for_errors_and_for_connectors_that_began_anew() -> None:
    assert signs_of("starting anew\nTraceback (most…\nTraceback") == {"Traceback": 2, "starting anew": 1}
