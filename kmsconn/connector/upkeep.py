"""What is done once for a journal, beside its requests: retention, alerts about key management, looks at agreements and contracts."""

from __future__ import annotations

import trio

from kmsconn.connector.key_management_alerts import FailedKeyManagement, OverdueRequests
from kmsconn.connector.key_material import core_material, migrated_key_sets
from kmsconn.connector.open_agreements import OpenAgreements
from kmsconn.connector.unknown_events import unknown_events
from kmsconn.requests.components import Components
from kmsconn.requests.range_reader import watched_contracts
from kmsconn.requests.retaining import Retaining


async def run_upkeep(components: Components) -> None:
    """Run these tasks until cancelled. Cancellation: at any time. Repeating: each begins anew from the journal."""
    profile, journal, ports = components.profile, components.journal, components.ports
    chain_contexts, board = components.chain_contexts, components.board
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Retaining(components.settings, profile, journal, chain_contexts, ports).run)
        nursery.start_soon(OverdueRequests(profile, journal, ports, board).run)
        nursery.start_soon(FailedKeyManagement(journal, board).run)
        for key_watch in (core_material(components), migrated_key_sets(components)):
            if key_watch is not None:
                nursery.start_soon(key_watch.run)
        nursery.start_soon(OpenAgreements.of(components).run)
        for watch in unknown_events(watched_contracts(components)):
            nursery.start_soon(watch.run)
