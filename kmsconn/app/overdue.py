"""Alerts about key generation, contexts and epochs that have waited for an hour: such requests never expire. Ends nothing.

These requests wait until the chain says that they are over, for days if need be; but nobody must learn of it from their absence.
"""

from __future__ import annotations

from typing import Never

import attrs
import trio

from kmsconn.app.retrying import until_kept
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Waiting
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent
from kmsconn.protocols.port import Profile
from kmsconn.transport.ports import Ports

LONG = 3600.0  # seconds
OVERDUE_INTERVAL = 60.0  # seconds between looks
OVERDUE = "overdue"
NAMED = 16  # requests; more are not told one by one


@attrs.define
class Overdue:
    """The watch over what does not expire."""

    profile: Profile
    journal: Journal
    ports: Ports
    on_event: OnEvent
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )

    async def run(self) -> Never:
        """Look for ever. Cancellation: at any time. Repeating: each is told once, and again when its reason changes."""
        kinds = [kind for kind, operation in self.profile.operations.items() if not operation.expires]
        while True:
            self._tell(
                await until_kept(
                    lambda: self.journal.run(queries.waiting, kinds, self.ports.wall() - LONG, NAMED)
                )
            )
            await trio.sleep(OVERDUE_INTERVAL)

    def _tell(self, waiting: tuple[Waiting, ...]) -> None:
        present = {f"{one.kind} 0x{one.id:064x}": one.reason or "its turn" for one in waiting}
        for name in {alert.dependency for alert in self._alerts} - present.keys():
            self._alerts.clear(name, OVERDUE)
        for name, reason in present.items():
            self._alerts.raise_(name, OVERDUE, f"has waited for more than an hour; for what: {reason}")
