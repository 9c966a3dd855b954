"""Follows what other processes over the journal change and nobody tells: pauses, and the ends of requests that are remembered here."""

from __future__ import annotations

from functools import partial
from typing import Final, Never

import trio

from kmsconn.journal import queries
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.pausing import paused_kinds
from kmsconn.model.life import State
from kmsconn.requests.components import Components
from kmsconn.requests.stage_runner import StageRunner

FORGET_INTERVAL: Final = 5.0  # seconds between looks
ENDED_UNANSWERED: Final = frozenset({State.EXPIRED, State.REJECTED, State.QUARANTINED, State.ABORTED})


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


async def forget_ended(runner: StageRunner, journal: Journal) -> Never:
    """Forget, for ever, the requests that another process has answered or ended. Cancellation: at any time."""
    while True:
        await trio.sleep(FORGET_INTERVAL)
        if remembered := runner.tracker.remembered:
            for row in await until_kept(partial(journal.run, queries.passed, remembered)):
                if row.state in ENDED_UNANSWERED:
                    runner.tracker.forget(row.rid)
                else:
                    runner.passed(row)
