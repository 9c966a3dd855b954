"""One connector of the first generation among dependencies of its era, in virtual time: a gateway, a Core, a bucket."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from kmsconn.config.description import LogFormat, Secret
from kmsconn.config.parties import Chain as ChainSettings
from kmsconn.config.settings import Settings
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.blocks import EmulatedTransaction, Mined
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.ciphertexts import make_ciphertext
from kmsconn.emulator.contracts.gateway_config import EmulatedCoprocessor, KmsNode
from kmsconn.emulator.grpc_server import serve_grpc
from kmsconn.emulator.httpz.contracts import DecryptionManager, HttpzContract, KeyManager
from kmsconn.emulator.httpz.core import FirstCore
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.rpc import Cluster, RpcNode
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.events import Event
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.observe.logs import LineLog, line_takes
from kmsconn.observe.tally import EventTakers
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.testing.killable import KillablePorts, Life
from tests.vectors import httpz as vectors

E = TypeVar("E")
BEGIN = 1_743_500_000.0
MOMENTS = 60.0  # virtual seconds that anything may take unless a test says otherwise
GATEWAY_ID = 54321
COPROCESSOR = parse_address("0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc")
USER = parse_address("0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f")
USER_KEY = from_hex(vectors.load()["keys"]["user_x25519"]["enc_key"])


@attrs.define(eq=False)
class RecordingCore(FirstCore):
    """A Core that remembers what it was asked."""

    calls: list[tuple[str, str]] = attrs.field(factory=list, init=False)
    requests: list[Any] = attrs.field(factory=list, init=False)

    def hear(self, method: str, identifier: str, message: Any = None) -> None:
        self.calls.append((method, identifier))
        super().hear(method, identifier, message)
        if message is not None:
            self.requests.append(message)


@attrs.define(eq=False)
class World:
    """EmulatedDependencies, and everything that the connector told: ``events``, and ``log`` as text."""

    chain: EmulatedChain
    cluster: Cluster
    httpz: HttpzContract
    manager: DecryptionManager
    keys: KeyManager
    core: RecordingCore
    bucket: EmulatedBucket
    network: MemoryNetwork
    folder: Path
    plaintexts: dict[bytes, int]
    events: list[Event] = attrs.field(factory=list)
    log: io.StringIO = attrs.field(factory=io.StringIO)
    default_log: io.StringIO = attrs.field(factory=io.StringIO)
    """What it told at the default level; ``log`` has everything."""

    @classmethod
    def make(cls, folder: Path, revision: str = "main", **core: Any) -> World:
        """Make a world of a revision of the contracts: main, rc7 (handles are numbers) or rc9 (other getters)."""
        chain = EmulatedChain(GATEWAY_ID, lambda: BEGIN + trio.current_time(), block_time=0.5, finality=4)
        registry = HttpzContract(vectors.address("HTTPZ"), revision)
        # shares are counted, so that several nodes can come to a user's response at all (httpz-rc7.md, 13.16)
        manager = DecryptionManager(
            vectors.address("DecryptionManager"), GATEWAY_ID, registry, counts_shares=True
        )
        plaintexts: dict[bytes, int] = {}
        signer = PrivateKey(from_hex(vectors.node(1)["signer_private_key"]))
        world = cls(
            chain,
            Cluster([RpcNode(chain)], seed=0),
            registry,
            manager,
            KeyManager(vectors.address("KeyManager"), registry),
            RecordingCore(signer, plaintexts, numeric=registry.revision.numeric, **core),
            EmulatedBucket("/ct128"),
            MemoryNetwork(),
            folder,
            plaintexts,
        )
        world._deploy()
        return world

    def _deploy(self) -> None:
        for contract in (self.httpz, self.manager, self.keys):
            self.chain.evm.deploy(contract)
        self._register(1, threshold=0)
        self.set_buckets({COPROCESSOR: "http://bucket/ct128"})
        self.network.serve("gateway", 80, self.cluster.serve)
        self.network.serve("core", 80, partial(serve_grpc, methods=self.core.methods()))
        self.network.serve("bucket", 80, self.bucket.serve)

    def _register(self, count: int, threshold: int) -> None:
        known = [vectors.node(number) for number in range(1, count + 1)]
        nodes = [KmsNode(parse_address(one["tx_sender"]), parse_address(one["signer"])) for one in known]
        self.chain.evm.set_up(self.httpz.address, self.httpz.set_nodes, nodes, threshold)

    def share_among(self, count: int, threshold: int) -> list[FirstCore]:
        """Make the one node the first of several, each with a Core that holds its share; return these. See ``all_connected``."""
        self._register(count, threshold)
        self.core.degree = threshold
        cores: list[FirstCore] = [self.core]
        for number in range(2, count + 1):
            signer = PrivateKey(from_hex(vectors.node(number)["signer_private_key"]))
            core = FirstCore(signer, self.plaintexts, party_id=number, degree=threshold)
            self.network.serve(f"core-{number}", 80, partial(serve_grpc, methods=core.methods()))
            cores.append(core)
        return cores

    @asynccontextmanager
    async def all_connected(self, count: int) -> AsyncIterator[None]:
        """Run a connector for each of ``count`` nodes while the block lasts, then cancel them."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.connected())
            for number in range(2, count + 1):
                await stack.enter_async_context(self.connected(**self._settings_of(number)))
            yield

    def _settings_of(self, number: int) -> dict[str, Any]:
        return {
            "private_key": Secret(vectors.node(number)["tx_sender_private_key"]),
            "core_endpoints": (f"http://core-{number}:80",),
            "journal": self.folder / f"journal-{number}.db",
        }

    def set_buckets(self, buckets: dict[Address, str]) -> None:
        """Say which coprocessor keeps its ciphertexts where."""
        coprocessors = [EmulatedCoprocessor(sender, sender, bucket) for sender, bucket in buckets.items()]
        self.chain.evm.set_up(self.httpz.address, self.httpz.set_coprocessors, coprocessors)

    def settings(self, **changes: Any) -> Settings:
        """Return the settings of the connector that belongs here."""
        gateway = ChainSettings(GATEWAY_ID, ("ws://gateway:80",))
        values: dict[str, Any] = {
            "gateway": gateway,
            "ethereum": gateway,
            "core_endpoints": ("http://core:80",),
            "journal": self.folder / "journal.db",
            "reorg_window": 4.0,
            "decryption_from_block_number": 0,
            "allow_http_buckets": True,
            "allow_private_buckets": True,
        }
        return vectors.settings(**(values | changes))

    def open(self, **changes: Any) -> Any:
        """Return a connector that drains when the block is left."""
        write = EventTakers(line_takes(LineLog(self.log, "debug", LogFormat.JSON))).on_event

        write_default = EventTakers(line_takes(LineLog(self.default_log, "info", LogFormat.JSON))).on_event

        def note(event: Event) -> None:
            self.events.append(event)
            write(event)
            write_default(event)

        ports = KillablePorts(Life(), self.network, lambda: BEGIN + trio.current_time(), Random(0)).ports()
        return open_connector(self.settings(**changes), ports=ports, on_event=note)

    @asynccontextmanager
    async def connected(self, **changes: Any) -> AsyncIterator[Connector]:
        """Run a connector while the block lasts, then cancel it."""
        with trio.CancelScope() as scope:
            async with self.open(**changes) as connector:
                yield connector
                scope.cancel()

    def reference(
        self, value: int, fhe_type: int = 5, coprocessors: tuple[Address, ...] = (COPROCESSOR,)
    ) -> CiphertextReference:
        """Make a ciphertext, put it into the bucket under its digest, and return what a request names."""
        made = make_ciphertext("httpz", value, fhe_type, chain_id=2025)
        self.plaintexts[made.body] = value
        self.bucket.put(made.digest.hex(), made.body)
        return CiphertextReference(made.handle, 7, made.digest, coprocessors)

    def ask_public(self, *references: CiphertextReference) -> None:
        """Let a public decryption be asked for in the next block."""
        self.chain.actors.act(self.manager.address, lambda frame: self.manager.ask_public(frame, references))

    def ask_user(self, *references: CiphertextReference) -> None:
        """Let a user decryption be asked for in the next block."""
        self.chain.actors.act(
            self.manager.address, lambda frame: self.manager.ask_user(frame, references, USER, USER_KEY)
        )

    def ask_key(self, kind: Kind, *rest: Any) -> None:
        """Let something be asked of the KeyManager in the next block."""
        self.chain.actors.act(self.keys.address, lambda frame: self.keys.ask(frame, kind, *rest))

    def replies(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each successful call of a reply function, in the order of the chain."""
        contract = contracts.DECRYPTION_MANAGER if "Decryption" in name else contracts.KEY_MANAGER
        function = contract.function(name)
        calls = [mined.transaction.data for mined in self._mined() if mined.outcome.status]
        return [function.decode(data) for data in calls if data[:4] == function.selector]

    def transactions(self) -> list[EmulatedTransaction]:
        """Return all that were included."""
        return [mined.transaction for mined in self._mined()]

    def logs(self) -> list[Log]:
        """Return all logs of the chain."""
        return [log for mined in self._mined() for log in mined.logs]

    def _mined(self) -> list[Mined]:
        blocks = [self.chain.block(number) for number in range(self.chain.head.number + 1)]
        return [mined for block in blocks if block is not None for mined in block.mined]

    def told(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait(self, condition: Callable[[], Any], seconds: float = MOMENTS) -> Any:
        """Return what ``condition`` returns once it is true. Raises TooSlowError."""
        with trio.fail_after(seconds):
            while not (found := condition()):
                await trio.sleep(0.25)
        return found

    async def wait_replies(
        self, name: str, count: int = 1, seconds: float = MOMENTS
    ) -> list[tuple[Any, ...]]:
        """Return the replies of a function once there are that many."""
        await self.wait(lambda: len(self.replies(name)) >= count, seconds)
        return self.replies(name)


@asynccontextmanager
async def open_world(folder: Path, revision: str = "main", **core: Any) -> AsyncIterator[World]:
    """Run the dependencies while the block lasts; needs a virtual clock."""
    world = World.make(folder, revision, **core)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.network.run)
        await nursery.start(world.chain.run)
        yield world
        nursery.cancel_scope.cancel()
    assert not world.network.crashes
