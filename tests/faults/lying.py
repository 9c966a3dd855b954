"""Worlds with a node that lies in one kind of answer, among honest ones, and what each came to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio
import trio.testing

from kmsconn.emulator.node_faults import Honest
from kmsconn.model.events import AlertRaised, RequestClosed
from kmsconn.testing.endings import seeded_scheduler
from kmsconn.testing.faults.lies import BentAnswers, Lie
from kmsconn.testing.ground_truth import read_ground_truth, reply_to
from kmsconn.testing.world import World, open_world

FORMS = ("public", "direct", "unified")
BEGINS = 60.0
"""Seconds of a world until a lie begins."""


@attrs.frozen
class LyingWorld:
    """How a lie is told, and what else happens in that world.

    ``seconds`` that it lasts, infinity: to the end; ``node`` that tells it, None: all of them; ``boot``: the second at which the process
    starts; ``core_away``: no Core from 15 s before the lie until 10 s after it, ``core_back``: until 5 s after its beginning.
    """

    seconds: float = 9.0
    nodes: int = 1
    node: int | None = None
    http: bool = False
    boot: float = 0.0
    core_away: bool = False
    core_back: bool = False
    after: float = 240.0


@attrs.frozen
class Outcome:
    """What a world came to: requests without a reply, doubled ones, those closed by us, alerts, and what was paid for nothing."""

    open: int
    doubled: int
    closed: Counter[str]
    empty: int
    struck: int
    critical: frozenset[str]


@attrs.define(eq=False)
class Play:
    """One world under way."""

    world: World
    lie: Lie
    how: LyingWorld
    each: Callable[[World], None]
    closed: Counter[str] = attrs.field(factory=Counter)
    critical: set[str] = attrs.field(factory=set)
    struck: int = 0

    def hear(self, event: Any) -> None:
        """Note what the process tells."""
        self.world._note(event)
        if isinstance(event, AlertRaised) and event.critical:
            self.critical.add(event.cause)
        if isinstance(event, RequestClosed):
            self.closed[f"{event.state}: {event.reason}"] += 1

    async def live(self) -> None:
        """Run the process, and again whenever it ends."""
        await trio.sleep(self.how.boot)
        while True:
            await self.world.process.wait_free()
            self.world.invariants.born()
            await self.world.process.run(self.world.settings(), self.world.wall, self.hear)
            if self.world.process.life.dead:
                self.world.invariants.killed()
            await trio.sleep(0.5)

    async def look(self) -> None:
        """Let the test look each second."""
        while True:
            await trio.sleep(1)
            self.each(self.world)

    def ask(self) -> None:
        """Have a request of each form made."""
        for form in FORMS:
            self.world.traffic.forms[form]()

    def take_core(self, *, away: bool) -> None:
        """Take the Core's lines away, or give them back."""
        dependencies = self.world.dependencies
        for name in dependencies.names:
            if name.startswith("core"):
                line = self.world.network.line(*dependencies.places[name])
                line.refuse = away
                if away:
                    line.cut()

    def strike(self) -> Sequence[Callable[[], None]]:
        """Begin the lie; return what ends it."""
        nodes = self.world.dependencies.clusters[self.lie.chain].nodes
        liars = nodes if self.how.node is None else [nodes[self.how.node]]
        fault = BentAnswers(bend=self._bend, method=self.lie.method, containing=self.lie.containing)
        return [one.faults.strike(fault) for one in liars]

    def _bend(self, honest: Honest) -> Any:
        self.struck += 1
        return self.lie.bend(honest)

    async def act(self) -> None:
        """Ask before, during and after the lie."""
        await trio.sleep(5)
        self.ask()
        await trio.sleep(BEGINS - 20)
        if self.how.core_away:
            self.take_core(away=True)
            self.ask()
        await trio.sleep(15)
        if self.how.core_back:
            await trio.sleep(20)
            self.take_core(away=False)
        ends = self.strike()
        self.ask()
        await trio.sleep(min(3, self.how.seconds))
        self.ask()
        if self.how.seconds < math.inf:
            await trio.sleep(max(0.0, self.how.seconds - 3))
            for end in ends:
                end()
        await trio.sleep(30 if self.how.seconds == math.inf else 10)
        self.take_core(away=False)
        self.ask()
        await trio.sleep(self.how.after)

    def outcome(self) -> Outcome:
        """Compare with what the chain knows."""
        dependencies = self.world.dependencies
        truth = read_ground_truth(dependencies, self.world.invariants.replies.excuse)
        return Outcome(
            open=len(truth.open),
            doubled=len(truth.doubled),
            closed=self.closed,
            empty=self._count_empty(),
            struck=self.struck,
            critical=frozenset(self.critical),
        )

    def _count_empty(self) -> int:
        """Return the transactions of our account that carry no reply."""
        dependencies, empty = self.world.dependencies, 0
        for number in range(dependencies.gateway.head.number + 1):
            block = dependencies.gateway.block(number)
            for mined in () if block is None else block.mined:
                ours = mined.transaction.sender == dependencies.sender.address
                empty += ours and reply_to(dependencies, mined) is None
        return empty


async def play_lie(lie: Lie, how: LyingWorld, seed: int, each: Callable[[World], None]) -> Outcome:
    """Play one world."""
    opened = open_world({}, seed, block_time=1.0, pool="arbitrum", nodes=how.nodes, shards=1)
    async with opened as world, trio.open_nursery() as nursery:
        world.websocket = not how.http
        play = Play(world, lie, how, each)
        nursery.start_soon(play.live)
        nursery.start_soon(play.look)
        await play.act()
        outcome = play.outcome()
        nursery.cancel_scope.cancel()
    return outcome


def run_lie(
    lie: Lie,
    how: LyingWorld | None = None,
    *,
    seed: int = 0,
    each: Callable[[World], None] = lambda _world: None,
) -> Outcome:
    """Play one world under a clock of its own; ``each`` looks at it once a second."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with seeded_scheduler(seed):
        return trio.run(partial(play_lie, lie, how or LyingWorld(), seed, each), clock=clock)
