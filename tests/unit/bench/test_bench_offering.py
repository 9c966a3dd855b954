"""What is picked from the samples belongs to the load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.connector import ConnectorProcess, Recipe
from bench.figures import span
from bench.offering import Busiest, Pair, Plan, between, busiest, offer, offer_undisturbed, typical
from bench.proc import Sample
from bench.processes import EmulatedDependencies

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


def sample(at: float, **each: float) -> Sample:
    """Return a sample of processes by the seconds that each has used."""
    return Sample(at, sum(each.values()), 0, 0, {int(pid[1:]): cpu for pid, cpu in each.items()})


def test_the_busiest_is_one_process_and_not_the_sum_of_its_side() -> None:
    """Two processes with half a core each are far from their limit."""
    samples = {
        "connector": [sample(10, p1=1.0, p2=1.0), sample(12, p1=2.0, p2=2.0)],
        "emulator": [sample(10, p3=0.0), sample(12, p3=1.5)],
    }
    assert busiest(samples, 10, 12) == Busiest("emulator", 0.75)


def test_a_process_that_began_meanwhile_has_used_everything_meanwhile() -> None:
    assert busiest({"database": [sample(10), sample(12, p4=1.0)]}, 10, 12) == Busiest("database", 0.5)


def test_of_no_time_nothing_is_busiest() -> None:
    assert busiest({"emulator": [sample(10, p1=1.0)]}, 10, 12) is None


def test_the_machine_is_measured_while_a_load_is_on() -> None:
    assert typical([(1, 9.0), (5, 3.0), (6, 5.0), (7, 4.0), (20, 9.0)], 5, 7) == 4.0
    assert typical([(1, 9.0)], 5, 7) is None


class Emulator(EmulatedDependencies):
    """Answers one request of every load at once, and remembers what was wanted."""

    async def post(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        assert path == "/load"
        WANTED.append(dict(content or {}))
        return {"rows": [(1.0, 1.1, 1.2, 1.3, 1.5)], "offered": 1}


WANTED: list[dict[str, Any]] = []


class ThisProcess(ConnectorProcess):
    """In place of a connector's process: the one of the test, until ``is_gone``."""

    is_gone = False

    @property
    def pid(self) -> int | None:
        return None if self.is_gone else os.getpid()


def pair(folder: Path) -> Pair:
    WANTED.clear()
    emulator = Emulator(os.getpid(), folder / "c.toml", "")
    return Pair(emulator, [ThisProcess(Recipe(), folder / "connector.toml")], folder / "connector.db")


async def test_a_load_is_of_the_forms_that_are_wanted_at_their_rate(tmp_path: Path) -> None:
    case = await offer_undisturbed(pair(tmp_path), 205, 500.0, Plan(seconds=4.0, forms=("public",)))
    wanted = WANTED[0]
    assert (wanted["rate"], wanted["seconds"], wanted["forms"]) == (500.0, 4.0, ["public"])
    assert (case.outcome.offered, case.outcome.answered, case.outcome.offered_rate) == (1, 1, 500.0)


async def test_a_load_of_no_form_is_of_all(tmp_path: Path) -> None:
    await offer(pair(tmp_path), 205, 10.0, 1.0)
    assert WANTED[0]["forms"] == []


def test_all_sides_are_sampled_and_what_is_gone_has_used_nothing(tmp_path: Path) -> None:
    made = pair(tmp_path)
    (connector,) = made.connectors
    assert isinstance(connector, ThisProcess)
    made.look()
    connector.is_gone = True
    made.look()
    there, gone = made.samples["connector"]
    assert there.resident > 0
    assert os.getpid() in there.each  # beside servers that other tests have started
    assert there.each.keys() == made.samples["emulator"][0].each.keys()
    assert (gone.resident, gone.cpu, gone.each) == (0, 0.0, {})
    assert all(len(made.samples[side]) == 2 for side in ("emulator", "machine"))
