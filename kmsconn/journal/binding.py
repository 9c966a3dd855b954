"""Binds a journal to the network, contract and sender that its first rows name. Pure; never opens a file."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kmsconn.ethereum.addresses import Address, checksum


@attrs.frozen
class Binding:
    """What a journal belongs to for ever: rows of one network or sender mean nothing to another."""

    profile: str
    gateway_chain_id: int
    ethereum_chain_id: int
    decryption_contract: Address
    sender: Address

    def as_text(self) -> dict[str, str]:
        """Return the fields under the names that the journal stores and that messages use."""
        return {
            "profile": self.profile,
            "gateway chain id": str(self.gateway_chain_id),
            "ethereum chain id": str(self.ethereum_chain_id),
            "decryption contract": checksum(self.decryption_contract),
            "tx sender": checksum(self.sender),
        }


def differences(stored: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, ...]:
    """Say for each field in which a stored binding is another one what stands there and what was configured."""
    return tuple(
        f"{name} {stored[name]} there, {value} configured"
        for name, value in ours.items()
        if stored[name] != value
    )
