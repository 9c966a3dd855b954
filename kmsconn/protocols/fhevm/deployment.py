"""The contracts of a network of fhevm, and the domains of what is signed for them. Never asks a chain."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kmsconn.config.settings import Contract, Settings
from kmsconn.config.values import CompressedKeySets
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.protocols.fhevm.access import AccessControl
from kmsconn.protocols.fhevm.key_views import KeyViews
from kmsconn.protocols.fhevm.members import GatewayContexts


@attrs.frozen
class Deployment:
    """Decryption on the Gateway, KMSGeneration and ProtocolConfig on Ethereum, each as the domain that names its place too.

    ``acls``: host chain → access control list. ``compressed_key_sets``: whether fresh keys are.
    ``preprocessing_ids``: those of keys that an epoch is told instead of what the contract says.
    """

    decryption: Domain
    generation: Domain
    config: Domain
    gateway_config: Address
    acls: Mapping[int, Address]
    erc1271_gas: int
    compressed_key_sets: CompressedKeySets
    preprocessing_ids: Mapping[int, int]
    keys: KeyViews = attrs.field(init=False)
    """The questions to the two contracts on Ethereum."""

    @keys.default
    def _key_views(self) -> KeyViews:
        return KeyViews.at(
            self.config.chain_id, self.generation.verifying_contract, self.config.verifying_contract
        )

    @classmethod
    def of(cls, settings: Settings) -> Deployment:
        """Return the deployment that the settings name."""
        gateway, ethereum = settings.chains.gateway.chain_id, settings.chains.ethereum.chain_id
        return cls(
            decryption=_domain(settings.protocol.decryption_contract, gateway),
            generation=_domain(settings.protocol.kms_generation_contract, ethereum),
            config=_domain(settings.protocol.protocol_config_contract, ethereum),
            gateway_config=settings.protocol.gateway_config_contract.address,
            acls={host.chain.chain_id: host.acl for host in settings.chains.host_chains},
            erc1271_gas=settings.protocol.erc1271_gas_limit,
            compressed_key_sets=settings.protocol.compressed_key_sets,
            preprocessing_ids=settings.protocol.preprocessing_ids,
        )

    @property
    def gateway(self) -> int:
        """The chain id of the Gateway."""
        return self.decryption.chain_id

    @property
    def ethereum(self) -> int:
        """The chain id of Ethereum."""
        return self.config.chain_id

    @property
    def access(self) -> AccessControl:
        """The access control of the host chains, chosen by the chain id of a handle."""
        return AccessControl(self.acls)

    @property
    def contexts(self) -> GatewayContexts:
        """The contexts as the Gateway knows them."""
        return GatewayContexts(self.gateway, self.gateway_config)


def _domain(contract: Contract, chain_id: int) -> Domain:
    return Domain(contract.domain_name, contract.domain_version, chain_id, contract.address)
