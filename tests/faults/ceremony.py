"""Nodes of a committee, each a connector with its Core, that are taken through a life of keys in virtual time. Judges nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.core_faults import CoreFaults
from kmsconn.emulator.dependencies import sender_of
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.key_ceremonies import NEXT_CONTEXT, owner_of
from kmsconn.emulator.key_life import Asked, KeyLife, KeyVerdict, read_keys
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.ethereum.ids import counter_of
from kmsconn.model.events import Event, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.testing.endings import Steps, run_marked
from kmsconn.testing.killable import ConnectorProcess
from tests.faults.scene import wall

E = TypeVar("E")

LONG = 1200.0  # virtual seconds for one step: blocks of 12 s, and finality
ENDS = 120.0  # virtual seconds in which what is answered is finalized, and closed what only others had to do
FAILED = {State.REJECTED, State.QUARANTINED, State.EXPIRED}


@attrs.define(eq=False)
class Ceremony:
    """The dependencies, the owner, and what each connector said. ``incoming``: the nodes of the next context."""

    dependencies: FhevmDependencies
    network: MemoryNetwork
    folder: Path
    incoming: tuple[int, ...]
    events: list[list[Event]] = attrs.field(init=False)
    processes: list[ConnectorProcess] = attrs.field(init=False)
    deadly: Callable[[Event], bool] = lambda _: False
    """Says of what the first connector tells whether it dies of it."""
    dies_at: Callable[[int], int] = lambda _: 0
    """The task step at which the next life of a connector ends; 0: none."""
    dead_for: float = 1.0
    """Seconds after which one that died lives again."""
    deaths: Counter[int] = attrs.field(factory=Counter)
    owner: KeyLife = attrs.field(init=False)
    traffic: Traffic = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.events = [[] for _ in self.nodes]
        self.processes = [ConnectorProcess(self.network, Random(0)) for _ in self.nodes]
        self.traffic = Traffic(self.dependencies, Random(0))
        self.owner = KeyLife(self.dependencies, owner_of(self.dependencies, self.incoming, self.traffic))

    @property
    def nodes(self) -> range:
        """The numbers of all nodes, members of the first context or not."""
        return range(1 + len(self.dependencies.others))

    @property
    def core_faults(self) -> list[CoreFaults]:
        """The Core of each node."""
        return [*self.dependencies.cores, *self.dependencies.others]

    @property
    def cores(self) -> list[EmulatedCore]:
        """The Core of each node."""
        return [faults.core for faults in self.core_faults]

    def settings(self, journal: str, node: int) -> Settings:
        """Return the settings of a node's connector, which polls once a block: more would find nothing, and all hours are CPU."""
        pace = self.dependencies.ethereum.block_time
        usual = self.dependencies.settings(self.folder / journal, node, kms_operation_from_block_number=0)
        return usual.but(reorg_window=4.0, decryption_polling=pace, key_management_polling=pace)

    async def run(self, node: int) -> None:
        """Run one connector, again and again: when its life ends it begins a new one with the same journal."""
        process = self.processes[node]
        live = partial(process.run, self.settings(f"journal-{node}.db", node), wall, partial(self.note, node))
        while True:
            await run_marked(live, Steps(self.dies_at(node), process.kill))
            assert not process.crashes, process.crashes
            self.deaths[node] += 1
            await trio.sleep(self.dead_for)

    def note(self, node: int, event: Event) -> None:
        """Keep what a connector said; the first one dies of whatever ``deadly`` says."""
        self.events[node].append(event)
        first = self.processes[0].life
        if node == 0 and not first.dead and self.deadly(event):
            first.kill()

    def act(self, contract: Any, what: Callable[[Any], Any]) -> None:
        """Do what the owner does, in the next block."""
        self.dependencies.ethereum.actors.act(contract.address, what)

    def told(self, node: int, event: type[E], kind: Kind) -> list[E]:
        """Return what one connector said of one kind of request."""
        return [
            one for one in self.events[node] if isinstance(one, event) and getattr(one, "kind", "") is kind
        ]

    async def wait(self, condition: Callable[[], Any], seconds: float = LONG) -> None:
        """Wait until something holds. Raises TooSlowError."""
        with trio.fail_after(seconds):
            while not condition():
                await trio.sleep(1)

    def keys(self, node: int) -> KeyVerdict:
        """Return what Ethereum says of one node."""
        return read_keys(self.dependencies, sender_of(node).address)

    def expected(self, node: int) -> set[Asked]:
        """Return what one node has to reply to, by the contexts that it is a node of.

        Of the nodes that leave, a new context needs so many words only; who comes after these is told that it is not pending.
        """
        verdict, first = self.keys(node), node in self.dependencies.members

        def is_ours(one: Asked) -> bool:
            match one:
                case ("confirmKmsContextCreation" | "confirmEpochActivation", _):
                    return node in self.incoming
                case _, identifier:  # the first of each is made under the first context
                    return first if counter_of(identifier) == 1 else node in self.incoming

        return {one for one in verdict.asked if is_ours(one) and one not in verdict.aborted}

    def check_replies(self, node: int) -> None:
        """See that one node has replied to all that it had to, once, and to nothing else but a context that it leaves."""
        verdict, leaving = self.keys(node), ("confirmKmsContextCreation", NEXT_CONTEXT)
        assert (set(verdict.replied) | {leaving}) == (self.expected(node) | {leaving})
        assert verdict.doubled == 0

    def failed(self) -> list[RequestClosed]:
        """Return the requests that ended badly, those aside that were asked under what was destroyed."""
        ended = [
            e for told in self.events for e in told if isinstance(e, RequestClosed) and e.state in FAILED
        ]
        return [e for e in ended if "destroyed" not in e.reason]

    def gateway(self, node: int) -> GroundTruth:
        """Return what the Gateway says of one node."""
        ground_truth = GroundTruth(
            self.dependencies.gateway, self.dependencies.decryption.address, sender_of(node).address
        )
        ground_truth.read()
        return ground_truth

    async def ask(self, form: str = "public") -> int:
        """Request a decryption and return its id once it is on chain."""
        sent = self.traffic.forms[form]()
        await self.wait(lambda: self.gateway(0).trace_of(sent))
        trace = self.gateway(0).trace_of(sent)
        assert trace is not None
        return trace.id

    def has_answered(self, node: int, identifier: int) -> bool:
        """Tell whether one node's answer to a decryption is on chain."""
        return self.gateway(node).traces[identifier].answer is not None


@asynccontextmanager
async def open_ceremony(
    folder: Path,
    *,
    members: int = 4,
    newcomers: int = 0,
    shards: int = 1,
    block_time: float = 4.0,
    computing: float = 2.0,
) -> AsyncIterator[Ceremony]:
    """Run so many nodes; with newcomers as many of the first nodes leave. Nothing may have failed at the end."""
    dependencies = FhevmDependencies.make(
        wall, block_time=block_time, computing=computing, members=members, newcomers=newcomers, shards=shards
    )
    dependencies.ethereum.finality.depth = 2
    async with dependencies.run_in_memory() as network, trio.open_nursery() as nursery:
        ceremony = Ceremony(dependencies, network, folder, tuple(range(newcomers, members + newcomers)))
        for node in ceremony.nodes:
            nursery.start_soon(ceremony.run, node)
        yield ceremony
        nursery.cancel_scope.cancel()
    assert ceremony.failed() == []
