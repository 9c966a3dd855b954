"""Asks now and then, as the start does, whether the contracts are where the configuration says: one that is gone is an alert."""

from __future__ import annotations

from typing import Never

import attrs
import trio

from kmsconn.app.starting import see_contracts
from kmsconn.errors import Retryable, WrongContract
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity
from kmsconn.protocols.port import Profile
from kmsconn.rpc.endpoint import Endpoint

CONTRACTS_INTERVAL = 600.0  # seconds between looks
MISSING_INTERVAL = 60.0  # likewise, while one is missing
HOST_CONTRACTS_INTERVAL = 3600.0
"""Likewise on a chain that is only asked: what fails there is named by the requests that wait."""
WRONG_CONTRACT = "wrong-contract"


@attrs.define
class ContractWatch:
    """The watch over the configured contracts of one chain."""

    profile: Profile
    endpoint: Endpoint
    on_event: OnEvent
    interval: float = CONTRACTS_INTERVAL
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )

    async def run(self) -> Never:
        """Look for ever. Cancellation: at any time. Repeating: reads only."""
        while True:
            missing = (self.endpoint.name, WRONG_CONTRACT) in self._alerts
            await trio.sleep(MISSING_INTERVAL if missing else self.interval)
            await self._look()

    async def _look(self) -> None:
        """Look once; a chain that does not answer has an alert of its own, and changes nothing here."""
        try:
            await see_contracts(self.profile, self.endpoint)
        except WrongContract as error:
            self._alerts.raise_(self.endpoint.name, WRONG_CONTRACT, str(error), Severity.CRITICAL)
        except Retryable:
            return
        else:
            self._alerts.clear(self.endpoint.name, WRONG_CONTRACT)
