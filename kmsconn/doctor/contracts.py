"""Probes of the configured contracts: code, kind, EIP-712 domain. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kmsconn.config.networks import NETWORKS
from kmsconn.config.settings import Contract, Settings
from kmsconn.doctor.chains import CheckedChain
from kmsconn.doctor.diagnosis import Diagnosis, fault, ok, skipped
from kmsconn.doctor.probing import Fact, Probe
from kmsconn.errors import Unreachable, WrongContract
from kmsconn.ethereum.addresses import Address, checksum, parse_address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.model.profiles import HTTPZ_RC7
from kmsconn.protocols.deployments import told_domain
from kmsconn.protocols.port import ContractQuery, Profile
from kmsconn.rpc.asking import ask
from kmsconn.rpc.port import Rpc, RpcError


@attrs.frozen
class CheckedContract:
    """A configured contract: its kind, its option, its chain and, where something is signed for it, the configured domain."""

    kind: str
    option: str
    chain_id: int
    address: Address
    domain: Domain | None
    identity: ContractQuery[None]
    """What its kind alone answers."""
    right: Fact[bool]


def contracts_of(settings: Settings, profile: Profile) -> tuple[CheckedContract, ...]:
    """Return the configured contracts, in the order of the profile's own checks."""
    described = _of_httpz(settings) if settings.protocol.profile == HTTPZ_RC7 else _of_fhevm(settings)
    return tuple(
        CheckedContract(
            kind, option, chain_id, contract.address, domain, identity, Fact(f"{kind} at {option}")
        )
        for (kind, option, chain_id, contract, domain), identity in zip(
            described, profile.deployment_checks(), strict=True
        )
    )


_Described = tuple[str, str, int, Contract, Domain | None]


def _of_fhevm(settings: Settings) -> Sequence[_Described]:
    gateway, ethereum = settings.chains.gateway.chain_id, settings.chains.ethereum.chain_id
    return [
        _signing("Decryption", "decryption_contract", gateway, settings.protocol.decryption_contract),
        (
            "GatewayConfig",
            "gateway_config_contract",
            gateway,
            settings.protocol.gateway_config_contract,
            None,
        ),
        _signing(
            "KMSGeneration", "kms_generation_contract", ethereum, settings.protocol.kms_generation_contract
        ),
        _signing(
            "ProtocolConfig", "protocol_config_contract", ethereum, settings.protocol.protocol_config_contract
        ),
        *(
            ("ACL", f"host_chains[{place}].acl_address", one.chain.chain_id, Contract(one.acl, ""), None)
            for place, one in enumerate(settings.chains.host_chains)
        ),
    ]


def _of_httpz(settings: Settings) -> Sequence[_Described]:
    gateway = settings.chains.gateway.chain_id
    return [
        _signing(
            "DecryptionManager", "decryption_manager_address", gateway, settings.protocol.decryption_contract
        ),
        ("HTTPZ", "httpz_address", gateway, settings.protocol.gateway_config_contract, None),
        ("KeyManager", "key_manager_address", gateway, settings.protocol.kms_generation_contract, None),
    ]


def _signing(kind: str, option: str, chain_id: int, contract: Contract) -> _Described:
    domain = Domain(contract.domain_name, contract.domain_version, chain_id, contract.address)
    return kind, option, chain_id, contract, domain


def contract_probe(contract: CheckedContract, chain: CheckedChain) -> Probe:
    """Return the probe of a contract's code and kind."""
    checked = f"{contract.option} {checksum(contract.address)}: {contract.kind} on {chain.name}"

    async def look() -> Sequence[Diagnosis]:
        if not await _code_size(chain.rpc, contract.address):
            return [fault(checked, f"has no code on chain {contract.chain_id}", _where_it_is(contract))]
        try:
            await ask(chain.rpc, contract.identity)
        except WrongContract as error:
            return [fault(checked, _why(error), _where_it_is(contract))]
        contract.right.learn(True)
        return [ok(checked, "is there")]

    return Probe(checked, look, (chain.usable,), gives=(contract.right,))


async def _code_size(rpc: Rpc, address: Address) -> int:
    try:
        return len(from_hex(await rpc.call("eth_getCode", to_hex(address), "latest")))
    except (RpcError, ValueError) as error:
        raise Unreachable(f"the node's answer to eth_getCode cannot be read: {error}") from error


def _why(error: WrongContract) -> str:
    """Return what is there instead, without the option and the address that stand before it already."""
    return str(error).partition(": ")[2] or str(error)


def _where_it_is(contract: CheckedContract) -> str:
    known = networks_with(contract.address)
    if not known:
        return f"name the {contract.kind} of this network in {contract.option}, or correct the chain id"
    return (
        f"{checksum(contract.address)} is the {' and the '.join(known)}: name the {contract.kind} of this network in {contract.option}, "
        "or the chain ids of that network"
    )


def networks_with(address: Address) -> list[str]:
    """Return which contracts of which known networks have an address: ``Decryption of testnet``."""
    return [
        f"{kind} of {network.name}"
        for network in NETWORKS.values()
        for kind, known in _addresses(network).items()
        if known == address
    ]


def _addresses(network: object) -> Mapping[str, Address]:
    kinds = {
        "Decryption": "decryption",
        "GatewayConfig": "gateway_config",
        "ProtocolConfig": "protocol_config",
        "KMSGeneration": "kms_generation",
        "KMSVerifier": "kms_verifier",
    }
    found = {kind: getattr(network, field) for kind, field in kinds.items()}
    return {kind: parse_address(text) for kind, text in found.items()}


def domain_probe(contract: CheckedContract, chain: CheckedChain) -> Probe:
    """Return the probe that compares a contract's EIP-712 domain with the configured one."""
    checked = f"{contract.option}: EIP-712 domain of {contract.kind}"

    async def look() -> Sequence[Diagnosis]:
        assert contract.domain is not None, "only of contracts for which something is signed"
        told = await ask(chain.rpc, told_domain(contract.chain_id, contract.address))
        return [judge_domain(checked, contract.option, contract.domain, told)]

    return Probe(checked, look, (chain.usable, contract.right))


def judge_domain(checked: str, option: str, ours: Domain, told: Sequence[Domain]) -> Diagnosis:
    """Compare domains field by field; a contract that tells none is not judged."""
    if not told:
        return skipped(checked, "the contract does not tell its domain (EIP-5267)")
    theirs = told[0]
    pairs: Sequence[tuple[str, object, object]] = (
        ("name", theirs.name, ours.name),
        ("version", theirs.version, ours.version),
        ("chain id", theirs.chain_id, ours.chain_id),
        ("contract", checksum(theirs.verifying_contract), checksum(ours.verifying_contract)),
    )
    wrong = [f"{what} {have!s:.64}, configured {want}" for what, have, want in pairs if have != want]
    if not wrong:
        return ok(checked, f"{ours.name} {ours.version}, as configured")
    return fault(
        checked,
        f"the contract has {'; '.join(wrong)}",
        f"set domain_name and domain_version of {option} to those of the contract: signatures would not be accepted",
    )
