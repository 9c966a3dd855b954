"""Keeps the pools to the pauses that the journal has: as the connector begins, and where another process may pause a kind."""

from __future__ import annotations

from typing import Never

import trio

from kmsconn.app.components import Components
from kmsconn.app.retrying import until_kept
from kmsconn.journal.pausing import paused_kinds


async def take_pauses(components: Components) -> None:
    """Pause what an operator has paused, and nothing else. Raises JournalFailed. Repeating: no effect."""
    found = {one.kind: one for one in await components.journal.run(paused_kinds)}
    for pool in components.pools.values():
        paused = {kind: one for kind, one in found.items() if kind in pool.kinds}
        if paused != pool.paused:
            pool.paused = paused
            pool.wake_up.notify()


async def follow_pauses(components: Components) -> Never:
    """Take the pauses of the journal for ever. Cancellation: at any time."""
    while True:
        await trio.sleep(components.membership.look_again)
        await until_kept(lambda: take_pauses(components))
