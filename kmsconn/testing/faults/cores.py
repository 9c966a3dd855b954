"""Restarts and upgrades of the Core."""

from __future__ import annotations

import attrs
import trio

from kmsconn.emulator.core import EmulatedCore, become
from kmsconn.emulator.core_release import CoreRelease
from kmsconn.testing.world import World


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
