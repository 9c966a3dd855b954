"""Settings that processes over a journal have otherwise than others are told by option, with both, until they are alike."""

from __future__ import annotations

from kmsconn.journal.members import Gathering, MemberRow
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.requests.membership import DIFFER, tell_different_settings


def gathering(*settings: dict[str, str]) -> Gathering:
    """Return members with these settings, all of one name."""
    return Gathering(
        True,
        tuple(MemberRow(number, "k@m", frozenset(), 0.0, 0.5, of) for number, of in enumerate(settings, 1)),
    )


def test_a_difference_is_told_once_with_both_processes_and_a_remedy() -> None:
    seen: list[Event] = []
    board = Board(seen.append, lambda: 0.0)
    for _ in range(3):
        tell_different_settings(board, gathering({"lease": "5s"}, {"lease": "9s"}))
    [alert] = seen
    assert isinstance(alert, AlertRaised)
    assert (alert.dependency, alert.cause, alert.severity) == ("lease", DIFFER, Severity.WARNING)
    assert "5s at k@m (member 1); 9s at k@m (member 2)" in alert.text
    assert "set lease alike" in alert.remedy


def test_each_option_is_cleared_when_it_is_alike_again() -> None:
    seen: list[Event] = []
    board = Board(seen.append, lambda: 0.0)
    tell_different_settings(
        board, gathering({"lease": "5s", "mode": "active"}, {"lease": "9s", "mode": "shadow"})
    )
    tell_different_settings(
        board, gathering({"lease": "5s", "mode": "active"}, {"lease": "5s", "mode": "shadow"})
    )
    assert [type(one) for one in seen] == [AlertRaised, AlertRaised, AlertCleared]
    assert seen[-1] == AlertCleared("lease", DIFFER)


def test_who_says_nothing_differs_from_nobody() -> None:
    seen: list[Event] = []
    tell_different_settings(Board(seen.append, lambda: 0.0), gathering({"lease": "5s"}, {}))
    assert seen == []
