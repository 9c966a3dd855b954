"""What is picked from the samples belongs to the load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.dependencies import EmulatedDependencies
from bench.figures import span
from bench.offering import Pair, Plan, between, offer, offer_undisturbed
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


class Emulator(EmulatedDependencies):
    """Answers one request of every load at once, and remembers what was wanted."""

    async def post(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        assert path == "/load"
        WANTED.append(dict(content or {}))
        return {"rows": [(1.0, 1.1, 1.2, 1.3, 1.5)], "offered": 1}


WANTED: list[dict[str, Any]] = []


def pair(folder: Path) -> Pair:
    WANTED.clear()
    return Pair(Emulator(os.getpid(), folder / "c.toml", ""), [os.getpid()], folder / "connector.db")


async def test_a_load_is_of_the_forms_that_are_wanted_at_their_rate(
    tmp_path: Path, autojump_clock: Any
) -> None:
    case = await offer_undisturbed(pair(tmp_path), 205, 500.0, Plan(seconds=4.0, forms=("public",)))
    wanted = WANTED[0]
    assert (wanted["rate"], wanted["seconds"], wanted["forms"]) == (500.0, 4.0, ["public"])
    assert (case.outcome.offered, case.outcome.answered, case.outcome.offered_rate) == (1, 1, 500.0)


async def test_a_load_of_no_form_is_of_all(tmp_path: Path, autojump_clock: Any) -> None:
    await offer(pair(tmp_path), 205, 10.0, 1.0)
    assert WANTED[0]["forms"] == []
