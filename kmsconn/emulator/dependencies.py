"""What the dependencies of all generations have in common: they are served, over memory streams and over sockets alike.

Which chains and contracts there are, and how requests look there, the module of each generation says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Never

import attrs
import trio

from kmsconn.config.description import Secret
from kmsconn.config.parties import Chain as ChainSettings
from kmsconn.config.settings import Settings
from kmsconn.emulator.buckets import BucketFaults, EmulatedBucket
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts.gateway_config import EmulatedCoprocessor
from kmsconn.emulator.core_faults import FaultyCore
from kmsconn.emulator.execution import AbiContract
from kmsconn.emulator.grpc_server import serve_grpc
from kmsconn.emulator.network import Handler, MemoryNetwork, TogglePort
from kmsconn.emulator.rpc import Cluster, RpcNode
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.profile import EVENTS

_SELECTOR_BYTES, _WORD_BYTES = 4, 32
_TAG_BITS = 248


@attrs.frozen
class GenerationEvents:
    """Topics of request events, selectors of replies and topics of consensus with their kinds; all have the id first.

    ``tags``: what is put before ids where those of two kinds may be equal, so that each request has a name of its own.
    """

    requests: Mapping[bytes, Kind]
    replies: Mapping[bytes, Kind]
    consensus: Mapping[bytes, Kind]
    content_digest: Callable[[Log], bytes]
    tags: Mapping[Kind, int] = attrs.Factory(dict)

    def name(self, kind: Kind, identifier: int) -> int:
        """Return the name of a request."""
        return self.tags.get(kind, 0) << _TAG_BITS | identifier

    def requested(self, topics: tuple[bytes, ...]) -> int | None:
        """Return the name of the request that a log of the contract announces; None for any other log."""
        kind = self.requests.get(topics[0])
        return None if kind is None else self.name(kind, int.from_bytes(topics[1]))

    def agreed(self, topics: tuple[bytes, ...]) -> int | None:
        """Return the name of the request that has enough answers, as a log of the contract says; None for any other log."""
        kind = self.consensus.get(topics[0])
        return None if kind is None else self.name(kind, int.from_bytes(topics[1]))

    def replied(self, calldata: bytes) -> int | None:
        """Return the name of the request that a call of the contract answers; None for any other call."""
        kind = self.replies.get(calldata[:_SELECTOR_BYTES])
        identifier = calldata[_SELECTOR_BYTES : _SELECTOR_BYTES + _WORD_BYTES]
        return None if kind is None else self.name(kind, int.from_bytes(identifier))


REPLIES = {"publicDecryptionResponse": Kind.PUBLIC_DECRYPTION, "userDecryptionResponse": Kind.USER_DECRYPTION}

FHEVM = GenerationEvents(
    {topic0: kind for topic0, kind in EVENTS.kinds.items() if kind in REPLIES.values()},
    {DECRYPTION.function(name).selector: kind for name, kind in REPLIES.items()},
    {
        DECRYPTION.event("PublicDecryptionResponse").topic0: Kind.PUBLIC_DECRYPTION,
        DECRYPTION.event("UserDecryptionResponseThresholdReached").topic0: Kind.USER_DECRYPTION,
    },
    EVENTS.digest,
)


GATEWAY_ID, HOST_ID = 54321, 12345
COPROCESSORS = 2
Place = tuple[str, int]


@cache
def key_for(name: str) -> PrivateKey:
    """Return the emulator's key of a name; worthless, and the same in every run."""
    return PrivateKey(secret_for(name))


def secret_for(name: str) -> bytes:
    """Return the bytes of that key, as they stand in a configuration."""
    return keccak256(b"kmsconn emulator key " + name.encode())


def sender_of(member: int) -> PrivateKey:
    """Return the wallet of a node of the committee."""
    return key_for(sender_name(member))


def signer_of(member: int) -> PrivateKey:
    """Return the key with which the Core of a node of the committee signs."""
    return key_for(f"node signer {member}" if member else "node signer")


def sender_name(member: int) -> str:
    """Return the name of a node's wallet."""
    return f"tx sender {member}" if member else "tx sender"


def address_for(name: str) -> Address:
    """Return the emulator's contract address of a name."""
    return Address(keccak256(b"kmsconn emulator contract " + name.encode())[-20:])


@attrs.frozen
class RealCore:
    """A Core that runs elsewhere, in the place of an emulated one: where it listens, and the address that signs its answers."""

    url: str
    signer: Address


def degree_of(members: int) -> int:
    """Return how many nodes of a committee of this size may fail."""
    return (members - 1) // 3


def new_clusters(chains: Mapping[str, EmulatedChain], nodes: int, seed: int) -> dict[str, Cluster]:
    """Return as many nodes for each chain as stand behind its address."""
    several = range(nodes)
    return {name: Cluster([RpcNode(one) for _ in several], seed=seed) for name, one in chains.items()}


@attrs.define(eq=False, kw_only=True)
class EmulatedDependencies(ABC):
    """Every dependency of a connector, with its knobs; addressed after ``settle_in_memory`` or ``serve_on_sockets``."""

    generation_events: ClassVar[GenerationEvents]
    """How requests and replies look on its Gateway."""

    gateway: EmulatedChain
    clusters: dict[str, Cluster]
    """The nodes of each chain, by its name."""
    decryption: AbiContract
    """Where decryptions are asked for and answered."""
    plaintexts: dict[bytes, int]
    cores: Sequence[FaultyCore[Any]]
    """The shards of this node's Core."""
    others: Sequence[FaultyCore[Any]] = ()
    """The Cores of the other nodes of the committee, one each."""
    buckets: list[BucketFaults] = attrs.field(
        factory=lambda: [BucketFaults(EmulatedBucket(f"/ct{index}")) for index in range(COPROCESSORS)]
    )
    """One for each coprocessor, empty at first."""
    sender: PrivateKey = attrs.field(factory=lambda: sender_of(0))
    places: dict[str, Place] = attrs.field(factory=dict, init=False)
    toggle_ports: dict[str, TogglePort] = attrs.field(factory=dict, init=False)
    """By name, once they serve on sockets."""
    told_urls: dict[int, str] = attrs.field(factory=dict, init=False)
    """What the contract says where a bucket is, in place of its real address; ``settled`` tells it."""
    crashes: list[Exception] = attrs.field(factory=list, init=False)
    """What handlers on sockets raised: faults of the emulator itself."""

    @property
    @abstractmethod
    def chains(self) -> tuple[EmulatedChain, ...]:
        """The chains; the Gateway is the first."""

    @abstractmethod
    def settings(self, journal: Path, member: int = 0, **changes: object) -> Settings:
        """Return the settings of the connector of a member; the first one's is the one that belongs here."""

    @abstractmethod
    def settled(self) -> None:
        """Tell the contracts where the buckets are: ``places`` is known now."""

    @property
    def names(self) -> tuple[str, ...]:
        """What listens: the chains, the shards of the Core, the buckets."""
        buckets = (f"bucket{index}" for index in range(len(self.buckets)))
        return (*self.clusters, *self.cores_by_name, *buckets)

    @property
    def cores_by_name(self) -> dict[str, FaultyCore[Any]]:
        """The shards of the Core, and the Cores of other members, by the names under which they listen."""
        own = {f"core{index}": core for index, core in enumerate(self.cores)}
        return own | {f"member{index}": core for index, core in enumerate(self.others, 1)}

    def handler(self, name: str) -> Handler:
        """Return what serves one connection of a dependency."""
        if name in self.clusters:
            return self.clusters[name].serve
        if name in self.cores_by_name:
            return partial(serve_grpc, methods=self.cores_by_name[name].methods())
        return self.buckets[int(name[6:])].serve

    def settle_in_memory(self, network: MemoryNetwork) -> None:
        """Let every dependency be dialled on a memory network, each under its own name."""
        for name in self.names:
            network.serve(name, 80, self.handler(name))
        self.places = {name: (name, 80) for name in self.names}
        self.settled()

    @asynccontextmanager
    async def run_in_memory(
        self, settle: Callable[[MemoryNetwork], None] | None = None
    ) -> AsyncIterator[MemoryNetwork]:
        """Run on a memory network of their own while the block lasts; ``settle`` stands for ``settle_in_memory``.

        Raises faults of the emulator itself at the end, as a group.
        """
        network = MemoryNetwork()
        (settle or self.settle_in_memory)(network)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            await nursery.start(self.run)
            yield network
            nursery.cancel_scope.cancel()
        if network.crashes:
            raise ExceptionGroup("the emulator itself failed", network.crashes)

    async def serve_on_sockets(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> Never:
        """Serve every dependency on a free loopback port, and run the chains, until cancelled."""
        async with trio.open_nursery() as nursery:
            for name in self.names:
                self.toggle_ports[name] = TogglePort(self.handler(name), self.crashes)
                self.places[name] = ("127.0.0.1", await nursery.start(self.toggle_ports[name].serve))
            self.settled()
            await nursery.start(self.run)
            task_status.started()
        raise AssertionError("servers end by cancellation only")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make blocks on all chains until cancelled."""
        async with trio.open_nursery() as nursery:
            for chain in self.chains:
                await nursery.start(chain.run)
            task_status.started()

    def chain_settings(self, name: str, chain_id: int) -> ChainSettings:
        """Return what a connector is told of a chain."""
        host, port = self.places[name]
        return ChainSettings(chain_id, (f"ws://{host}:{port}",))

    def common_settings(self, journal: Path, member: int) -> dict[str, Any]:
        """Return the settings of a member's connector that are the same in all generations."""
        return {
            "core_endpoints": self.core_endpoints(member),
            "private_key": Secret("0x" + secret_for(sender_name(member)).hex()),
            "journal": journal,
            "decryption_from_block_number": 0,
            "allow_http_buckets": True,
            "allow_private_buckets": True,
        }

    def core_endpoints(self, member: int) -> tuple[str, ...]:
        """Return where the Core of a member is, all its shards."""
        shards = [f"core{index}" for index in range(len(self.cores))]
        places = [self.places[name] for name in ([f"member{member}"] if member else shards)]
        return tuple(f"http://{host}:{port}" for host, port in places)

    def bucket_url(self, index: int) -> str:
        """Return the address of a coprocessor's bucket."""
        host, port = self.places[f"bucket{index}"]
        return f"http://{host}:{port}/ct{index}"

    def told_url(self, index: int) -> str:
        """Return what the contract says where a coprocessor's bucket is."""
        return self.told_urls.get(index) or self.bucket_url(index)


def coprocessor_senders(dependencies: EmulatedDependencies) -> tuple[Address, ...]:
    """Return the wallets of the coprocessors, which are known before anything listens."""
    return tuple(key_for(f"coprocessor sender {n}").address for n in range(len(dependencies.buckets)))


def coprocessors_of(dependencies: EmulatedDependencies) -> list[EmulatedCoprocessor]:
    """Return the coprocessors: wallet, signer, and what the contract says where the bucket is."""
    signer, senders = "coprocessor signer", enumerate(coprocessor_senders(dependencies))
    told_url = dependencies.told_url
    return [EmulatedCoprocessor(one, key_for(f"{signer} {n}").address, told_url(n)) for n, one in senders]
