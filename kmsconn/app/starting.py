"""The start: every dependency must answer once; a wrong one ends the start, a silent one is waited for, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from kmsconn.app.components import Components
from kmsconn.errors import Down, Retryable, WrongContract
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity
from kmsconn.protocols.port import Profile
from kmsconn.rpc.asking import ask_all
from kmsconn.rpc.endpoint import Endpoint

SILENT = "no-answer-yet"
AGAIN = 1.0  # seconds between looks at a dependency that does not answer


async def wait_for_dependencies(components: Components, ready: trio.Event) -> None:
    """Set ``ready`` once every chain, the registry and every Core endpoint have answered.

    Raises StartRefused for a chain with another id than configured, a contract that is another, or a registry nobody could trust.
    """
    async with trio.open_nursery() as nursery:
        for endpoint in components.links.endpoints:
            nursery.start_soon(
                _until_it_answers, endpoint.name, partial(_right, components, endpoint), components.on_event
            )
        nursery.start_soon(components.core_health.wait_served)
        nursery.start_soon(components.directory.wait_loaded)
    ready.set()


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
