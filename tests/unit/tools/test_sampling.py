"""What is sampled has its turn: what one day leaves out, another tries."""

from __future__ import annotations

import os

import pytest

from tests import sampling
from tests.sampling import out_of_turn, points


def test_every_point_has_its_turn() -> None:
    turns = [set(points(100, 30, turn)) for turn in range(4)]
    assert set().union(*turns) == set(range(1, 101))
    assert max(map(len, turns)) <= 30


def test_every_test_has_its_turn() -> None:
    tests = range(10)
    left = [set(out_of_turn(tests, 4, day)) for day in range(4)]
    assert set.intersection(*left) == set()
    assert [10 - len(one) for one in left] == [3, 2, 2, 3]


def test_where_one_in_one_is_run_nothing_is_left_out() -> None:
    assert out_of_turn(range(10), 1, 7) == []


def test_over_midnight_a_run_keeps_its_day_and_so_do_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They inherit the environment. Workers that chose other tests than their neighbours ended a run."""
    monkeypatch.delenv("KMSCONN_DAY")
    began = sampling.today()
    monkeypatch.setattr("time.time", lambda: float((began + 1) * sampling.DAY))
    assert sampling.today() == began
    assert os.environ["KMSCONN_DAY"] == str(began)
