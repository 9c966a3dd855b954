"""All neighbours of one connector in one place: three chains, a Core of one or several shards, buckets. Decides nothing of its own.

The same object serves over a ``MemoryNetwork`` in virtual time and over loopback sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Literal, Never

import attrs
import trio

from kmsconn.config.settings import Chain as ChainSettings
from kmsconn.config.settings import Contract, HostChain, Secret, Settings
from kmsconn.emulator.bucket_faults import BucketFaults
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.chain import Chain
from kmsconn.emulator.contracts.acl import Acl
from kmsconn.emulator.contracts.decryption import Decryption
from kmsconn.emulator.contracts.gateway_config import (
    Committee,
    Coprocessor,
    GatewayConfig,
    KmsNode,
    Thresholds,
)
from kmsconn.emulator.contracts.kms_generation import KmsGeneration
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.core_answers import Node as CoreNode
from kmsconn.emulator.core_faults import CoreFaults
from kmsconn.emulator.doors import Door
from kmsconn.emulator.grpc_server import serve_grpc
from kmsconn.emulator.network import Handler, MemoryNetwork
from kmsconn.emulator.rpc import Cluster, Node
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey

GATEWAY_ID, ETHEREUM_ID, HOST_ID = 54321, 11155111, 12345
CONTEXT, EPOCH = make_id(CONTEXT_TAG, 1), make_id(EPOCH_TAG, 1)
ETHEREUM_BLOCK_TIME = 12.0
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
    return key_for(_sender_name(member))


def signer_of(member: int) -> PrivateKey:
    """Return the key with which the Core of a node of the committee signs."""
    return key_for(f"node signer {member}" if member else "node signer")


def _sender_name(member: int) -> str:
    return f"tx sender {member}" if member else "tx sender"


def address_for(name: str) -> Address:
    """Return the emulator's contract address of a name."""
    return Address(keccak256(b"kmsconn emulator contract " + name.encode())[-20:])


@attrs.define(eq=False)
class Neighbourhood:
    """Every neighbour, with its knobs. Made by ``make``; addressed after ``settle``."""

    gateway: Chain
    ethereum: Chain
    host: Chain
    clusters: dict[str, Cluster]
    decryption: Decryption
    gateway_config: GatewayConfig
    protocol_config: ProtocolConfig
    kms_generation: KmsGeneration
    acl: Acl
    plaintexts: dict[bytes, int]
    cores: list[CoreFaults]
    buckets: list[BucketFaults]
    sender: PrivateKey
    signer: PrivateKey
    others: list[CoreFaults] = attrs.field(factory=list)
    """The Cores of the other nodes of the committee, one each."""
    places: dict[str, Place] = attrs.field(factory=dict)
    doors: dict[str, Door] = attrs.field(factory=dict, init=False)
    """By name, once they serve on sockets."""
    crashes: list[Exception] = attrs.field(factory=list, init=False)
    """What handlers on sockets raised: faults of the emulator itself."""

    @classmethod
    def make(
        cls,
        clock: Callable[[], float],
        *,
        block_time: float = 0.25,
        pool: Literal["arbitrum", "geth"] = "arbitrum",
        nodes: int = 1,
        shards: int = 1,
        members: int = 1,
        computing: float | Callable[[], float] = 0.0,
        seed: int = 0,
    ) -> Neighbourhood:
        """Make neighbours whose chains take their time from ``clock`` (Unix seconds).

        ``nodes`` stand behind each chain's address, ``shards`` make up this node's Core, and ``members`` nodes form the committee.
        """
        gateway = Chain(GATEWAY_ID, clock, block_time=block_time, pool=pool)
        ethereum = Chain(ETHEREUM_ID, clock, block_time=max(block_time, ETHEREUM_BLOCK_TIME), pool="geth")
        host = Chain(HOST_ID, clock, block_time=max(block_time, 1.0), pool="geth")
        chains = {"gateway": gateway, "ethereum": ethereum, "host": host}
        clusters = {
            name: Cluster([Node(chain) for _ in range(nodes)], seed=seed) for name, chain in chains.items()
        }
        config = GatewayConfig(address_for("GatewayConfig"))
        protocol = ProtocolConfig(address_for("ProtocolConfig"), ETHEREUM_ID)
        plaintexts: dict[bytes, int] = {}
        degree = (members - 1) // 3

        def core(member: int) -> CoreFaults:
            return CoreFaults(
                EmulatedCore(CoreNode(signer_of(member), member + 1, degree), plaintexts, computing)
            )

        made = cls(
            gateway,
            ethereum,
            host,
            clusters,
            Decryption(address_for("Decryption"), GATEWAY_ID, config),
            config,
            protocol,
            KmsGeneration(address_for("KMSGeneration"), ETHEREUM_ID, protocol),
            Acl(address_for("ACL")),
            plaintexts,
            [core(0) for _ in range(shards)],
            [BucketFaults(EmulatedBucket(f"/ct{index}")) for index in range(COPROCESSORS)],
            sender_of(0),
            signer_of(0),
            [core(member) for member in range(1, members)],
        )
        made._deploy()
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """What listens: the chains, the shards of the Core, the buckets."""
        return (
            *self.clusters,
            *self.cores_by_name,
            *(f"bucket{index}" for index in range(len(self.buckets))),
        )

    @property
    def cores_by_name(self) -> dict[str, CoreFaults]:
        """The shards of the Core, and the Cores of other members, by the names under which they listen."""
        own = {f"core{index}": core for index, core in enumerate(self.cores)}
        return own | {f"member{index}": core for index, core in enumerate(self.others, 1)}

    @property
    def committee(self) -> Committee:
        """The nodes, and how many of them must agree: all but as many as may fail."""
        members = range(1 + len(self.others))
        nodes = tuple(KmsNode(sender_of(member).address, signer_of(member).address) for member in members)
        degree = (len(nodes) - 1) // 3
        needed = len(nodes) - degree
        return Committee(nodes, Thresholds(needed, needed, needed, degree))

    def handler(self, name: str) -> Handler:
        """Return what serves one connection of a neighbour."""
        if name in self.clusters:
            return self.clusters[name].serve
        if name in self.cores_by_name:
            return partial(serve_grpc, methods=self.cores_by_name[name].methods())
        return self.buckets[int(name[6:])].serve

    def settle_in_memory(self, network: MemoryNetwork) -> None:
        """Let every neighbour be dialled on a memory network, each under its own name."""
        for name in self.names:
            network.serve(name, 80, self.handler(name))
        self._settle({name: (name, 80) for name in self.names})

    async def serve_on_sockets(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> Never:
        """Serve every neighbour on a free loopback port, and run the chains, until cancelled."""
        async with trio.open_nursery() as nursery:
            places: dict[str, Place] = {}
            for name in self.names:
                self.doors[name] = Door(self.handler(name), self.crashes)
                places[name] = ("127.0.0.1", await nursery.start(self.doors[name].serve))
            self._settle(places)
            await nursery.start(self.run)
            task_status.started()
        raise AssertionError("servers end by cancellation only")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make blocks on all chains until cancelled."""
        async with trio.open_nursery() as nursery:
            for chain in (self.gateway, self.ethereum, self.host):
                await nursery.start(chain.run)
            task_status.started()

    def settings(self, journal: Path, member: int = 0, **changes: object) -> Settings:
        """Return the settings of the connector of a member; the first one's is the one that belongs here."""
        core = f"member{member}" if member else "core"

        def chain(name: str, chain_id: int) -> ChainSettings:
            host, port = self.places[name]
            return ChainSettings(chain_id, (f"ws://{host}:{port}",))

        settings = Settings(
            gateway=chain("gateway", GATEWAY_ID),
            ethereum=chain("ethereum", ETHEREUM_ID),
            host_chains=(HostChain(chain("host", HOST_ID), self.acl.address),),
            decryption_contract=Contract(self.decryption.address, "Decryption"),
            gateway_config_contract=Contract(self.gateway_config.address, "GatewayConfig"),
            protocol_config_contract=Contract(self.protocol_config.address, "ProtocolConfig"),
            kms_generation_contract=Contract(self.kms_generation.address, "KMSGeneration"),
            core_endpoints=tuple(
                f"http://{h}:{p}" for n, (h, p) in self.places.items() if n.startswith(core)
            ),
            private_key=Secret("0x" + secret_for(_sender_name(member)).hex()),
            journal=journal,
            decryption_from_block_number=0,
            allow_http_buckets=True,
            allow_private_buckets=True,
        )
        return attrs.evolve(settings, **changes)  # type: ignore[arg-type]

    def _deploy(self) -> None:
        for contract in (self.gateway_config, self.decryption):
            self.gateway.deploy(contract)
        self.ethereum.deploy(self.protocol_config)
        self.ethereum.deploy(self.kms_generation)
        self.host.deploy(self.acl)
        committee = self.committee
        config, protocol = self.gateway_config, self.protocol_config
        self.gateway.set_up(self.decryption.address, self.decryption.initialize)
        self.gateway.set_up(config.address, lambda frame: config.set_context(frame, CONTEXT, committee))
        self.gateway.set_up(config.address, lambda frame: config.set_host_chains(frame, [HOST_ID]))
        self.ethereum.set_up(self.kms_generation.address, self.kms_generation.initialize)
        self.ethereum.set_up(protocol.address, lambda frame: protocol.set_context(frame, CONTEXT, committee))
        self.ethereum.set_up(protocol.address, lambda frame: protocol.set_epoch(frame, CONTEXT, EPOCH))

    def _settle(self, places: Mapping[str, Place]) -> None:
        self.places = dict(places)
        coprocessors = [self._coprocessor(index) for index in range(len(self.buckets))]
        config, majority = self.gateway_config, len(coprocessors) // 2 + 1
        self.gateway.set_up(
            config.address, lambda frame: config.set_coprocessors(frame, coprocessors, majority)
        )

    def _coprocessor(self, index: int) -> Coprocessor:
        host, port = self.places[f"bucket{index}"]
        sender, signer = key_for(f"coprocessor sender {index}"), key_for(f"coprocessor signer {index}")
        return Coprocessor(sender.address, signer.address, f"http://{host}:{port}/ct{index}")
