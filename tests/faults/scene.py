"""One connector among honest dependencies in virtual time, perhaps with a shadow beside it. Holds what each said."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

import attrs
import trio

from kmsconn.config.description import LogFormat, Mode
from kmsconn.config.parties import Chain
from kmsconn.config.settings import Settings
from kmsconn.config.working import Pools
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.core_faults import CoreFault
from kmsconn.emulator.core_spoils import InterceptedCall
from kmsconn.emulator.dependencies import EmulatedDependencies, sender_of
from kmsconn.emulator.drills.drill import End
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.ethereum.addresses import Address
from kmsconn.model.causes import CAUSES
from kmsconn.model.events import (
    AlertRaised,
    Event,
    ReplyCompared,
    ReplyFinalized,
    ReplySent,
    ReplySigned,
    ignore,
)
from kmsconn.model.life import State
from kmsconn.observe.logs import LineLog, line_takes
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, answer
from kmsconn.observe.tally import EventTakers
from kmsconn.protocols.comparing import Likeness
from kmsconn.protocols.fhevm.decryptions import RESPONSE as PUBLIC
from kmsconn.protocols.fhevm.user_decryption import RESPONSE as USER
from kmsconn.serving.wire import ServedAnswer
from kmsconn.testing.ground_truth import read_ground_truth
from kmsconn.testing.http_clients import POSTED_FORMS, content_of
from kmsconn.testing.killable import KillablePorts, Life
from kmsconn.transport.ports import Ports

D = TypeVar("D", bound=EmulatedDependencies)
U = TypeVar("U")
E = TypeVar("E")
WINDOW = 4.0
PLACES = Pools(32, 32, 32, 32)
"""A start begins a task for each place: a quarter of the usual ones makes a tenth to a fifth of the CPU of a short scene."""
BEGIN = 1_767_225_600.0
SECRETS = ("hunter2", "sesame", "pathkey")
MOMENTS = 120.0  # virtual seconds that anything may take unless a test says otherwise


def wall() -> float:
    """Return the time of chains and of connectors."""
    return BEGIN + trio.current_time()


@attrs.define(eq=False)
class Stand(Generic[D, U]):
    """EmulatedDependencies, users, and what connectors told: what scenes have in common."""

    dependencies: D
    network: MemoryNetwork
    traffic: U
    folder: Path
    events: list[Event] = attrs.field(factory=list)
    monitor: Monitor = attrs.field(factory=Monitor)

    def ports(self) -> Ports:
        """Return the ports of one process."""
        return ports(self.network)

    def settings(self, member: int = 0, **changes: Any) -> Settings:
        """Return the settings of a node's connector."""
        journal = self.folder / f"journal{member or ''}.db"
        few = {"reorg_window": WINDOW, "pools": PLACES}
        return self.dependencies.settings(journal, member, **{**few, **changes})

    def on_event(self, event: Event) -> None:
        """Take what a connector tells."""
        self.events.append(event)
        self.monitor.on_event(event)

    def open(self, member: int = 0, **changes: Any) -> AbstractAsyncContextManager[Connector]:
        """Return the connector of a node; it drains when the block is left."""
        return open_connector(self.settings(member, **changes), ports=self.ports(), on_event=self.on_event)

    @asynccontextmanager
    async def connected(self, **changes: Any) -> AsyncIterator[Connector]:
        """Run a connector while the block lasts, then cancel it."""
        with trio.CancelScope() as scope:
            self.monitor = Monitor()
            async with self.open(**changes) as connector:
                self.monitor.watch(connector.statistics)
                yield connector
                scope.cancel()

    @asynccontextmanager
    async def all_connected(self, members: int) -> AsyncIterator[None]:
        """Run a connector for each node while the block lasts, then cancel them."""
        async with AsyncExitStack() as stack:
            for member in range(members):
                await stack.enter_async_context(self.connected(member=member))
            yield

    def told(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait(self, condition: Callable[[], Any], seconds: float = MOMENTS) -> Any:
        """Return what ``condition`` returns once it is true. Raises TooSlowError."""
        with trio.fail_after(seconds):
            while not (found := condition()):
                await trio.sleep(0.5)
        return found


def ports(network: MemoryNetwork) -> Ports:
    """Return the ports of one process on a network."""
    return KillablePorts(Life(), network, wall, Random(0)).ports()


def all_mined(chain: EmulatedChain) -> list[Mined]:
    """Return what all blocks of a chain hold, oldest first."""
    blocks = (chain.block(number) for number in range(chain.head.number + 1))
    return [mined for block in blocks if block is not None for mined in block.mined]


@attrs.define(eq=False)
class Scene(Stand[FhevmDependencies, Traffic]):
    """One connector; nothing of what it says holds a secret: ``log`` is all of it as text."""

    log: io.StringIO = attrs.field(factory=io.StringIO)

    def http(self, path: str) -> ServedAnswer:
        """Return what the monitoring port answers."""
        return answer(path, self.monitor, Identity("kmsconn", "0"))

    def settings(self, member: int = 0, **changes: Any) -> Settings:
        """Return settings with secrets in a URL."""
        settings = super().settings(member, **changes)
        gateway = Chain(
            settings.chains.gateway.chain_id, ("ws://user:hunter2@gateway:80/pathkey?token=sesame",)
        )
        return settings.but(gateway=gateway)

    def open(self, member: int = 0, **changes: Any) -> AbstractAsyncContextManager[Connector]:
        """Return a connector that drains when the block is left; nothing of what it says holds a secret."""
        settings = self.settings(member, **changes)
        write = EventTakers(line_takes(LineLog(self.log, "debug", LogFormat.JSON))).on_event
        assert settings.wallet.private_key is not None
        secrets = (*SECRETS, settings.wallet.private_key.reveal().removeprefix("0x"))

        def note(event: Event) -> None:
            assert not isinstance(event, AlertRaised) or event.cause in CAUSES
            self.on_event(event)
            at = self.log.tell()
            write(event)
            told = repr(event) + self.log.getvalue()[at:]
            assert not any(secret in told for secret in secrets)

        return open_connector(settings, ports=self.ports(), on_event=note)

    async def ask(self, *forms: str) -> list[int]:
        """Request decryptions and return their ids once they are on chain."""
        return await self.on_chain([self.traffic.forms[form]() for form in forms])

    async def on_chain(self, transactions: list[bytes]) -> list[int]:
        """Return the ids that transactions were given, once all are mined."""
        await self.wait(lambda: all(transaction in self._ids() for transaction in transactions))
        return [self._ids()[transaction] for transaction in transactions]

    def _ids(self) -> dict[bytes, int]:
        chain = self.dependencies.gateway
        blocks = chain.history.blocks_with_logs(0, chain.head.number)
        return {
            mined.transaction.hash: int.from_bytes(mined.logs[0].topics[1])
            for block in blocks
            for mined in block.mined
            if mined.logs
        }

    @property
    def answered(self) -> set[int]:
        """The ids that have this node's answer on chain."""
        return set(read_ground_truth(self.dependencies).answered)

    def answered_of(self, transactions: list[bytes]) -> bool:
        """Say whether the requests of these transactions are on chain and answered."""
        ids = self._ids()
        return all(ids.get(transaction) in self.answered for transaction in transactions)

    async def wait_answered(self, ids: list[int]) -> None:
        """Wait until requests are answered."""
        await self.wait(lambda: self.answered >= set(ids))

    def core_does(self, fault: CoreFault, identifier: int, method: str | None = None) -> End:
        """Let the Core do something wrong with one request, always, until the end that is returned."""
        return self.dependencies.cores[0].strike(_OfOne(fault=fault, request=identifier), method)


class _OfOne(CoreFault, frozen=True):
    """A fault that strikes the calls of one request."""

    name = "of one"
    fault: Any = None
    request: int = 0

    async def act(self, call: InterceptedCall) -> bytes:
        ours = self.request.to_bytes(32).hex().encode() in call.request
        return await (self.fault.act(call) if ours else call.proceed())


@asynccontextmanager
async def open_scene(
    folder: Path, *, block_time: float = 1.0, shards: int = 1, nodes: int = 1
) -> AsyncIterator[Scene]:
    """Run the dependencies while the block lasts; needs a virtual clock."""
    dependencies = FhevmDependencies.make(
        wall, block_time=block_time, computing=0.1, shards=shards, nodes=nodes
    )
    async with dependencies.run_in_memory() as network:
        yield Scene(dependencies, network, Traffic(dependencies, Random(0)), folder)


class ShadowScene(Stand[FhevmDependencies, Traffic]):
    """One node with two connectors: the active one asks the first shard of its Core, the shadow the last one, which is heard."""

    def settings_of(self, name: str, shard: int, **changes: Any) -> Settings:
        """Return the settings of one of the two connectors."""
        settings = self.dependencies.settings(self.folder / f"{name}.db", reorg_window=WINDOW)
        core = (settings.core.core_endpoints[shard],)
        return settings.but(**{"core_endpoints": core, "decryption_from_block_number": 0, **changes})

    def active(self, **changes: Any) -> AbstractAsyncContextManager[Connector]:
        """Return the connector that sends."""
        return open_connector(self.settings_of("active", 0, **changes), ports=self.ports(), on_event=ignore)

    def shadow(self, **changes: Any) -> AbstractAsyncContextManager[Connector]:
        """Return the connector that compares; it has no key."""
        changed = {"mode": Mode.SHADOW, "private_key": None, "tx_sender_address": self.sender, **changes}
        return open_connector(
            self.settings_of("shadow", -1, **changed), ports=self.ports(), on_event=self.on_event
        )

    def likenesses(self) -> list[str]:
        """Return how the compared replies stand to the shadow's."""
        return [event.likeness for event in self.told(ReplyCompared)]

    def ask(self, *forms: str) -> None:
        """Request decryptions."""
        for form in forms:
            self.traffic.forms[form]()

    async def wait_finalized(self, count: int) -> None:
        """Wait until the shadow knows so many replies to be final."""
        await self.wait(lambda: len(self.told(ReplyFinalized)) >= count)

    @property
    def sender(self) -> Address:
        """The account of the node."""
        return sender_of(0).address

    def replies(self) -> list[bytes]:
        """Return the calldata of all transactions of the node's tx sender, failed ones too."""
        transactions = [mined.transaction for mined in all_mined(self.dependencies.gateway)]
        return [one.data for one in transactions if one.sender == self.sender]

    def check_sends_nothing(self, count: int) -> None:
        """Raise AssertionError unless the shadow signed and sent nothing, and the other connector ``count`` replies."""
        assert not self.told(ReplySigned)
        assert not self.told(ReplySent)
        self.check_sent_once(count)

    def check_sent_once(self, count: int) -> None:
        """Raise AssertionError unless the node sent so many replies, each to another request, and nothing else."""
        sent = self.replies()
        assert all(data[:4] in {PUBLIC.selector, USER.selector} for data in sent)
        assert len(sent) == len({data[4:36] for data in sent}) == count, f"{len(sent)} transactions"


def states_of(connector: Connector) -> dict[State, int]:
    """Return how many requests of a connector are in which state."""
    counts = connector.statistics().queue.counts
    found: dict[State, int] = {}
    for (_, state), number in ({} if counts is None else counts.states).items():
        found[state] = found.get(state, 0) + number
    return found


EVERY_FORM: Sequence[str] = ("public", "direct", "unified", "delegated", "public")
ALL_EQUAL = [Likeness.EQUAL] * len(EVERY_FORM)


@asynccontextmanager
async def open_shadow_scene(folder: Path, *, shards: int = 1) -> AsyncIterator[ShadowScene]:
    """Run the dependencies while the block lasts; needs a virtual clock. With two shards each connector has a Core of its own."""
    dependencies = FhevmDependencies.make(wall, block_time=1.0, computing=0.1, shards=shards)
    async with dependencies.run_in_memory() as network:
        yield ShadowScene(dependencies, network, Traffic(dependencies, Random(0)), folder)


POSTED = POSTED_FORMS


def post(traffic: Traffic, form: str, **changes: Any) -> Any:
    """Return what a client asks for in place of a transaction of a form; ``changes`` are to the values of a user's request."""
    return content_of(traffic.prepare(form), **changes)
