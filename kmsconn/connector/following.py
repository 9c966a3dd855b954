"""Takes up what other processes over the journal change: by what they tell, and by looking, where nobody tells.

Topics carry no data: whoever is woken looks. A topic is a word with a name: ``due user_decryption``, ``answered 54321``,
``closed <id in hex>``, ``lease``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Never

import trio

from kmsconn.journal import moves, queries
from kmsconn.journal.inspecting import paused_kinds
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.model.life import State
from kmsconn.model.requests import DECRYPTION_KINDS, PoolName
from kmsconn.requests.components import Components
from kmsconn.requests.core_health import CONNECTION
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.pipeline import Pipeline
from kmsconn.requests.stage_runner import StageRunner

Wake = Callable[[str], None]
"""Wakes who waits for something by its name; an empty name wakes all."""


Topics = dict[str, Wake]
"""Who is woken by which word."""


def tell(topics: Topics, told: Collection[str]) -> None:
    """Wake who waits for these topics; without any, everybody: something may have been told that nobody heard."""
    for topic in told or topics:
        word, _, name = topic.partition(" ")
        if (wake := topics.get(word)) is not None:
            wake(name)


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
        if remembered := runner.remembered:
            for row in await until_kept(partial(journal.run, queries.passed, remembered)):
                if row.state in ENDED_UNANSWERED:
                    runner.forget(row.rid)
                else:
                    runner.passed(row)


def wake_by(topics: Topics, components: Components) -> None:
    """Let what other processes tell wake who waits for it here."""

    def due(kind: str) -> None:
        for pool in components.pools.values():
            if not kind or kind in pool.kinds:
                pool.wake_up.notify()

    def answered(chain_id: str) -> None:
        for known, chain_context in components.chain_contexts.items():
            if not chain_id or chain_id == str(known):
                chain_context.wake_up.notify()

    topics |= {"due": due, "answered": answered, "closed": components.http_decryptions.waiters.closed}


async def recovered(
    pipeline: Pipeline, pools: Mapping[PoolName, WorkerPool], index: int, *, served: bool
) -> None:
    """Let what waits for a Core be due at once, and do not hold one that serves again to what was before.

    One that is only connected to anew may break every connection, and what is held against it is to be told.
    """
    if not served:
        pipeline.runner.progress.forgive(pipeline.runner.core_health.core.endpoints[index], CONNECTION)
    journal, shards = pipeline.journal, pipeline.runner.shards
    hurried = await until_kept(lambda: journal.run(moves.hurry, [*DECRYPTION_KINDS], index, shards))
    for pool in pools.values():
        if hurried or pool.backlogged:
            pool.wake_up.notify()
