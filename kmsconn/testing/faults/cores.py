"""What the Core does wrong, by name, and its restarts and upgrades."""

from __future__ import annotations

import attrs
import trio

from kmsconn.emulator import core_faults
from kmsconn.emulator.core import EmulatedCore, become
from kmsconn.emulator.core_release import CoreRelease
from kmsconn.testing.world import World
from kmsconn.transport.grpc.framing import Status

TRANSIENT = (
    Status.UNAVAILABLE,
    Status.DEADLINE_EXCEEDED,
    Status.RESOURCE_EXHAUSTED,
    Status.UNKNOWN,
    Status.CANCELLED,
    Status.NOT_FOUND,
)
CORE_FAULTS = {
    fault.name: fault
    for fault in (
        core_faults.CUT,
        core_faults.CUT_AFTER,
        core_faults.GO_AWAY,
        core_faults.RESTART,
        core_faults.HANG,
        *(core_faults.status(code) for code in TRANSIENT),
        *(core_faults.status_after(code) for code in TRANSIENT),
    )
}


@attrs.frozen
class CoreTrouble:
    """The Core does something wrong at its next ``times`` calls of a method."""

    at: float
    method: str
    fault: str
    times: int = 1
    shard: int = 0

    async def play(self, world: World) -> None:
        """Script it."""
        await trio.lowlevel.checkpoint()
        cores = world.dependencies.cores
        cores[self.shard % len(cores)].script(self.method, *[CORE_FAULTS[self.fault]] * self.times)


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
