"""Restarts of one process of the connector after the other, and how long it took until another one held its leases."""

from __future__ import annotations

import math
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from bench.cluster import Cluster
from bench.connector import ConnectorProcess
from bench.figures import spread
from bench.leases import AskHeld, HandOver, Held, follow, held_by, in_words, open_leases


@attrs.define(eq=False)
class Restarter:
    """Restarts processes and remembers what became of it. ``ask``: who holds which lease; ``note`` is told of each restart."""

    connectors: Sequence[ConnectorProcess]
    ask: AskHeld
    note: Callable[[str], None]
    statuses: dict[str, list[int | None]] = attrs.field(factory=lambda: defaultdict(list))
    """The statuses with which each process has ended."""
    handed_over: list[HandOver] = attrs.field(factory=list)
    left: int = 0
    """Leases that no other member held in time."""

    async def run(self, every: float, seconds: float) -> None:
        """Restart one after the other, the first after ``every`` seconds, the last before ``seconds``."""
        begun = trio.current_time()
        for number in range(math.ceil(seconds / every) - 1):
            await trio.sleep_until(begun + (number + 1) * every)
            await self.restart(self.connectors[number % len(self.connectors)])

    async def restart(self, connector: ConnectorProcess) -> None:
        """End one by SIGTERM, start it again once it is gone, and see its leases go over."""
        self.note(f"{connector.name} restarts")
        before = held_by(await self.ask(), connector.name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, before)
            self.statuses[connector.name].append(await connector.end(signal.SIGTERM))
            await connector.start()

    async def _follow(self, before: Mapping[str, int]) -> None:
        self.left += await follow(self.ask, "term", before, self.handed_over)

    def found(self) -> dict[str, Any]:
        """Return it all as the JSON file has it."""
        handed_over = [attrs.asdict(one) for one in self.handed_over]
        return {"statuses": dict(self.statuses), "handed_over": handed_over, "left": self.left}


@asynccontextmanager
async def open_asker(cluster: Cluster | None) -> AsyncIterator[AskHeld]:
    """Give what asks for the leases; a journal without a database has none."""
    if cluster is None:
        yield _nothing
        return
    async with open_leases(cluster.url()) as ask:
        yield ask


async def _nothing() -> Held:
    await trio.lowlevel.checkpoint()
    return {}


def told(found: Mapping[str, Any]) -> list[str]:
    """Return what became of restarts as text; nothing of none."""
    statuses = found["statuses"]
    if not statuses:
        return []
    others = sorted({str(one) for each in statuses.values() for one in each if one != 0})
    ends = f"ENDED ALSO WITH STATUS {', '.join(others)}" if others else "each ended with status 0"
    times = spread([one["seconds"] for one in found["handed_over"]])
    left = [f"{found['left']} leases WENT OVER TO NOBODY in time"] if found["left"] else []
    return [
        "restarts: "
        + ", ".join(f"{name} {len(each)}" for name, each in sorted(statuses.items()))
        + f"; {ends}",
        *([f"hand-over: {in_words(times)}"] if times.count else []),
        *left,
    ]
