"""Binds a journal to the network, contract and sender that its first rows name. Pure; never opens a file."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kmsconn.config.settings import Settings
from kmsconn.ethereum.addresses import Address, checksum


@attrs.frozen
class Binding:
    """What a journal belongs to for ever: rows of one network or sender mean nothing to another.

    What only a chain can confirm, a wrong address among it, is written once that chain has answered as what it is.
    """

    profile: str
    gateway_chain_id: int
    ethereum_chain_id: int
    decryption_contract: Address
    sender: Address

    @classmethod
    def of(cls, settings: Settings, tx_sender: Address) -> Binding:
        """Return to whom a journal with these settings belongs."""
        return cls(
            settings.protocol.profile,
            settings.chains.gateway.chain_id,
            settings.chains.ethereum.chain_id,
            settings.protocol.decryption_contract.address,
            tx_sender,
        )

    def own(self) -> dict[str, str]:
        """Return what no chain needs to confirm."""
        return {"profile": self.profile, "tx sender": checksum(self.sender)}

    def confirmed_by(self, chain_id: int) -> dict[str, str]:
        """Return what is right once this chain has answered, and its contracts are those that are meant."""
        gateway, ethereum = "gateway chain id", "ethereum chain id"
        chains = {gateway: self.gateway_chain_id, ethereum: self.ethereum_chain_id}
        told = {name: str(own) for name, own in chains.items() if own == chain_id}
        return (
            {**told, "decryption contract": checksum(self.decryption_contract)} if gateway in told else told
        )

    def as_text(self) -> dict[str, str]:
        """Return the fields under the names that the journal stores and that messages use."""
        gateway, ethereum = (
            self.confirmed_by(self.gateway_chain_id),
            self.confirmed_by(self.ethereum_chain_id),
        )
        return {**self.own(), **gateway, **ethereum}


def differences(stored: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, ...]:
    """Say for each field in which a stored binding is another one what stands there and what was configured; one not stored fits all."""
    return tuple(
        f"{name} {stored[name]} there, {value} configured"
        for name, value in ours.items()
        if stored.get(name, value) != value
    )
