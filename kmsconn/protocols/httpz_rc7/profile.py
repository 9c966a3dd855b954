"""The first generation: the rows of its operations, and what is about none of them. Never holds a rule or an encoding of its own.

One gateway has it all: the contract checks the users' rights, there are no contexts, and HTTPZ knows coprocessors and nodes.
"""

from __future__ import annotations

from collections.abc import Collection

from kmsconn.config.settings import Settings
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import HTTPZ_RC7
from kmsconn.protocols.deployments import answers, has_code, has_domain, same_domain
from kmsconn.protocols.httpz_rc7.contracts import CURRENT_KEY, HttpzDeployment, HttpzViews, RequestViews
from kmsconn.protocols.httpz_rc7.decryptions import HttpzPublicDecryptions, HttpzUserDecryptions
from kmsconn.protocols.httpz_rc7.key_management import (
    HttpzCrsgens,
    HttpzKeygens,
    HttpzPrepKeygens,
    Kskgens,
    PrepKskgens,
)
from kmsconn.protocols.profile import (
    ConfiguredContract,
    EventTable,
    MaterialInUse,
    Profile,
    Registration,
)
from kmsconn.protocols.queries import PlannedQueries, QueryPlan

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
        super().__init__((row(self.deployment) for row in OPERATIONS), self.deployment.registry)

    def contracts(self) -> tuple[ConfiguredContract, ...]:
        """Return those of the deployment. HTTPZ has nothing that all its versions answer, and signs nothing itself."""
        at, manager, httpz, keys = (
            self.deployment,
            "decryption_manager_address",
            "httpz_address",
            "key_manager_address",
        )
        key_id = answers(CURRENT_KEY, "KeyManager", keys, at.keys.at, lambda *_: None)
        return (
            ConfiguredContract(
                "DecryptionManager",
                manager,
                *at.decryptions.at,
                has_domain("DecryptionManager", manager, *at.decryptions.at),
                same_domain("DecryptionManager", "decryption_manager_domain", at.manager, always=True),
            ),
            ConfiguredContract("HTTPZ", httpz, *at.registry.at, has_code("HTTPZ", httpz, *at.registry.at)),
            ConfiguredContract("KeyManager", keys, *at.keys.at, key_id),
        )

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> PlannedQueries[None] | None:
        """Return nothing: there are no contexts and no epochs."""
        return None

    def memberships(self, tx_sender: Address, known: Collection[int]) -> PlannedQueries[bool]:
        """Ask nothing: who is not in the one set of nodes is in none."""
        return self.deployment.registry.chain_id, _nowhere()

    def registrations(self, tx_sender: Address) -> tuple[PlannedQueries[Registration], ...]:
        """Ask HTTPZ."""
        return ((self.deployment.registry.chain_id, _registered(self.deployment.registry, tx_sender)),)

    def material(self) -> PlannedQueries[MaterialInUse]:
        """Ask the KeyManager for the key; there is nothing else."""
        return self.deployment.keys.chain_id, _material(self.deployment.keys)


def _nowhere() -> QueryPlan[bool]:
    yield from ()
    return False


def _registered(registry: HttpzViews, tx_sender: Address) -> QueryPlan[Registration]:
    [signer] = yield [registry.node_signer(tx_sender)]
    return Registration("HTTPZ", None, signer)


def _material(keys: RequestViews) -> QueryPlan[MaterialInUse]:
    [key_id] = yield [keys.view(CURRENT_KEY)]
    return MaterialInUse(key_id=key_id)
