"""Generation fhevm: the rows of its operations, and what is about none of them. Never holds a rule or an encoding of its own."""

from __future__ import annotations

from collections.abc import Collection
from types import MappingProxyType

import attrs

from kmsconn.config.settings import Settings
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.requests import FHEVM
from kmsconn.protocols.deployments import has_version, same_domain
from kmsconn.protocols.fhevm import contracts
from kmsconn.protocols.fhevm.contexts import ContextEnds, NewContexts
from kmsconn.protocols.fhevm.contracts import DECRYPTION_TOPICS, KMS_GENERATION_TOPICS, PROTOCOL_CONFIG_TOPICS
from kmsconn.protocols.fhevm.crsgen import CrsgenAborts, Crsgens, KeygenAborts
from kmsconn.protocols.fhevm.decryptions import PublicDecryptions
from kmsconn.protocols.fhevm.epochs import EpochEnds, NewEpochs
from kmsconn.protocols.fhevm.http_decryption import HttpPublicDecryptions, HttpUserDecryptions
from kmsconn.protocols.fhevm.key_management import valid_pair
from kmsconn.protocols.fhevm.key_material import (
    MATERIAL_METHOD,
    made_material,
    migrated_key_set,
    read_material,
)
from kmsconn.protocols.fhevm.keygen import Keygens, PrepKeygens
from kmsconn.protocols.fhevm.operations import Deployment
from kmsconn.protocols.fhevm.user_decryption import UserDecryptions
from kmsconn.protocols.fhevm.views import ConfigViews, GatewayViews, KeyViews
from kmsconn.protocols.profile import (
    ConfiguredContract,
    EventTable,
    KeysAndCrs,
    MaterialCall,
    MaterialInUse,
    Profile,
    PublicObject,
    Registration,
    Spoken,
)
from kmsconn.protocols.queries import PlannedQueries, QueryPlan

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
        return self.deployment.ethereum, made_material(self.deployment.keys, tx_sender)

    def migrated_key_set(self, tx_sender: Address) -> PlannedQueries[PublicObject | None]:
        """Ask both contracts on Ethereum."""
        return self.deployment.ethereum, migrated_key_set(self.deployment.keys, tx_sender)

    def contracts(self) -> tuple[ConfiguredContract, ...]:
        """Return those of the deployment. Where ProtocolConfig is meant, the charts of 0.14 name another one (annex D)."""
        at = self.deployment
        config = _signing("ProtocolConfig", "protocol_config_contract", at.config)
        version = has_version(config.kind, config.option, config.chain_id, config.address)
        return (
            _signing("Decryption", "decryption_contract", at.decryption, always=True),
            _contract(
                "GatewayConfig", "gateway_config_contract.address", at.gateway, at.gateway_config.address
            ),
            _signing("KMSGeneration", "kms_generation_contract", at.generation),
            attrs.evolve(config, identity=contracts.is_protocol_config(version)),
            *(
                _contract("ACL", f"host_chains[{place}].acl_address", chain_id, acl)
                for place, (chain_id, acl) in enumerate(at.access.acls.items())
            ),
        )

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> PlannedQueries[None] | None:
        """Ask whether context and epoch are active, or were destroyed (3.5)."""
        if context_id is None:
            return None
        return self.deployment.ethereum, valid_pair(self.deployment.keys, context_id, epoch_id)

    def memberships(self, tx_sender: Address, known: Collection[int]) -> PlannedQueries[bool]:
        """Ask the Gateway about its current context, a few before it, and the known ones."""
        return self.deployment.gateway, self.deployment.gateway_config.is_member(tx_sender, known)

    def registrations(self, tx_sender: Address) -> tuple[PlannedQueries[Registration], ...]:
        """Ask GatewayConfig for decryptions, and ProtocolConfig for keys."""
        at = self.deployment
        return (
            (at.gateway, _registered("GatewayConfig", at.gateway_config, tx_sender)),
            (at.ethereum, _registered("ProtocolConfig", at.keys.config, tx_sender)),
        )

    def material(self) -> PlannedQueries[MaterialInUse]:
        """Ask ProtocolConfig and KMSGeneration."""
        return self.deployment.ethereum, _material(self.deployment.keys)


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
    current = keys.config.current_context_and_epoch()
    (context_id, epoch_id), key_id, crs_id = yield [
        current,
        keys.generation.active_key(),
        keys.generation.active_crs(),
    ]
    return MaterialInUse(context_id, epoch_id, key_id, crs_id)
