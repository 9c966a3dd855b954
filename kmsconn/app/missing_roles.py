"""The alerts about roles that none of the processes over a journal has. Asks nobody: told of each look at the members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from kmsconn.config.values import Role
from kmsconn.journal.members import Gathering
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import Severity

GRACE: Final = 60.0  # seconds for which nobody may have a role: a process that is restarted is back by then
CAUSE: Final = "role-missing"
_LEFT_UNDONE: Final[Mapping[Role, str]] = {
    Role.HEAR: "nobody reads the contracts, and no request is recorded",
    Role.WORK: "requests are recorded, and nobody checks them or asks the Core",
    Role.SEND: "requests are answered, and nobody sends the replies",
}


@attrs.define
class MissingRoles:
    """The roles that nobody has, and since when: after a while every process that is left raises an alert for each."""

    alerts: Alerts
    _since: dict[Role, float] = attrs.field(factory=dict)

    def note(self, gathering: Gathering, now: float) -> None:
        """Raise what has held for long enough, and clear what is over. Repeating: no effect."""
        there = {role for one in gathering.members for role in one.roles}
        for role in Role:
            if role.value in there:
                self._since.pop(role, None)
                self.alerts.clear(_named(role), CAUSE)
            elif now - self._since.setdefault(role, now) >= GRACE:
                self._raise(role)

    def _raise(self, role: Role) -> None:
        text = f"no process over the journal has the role {role.value}: {_LEFT_UNDONE[role]}"
        remedy = f"start a process with {role.value}, or add it to `roles` of one that runs, and restart that"
        self.alerts.raise_(_named(role), CAUSE, text, Severity.CRITICAL, remedy=remedy)


def _named(role: Role) -> str:
    return f"role {role.value}"
