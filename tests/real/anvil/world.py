"""Three anvils with our contracts, an emulated Core and emulated buckets on loopback sockets. Knows no user and no connector."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.config.description import Secret
from kmsconn.config.parties import Chain, Contract, HostChain
from kmsconn.config.settings import Settings
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.contracts.gateway_config import Committee, EmulatedCoprocessor, KmsNode, Thresholds
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.core_keys import SigningNode
from kmsconn.emulator.dependencies import COPROCESSORS, GATEWAY_ID, HOST_ID, key_for
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, ETHEREUM_ID
from kmsconn.emulator.grpc_server import serve_grpc
from kmsconn.emulator.network import Handler, serve_sockets
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports, offload_to_threads
from tests.real.anvil import contracts
from tests.real.anvil.account import Account
from tests.real.anvil.process import Anvil, open_anvil

BLOCKS = 0.25  # seconds
OWNER = "contract owner"


def ports() -> Ports:
    """Return real ones."""
    return Ports(dial_sockets, offload_to_threads, time.time, random.random)


@asynccontextmanager
async def open_rpc(node: Anvil) -> AsyncIterator[Endpoint]:
    """Open our own JSON-RPC client to a node."""
    async with (
        open_http(ports()) as http,
        open_endpoint(Chain(node.chain_id, (node.url,)), "anvil", ports(), http) as rpc,
    ):
        yield rpc


@attrs.frozen(eq=False)
class Place:
    """A chain: its process, our client to it, and the account that owns its contracts."""

    node: Anvil
    rpc: Endpoint
    owner: Account


@attrs.frozen
class Addresses:
    """Where the contracts are; the same on every run, since the factory makes them of their code."""

    gateway_config: Address
    decryption: Address
    protocol_config: Address
    kms_generation: Address
    acl: Address
    wallet: Address


@attrs.define(eq=False)
class World:
    """Everything around one connector, or around several that share the chains."""

    gateway: Place
    ethereum: Place
    host: Place
    at: Addresses
    plaintexts: dict[bytes, int] = attrs.field(factory=dict)
    buckets: list[EmulatedBucket] = attrs.field(factory=list)
    cores: list[EmulatedCore] = attrs.field(factory=list)
    core_urls: list[str] = attrs.field(factory=list)
    crashes: list[Exception] = attrs.field(factory=list)
    """What handlers of ours raised."""

    def settings(self, journal: Path, node: int = 0, **changes: object) -> Settings:
        """Return the settings of the connector of the node with this number."""
        settings = Settings.of(
            gateway=_chain(self.gateway),
            ethereum=_chain(self.ethereum),
            host_chains=(HostChain(_chain(self.host), self.at.acl),),
            decryption_contract=Contract(self.at.decryption, "Decryption"),
            gateway_config_contract=Contract(self.at.gateway_config, "GatewayConfig"),
            protocol_config_contract=Contract(self.at.protocol_config, "ProtocolConfig"),
            kms_generation_contract=Contract(self.at.kms_generation, "KMSGeneration"),
            core_endpoints=(self.core_urls[node],),
            private_key=Secret(sender_secret(node)),
            journal=journal,
            decryption_from_block_number=0,
            kms_operation_from_block_number=0,
            key_management_polling=BLOCKS,
            allow_http_buckets=True,
            allow_private_buckets=True,
        )
        return settings.but(**changes)


def sender_secret(node: int) -> str:
    """Return the private key of a node's wallet as it stands in a configuration."""
    return "0x" + keccak256(f"kmsconn emulator key tx sender {node}".encode()).hex()


def sender_key(node: int = 0) -> PrivateKey:
    """Return the wallet of a node."""
    return key_for(f"tx sender {node}")


def signer_key(node: int = 0) -> PrivateKey:
    """Return the key with which a node's Core signs."""
    return key_for(f"node signer {node}")


def committee(nodes: int) -> Committee:
    """Return the committee of so many nodes; all must answer before a decryption is done, all but those that may fail for keys."""
    degree = (nodes - 1) // 3
    members = tuple(KmsNode(sender_key(n).address, signer_key(n).address) for n in range(nodes))
    return Committee(members, Thresholds(public=nodes, user=nodes, kms_gen=nodes - degree, mpc=degree))


@asynccontextmanager
async def open_world(binary: Path, folder: Path, *, nodes: int = 1) -> AsyncIterator[World]:
    """Start everything and deploy; leaving the block ends it all. Raises what crashed in our own servers."""
    async with (
        open_place(binary, GATEWAY_ID, folder, BLOCKS) as gateway,
        open_place(binary, ETHEREUM_ID, folder, BLOCKS) as ethereum,
        open_place(binary, HOST_ID, folder, BLOCKS) as host,
        trio.open_nursery() as nursery,
    ):
        world = World(gateway, ethereum, host, await deploy(gateway, ethereum, host))
        await _serve(world, nursery, nodes)
        await _configure(world, committee(nodes))
        yield world
        nursery.cancel_scope.cancel()
    assert not world.crashes, world.crashes


@asynccontextmanager
async def open_place(
    binary: Path, chain_id: int, folder: Path, block_time: float | None = None
) -> AsyncIterator[Place]:
    """Run a chain without contracts, whose owner can pay."""
    async with open_anvil(binary, chain_id, folder, block_time=block_time) as node, open_rpc(node) as rpc:
        owner = Account(rpc, key_for(OWNER), in_turn=block_time is None)
        await owner.enrich()
        yield Place(node, rpc, owner)


async def deploy(gateway: Place, ethereum: Place, host: Place) -> Addresses:
    """Put the contracts on their chains."""
    owner = key_for(OWNER).address
    (config,) = await gateway.owner.deploy(contracts.creation("GatewayConfig", owner))
    (decryption,) = await gateway.owner.deploy(contracts.creation("Decryption", owner, config))
    (protocol,) = await ethereum.owner.deploy(contracts.creation("ProtocolConfig", owner))
    (generation,) = await ethereum.owner.deploy(contracts.creation("KMSGeneration", owner, protocol))
    wallet_code = contracts.creation("Wallet", owner, key_for("wallet owner").address)
    acl, wallet = await host.owner.deploy(contracts.creation("ACL", owner), wallet_code)
    return Addresses(config, decryption, protocol, generation, acl, wallet)


async def _serve(world: World, nursery: trio.Nursery, nodes: int) -> None:
    async def serve(handler: Handler) -> int:
        port: int = await nursery.start(partial(serve_sockets, handler, crashes=world.crashes))
        return port

    degree = (nodes - 1) // 3
    for number in range(nodes):
        core = EmulatedCore(SigningNode(signer_key(number), number + 1, degree), world.plaintexts)
        world.cores.append(core)
        world.core_urls.append(f"http://127.0.0.1:{await serve(partial(serve_grpc, methods=core.methods()))}")
    members = []
    for index in range(COPROCESSORS):
        bucket = EmulatedBucket(f"/ct{index}")
        world.buckets.append(bucket)
        url = f"http://127.0.0.1:{await serve(bucket.serve)}/ct{index}"
        members.append(coprocessor(index, url))
    await world.gateway.owner.do((world.at.gateway_config, contracts.coprocessors(members, 1)))


def coprocessor(index: int, url: str) -> EmulatedCoprocessor:
    """Return the coprocessor with this number and bucket."""
    sender, signer = key_for(f"coprocessor sender {index}"), key_for(f"coprocessor signer {index}")
    return EmulatedCoprocessor(sender.address, signer.address, url)


async def _configure(world: World, members: Committee) -> None:
    for number in range(len(members.nodes)):
        for chain in (world.gateway, world.ethereum):
            await Account(chain.rpc, sender_key(number)).enrich()
    await Account(world.gateway.rpc, key_for("relayer")).enrich()
    await world.gateway.owner.do(
        (world.at.gateway_config, contracts.gateway_context(CONTEXT, members)),
        (world.at.gateway_config, contracts.turn("GatewayConfig", "setHostChain", HOST_ID, True)),
    )
    await world.ethereum.owner.do(
        (world.at.protocol_config, contracts.ethereum_context(CONTEXT, members)),
        (world.at.protocol_config, contracts.ethereum_thresholds(CONTEXT, members)),
        (
            world.at.protocol_config,
            contracts.turn("ProtocolConfig", "setEpoch", CONTEXT, EPOCH, contracts.EPOCH_ACTIVE),
        ),
    )


def _chain(place: Place) -> Chain:
    return Chain(place.node.chain_id, (place.node.url,))
