"""A line to a dependency that cannot be used for a while."""

from __future__ import annotations

from typing import Literal

import attrs
import trio

from kmsconn.testing.world import World


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
