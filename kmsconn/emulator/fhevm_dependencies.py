"""All dependencies of one connector of fhevm in one place: three chains, a Core of one or several shards, buckets; and its users.

What users do: ciphertexts committed, rights given, decryptions requested. Decides nothing of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.ciphertexts.attestation import StoredFormat
from kmsconn.config.parties import Contract, HostChain
from kmsconn.config.settings import Settings
from kmsconn.emulator.buckets import EmulatedBucket, ObjectForm
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.ciphertexts import EmulatedCiphertext
from kmsconn.emulator.contracts.acl import Acl, WalletContract
from kmsconn.emulator.contracts.decryption import DecryptionContract
from kmsconn.emulator.contracts.gateway_config import (
    Committee,
    GatewayConfig,
    KmsNode,
    Material,
    Thresholds,
)
from kmsconn.emulator.contracts.kms_generation import KmsGeneration
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.contracts.request_calls import FORMS, Asking, request_of
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.core_faults import CoreFaults
from kmsconn.emulator.core_keys import PUBLIC_PREFIX
from kmsconn.emulator.core_keys import SigningNode as CoreNode
from kmsconn.emulator.core_requests import DEFAULT_KEY
from kmsconn.emulator.dependencies import (
    FHEVM,
    GATEWAY_ID,
    HOST_ID,
    EmulatedDependencies,
    RealCore,
    address_for,
    coprocessor_senders,
    coprocessors_of,
    degree_of,
    key_for,
    new_clusters,
    sender_of,
    signer_of,
)
from kmsconn.emulator.httpz.dependencies import FirstTraffic
from kmsconn.emulator.network import Handler
from kmsconn.emulator.pool import PoolKind
from kmsconn.emulator.signcryption import UserKey, bits_of
from kmsconn.emulator.users import Users
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, PLAINTEXT_BITS, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model import requests
from kmsconn.model.requests import HTTPZ_RC7

ETHEREUM_ID = 11155111
CONTEXT, EPOCH = make_id(CONTEXT_TAG, 1), make_id(EPOCH_TAG, 1)
ETHEREUM_BLOCK_TIME = 12.0
_STORAGE = "storage"


def committee_of(members: Sequence[int], real_cores: Sequence[RealCore] = ()) -> Committee:
    """Return a committee of these nodes, of whom all but as many as may fail must agree."""
    nodes = tuple(_node(member, real_cores) for member in members)
    degree = degree_of(len(nodes))
    needed = len(nodes) - degree
    return Committee(nodes, Thresholds(needed, needed, needed, degree))


def _node(member: int, real_cores: Sequence[RealCore]) -> KmsNode:
    sender = sender_of(member).address
    if not real_cores:
        return KmsNode(sender, signer_of(member).address)
    return KmsNode(sender, real_cores[member].signer, real_cores[member].url)


@attrs.define(eq=False, kw_only=True)
class FhevmDependencies(EmulatedDependencies):
    """The dependencies of fhevm. Made by ``make``."""

    generation_events = FHEVM

    ethereum: EmulatedChain
    host: EmulatedChain
    decryption: DecryptionContract
    gateway_config: GatewayConfig
    protocol_config: ProtocolConfig
    kms_generation: KmsGeneration
    acl: Acl = attrs.field(factory=lambda: Acl(address_for("ACL")))
    cores: list[CoreFaults]
    others: list[CoreFaults]
    signer: PrivateKey = attrs.field(factory=lambda: signer_of(0))
    members: tuple[int, ...]
    """Which nodes form the first committee; to ``others`` newcomers may belong."""
    real_cores: tuple[RealCore, ...] = ()
    """The Cores of all members, where none is emulated."""

    @classmethod
    def make(
        cls,
        clock: Callable[[], float],
        *,
        block_time: float = 0.25,
        pool: PoolKind = "arbitrum",
        nodes: int = 1,
        shards: int = 1,
        members: int = 1,
        newcomers: int = 0,
        real_cores: tuple[RealCore, ...] = (),
        computing: float | Callable[[], float] = 0.0,
        seed: int = 0,
    ) -> FhevmDependencies:
        """Make dependencies whose chains take their time from ``clock`` (Unix seconds).

        ``nodes`` stand behind each chain's address, ``shards`` make up this node's Core, and ``members`` nodes form the committee.
        ``newcomers`` are further nodes, whose Cores know no context, epoch or key yet. With ``real_cores``, one for each
        member, no Core is emulated.
        """
        gateway = EmulatedChain(GATEWAY_ID, clock, block_time=block_time, pool=pool)
        pace = max(block_time, ETHEREUM_BLOCK_TIME)
        ethereum = EmulatedChain(ETHEREUM_ID, clock, block_time=pace, pool="geth")
        host = EmulatedChain(HOST_ID, clock, block_time=max(block_time, 1.0), pool="geth")
        chains = {"gateway": gateway, "ethereum": ethereum, "host": host}
        config = GatewayConfig(address_for("GatewayConfig"))
        protocol = ProtocolConfig(address_for("ProtocolConfig"), ETHEREUM_ID)
        plaintexts: dict[bytes, int] = {}
        degree = degree_of(members)

        def core(member: int) -> CoreFaults:
            node = CoreNode(signer_of(member), member + 1, degree)
            return CoreFaults(EmulatedCore(node, plaintexts, computing))

        made = cls(
            gateway=gateway,
            ethereum=ethereum,
            host=host,
            clusters=new_clusters(chains, nodes, seed),
            decryption=DecryptionContract(address_for("Decryption"), GATEWAY_ID, config),
            gateway_config=config,
            protocol_config=protocol,
            kms_generation=KmsGeneration(address_for("KMSGeneration"), ETHEREUM_ID, protocol),
            plaintexts=plaintexts,
            cores=[] if real_cores else [core(0) for _ in range(shards)],
            others=[] if real_cores else [core(member) for member in range(1, members + newcomers)],
            real_cores=real_cores,
            members=tuple(range(members)),
        )
        for late in made.others[members - 1 :]:
            late.core.known.clear()
        for shard in made.cores[1:]:
            shard.core.management.store.public = made.storages[0]
        made._deploy()
        return made

    @property
    def chains(self) -> tuple[EmulatedChain, ...]:
        """The Gateway, Ethereum and the host chain."""
        return self.gateway, self.ethereum, self.host

    @property
    def names(self) -> tuple[str, ...]:
        """What listens: beside the rest, the public storage of each node whose Core is emulated."""
        return (*super().names, *(f"{_STORAGE}{node}" for node in range(len(self.storages))))

    @property
    def storages(self) -> list[EmulatedBucket]:
        """The public storage of each node whose Core is emulated."""
        return [one.core.management.store.public for one in (*self.cores[:1], *self.others)]

    def handler(self, name: str) -> Handler:
        """Return what serves one connection of a dependency."""
        if name.startswith(_STORAGE):
            return self.storages[int(name.removeprefix(_STORAGE))].serve
        return super().handler(name)

    @property
    def committee(self) -> Committee:
        """The first committee."""
        return self.committee_of(self.members)

    def committee_of(self, members: Sequence[int]) -> Committee:
        """Return a committee of these nodes, with the signers of their Cores, and with their public storage once it listens."""
        committee = committee_of(members, self.real_cores)
        named = zip(committee.nodes, map(self._storage_url, members), strict=True)
        nodes = tuple(attrs.evolve(node, storage_url=url) for node, url in named)
        return attrs.evolve(committee, nodes=nodes)

    def _storage_url(self, member: int) -> str:
        place = self.places.get(f"{_STORAGE}{member}")
        return "" if place is None else "http://{}:{}{}".format(*place, PUBLIC_PREFIX)

    def core_endpoints(self, member: int) -> tuple[str, ...]:
        """Return where the Core of a member is, all its shards."""
        return (self.real_cores[member].url,) if self.real_cores else super().core_endpoints(member)

    def settings(self, journal: Path, member: int = 0, **changes: object) -> Settings:
        """Return the settings of the connector of a member; the first one's is the one that belongs here."""
        settings = Settings.of(
            gateway=self.chain_settings("gateway", GATEWAY_ID),
            ethereum=self.chain_settings("ethereum", ETHEREUM_ID),
            host_chains=(HostChain(self.chain_settings("host", HOST_ID), self.acl.address),),
            decryption_contract=Contract(self.decryption.address, "Decryption"),
            gateway_config_contract=Contract(self.gateway_config.address, "GatewayConfig"),
            protocol_config_contract=Contract(self.protocol_config.address, "ProtocolConfig"),
            kms_generation_contract=Contract(self.kms_generation.address, "KMSGeneration"),
            **self.common_settings(journal, member),
        )
        return settings.but(**changes)

    def _deploy(self) -> None:
        for contract in (self.gateway_config, self.decryption):
            self.gateway.evm.deploy(contract)
        self.ethereum.evm.deploy(self.protocol_config)
        self.ethereum.evm.deploy(self.kms_generation)
        self.host.evm.deploy(self.acl)
        committee = self.committee
        config, protocol = self.gateway_config, self.protocol_config
        self.gateway.evm.set_up(self.decryption.address, self.decryption.initialize)
        self.gateway.evm.set_up(config.address, config.set_context, CONTEXT, committee)
        self.gateway.evm.set_up(config.address, config.set_host_chains, [HOST_ID])
        self.ethereum.evm.set_up(self.kms_generation.address, self.kms_generation.initialize)
        self.ethereum.evm.set_up(protocol.address, protocol.set_context, CONTEXT, committee)
        self.ethereum.evm.set_up(protocol.address, protocol.set_epoch, CONTEXT, EPOCH)

    def settled(self) -> None:
        """Tell GatewayConfig where the buckets are, and ProtocolConfig where the nodes' public storage is."""
        protocol, committee = self.protocol_config, self.committee
        self.ethereum.evm.set_up(protocol.address, protocol.set_context, CONTEXT, committee)
        coprocessors = coprocessors_of(self)
        config, majority = self.gateway_config, len(coprocessors) // 2 + 1
        self.gateway.evm.set_up(config.address, config.set_coprocessors, coprocessors, majority)


KEY_ID = int.from_bytes(DEFAULT_KEY)
_EMULATED_FORMATS = (StoredFormat.COMPRESSED_ON_CPU, StoredFormat.UNCOMPRESSED_ON_CPU)
APP = address_for("application")


def naming(context_id: int, epoch_id: int) -> tuple[bytes, ...]:
    """Return the forms of extraData that name a context, or it and its epoch."""
    return b"\x01" + context_id.to_bytes(32), b"\x02" + context_id.to_bytes(32) + epoch_id.to_bytes(32)


EXTRA_DATA = (b"", b"\x00", *naming(CONTEXT, EPOCH))


@attrs.define(eq=False)
class Traffic(Users[FhevmDependencies]):
    """The users of a set of dependencies of fhevm."""

    among = FhevmDependencies
    names = FORMS
    form = ObjectForm.HANDLE
    bits = {kind: 1 if kind == 0 else bits_of(kind) for kind in PLAINTEXT_BITS}  # noqa: RUF012 - see Users.bits

    extra_data: Sequence[bytes] = EXTRA_DATA
    """What requests may say of context and epoch."""
    user_key: UserKey = attrs.field(factory=lambda: UserKey.from_seed(bytes(64)))

    def __attrs_post_init__(self) -> None:
        wallet = WalletContract(address_for("wallet"), key_for("wallet owner").address)
        self.dependencies.host.evm.deploy(wallet)

    def make(self, form: str) -> bytes:
        """Return the calldata of a form, with everything that belongs to it in its place."""
        handles = [one.handle for one in self.ciphertexts()]
        made = request_of(form, handles, self._asking(), address_for("wallet"), key_for)
        acl, granted = self.dependencies.acl, self.granted
        for handle in handles:
            if made.client is None:
                self._host(partial(acl.allow_for_decryption, handle=handle, allowed=granted))
                continue
            for account in (made.owner, APP):
                self._host(partial(acl.allow, handle=handle, account=account, allowed=granted))
        if made.client not in {None, made.owner}:
            self._host(partial(acl.delegate, delegator=made.owner, delegate=made.client))
        return made.calldata

    def publish(self, one: EmulatedCiphertext) -> None:
        """Put a ciphertext into the buckets, attested, and commit it."""
        dependencies = self.dependencies
        stored = one.stored or self.random.choice(_EMULATED_FORMATS)
        key_id = KEY_ID if one.key_id is None else one.key_id
        for index, bucket in enumerate(dependencies.buckets):
            signer = key_for(f"coprocessor signer {index}")
            bucket.bucket.publish(one, signer=signer, key_id=key_id, stored=stored)
        senders = coprocessor_senders(dependencies)
        material = Material(one.handle, key_id, one.digest, senders)
        decryption = dependencies.decryption
        dependencies.gateway.evm.set_up(decryption.address, decryption.commit, material)

    def _host(self, action: Callable[..., None]) -> None:
        self.dependencies.host.evm.set_up(self.dependencies.acl.address, action)

    def _asking(self) -> Asking:
        return Asking(
            decryption=self.dependencies.decryption.address,
            public_key=self.user_key.enc_key,
            start=self.dependencies.gateway.head.timestamp,
            contracts=(APP,),
            extra_data=self.random.choice(self.extra_data),
        )


GENERATIONS: Final[Mapping[str, type[Users[Any]]]] = {requests.FHEVM: Traffic, HTTPZ_RC7: FirstTraffic}
"""The users of each generation."""
