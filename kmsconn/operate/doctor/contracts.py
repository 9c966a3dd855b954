"""Probes of the configured contracts: code, kind, EIP-712 domain. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn.chain.asking import ask
from kmsconn.chain.port import Rpc, RpcError
from kmsconn.config.networks import NETWORKS
from kmsconn.errors import Unreachable, WrongContract
from kmsconn.ethereum.addresses import Address, checksum, parse_address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.operate.doctor.chains import CheckedChain
from kmsconn.operate.doctor.diagnosis import Diagnosis, fault, ok, skipped
from kmsconn.operate.doctor.probing import Discovery, Probe
from kmsconn.protocols.profile import ConfiguredContract


@attrs.frozen
class CheckedContract:
    """A configured contract on its chain; the probe ``right`` finds whether it is the one that is meant, by its code and its kind."""

    configured: ConfiguredContract
    chain: CheckedChain
    right: Probe[bool] = attrs.field(init=False)

    @right.default
    def _right(self) -> Probe[bool]:
        one = self.configured
        checked = f"{self.option} {checksum(one.address)}: {one.kind} on {self.chain.name}"

        async def look() -> Sequence[Diagnosis] | Discovery[bool]:
            if not await _code_size(self.chain.rpc, one.address):
                return [fault(checked, f"has no code on chain {one.chain_id}", _where_it_is(self))]
            try:
                await ask(self.chain.rpc, one.identity)
            except WrongContract as error:
                return [fault(checked, _why(error), _where_it_is(self))]
            return Discovery(True, [ok(checked, "is there")])

        return Probe(checked, look, (self.chain.usable,))

    @property
    def option(self) -> str:
        """The option that names it."""
        return self.configured.option.removesuffix(".address")


async def _code_size(rpc: Rpc, address: Address) -> int:
    try:
        return len(from_hex(await rpc.call("eth_getCode", to_hex(address), "latest")))
    except (RpcError, ValueError) as error:
        raise Unreachable(f"the node's answer to eth_getCode cannot be read: {error}") from error


def _why(error: WrongContract) -> str:
    """Return what is there instead, without the option and the address that stand before it already."""
    return str(error).partition(": ")[2] or str(error)


def _where_it_is(contract: CheckedContract) -> str:
    address, kind = contract.configured.address, contract.configured.kind
    known = networks_with(address)
    if not known:
        return f"name the {kind} of this network in {contract.option}, or correct the chain id"
    return (
        f"{checksum(address)} is the {' and the '.join(known)}: name the {kind} of this network in {contract.option}, "
        "or the chain ids of that network"
    )


def networks_with(address: Address) -> list[str]:
    """Return which contracts of which known networks have an address: ``Decryption of testnet``."""
    return [
        f"{kind} of {network.name}"
        for network in NETWORKS.values()
        for kind, field in _KINDS.items()
        if parse_address(getattr(network, field)) == address
    ]


_KINDS = {
    "Decryption": "decryption",
    "GatewayConfig": "gateway_config",
    "ProtocolConfig": "protocol_config",
    "KMSGeneration": "kms_generation",
    "KMSVerifier": "kms_verifier",
}


def domain_probe(contract: CheckedContract) -> Probe[None]:
    """Return the probe that compares a contract's EIP-712 domain with the configured one."""
    checked = f"{contract.option}: EIP-712 domain of {contract.configured.kind}"

    async def look() -> Sequence[Diagnosis]:
        assert contract.configured.domain is not None, "only of contracts for which something is signed"
        try:
            told = await ask(contract.chain.rpc, contract.configured.domain)
        except WrongContract as error:
            found, _, remedy = str(error).rpartition("; ")
            return [fault(checked, found, remedy)]
        if not told:
            return [skipped(checked, "the contract does not tell its domain (EIP-5267)")]
        return [ok(checked, "as configured")]

    return Probe(checked, look, (contract.chain.usable, contract.right))
