"""What a node says once counts only when a later look says the same."""

from __future__ import annotations

from kmsconn.model.debounce import Debounce


def test_a_first_look_confirms_nothing_and_neither_does_the_same_head() -> None:
    look = Debounce(5.0)
    assert not look.confirms(1, 0.0, 100)
    assert not look.confirms(1, 4.9, 100)


def test_a_later_head_confirms() -> None:
    look = Debounce(5.0)
    look.confirms(1, 0.0, 100)
    assert look.confirms(1, 0.1, 101)


def test_the_seconds_confirm_without_a_later_head() -> None:
    look = Debounce(5.0)
    look.confirms(1, 0.0, 100)
    assert look.confirms(1, 5.0, 100)


def test_a_later_head_that_comes_too_soon_confirms_nothing() -> None:
    look = Debounce(30.0, least=5.0)
    look.confirms(1, 0.0, 100)
    assert not look.confirms(1, 4.9, 101)
    assert look.confirms(1, 5.0, 101)


def test_a_head_below_that_of_the_first_look_begins_anew() -> None:
    look = Debounce(5.0, anew_below=True)
    look.confirms(1, 0.0, 100)
    assert not look.confirms(1, 4.9, 99)
    assert not look.confirms(1, 5.0, 99)
    assert look.confirms(1, 5.0, 100)


def test_a_lower_head_counts_as_one_more_look_where_it_does_not_begin_anew() -> None:
    look = Debounce(5.0)
    look.confirms(1, 0.0, 100)
    assert not look.confirms(1, 4.9, 99)
    assert look.confirms(1, 5.0, 99)


def test_something_else_that_is_said_begins_anew() -> None:
    look = Debounce(5.0)
    look.confirms(1, 0.0, 100, says="aborted")
    assert not look.confirms(1, 0.1, 101, says="over")
    assert look.confirms(1, 0.2, 102, says="over")


def test_a_suspicion_that_is_not_kept_begins_anew() -> None:
    look = Debounce(5.0)
    look.confirms(1, 0.0, 100)
    look.keep({2})
    assert not look.confirms(1, 0.1, 101)


def test_a_cleared_suspicion_begins_anew_and_no_other_does() -> None:
    look = Debounce(5.0)
    look.confirms(1, 0.0, 100)
    look.confirms(2, 0.0, 100)
    look.clear(1)
    assert not look.confirms(1, 0.1, 101)
    assert look.confirms(2, 0.1, 101)


def test_the_oldest_suspicion_is_forgotten_where_there_are_too_many() -> None:
    look = Debounce(5.0, most=2)
    for subject in (1, 2, 3):
        look.confirms(subject, 0.0, 100)
    assert look.confirms(2, 0.1, 101)
    assert look.confirms(3, 0.1, 101)
    assert not look.confirms(1, 0.1, 101)
