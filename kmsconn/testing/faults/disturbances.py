"""What disturbs a world: faults of dependencies as the drills have them, lines cut, Cores restarted or replaced, the connector killed."""

from __future__ import annotations

from typing import Literal

import attrs
import trio

from kmsconn.emulator.core import EmulatedCore, become
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.drills.drill import Drill
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


@attrs.frozen
class CoreRestart:
    """The Core forgets every request."""

    at: float

    async def play(self, world: World) -> None:
        """Restart every shard."""
        await trio.lowlevel.checkpoint()
        for core in world.dependencies.cores:
            core.core.restart()


@attrs.frozen
class CoreUpgrade:
    """A Core of another ``release`` starts in place of the old one, of a later or of an earlier one."""

    at: float
    release: CoreRelease = CoreRelease.V0_15

    async def play(self, world: World) -> None:
        """Restart every shard as another release, and break its connections."""
        await trio.lowlevel.checkpoint()
        for index, core in enumerate(world.dependencies.cores):
            if isinstance(core.core, EmulatedCore):  # the first generation has one release
                become(core.core, self.release)
            core.core.restart()
            world.network.line(*world.dependencies.places[f"core{index}"]).cut()


@attrs.frozen
class Outage:
    """A dependency cannot be used for ``seconds``: refuses, is unreachable, accepts and says nothing, or loses what is sent."""

    at: float
    dependency: str
    how: Literal["refuse", "unreachable", "mute", "lost"]
    seconds: float

    async def play(self, world: World) -> None:
        """Turn the line off, break what is open unless bytes are just lost, and turn it on again."""
        if self.dependency not in world.dependencies.places:  # a shard that this world does not have
            await trio.lowlevel.checkpoint()
            return
        line = world.network.line(*world.dependencies.places[self.dependency])
        if self.how == "lost":
            line.there.lost = line.back.lost = True
        else:
            setattr(line, self.how, True)
            line.cut()
        await trio.sleep(self.seconds)
        if self.how == "lost":
            line.there.lost = line.back.lost = False
            line.cut()
        else:
            setattr(line, self.how, False)


@attrs.frozen
class Strike:
    """A fault is put on a target, for ``seconds`` or until the world heals. One like it on the same target waits for its end.

    Of a shard or bucket that this world does not have, the first one is struck.
    """

    at: float
    target: str
    fault: Drill
    seconds: float | None = None

    async def play(self, world: World) -> None:
        """Put it on, and end it."""
        target = self.target if self.target in world.dependencies.names else f"{self.target[:-1]}0"
        async with world.scene.turns[type(self.fault), target]:
            world.invariants.note_shown()  # a node may show less from now on
            end = self.fault.put_on(world.scene, target)
            if self.seconds is not None:
                await trio.sleep(self.seconds)
                if end is not None:
                    end()
