"""A role that no process over a journal has is told after a while, by name, and until somebody has it."""

from __future__ import annotations

import attrs
import pytest

from kmsconn.journal.members import Gathering, MemberRow
from kmsconn.model.alerts import Board
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.requests.membership import MISSING, tell_missing_roles


def gathering(*roles: str) -> Gathering:
    """Return members with these roles, each several ones in a string."""
    rows = [
        MemberRow(number, f"{number}@m", frozenset(of.split()), 0.0, 0.5) for number, of in enumerate(roles)
    ]
    return Gathering(True, tuple(rows))


GRACE = CAUSES[MISSING].after


@attrs.define
class Roles:
    """A board whose clock is that of the last look."""

    seen: list[Event] = attrs.field(factory=list)
    now: float = 0.0
    board: Board = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.board = Board(self.seen.append, lambda: self.now)

    def note(self, found: Gathering, now: float) -> None:
        self.now = now
        tell_missing_roles(self.board, found)


def watching() -> tuple[Roles, list[Event]]:
    roles = Roles()
    return roles, roles.seen


@pytest.mark.parametrize("role", ["hear", "work", "send"])
def test_a_role_that_nobody_has_for_long_is_told_with_its_name_and_a_remedy(role: str) -> None:
    roles, seen = watching()
    others = " ".join({"hear", "work", "send"} - {role})
    for now in (0.0, GRACE, GRACE + 1):
        roles.note(gathering(others), now)
    [alert] = seen
    assert isinstance(alert, AlertRaised)
    assert (alert.dependency, alert.cause, alert.severity) == (f"role {role}", MISSING, Severity.CRITICAL)
    assert f"has the role {role}" in alert.text
    assert f"start a process with {role}" in alert.remedy


def test_a_restart_is_not_told() -> None:
    roles, seen = watching()
    roles.note(gathering("hear send", "work"), 0.0)
    roles.note(gathering("hear send"), 100.0)
    roles.note(gathering("hear send"), 100.0 + GRACE - 1)
    roles.note(gathering("hear send", "work"), 100.0 + GRACE)
    roles.note(gathering("hear send"), 101.0 + GRACE)
    assert seen == []


def test_what_several_have_together_is_enough() -> None:
    roles, seen = watching()
    for now in (0.0, GRACE):
        roles.note(gathering("hear", "work", "send"), now)
    assert seen == []


def test_the_alert_is_over_when_somebody_has_the_role() -> None:
    roles, seen = watching()
    for now in (0.0, GRACE):
        roles.note(gathering("work"), now)
    assert [alert.dependency for alert in seen if isinstance(alert, AlertRaised)] == [
        "role hear",
        "role send",
    ]
    roles.note(gathering("work", "send"), GRACE + 1)
    assert seen[2:] == [AlertCleared("role send", MISSING)]
