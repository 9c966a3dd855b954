"""What happens to the process of the connector: it dies, it is drained, its wall clock jumps."""

from __future__ import annotations

from typing import Literal

import attrs
import trio

from kmsconn.testing.world import World


@attrs.frozen
class ClockStep:
    """The wall clock jumps by ``seconds``; neither chain time nor Trio's clock does."""

    at: float
    seconds: float

    async def play(self, world: World) -> None:
        """Step it."""
        await trio.lowlevel.checkpoint()
        world.wall_step += self.seconds


@attrs.frozen
class Kill:
    """The connector dies as under ``kill -9`` and is started again ``down`` seconds later, perhaps without its journal."""

    at: float
    down: float = 1.0
    lose_journal: bool = False

    async def play(self, world: World) -> None:
        """Kill and start."""
        await world.kill(self.down, lose_journal=self.lose_journal)


@attrs.frozen
class Drain:
    """The connector is asked to end well, as by SIGTERM, and is started again ``down`` seconds after its end."""

    at: float
    down: float = 1.0

    async def play(self, world: World) -> None:
        """Drain and start."""
        await world.drain(self.down)


@attrs.frozen
class KillAtWork:
    """The connector dies right before or right after its journal's n-th piece of work from now on, and is started again."""

    at: float
    nth: int
    when: Literal["before", "after"]

    async def play(self, world: World) -> None:
        """Arm it in the living process."""
        await trio.lowlevel.checkpoint()
        target = world.process.life.works + self.nth
        if self.when == "before":
            world.process.life.kill_before = target
        else:
            world.process.life.kill_after = target
