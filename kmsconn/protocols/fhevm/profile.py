"""Generation fhevm: the rows of its operations, and what is about none of them: contracts, registrations, keys, CRS and objects.

Which of these the contracts say that a node has, and what its Core says of itself; never asks either. The Core copies the compressed key
set of a migrated key to the key in its public storage; that the copy failed is said by nobody, and the coprocessors would not find it.
With the copy the Core records the key with the preparation of the migration. A Core that took no part keeps the earlier one, and refuses
an epoch that names the other.
A Core keeps its objects under a prefix, which the announcement of its context names beside the storage; coprocessors look for whatever
ends with the object's path, and so take them with or without it.
Source: kms-core-grpc.md, 2, 3.2, 3.7 and 8; fhevm-0.15.md, 1.4 and 1.7.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import MappingProxyType
from urllib.parse import quote

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.config.networks import known_address
from kmsconn.config.settings import Settings
from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Domain, Log
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import FHEVM
from kmsconn.protocols.deployments import has_version, same_domain
from kmsconn.protocols.fhevm import contracts
from kmsconn.protocols.fhevm.contexts import EVENT, ContextEnds, NewContext, NewContexts
from kmsconn.protocols.fhevm.contracts import (
    DECRYPTION_TOPICS,
    KMS_GENERATION_TOPICS,
    PROTOCOL_CONFIG_TOPICS,
    ConfigViews,
    GatewayViews,
    KeyViews,
)
from kmsconn.protocols.fhevm.decryptions import PublicDecryptions
from kmsconn.protocols.fhevm.epochs import EpochEnds, NewEpochs
from kmsconn.protocols.fhevm.http_decryption import HttpPublicDecryptions, HttpUserDecryptions
from kmsconn.protocols.fhevm.key_management import CrsgenAborts, Crsgens, KeygenAborts, valid_pair
from kmsconn.protocols.fhevm.keygen import COMPRESSED_KEY_SET, KEY_TYPES, Keygens, PrepKeygens
from kmsconn.protocols.fhevm.operations import Deployment, parse_extra_data, request_id
from kmsconn.protocols.fhevm.user_decryption import UserDecryptions
from kmsconn.protocols.profile import (
    ConfiguredContract,
    EventTable,
    KeyMigration,
    KeysAndCrs,
    MaterialCall,
    MaterialInUse,
    Profile,
    PublicObject,
    RecordCall,
    Registration,
    Spoken,
)
from kmsconn.protocols.protobuf import decode, encode
from kmsconn.protocols.queries import PlannedQueries, QueryPlan

MATERIAL_METHOD, STATUS_METHOD = "GetKeyMaterialAvailability", "GetHealthStatus"
RECORD_METHOD = Keygens.result
_ID_DIGITS = 64


@attrs.frozen
class CorePeers:
    """A context of a Core with how many of its nodes the Core reaches, itself included, and how many it needs."""

    context_id: int
    reachable: int
    needed: int
    silent: tuple[str, ...] = ()
    """The peers that it does not reach, by their addresses."""


@attrs.frozen
class CoreStatus:
    """Whether a Core is one of several, and its contexts; a centralised Core names none."""

    threshold: bool
    contexts: tuple[CorePeers, ...]


def read_material(reply: bytes) -> KeysAndCrs:
    """Read what a Core has. Raises Undecodable."""
    message = decode(kms.KeyMaterialAvailabilityResponse, reply)
    return KeysAndCrs(frozenset(map(_id, message.fhe_key_ids)), frozenset(map(_id, message.crs_ids)))


def write_key(key_id: int) -> bytes:
    """Write the question for what a Core has recorded of a key."""
    return bytes(encode(request_id(key_id)))


def read_record(reply: bytes) -> int:
    """Read with which preparation a Core has recorded a key; 0: it names none, as an old record does not. Raises Undecodable."""
    named = decode(kms.KeyGenResult, reply).preprocessing_id
    return _id(named.request_id) if named is not None and named.request_id else 0


def read_status(reply: bytes) -> CoreStatus:
    """Read which contexts and peers a Core has. Raises Undecodable."""
    message = decode(kms.HealthStatusResponse, reply)
    threshold = message.node_type == kms.NodeType.THRESHOLD
    return CoreStatus(threshold, tuple(map(_peers, message.peers_from_all_contexts)))


def _peers(one: kms.PeersFromContext) -> CorePeers:
    context_id = "" if one.context_id is None else one.context_id.request_id
    silent = tuple(peer.endpoint for peer in one.peers if not peer.reachable)
    return CorePeers(_id(context_id), one.nodes_reachable, one.threshold_required, silent)


def _id(text: str) -> int:
    digits = text.strip().removeprefix("0x")
    try:
        if len(digits) == _ID_DIGITS:
            return int(digits, 16)
    except ValueError:
        pass
    raise Undecodable(f"an id of the Core is not {_ID_DIGITS} hex digits")


# --- by the contracts


def made_material(ask: KeyViews, tx_sender: Address) -> QueryPlan[KeysAndCrs]:
    """Find all keys and CRS of a node's committee; none where it is in no context that is current."""
    [context_id] = yield [ask.config.current_context()]
    storage, keys, crs = yield [
        ask.config.node_storage(context_id, tx_sender),
        ask.generation.completed_keys(),
        ask.generation.completed_crs(),
    ]
    return KeysAndCrs(frozenset(keys), frozenset(crs)) if storage else KeysAndCrs()


def missed_migrations(ask: KeyViews, tx_sender: Address) -> QueryPlan[tuple[KeyMigration, ...]]:
    """Find the migrations of keys that were made without a node of their context.

    Only those of the current epoch: all nodes of its context confirm an epoch before it is active, and it has recorded the keys anew.
    """
    current, key_ids = yield [ask.config.current_context_and_epoch(), ask.generation.completed_keys()]
    [signer, *requests] = yield [
        ask.config.node_signer(current[0], tx_sender),
        *(ask.generation.migration(key_id) for key_id in key_ids),
    ]
    missed = []
    for key_id, request in zip(key_ids, requests, strict=True):
        if signer == ZERO_ADDRESS or not request:
            continue
        agreed, answered, prep_id = yield [
            ask.generation.has_consensus(request),
            ask.generation.has_answered(request, signer),
            ask.generation.key_pair(request),
        ]
        named = parse_extra_data((yield from ask.generation.extra_data(request)))
        if agreed and not answered and named == current:
            missed.append(KeyMigration(key_id, request, prep_id))
    return tuple(missed)


HASHED_BEFORE = b"PDAT_KEY"
"""What a Core hashes before the bytes of a public key object, with SHAKE-256."""


def migrated_key_set(ask: KeyViews, tx_sender: Address) -> QueryPlan[PublicObject | None]:
    """Find the object of the key in use; None where that was not migrated, or this node is in no context that is current."""
    context_id, key_id = yield [ask.config.current_context(), ask.generation.active_key()]
    request, where = yield [
        ask.generation.migration(key_id),
        ask.config.node_storage(context_id, tx_sender),
    ]
    if not request or not where:
        return None
    agreed, (_, _, _, digests) = yield [
        ask.generation.has_consensus(request),
        ask.generation.key(key_id),
    ]
    found = [digest for kind, digest in digests if kind == COMPRESSED_KEY_SET]
    if not agreed or not found:
        return None
    prefix = yield from storage_prefix(ask, context_id, tx_sender)
    path = f"{KEY_TYPES[COMPRESSED_KEY_SET]}/{id_hex(key_id)}"
    places = dict.fromkeys(
        ("/".join(filter(None, (where.rstrip("/"), prefix, path))), f"{where.rstrip('/')}/{path}")
    )
    return PublicObject(key_id, tuple(places), HASHED_BEFORE, found[0])


def storage_prefix(ask: KeyViews, context_id: int, tx_sender: Address) -> QueryPlan[str]:
    """Find under which prefix of its storage a node keeps its objects; empty where the announcement of the context names none."""
    [(block, _)] = yield [ask.config.anchor(context_id)]
    [logs] = yield [ask.config.announcements(context_id, block)]
    prefixes = (
        node.storage_prefix
        for context in _readable(logs)
        for node in context.nodes
        if node.tx_sender == tx_sender
    )
    return quote(next(prefixes, "").strip("/"))


def _readable(logs: Sequence[Log]) -> list[NewContext]:
    try:
        return [NewContext.read(*EVENT.decode(log.topics, log.data)) for log in logs]
    except Undecodable:
        return []


OPERATIONS = (
    PublicDecryptions,
    UserDecryptions,
    HttpPublicDecryptions,
    HttpUserDecryptions,
    PrepKeygens,
    Keygens,
    Crsgens,
    KeygenAborts,
    CrsgenAborts,
    NewContexts,
    NewEpochs,
    ContextEnds,
    EpochEnds,
)
"""What this generation does, one row for each kind of request (7.5)."""

EVENTS = EventTable(OPERATIONS)
"""Reads the request events, wherever the contracts are."""


class Fhevm(Profile):
    """The profile ``fhevm`` over the addresses, domains and chains of the settings."""

    name = FHEVM
    has_attestations = True
    material_call = MaterialCall(MATERIAL_METHOD, read_material)
    record_call = RecordCall(RECORD_METHOD, write_key, read_record)
    spoken = MappingProxyType(
        {
            "Decryption": Spoken((0, 7), "decryptions"),
            "GatewayConfig": Spoken((0, 8), "who decrypts, and the coprocessors"),
            "KMSGeneration": Spoken((0, 3), "keys and CRS"),
            "ProtocolConfig": Spoken((0, 3), "contexts and epochs"),
            "ACL": Spoken((0, 5), "the rights of users"),
        }
    )
    later_network = "Decryption", (0, 7, 0)  # as networks of 0.15 have (0.15: section 8)

    def __init__(self, settings: Settings) -> None:
        self.deployment = Deployment.of(settings)
        self.chains = settings.chains
        super().__init__((row(self.deployment) for row in OPERATIONS), self.deployment.gateway_config)

    def all_topics(self, contract: Address) -> frozenset[bytes]:
        """Return those of the three contracts that ask nodes for something."""
        at = self.deployment
        known = {
            at.keys.generation.address: KMS_GENERATION_TOPICS,
            at.keys.config.address: PROTOCOL_CONFIG_TOPICS,
            at.decryption.verifying_contract: DECRYPTION_TOPICS,
        }
        return known.get(contract, frozenset())

    def has_many_events(self, contract: Address) -> bool:
        """Say so of Decryption: each request has an event, and the reply of each node another one."""
        return contract == self.deployment.decryption.verifying_contract

    def made_material(self, tx_sender: Address) -> PlannedQueries[KeysAndCrs]:
        """Ask both contracts on Ethereum."""
        return self.deployment.keys.chain_id, made_material(self.deployment.keys, tx_sender)

    def missed_migrations(self, tx_sender: Address) -> PlannedQueries[tuple[KeyMigration, ...]]:
        """Ask both contracts on Ethereum."""
        return self.deployment.keys.chain_id, missed_migrations(self.deployment.keys, tx_sender)

    def migrated_key_set(self, tx_sender: Address) -> PlannedQueries[PublicObject | None]:
        """Ask both contracts on Ethereum."""
        return self.deployment.keys.chain_id, migrated_key_set(self.deployment.keys, tx_sender)

    def contracts(self) -> tuple[ConfiguredContract, ...]:
        """Return those of the deployment. The charts name others where ProtocolConfig and KMSGeneration are meant (annex D).

        Where another contract answers, the refusal names the address of the known network with these chain ids.
        """
        at = self.deployment
        generation = _signing("KMSGeneration", "kms_generation_contract", at.generation)
        config = _signing("ProtocolConfig", "protocol_config_contract", at.config)
        version = has_version(config.kind, config.option, config.chain_id, config.address)
        chain_ids = at.decryption.chain_id, config.chain_id
        right_config = known_address("protocol_config", chain_ids, config.address)
        right_generation = known_address("kms_generation", chain_ids, generation.address)
        return (
            _signing("Decryption", "decryption_contract", at.decryption, always=True),
            _contract("GatewayConfig", "gateway_config_contract.address", *at.gateway_config.at),
            attrs.evolve(generation, identity=contracts.naming(right_generation, generation.identity)),
            attrs.evolve(config, identity=contracts.is_protocol_config(version, right_config)),
            *(
                _contract("ACL", f"host_chains[{index}].acl_address", host.chain.chain_id, host.acl)
                for index, host in self.chains.indexed()
            ),
        )

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> PlannedQueries[None] | None:
        """Ask whether context and epoch are active, or were destroyed (3.5)."""
        if context_id is None:
            return None
        return self.deployment.keys.chain_id, valid_pair(self.deployment.keys, context_id, epoch_id)

    def memberships(self, tx_sender: Address, known: Collection[int]) -> PlannedQueries[bool]:
        """Ask the Gateway about its current context, a few before it, and the known ones."""
        gateway = self.deployment.gateway_config
        return gateway.chain_id, gateway.is_member(tx_sender, known)

    def registrations(self, tx_sender: Address) -> tuple[PlannedQueries[Registration], ...]:
        """Ask GatewayConfig for decryptions, and ProtocolConfig for keys."""
        gateway, config = self.deployment.gateway_config, self.deployment.keys.config
        return (
            (gateway.chain_id, _registered("GatewayConfig", gateway, tx_sender)),
            (config.chain_id, _registered("ProtocolConfig", config, tx_sender)),
        )

    def material(self) -> PlannedQueries[MaterialInUse]:
        """Ask ProtocolConfig and KMSGeneration."""
        return self.deployment.keys.chain_id, _material(self.deployment.keys)


def _contract(kind: str, option: str, chain_id: int, address: Address) -> ConfiguredContract:
    return ConfiguredContract(kind, option, chain_id, address, has_version(kind, option, chain_id, address))


def _signing(kind: str, option: str, domain: Domain, *, always: bool = False) -> ConfiguredContract:
    found = _contract(kind, f"{option}.address", domain.chain_id, domain.verifying_contract)
    return attrs.evolve(found, domain=same_domain(kind, f"{option}.domain", domain, always=always))


def _registered(
    registry: str, nodes: GatewayViews | ConfigViews, tx_sender: Address
) -> QueryPlan[Registration]:
    [context_id] = yield [nodes.current_context()]
    [signer] = yield [nodes.node_signer(context_id, tx_sender)]
    return Registration(registry, context_id, signer)


def _material(keys: KeyViews) -> QueryPlan[MaterialInUse]:
    (context_id, epoch_id), key_id, crs_id = yield [
        keys.config.current_context_and_epoch(),
        keys.generation.active_key(),
        keys.generation.active_crs(),
    ]
    return MaterialInUse(context_id, epoch_id, key_id, crs_id)
