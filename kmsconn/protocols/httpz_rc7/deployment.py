"""The contracts of a network of the first generation, the domains of what is signed for them, and how its Cores are. Never asks a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kmsconn.config.parties import Contract
from kmsconn.config.settings import Settings
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.protocols.httpz_rc7.plaintexts import PlaintextForm

AUTO = (PlaintextForm.P3, PlaintextForm.P1, PlaintextForm.P2, PlaintextForm.RAW)
"""All forms of a public result, in the order in which they are tried."""


@attrs.frozen
class HttpzDeployment:
    """DecryptionManager and HTTPZ, each as the domain that names its place too, and KeyManager, on one gateway.

    ``forms`` of public results are tried in their order. ``parameters`` says which FHE parameters a digest means, none: always the
    default. ``preprocessing``: the Core knows preparations. ``keys_at_finality``: key management counts in finalized blocks only.
    """

    manager: Domain
    httpz: Domain
    key_manager: Address
    forms: Sequence[PlaintextForm] = AUTO
    parameters: Mapping[bytes, int] = attrs.field(factory=dict)
    preprocessing: bool = True
    keys_at_finality: bool = False

    @classmethod
    def of(cls, settings: Settings) -> HttpzDeployment:
        """Return the deployment that the settings name."""
        gateway, options = settings.chains.gateway.chain_id, settings.protocol.httpz
        auto = options.plaintext_encoding == "auto"
        return cls(
            manager=_domain(settings.protocol.decryption_contract, gateway),
            httpz=_domain(settings.protocol.gateway_config_contract, gateway),
            key_manager=settings.protocol.kms_generation_contract.address,
            forms=AUTO if auto else (PlaintextForm(options.plaintext_encoding),),
            parameters=options.fhe_parameters,
            preprocessing=options.preprocessing,
            keys_at_finality=options.key_management_at_finality,
        )

    @property
    def gateway(self) -> int:
        """The chain id of the gateway."""
        return self.manager.chain_id

    @property
    def at_manager(self) -> tuple[int, Address]:
        """Where the DecryptionManager is."""
        return self.gateway, self.manager.verifying_contract

    @property
    def at_httpz(self) -> tuple[int, Address]:
        """Where HTTPZ is."""
        return self.gateway, self.httpz.verifying_contract

    @property
    def at_key_manager(self) -> tuple[int, Address]:
        """Where the KeyManager is."""
        return self.gateway, self.key_manager


def _domain(contract: Contract, chain_id: int) -> Domain:
    return Domain(contract.domain_name, contract.domain_version, chain_id, contract.address)
