"""Checks that every dependency answers, and that each contract is where the configuration says.

At the start a wrong dependency ends the start, and a silent one is waited for and named. Later a contract that is gone is an alert.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Never

import attrs
import trio

from kmsconn.app.components import Components
from kmsconn.app.retrying import until_kept
from kmsconn.errors import Down, Retryable, WrongContract
from kmsconn.journal.binding import Binding
from kmsconn.journal.database import Database
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity
from kmsconn.protocols.port import Profile
from kmsconn.rpc.asking import ask_all
from kmsconn.rpc.endpoint import Endpoint

SILENT = "no-answer-yet"
AGAIN = 1.0  # seconds between looks at a dependency that does not answer

CONTRACTS_INTERVAL = 600.0  # seconds between looks
MISSING_INTERVAL = 60.0  # likewise, while one is missing
HOST_CONTRACTS_INTERVAL = 3600.0
"""Likewise on a host chain: its failures show in the alerts of the requests that wait."""
WRONG_CONTRACT = "wrong-contract"


async def wait_for_dependencies(components: Components, ready: trio.Event) -> None:
    """Set ``ready`` once every chain, the registry and every Core endpoint have answered.

    Raises StartRefused for a chain with another id than configured, a contract that is another, or a registry nobody could trust.
    """
    async with trio.open_nursery() as nursery:
        for endpoint in components.links.endpoints:
            nursery.start_soon(_confirm, components, endpoint)
        nursery.start_soon(components.core_health.wait_served)
        nursery.start_soon(components.ciphertexts.directory.wait_loaded)
    ready.set()


async def _confirm(components: Components, endpoint: Endpoint) -> None:
    """Wait until one chain is right; only then does a new journal say that it belongs to it and its contract."""
    await _until_it_answers(endpoint.name, partial(_right, components, endpoint), components.on_event)
    confirmed = Binding.of(components.settings, components.tx_sender).confirmed_by(endpoint.chain_id)
    if confirmed:
        await until_kept(lambda: components.journal.run(Database.bind, confirmed))


async def _right(components: Components, endpoint: Endpoint) -> None:
    """Ask one chain for its id, and whether the contracts at the configured addresses are those that are meant."""
    await endpoint.probe()
    await see_contracts(components.profile, endpoint)


async def see_contracts(profile: Profile, endpoint: Endpoint) -> None:
    """Ask twice whether a chain's contracts are those that are meant. Raises WrongContract, Retryable. Repeating: reads only."""
    checks = [one for one in profile.deployment_checks() if one.chain_id == endpoint.chain_id]
    with suppress(WrongContract):
        await ask_all(endpoint, checks)
        return
    await trio.sleep(AGAIN)
    await ask_all(endpoint, checks)


async def _until_it_answers(name: str, probe: Callable[[], Awaitable[None]], on_event: OnEvent) -> None:
    """Ask until there is an answer. A chain that is gone has an alert of its own."""
    alerts = Alerts(on_event)
    while True:
        try:
            await probe()
        except Down:
            alerts.clear(name, SILENT)
        except Retryable as error:
            alerts.raise_(name, SILENT, f"has not answered yet: {error}", Severity.CRITICAL)
        else:
            break
        await trio.sleep(AGAIN)
    alerts.clear(name, SILENT)


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
