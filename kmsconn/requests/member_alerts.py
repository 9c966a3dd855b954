"""The alerts that follow from who is there over a journal: roles that nobody has, and settings that differ. Asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.config.common_settings import differences
from kmsconn.config.values import Role
from kmsconn.journal.members import Gathering
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertRaised, Severity

MISSING: Final = "role-missing"
DIFFER: Final = "settings-differ"
_LEFT_UNDONE: Final[Mapping[Role, str]] = {
    Role.HEAR: "nobody reads the contracts, and no request is recorded",
    Role.WORK: "requests are recorded, and nobody checks them or asks the Core",
    Role.SEND: "requests are answered, and nobody sends the replies",
}


def tell_missing_roles(board: Board, gathering: Gathering) -> None:
    """Tell the roles that nobody has: every process that is left does. Repeating: no effect."""
    there = {role for one in gathering.members for role in one.roles}
    for role in Role:
        text = f"no process over the journal has the role {role.value}: {_LEFT_UNDONE[role]}"
        remedy = f"start a process with {role.value}, or add it to `roles` of one that runs, and restart that"
        board.set(MISSING, f"role {role.value}", None if role.value in there else text, remedy=remedy)


def tell_different_settings(board: Board, gathering: Gathering) -> None:
    """Tell the options that the processes do not have alike: each has an alert, in every process. Repeating: no effect."""
    found = differences((one.label, one.settings) for one in gathering.members)
    board.show(DIFFER, [_differs(one.option, one.text) for one in found])


def _differs(option: str, text: str) -> AlertRaised:
    remedy = f"set {option} alike in all processes, and restart those that have it otherwise"
    return AlertRaised(
        option, DIFFER, f"the processes over the journal differ: {text}", Severity.WARNING, remedy
    )
