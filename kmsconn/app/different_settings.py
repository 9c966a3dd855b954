"""The alerts about settings that the processes over a journal do not have alike. Asks nobody: told of each look at the members."""

from __future__ import annotations

from typing import Final

import attrs

from kmsconn.config.common_settings import differences
from kmsconn.journal.members import Gathering
from kmsconn.model.alerts import Alerts

CAUSE: Final = "settings-differ"


@attrs.define
class DifferentSettings:
    """The options that differ among the processes at present: each has an alert, in every process."""

    alerts: Alerts
    _told: set[str] = attrs.field(factory=set)

    def note(self, gathering: Gathering, _now: float) -> None:
        """Raise what differs, and clear what does not any more. Repeating: no effect."""
        found = differences((one.label, one.settings) for one in gathering.members)
        for gone in self._told - {one.option for one in found}:
            self.alerts.clear(gone, CAUSE)
        for one in found:
            remedy = f"set {one.option} alike in all processes, and restart those that have it otherwise"
            self.alerts.raise_(
                one.option, CAUSE, f"the processes over the journal differ: {one.text}", remedy=remedy
            )
        self._told = {one.option for one in found}
