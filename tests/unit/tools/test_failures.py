"""What a failed test tells beside its traceback."""

from __future__ import annotations

import pytest

from tests.failures import Played, hidden_causes, leaves


def cut_off() -> ValueError:
    """Return an exception that was raised from None in place of another."""
    try:
        try:
            raise KeyError("the cause")
        except KeyError:
            raise ValueError("what is told") from None
    except ValueError as error:
        return error


def test_a_cause_that_was_cut_off_is_found() -> None:
    (found,) = hidden_causes(cut_off())
    assert repr(found) == "KeyError('the cause')"


def test_it_is_found_in_a_group_and_behind_another_exception() -> None:
    outer = RuntimeError()
    outer.__cause__ = cut_off()
    found = hidden_causes(ExceptionGroup("two", [cut_off(), outer]))
    assert [type(one) for one in found] == [KeyError, KeyError]


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
    monkeypatch.setenv("KMSCONN_DAY", "20000")
    played = Played()
    for node in ("b.py::one", "a.py::two", "a.py::three", "c.py::four"):
        played.note(node)
    assert played.told("c.py::four") == "KMSCONN_DAY=20000 pytest -n 0 b.py a.py 'c.py::four'"
    assert played.told("c.py::five") == ""


def test_a_test_that_was_played_alone_names_nothing() -> None:
    played = Played()
    played.note("a.py::one")
    assert played.told("a.py::one") == ""
