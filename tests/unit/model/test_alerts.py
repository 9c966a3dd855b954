"""The board: an alert is raised once for each dependency and cause, after its patience, and cleared by its own key alone."""

from __future__ import annotations

import attrs
import pytest

from kmsconn.model.alerts import UPDATE, Board
from kmsconn.model.causes import CAUSES
from kmsconn.model.debounce import Debounce
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity


@attrs.define
class Wall:
    """A board with what it told, and a clock that a test sets."""

    seen: list[Event] = attrs.field(factory=list)
    now: float = 0.0
    board: Board = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.board = Board(self.seen.append, lambda: self.now)


@pytest.fixture
def wall() -> Wall:
    return Wall()


def test_the_same_alert_is_raised_once_as_its_cause_says(wall: Wall) -> None:
    for wall.now in (0.0, 2 * UPDATE):
        wall.board.set("unreachable", "core[0]", "refused")
        wall.board.set("overloaded", "core[0]", "429")
    assert wall.seen == [
        AlertRaised("core[0]", "unreachable", "refused", Severity.CRITICAL, CAUSES["unreachable"].remedy),
        AlertRaised("core[0]", "overloaded", "429", Severity.WARNING, CAUSES["overloaded"].remedy),
    ]


def test_a_cause_that_is_in_no_table_cannot_be_raised(wall: Wall) -> None:
    with pytest.raises(KeyError):
        wall.board.set("bad-day", "core[0]", "it rains")


def test_a_text_is_said_again_after_a_minute_and_a_severity_at_once(wall: Wall) -> None:
    for second in range(int(UPDATE) + 2):
        wall.now = float(second)
        wall.board.set("wallet", "txmanager", "no", count=second)
    assert [event.count for event in wall.seen if isinstance(event, AlertRaised)] == [0, int(UPDATE)]
    wall.board.set("wallet", "txmanager", "no", critical=True)
    assert isinstance(wall.seen[-1], AlertRaised)
    assert wall.seen[-1].critical


def test_the_end_is_said_once_and_only_of_what_was_raised(wall: Wall) -> None:
    wall.board.set("unreachable", "gateway", None)
    wall.board.set("unreachable", "gateway", "refused")
    wall.board.set("wrong-chain", "gateway", "chain 5")
    for _ in range(2):
        wall.board.set("unreachable", "gateway", "")
    assert wall.seen[2:] == [AlertCleared("gateway", "unreachable")]
    assert [alert.cause for alert in wall.board] == ["wrong-chain"]


@pytest.mark.parametrize("cause", [name for name, one in CAUSES.items() if one.after])
def test_what_fails_for_a_moment_is_not_told(cause: str, wall: Wall) -> None:
    after = CAUSES[cause].after
    for wall.now, text in (
        (0.0, "lag"),
        (after - 1, "lag"),
        (after, None),
        (after + 1, "lag"),
        (2 * after, "lag"),
    ):
        wall.board.set(cause, "gateway", text)
    assert wall.seen == []
    wall.now = 2 * after + 1
    wall.board.set(cause, "gateway", "lag")
    wall.board.set(cause, "gateway", None)
    assert [type(event) for event in wall.seen] == [AlertRaised, AlertCleared]


def test_an_owner_shows_what_there_is_and_clears_what_is_gone_and_its_own(wall: Wall) -> None:
    [first, second, other] = [AlertRaised(name, "paused", "by us", Severity.WARNING) for name in "abc"]
    wall.board.show("ours", [first, second])
    wall.board.show("theirs", [other])
    wall.board.show("ours", [second])
    assert wall.seen == [first, second, other, AlertCleared("a", "paused")]
    assert [*wall.board] == [second, other]


def test_an_alert_is_as_severe_as_its_cause_unless_it_says_otherwise() -> None:
    assert AlertRaised("core[0]", "unreachable", "refused").severity is Severity.CRITICAL
    assert AlertRaised("keygen", "undone", "rejected").severity is Severity.WARNING
    assert AlertRaised("new_kms_epoch", "undone", "rejected", Severity.CRITICAL).critical


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
