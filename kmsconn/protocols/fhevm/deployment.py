"""The contracts of a network of fhevm, the domains of what is signed for them, and the Gateway's contexts. Never asks a chain.

GatewayConfig says the same of a context that it does not know and of one that was destroyed (3.9); numbers tell them apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from kmsconn.config.parties import Contract
from kmsconn.config.settings import Settings
from kmsconn.config.values import CompressedKeySets
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import CONTEXT_TAG, counter_of, tag_of
from kmsconn.protocols.fhevm import views
from kmsconn.protocols.fhevm.access import AccessControl
from kmsconn.protocols.fhevm.key_views import KeyViews
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.queries import QueryPlan, ViewCall

_RECENT = 8  # contexts; two or three are valid at a time, and the Gateway may skip numbers


@attrs.frozen
class GatewayContexts:
    """The contexts of GatewayConfig on its chain."""

    chain_id: int
    config: Address

    def is_member(self, tx_sender: Address, known: Collection[int]) -> QueryPlan[bool]:
        """Ask whether a tx sender is a node of the current context, one just before it, or a ``known`` one, that is still valid."""
        [current] = yield [views.current_context(self.chain_id, self.config)]
        recent = {one for one in range(current - _RECENT + 1, current + 1) if _is_context(one)}
        found = yield [self._is_node(one, tx_sender) for one in sorted(recent | {*known})]
        return any(found)

    def after_invalid(self, context_id: int) -> QueryPlan[Verdict]:
        """Say what "invalid context" means for a reply: final for one that was issued, and so was destroyed since (annex A, bounded)."""
        [current] = yield [views.current_context(self.chain_id, self.config)]
        was_there = _is_context(context_id) and context_id <= current
        return Verdict.FINAL if was_there else Verdict.RETRY

    def _is_node(self, context_id: int, tx_sender: Address) -> ViewCall[bool]:
        asked = views.node_signer(self.chain_id, self.config, context_id, tx_sender)

        def gone(_message: str, data: bytes | None) -> bool | None:
            return False if views.is_invalid_context(data) else None

        return ViewCall(
            asked.chain_id,
            asked.to,
            asked.data,
            lambda data: asked.read(data) != ZERO_ADDRESS,
            on_error=gone,
        )


def _is_context(identifier: int) -> bool:
    return tag_of(identifier) == CONTEXT_TAG and counter_of(identifier) > 0


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
