"""The first generation: the rows of its operations, and what is about none of them. Never holds a rule or an encoding of its own.

One gateway has it all: the contract checks the users' rights, there are no contexts, and HTTPZ knows coprocessors and nodes.
"""

from __future__ import annotations

from collections.abc import Collection

from kmsconn.config.settings import Settings
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import HTTPZ_RC7
from kmsconn.protocols.deployments import HasCode, answers, has_domain, same_domain
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.protocols.httpz_rc7.decryptions import HttpzPublicDecryptions, HttpzUserDecryptions
from kmsconn.protocols.httpz_rc7.key_management import (
    HttpzCrsgens,
    HttpzKeygens,
    HttpzPrepKeygens,
    Kskgens,
    PrepKskgens,
)
from kmsconn.protocols.httpz_rc7.operations import HttpzDeployment
from kmsconn.protocols.profile import (
    ConfiguredContract,
    Coprocessor,
    EventTable,
    MaterialInUse,
    Profile,
    Registration,
)
from kmsconn.protocols.queries import ContractQuery, PlannedQueries, QueryPlan

OPERATIONS = (
    HttpzPublicDecryptions,
    HttpzUserDecryptions,
    HttpzPrepKeygens,
    HttpzKeygens,
    PrepKskgens,
    Kskgens,
    HttpzCrsgens,
)
"""What this generation does, one row for each kind of request. Activation is no business of a node: coprocessors answer it."""

EVENTS = EventTable(OPERATIONS)
"""Reads the request events, wherever the contracts are."""


class HttpzRc7(Profile):
    """The profile ``httpz-rc7`` over the addresses and domains of the settings."""

    name = HTTPZ_RC7
    has_attestations = False

    def __init__(self, settings: Settings) -> None:
        self.deployment = HttpzDeployment.of(settings)
        super().__init__(row(self.deployment) for row in OPERATIONS)

    def contracts(self) -> tuple[ConfiguredContract, ...]:
        """Return those of the deployment. HTTPZ has nothing that all its versions answer, and signs nothing itself."""
        at, manager, httpz, keys = (
            self.deployment,
            "decryption_manager_address",
            "httpz_address",
            "key_manager_address",
        )
        key_id = answers(
            contracts.KEY_MANAGER.function("getCurrentKeyId"),
            "KeyManager",
            keys,
            where=at.at_key_manager,
            judge=lambda _: None,
        )
        return (
            ConfiguredContract(
                "DecryptionManager",
                manager,
                *at.at_manager,
                has_domain("DecryptionManager", manager, *at.at_manager),
                same_domain("DecryptionManager", "decryption_manager_domain", at.manager, always=True),
            ),
            ConfiguredContract("HTTPZ", httpz, *at.at_httpz, HasCode("HTTPZ", httpz, *at.at_httpz)),
            ConfiguredContract("KeyManager", keys, *at.at_key_manager, key_id),
        )

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> PlannedQueries[None] | None:
        """Return nothing: there are no contexts and no epochs."""
        return None

    def memberships(self, tx_sender: Address, known: Collection[int]) -> PlannedQueries[bool]:
        """Ask nothing: who is not in the one set of nodes is in none."""
        return self.deployment.gateway, _nowhere()

    def registrations(self, tx_sender: Address) -> tuple[PlannedQueries[Registration], ...]:
        """Ask HTTPZ."""
        return ((self.deployment.gateway, _registered(self.deployment, tx_sender)),)

    def material(self) -> PlannedQueries[MaterialInUse]:
        """Ask the KeyManager for the key; there is nothing else."""
        return self.deployment.gateway, _material(self.deployment)

    def coprocessor_senders(self) -> ContractQuery[tuple[Address, ...]]:
        """Ask for the coprocessors' tx senders."""
        return contracts.coprocessor_senders(*self.deployment.at_httpz)

    def coprocessor(self, tx_sender: Address) -> ContractQuery[Coprocessor]:
        """Ask for one coprocessor."""
        return contracts.coprocessor(*self.deployment.at_httpz, tx_sender)

    def coprocessor_threshold(self) -> ContractQuery[int]:
        """Ask for the majority threshold."""
        return contracts.coprocessor_threshold(*self.deployment.at_httpz)


def _nowhere() -> QueryPlan[bool]:
    yield from ()
    return False


def _registered(at: HttpzDeployment, tx_sender: Address) -> QueryPlan[Registration]:
    [signer] = yield [contracts.node_signer(*at.at_httpz, tx_sender)]
    return Registration("HTTPZ", None, signer)


def _material(at: HttpzDeployment) -> QueryPlan[MaterialInUse]:
    [key_id] = yield [contracts.current_key_id(*at.at_key_manager)]
    return MaterialInUse(key_id=key_id)
