"""A fault of a dependency, as the drills have it, at a moment of a world."""

from __future__ import annotations

import attrs
import trio

from kmsconn.emulator.drills.drill import Drill
from kmsconn.testing.world import World


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
