"""What a failed test tells beside its traceback."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from tests import sampling
from tests.failures import Played, hidden_causes, leaves
from tests.reports import is_told, leave_out_the_rest
from tests.sampling import out_of_turn, points


def cut_off() -> ValueError:
    """Return an exception that was raised from None in place of another."""
    try:
        try:
            raise KeyError("the cause")
        except KeyError:
            raise ValueError("what is told") from None
    except ValueError as error:
        return error


def test_a_cause_that_was_cut_off_is_found_in_a_group_and_behind_another_exception_too() -> None:
    (found,) = hidden_causes(cut_off())
    assert repr(found) == "KeyError('the cause')"
    outer = RuntimeError()
    outer.__cause__ = cut_off()
    several = hidden_causes(ExceptionGroup("two", [cut_off(), outer]))
    assert [type(one) for one in several] == [KeyError, KeyError]


def test_the_leaves_of_groups_are_found_however_deep() -> None:
    group = ExceptionGroup("inner", [KeyError("a"), ValueError("b")])
    for _ in range(20):
        group = ExceptionGroup("a nursery", [group])
    assert [repr(one) for one in leaves(group)] == ["KeyError('a')", "ValueError('b')"]
    assert list(leaves(KeyError())) == []


def test_what_a_traceback_shows_is_not_repeated() -> None:
    outer = RuntimeError()
    outer.__cause__ = outer.__context__ = ValueError()
    assert list(hidden_causes(outer)) == []


def test_the_first_failure_of_a_process_names_what_was_played_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMSCONN_TURN", "20000")
    played = Played()
    played.note("b.py::one")
    assert played.told("b.py::one") == "", "it was played alone"
    for node in ("a.py::two", "a.py::three", "c.py::four"):
        played.note(node)
    assert played.told("c.py::four") == "KMSCONN_TURN=20000 pytest -n 0 b.py a.py 'c.py::four'"
    assert played.told("c.py::five") == ""


def report(when: str, outcome: str) -> dict[str, Any]:
    return {"data": {"when": when, "outcome": outcome}}


@pytest.mark.parametrize(
    ("when", "outcomes"),
    [
        ("call", ["passed", "failed", "skipped"]),
        ("setup", ["failed", "skipped"]),
        ("teardown", ["failed", "skipped"]),
    ],
)
def test_every_call_is_told_and_around_it_only_what_did_not_pass(when: str, outcomes: list[str]) -> None:
    told = [one for one in ("passed", "failed", "skipped") if is_told("testreport", report(when, one))]
    assert told == outcomes


def test_the_controller_learns_that_a_test_is_over() -> None:
    """It hands out the next file then."""
    events = ("logstart", "logfinish", "runtest_protocol_complete", "workerfinished", "collectionfinish")
    assert [event for event in events if is_told(event, {})] == list(events[2:])


class WorkerInteractor:
    """Stands for the plugin of that name, as far as it counts here."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def sendevent(self, name: str, **details: Any) -> None:
        self.sent.append(name)


def worker(interactor: WorkerInteractor, **options: Any) -> Any:
    """Return the configuration of a worker."""
    plugins = SimpleNamespace(get_plugins=lambda: {object(), interactor})
    return SimpleNamespace(
        pluginmanager=plugins, getoption={"durations": None, "xmlpath": None, **options}.get
    )


@pytest.mark.parametrize(
    ("options", "sent"),
    [({}, ["runtest_protocol_complete"]), ({"durations": 10}, None), ({"xmlpath": "junit.xml"}, None)],
)
def test_where_durations_or_a_file_are_wanted_everything_is_sent(
    options: dict[str, Any], sent: list[str] | None
) -> None:
    interactor = WorkerInteractor()
    leave_out_the_rest(worker(interactor, **options))
    for event in (events := ["logstart", "runtest_protocol_complete", "logfinish"]):
        interactor.sendevent(event)
    assert interactor.sent == (sent or events)


def test_the_plugin_of_this_run_is_the_one_that_is_looked_for(request: pytest.FixtureRequest) -> None:
    """With another pytest-xdist the name could be another one."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("not a worker of pytest-xdist")
    names = {type(plugin).__name__ for plugin in request.config.pluginmanager.get_plugins()}
    assert "WorkerInteractor" in names


def test_every_point_has_its_turn() -> None:
    turns = [set(points(100, 30, turn)) for turn in range(4)]
    assert set().union(*turns) == set(range(1, 101))
    assert max(map(len, turns)) <= 30


def test_every_test_has_its_turn() -> None:
    tests = range(10)
    left = [set(out_of_turn(tests, 4, turn)) for turn in range(4)]
    assert set.intersection(*left) == set()
    assert [10 - len(one) for one in left] == [3, 2, 2, 3]
    assert out_of_turn(tests, 1, 7) == []


@pytest.mark.parametrize("said", [None, ""])
def test_every_day_plays_the_same(monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    monkeypatch.delenv("KMSCONN_TURN", raising=False)
    if said is not None:
        monkeypatch.setenv("KMSCONN_TURN", said)
    for day in range(3):
        monkeypatch.setattr("time.time", lambda day=day: day * 86_400.0)
        assert sampling.this_turn() == 0


def test_a_turn_is_played_again_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMSCONN_POINTS", "1")
    monkeypatch.setenv("KMSCONN_TURN", "7")
    assert list(sampling.points_of(10)) == [8]


def test_no_law_draws_other_examples_in_another_run() -> None:
    assert settings.default is not None
    assert settings.default.derandomize
