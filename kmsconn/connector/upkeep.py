"""What is done once for a journal, beside its requests: retention, alerts about key management, looks at agreements and contracts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Never

import trio

from kmsconn.connector import key_material, open_agreements
from kmsconn.connector.key_management_alerts import name_overdue, name_undone
from kmsconn.connector.unknown_events import unknown_events
from kmsconn.requests.components import Components
from kmsconn.requests.range_reader import watched_contracts
from kmsconn.requests.retaining import Retaining

Look = Callable[[], Awaitable[float]]
"""Looks once, tells the board of alerts what it saw, and returns the seconds until the next look. Reads only."""


async def keep_looking(look: Look, first: float = 0.0) -> Never:
    """Look for ever, at first after so many seconds. Cancellation: at any time. Repeating: reads only."""
    pause = first
    while True:
        await trio.sleep(pause)
        pause = await look()


async def run_upkeep(components: Components) -> None:
    """Run these tasks until cancelled. Cancellation: at any time. Repeating: each begins anew from the journal."""
    settings, profile, journal = components.settings, components.profile, components.journal
    retaining = Retaining(settings, profile, journal, components.chain_contexts, components.ports)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retaining.run)
        for look, first in _looks(components):
            nursery.start_soon(keep_looking, look, first)


def _looks(components: Components) -> Iterator[tuple[Look, float]]:
    """Yield each look with the seconds until it is first due. What waits for a chain or the Core delays no other one."""
    profile, journal, board = components.profile, components.journal, components.board
    yield partial(name_overdue, profile, journal, components.ports.wall, board), 0.0
    yield partial(name_undone, journal, board), 0.0
    yield open_agreements.OpenAgreements.of(components).look, open_agreements.INTERVAL
    for made in (key_material.core_material(components), key_material.migrated_key_sets(components)):
        if made is not None:
            yield made.look, key_material.FIRST_LOOK
    for events in unknown_events(watched_contracts(components)):
        yield events.look, 0.0
