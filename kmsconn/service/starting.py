"""The start: every neighbour must answer once; a wrong one ends the start, a silent one is waited for, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from kmsconn.chain.asking import ask_all
from kmsconn.chain.endpoint import Endpoint
from kmsconn.errors import Retryable, Unreachable
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity
from kmsconn.service.house import House

SILENT = "silent"
AGAIN = 1.0  # seconds between looks at a neighbour that does not answer


async def wait_for_neighbours(house: House, ready: trio.Event) -> None:
    """Set ``ready`` once every chain, the registry and every Core endpoint have answered.

    Raises StartRefused for a chain with another id than configured, a contract that is another, or a registry nobody could trust.
    """
    async with trio.open_nursery() as nursery:
        for endpoint in house.links.endpoints:
            nursery.start_soon(
                _until_it_answers, endpoint.name, partial(_right, house, endpoint), house.on_event
            )
        for index, name in enumerate(house.links.core.endpoints):
            nursery.start_soon(_until_it_answers, name, partial(_healthy, house, index), house.on_event)
        nursery.start_soon(
            _until_it_answers, "coprocessor registry", house.directory.wait_loaded, house.on_event
        )
    ready.set()


async def _right(house: House, endpoint: Endpoint) -> None:
    """Ask one chain for its id, and whether the contracts at the configured addresses are those that are meant."""
    await endpoint.probe()
    checks = house.profile.deployment_checks()
    await ask_all(endpoint, [check for check in checks if check.chain_id == endpoint.chain_id])


async def _healthy(house: House, index: int) -> None:
    """Ask one Core. Chains and the registry bring deadlines of their own; a Core that took a call may be silent for ever."""
    seconds = house.settings.healthcheck_timeout
    with trio.move_on_after(seconds):
        if await house.links.core.healthy(index):
            return
        raise Unreachable("is not serving")
    raise Unreachable(f"takes calls and says nothing for {seconds:g} s")


async def _until_it_answers(name: str, probe: Callable[[], Awaitable[None]], on_event: OnEvent) -> None:
    alerts = Alerts(on_event)
    while True:
        try:
            await probe()
        except Retryable as error:
            if (name, SILENT) not in alerts:
                alerts.raise_(name, SILENT, f"has not answered yet: {error}", Severity.CRITICAL)
            await trio.sleep(AGAIN)
        else:
            break
    alerts.clear(name, SILENT)
