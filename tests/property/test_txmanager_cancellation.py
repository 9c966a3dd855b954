"""A transaction manager is ended at its k-th step, for every k, and started anew: nothing is lost or sent under two nonces."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio
import trio.testing

from kmsconn.model.life import State
from kmsconn.replies.manager import run_txmanager
from kmsconn.testing.endings import Steps, run_marked, seeded_scheduler
from tests.unit.replies.world import World, until

REPLIES = 3


def live(last: int, pool: Any) -> tuple[World, bool]:
    """Run a world whose first transaction manager ends at step ``last``; say whether it got so far."""

    async def main() -> tuple[World, bool]:
        world = World(pool=pool)
        for rid in range(1, REPLIES + 1):
            world.request(rid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.chain.run)
            manager = world.manager()
            manager.closing.set()
            with trio.CancelScope() as scope:
                steps = Steps(last, scope.cancel)
                await run_marked(partial(run_txmanager, manager), steps)
            nursery.start_soon(run_txmanager, world.manager())
            await until(lambda: world.journal.states() == [State.FINALIZED] * REPLIES)
            nursery.cancel_scope.cancel()
        return world, steps.fired is not None

    with seeded_scheduler(7):
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def check_every_step(pool: Any) -> int:
    last = 0
    reached = True
    while reached:
        last += 1
        world, reached = live(last, pool)
        assert len(world.ours()) == REPLIES, f"cancelled at step {last}"
        assert all(mined.outcome.status == 1 for mined in world.ours()), f"cancelled at step {last}"
        assert world.journal.conflicts == 0, f"cancelled at step {last}"
    return last


def test_a_transaction_manager_may_be_cancelled_at_every_step_on_arbitrum() -> None:
    assert check_every_step("arbitrum") > 25


def test_a_transaction_manager_may_be_cancelled_at_every_step_on_a_chain_with_a_mempool() -> None:
    assert check_every_step("geth") > 25
