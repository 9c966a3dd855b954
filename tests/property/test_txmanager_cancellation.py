"""A transaction manager is ended at its k-th step, for every k, and started anew: nothing is lost or sent under two nonces."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from kmsconn.model.life import State
from kmsconn.replies.manager import run_txmanager
from kmsconn.testing.endings import seeded_scheduler
from tests.unit.replies.world import World, until

REPLIES = 3


class Executioner(trio.abc.Instrument):
    """Cancels ``scope`` when the tasks below ``root`` have made ``last`` steps."""

    def __init__(self, last: int) -> None:
        self.last, self.steps = last, 0
        self.scope: trio.CancelScope | None = None
        self.nursery: trio.Nursery | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.scope is None or not self._is_below(task):
            return
        self.steps += 1
        if self.steps == self.last:
            self.scope.cancel()

    def _is_below(self, task: trio.lowlevel.Task) -> bool:
        parent = task.parent_nursery
        while parent is not None:
            if parent is self.nursery:
                return True
            parent = parent.parent_task.parent_nursery
        return False


def live(last: int, pool: Any) -> tuple[World, bool]:
    """Run a world whose first transaction manager ends at step ``last``; say whether it got so far."""
    worlds: list[World] = []
    executioner = Executioner(last)

    async def first_life(world: World) -> None:
        async with trio.open_nursery() as nursery:
            executioner.scope, executioner.nursery = nursery.cancel_scope, nursery
            manager = world.manager()
            manager.closing.set()
            nursery.start_soon(run_txmanager, manager)

    async def main() -> None:
        world = World(pool=pool)
        worlds.append(world)
        for rid in range(1, REPLIES + 1):
            world.request(rid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.chain.run)
            await first_life(world)
            nursery.start_soon(run_txmanager, world.manager())
            await until(lambda: world.journal.states() == [State.FINALIZED] * REPLIES)
            nursery.cancel_scope.cancel()

    with seeded_scheduler(7):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[executioner])
    return worlds[0], executioner.steps >= last


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
