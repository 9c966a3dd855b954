"""A running world in which every answer of one kind is replaced by a hostile one for a while. Says what came of it; judges in ``check``.

The world runs, then its connections are cut and the answers of one *subject* (``gateway eth_call 0x12345678``, ``core0
GetPublicDecryptionResult``, ``bucket0 GET``) are hostile for ``LASTING`` seconds while requests come in. Then everybody is honest
again. The process must live, what was asked before and after must be answered, and what was wrong must have been named.
"""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import msgspec
import trio
import trio.testing

from kmsconn.config.settings import Chain, Settings
from kmsconn.emulator.neighbourhood import Neighbourhood
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.rpc import Node, Subscriptions
from kmsconn.emulator.rpc_begun import Begun, BegunBatch
from kmsconn.emulator.traffic import Traffic
from kmsconn.model import events
from kmsconn.model.events import Event
from kmsconn.model.life import State
from kmsconn.service.connector import open_connector
from kmsconn.testing.determinism import seeded_scheduler
from kmsconn.testing.hostile_values import ERRORS, MESSAGES, RESULTS
from kmsconn.testing.mortality import Life, MortalPorts
from kmsconn.testing.truth import Truth, truth_of
from kmsconn.testing.world import EPOCH_SECONDS, memory_backed

BEGIN = 6.0  # virtual seconds until answers become hostile: the first requests are under way, and the next will be
LASTING = 25.0  # virtual seconds for which they are; longer than any dependency may fail unnamed
PATIENCE = 900.0  # virtual seconds in which everything must be answered afterwards
CPU_SECONDS = 20.0  # for one whole world, on any machine
STEP_SECONDS = 1.0  # of CPU for one step of a task, on any machine

BEFORE, DURING, AFTER = ("public", "direct"), ("unified", "public", "wallet"), ("unified_delegated", "public")


@attrs.frozen
class Lie:
    """What stands in an answer's place: ``kind`` says in which part of it, ``name`` what it is."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


LIES: dict[str, tuple[Lie, ...]] = {
    "result": tuple(Lie("result", name) for name in RESULTS),
    "error": tuple(Lie("error", name) for name in ERRORS),
    "message": tuple(Lie("message", name) for name in MESSAGES),
    "push": tuple(Lie("push", name) for name in RESULTS),
}
"""By kind."""


class Hostility:
    """Replaces the answers of one subject while it is on; counts every subject that was asked."""

    def __init__(self, subject: str = "", lie: Lie | None = None) -> None:
        self.subject, self.lie = subject, lie
        self.on = False
        self.asked: dict[str, int] = {}
        self.struck = 0

    def strikes(self, subject: str) -> Lie | None:
        """Count an answer; say what stands in its place, if anything does."""
        if not self.on:
            return None
        self.asked[subject] = self.asked.get(subject, 0) + 1
        if self.lie is None or subject != self.subject:
            return None
        self.struck += 1
        return self.lie

    def settle(self, neighbours: Neighbourhood, network: MemoryNetwork) -> None:
        """Let neighbours be dialled on a memory network, their answers perhaps hostile."""
        for name, cluster in neighbours.clusters.items():
            cluster.nodes[:] = [_HostileNode(node, name, self) for node in cluster.nodes]
        neighbours.settle_in_memory(network)


class _HostileNode(Node):
    """A node whose answers may be hostile."""

    def __init__(self, node: Node, name: str, hostility: Hostility) -> None:
        super().__init__(node.chain, node.faults)
        self._name, self._hostility = name, hostility

    def _begin_one(self, request: Any, subscriptions: Subscriptions | None) -> Begun:
        lie = self._hostility.strikes(f"{self._name} {subject_of(request)}")
        if lie is None:
            return super()._begin_one(request, subscriptions)
        return _Crooked(request["id"], lie=lie)

    async def finish(self, begun: Begun | BegunBatch) -> bytes:
        honest = await super().finish(begun)
        lie = self._hostility.strikes(f"{self._name} {'answer' if isinstance(begun, Begun) else 'batch'}")
        return honest if lie is None else MESSAGES[lie.name](honest)

    def pushed(self, content: Any) -> Any:
        lie = self._hostility.strikes(f"{self._name} push of {'a log' if 'topics' in content else 'a head'}")
        return content if lie is None else msgspec.Raw(RESULTS[lie.name])


@attrs.frozen(kw_only=True)
class _Crooked(Begun):
    """An answer with a hostile result or error."""

    lie: Lie

    def as_json(self) -> dict[str, Any]:
        head = {"jsonrpc": "2.0", "id": self.id}
        values = ERRORS if self.lie.kind == "error" else RESULTS
        return {**head, self.lie.kind: msgspec.Raw(values[self.lie.name])}


def subject_of(request: Any) -> str:
    """Return the kind of answer that a JSON-RPC request wants: its method, and for a call of a contract the function's selector."""
    method, params = request["method"], request.get("params") or []
    if method == "eth_call":
        return f"eth_call {params[0].get('data', params[0].get('input', '0x'))[:10]}"
    if method == "eth_getBlockByNumber":
        return f"{method} {params[0] if params[0].isalpha() else 'number'}"
    return f"{method} {params[0]}" if method == "eth_subscribe" else str(method)


def lies_about(subject: str) -> Iterator[Lie]:
    """Yield every lie that can stand in the place of this answer."""
    _, _, what = subject.partition(" ")
    if what in {"batch", "answer"}:
        yield from LIES["message"]
    elif what.startswith("push"):
        yield from LIES["push"]
    elif what.startswith(("eth_", "debug_")):
        yield from LIES["result"]
        yield from LIES["error"]


@attrs.frozen
class Outcome:
    """What came of a world: whether the lie was told, what ended the process, what was said of the lie, what is on chain."""

    subject: str
    lie: Lie | None
    struck: int
    asked: dict[str, int]
    crash: str
    said: tuple[str, ...]
    """What the connector said of trouble while the lies lasted, and a little longer."""
    told: tuple[Event, ...] = attrs.field(repr=False)
    truth: Truth
    closed: dict[int, str]
    """The requests that ended without a reply, and why."""
    late: frozenset[int]
    """The requests that were asked when everybody was honest again."""
    cpu: float
    step: float

    @property
    def lost(self) -> tuple[int, ...]:
        """The requests that are open though nobody said why, or though nothing was hostile any more when they were asked."""
        return tuple(one for one in self.truth.open if one not in self.closed or one in self.late)

    def complaints(self) -> list[str]:
        """Return what is wrong with it."""
        found = [self.crash] if self.crash else []
        found += [
            f"a worker crashed: {text}" for text in self.said if ": unexpected " in text and "request" in text
        ]
        found += [f"lost: {[hex(one) for one in self.lost]}"] if self.lost else []
        found += [f"doubled: {[hex(one) for one in self.truth.doubled]}"] if self.truth.doubled else []
        found += [f"took {self.cpu:.1f} s of CPU"] if self.cpu > CPU_SECONDS else []
        found += [f"a step took {self.step:.1f} s of CPU"] if self.step > STEP_SECONDS else []
        return found


def play(subject: str = "", lie: Lie | None = None, *, websocket: bool = True, seed: int = 0) -> Outcome:
    """Play a world under a clock of its own. Repeating: the same arguments do the same."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with seeded_scheduler(seed):
        return trio.run(partial(_play, Hostility(subject, lie), websocket=websocket, seed=seed), clock=clock)


class _Longest(trio.abc.Instrument):
    """The longest step of any task, in seconds of CPU."""

    def __init__(self) -> None:
        self.seconds, self._began = 0.0, math.inf

    def before_task_step(self, _task: Any) -> None:
        self._began = time.thread_time()

    def after_task_step(self, _task: Any) -> None:
        self.seconds = max(self.seconds, time.thread_time() - self._began)
        self._began = math.inf


@attrs.define(eq=False)
class _World:
    neighbours: Neighbourhood
    network: MemoryNetwork
    hostility: Hostility
    settings: Settings
    told: list[tuple[float, Event]] = attrs.field(factory=list)
    crash: str = ""
    over: float = math.inf

    async def live(self) -> None:
        """Run the connector until it is cancelled; note what it dies of."""
        ports = MortalPorts(
            Life(), self.network, lambda: EPOCH_SECONDS + trio.current_time(), Random(0)
        ).ports()
        try:
            async with open_connector(self.settings, ports=ports, on_event=self.note) as connector:
                await connector.wait_drained()
                self.crash = "the connector ended by itself"
        except* Exception as group:  # noqa: BLE001 - whatever the process dies of is the finding
            self.crash = "".join(traceback.format_exception(group))

    def note(self, event: Event) -> None:
        self.told.append((trio.current_time(), event))

    @property
    def said(self) -> tuple[str, ...]:
        return tuple(text for at, event in self.told if at >= BEGIN and (text := trouble_in(event)))

    @property
    def closed(self) -> dict[int, str]:
        ids = {one.rid: one.id for _, one in self.told if isinstance(one, events.RequestAdmitted)}
        ended = [one for _, one in self.told if isinstance(one, events.RequestClosed)]
        return {ids[one.rid]: one.reason for one in ended if one.state is not State.DONE}

    def is_done(self) -> bool:
        return bool(self.crash) or all(one in self.closed for one in truth_of(self.neighbours).open)


def trouble_in(event: Event) -> str:
    """Return what an event says of something that is not as it should be; nothing for all others."""
    match event:
        case events.AlertRaised():
            return f"{event.dependency}: {event.cause}: {event.text}"
        case (
            events.RequestParked() | events.RequestClosed() | events.ReplyReturned() | events.AnswerDoubted()
        ):
            return f"{type(event).__name__}: {event.reason}"
        case events.LogQuarantined() | events.CiphertextDoubted() | events.AttestationDoubted():
            return f"{type(event).__name__}: {event.reason}"
        case _:
            return ""


async def _play(hostility: Hostility, *, websocket: bool, seed: int) -> Outcome:
    longest, began = _Longest(), time.process_time()
    neighbours = Neighbourhood.make(
        lambda: EPOCH_SECONDS + trio.current_time(), block_time=1.0, computing=0.1, seed=seed
    )
    network = MemoryNetwork()
    hostility.settle(neighbours, network)
    with tempfile.TemporaryDirectory(dir=memory_backed()) as folder:
        settings = _settings(neighbours, Path(folder) / "journal.db", websocket=websocket)
        world = _World(neighbours, network, hostility, settings)
        trio.lowlevel.add_instrument(longest)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            await nursery.start(neighbours.run)
            nursery.start_soon(world.live)
            before = await _script(world, Traffic(neighbours, Random(seed)))
            nursery.cancel_scope.cancel()
        trio.lowlevel.remove_instrument(longest)
    truth = truth_of(neighbours)
    crash = world.crash or "".join(map(repr, network.crashes))
    return Outcome(
        hostility.subject, hostility.lie, hostility.struck, hostility.asked, crash, world.said,
        tuple(event for _, event in world.told), truth, world.closed,
        frozenset(truth.requested) - before, time.process_time() - began, longest.seconds,
    )  # fmt: skip


async def _script(world: _World, traffic: Traffic) -> frozenset[int]:
    """Let everything happen, and return the requests that were asked before the last lie."""
    _ask(traffic, BEFORE)
    await trio.sleep_until(BEGIN)
    world.hostility.on = True
    _cut(world)
    _ask(traffic, DURING)
    await trio.sleep(LASTING)
    world.hostility.on = False
    before = frozenset(truth_of(world.neighbours).requested)
    _cut(world)
    _ask(traffic, AFTER)
    await trio.sleep(5.0)
    with trio.move_on_after(PATIENCE):
        while not world.is_done():  # noqa: ASYNC110 - the truth is read from outside
            await trio.sleep(1.0)
    return before


def _ask(traffic: Traffic, forms: tuple[str, ...]) -> None:
    for form in forms:
        traffic.forms[form]()


def _cut(world: _World) -> None:
    for place in world.neighbours.places.values():
        world.network.line(*place).cut()


def _settings(neighbours: Neighbourhood, journal: Path, *, websocket: bool) -> Settings:
    settings = neighbours.settings(journal, overlap=4.0)
    if websocket:
        return settings
    hosts = [attrs.evolve(host, chain=_over_http(host.chain)) for host in settings.host_chains]
    gateway, ethereum = _over_http(settings.gateway), _over_http(settings.ethereum)
    return attrs.evolve(settings, gateway=gateway, ethereum=ethereum, host_chains=tuple(hosts))


def _over_http(chain: Chain) -> Chain:
    return attrs.evolve(chain, urls=tuple(url.replace("ws://", "http://") for url in chain.urls))


Report = Callable[[Outcome], None]
