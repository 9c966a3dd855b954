"""The deployments that are known: chain ids and public addresses, and what a network means for options: every other source wins over it.

Nobody asked the chains; a start checks what it can. Reads nothing. The charts of 0.14 name KMSVerifier where ProtocolConfig is meant:
``kms_verifier`` is that address, ``protocol_config`` the right one. Source: fhevm-0.14.md, annex D.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from kmsconn.config.forms import quoted, suggestion
from kmsconn.config.options import FHEVM, Findings, Given, OptionTable
from kmsconn.ethereum.addresses import Address, parse_address


@attrs.frozen
class Network:
    """One deployment; ``acls`` by host chain."""

    name: str
    gateway_chain_id: int
    ethereum_chain_id: int
    decryption: str
    gateway_config: str
    protocol_config: str
    kms_generation: str
    kms_verifier: str
    acls: Mapping[int, str]


_ALL = (
    Network(
        name="testnet",
        gateway_chain_id=10901,
        ethereum_chain_id=11155111,
        decryption="0x5D8BD78e2ea6bbE41f26dFe9fdaEAa349e077478",
        gateway_config="0x94153006067B89399e059284f5a7Fe016940E332",
        protocol_config="0x51f9AFBc89Ea792e1a21a12AB802ab58D4dbee83",
        kms_generation="0x77389113d7000EcBCfc2bDed57202f5f46109934",
        kms_verifier="0xbE0E383937d564D7FF0BC3b46c51f0bF8d5C311A",
        acls={
            11155111: "0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D",
            80002: "0xD99Cb9Fc3c42c87f2A4A12e8Fd60318d6bDdf985",
        },
    ),
    Network(
        name="mainnet",
        gateway_chain_id=261131,
        ethereum_chain_id=1,
        decryption="0x0f6024a97684f7d90ddb0fAAD79cB15F2C888D24",
        gateway_config="0xDE537Be194777A56f8B19d14079E6a78249390ab",
        protocol_config="0xD8236B57394f90726b26aB25D38CeAC776E1a7C4",
        kms_generation="0xf102cC9A9D2174630c394f5b7B7D63104E348daa",
        kms_verifier="0x77627828a55156b04Ac0DC0eb30467f1a552BB03",
        acls={
            1: "0xcA2E8f1F656CD25C01F05d0b243Ab1ecd4a8ffb6",
            137: "0x6737F17e31cf26a1b62fb0362acC5a16CB156F49",
        },
    ),
    Network(
        name="devnet",
        gateway_chain_id=10900,
        ethereum_chain_id=11155111,
        decryption="0xA4dc265D54D25D41565c60d36097E8955B03decD",
        gateway_config="0x530749d571beBEc20980425557968cabc6328296",
        protocol_config="0x1aa1E8f03E6aC23EEd65305fF6C89A3Fc55f13a0",
        kms_generation="0x55bdE339a01DA46d2d3504b8d9A9F5412C85e5e7",
        kms_verifier="0x3F3819BeBE4bD0EFEf8078Df6f9B574ADa80CCA4",
        acls={
            11155111: "0xBCA6F8De823a399Dc431930FD5EE550Bf1C0013e",
            80002: "0x21d5fcabee8260b8aC18A2f0cEe6869AE08cc44b",
            97: "0xe7281b288CE8F00D2E81993c6bfbf116Bc72E309",
        },
    ),
)

NETWORKS: Final = {network.name: network for network in _ALL}


def protocol_config_instead_of(kms_verifier: Address) -> str | None:
    """Return the ProtocolConfig of the network whose charts name this KMSVerifier in its place, or None."""
    named = (one.protocol_config for one in _ALL if parse_address(one.kms_verifier) == kms_verifier)
    return next(named, None)


def known_address(contract: str, chain_ids: tuple[int, int], wrong: Address) -> str | None:
    """Return where the network with these chain ids has a contract that is not at the ``wrong`` address; ``contract`` is a field of it.

    None if the network is unknown, or names that very address. The ids are those of the Gateway and of Ethereum: several networks share
    an Ethereum chain.
    """
    networks = (one for one in _ALL if (one.gateway_chain_id, one.ethereum_chain_id) == chain_ids)
    named: Iterator[str] = (getattr(one, contract) for one in networks)
    return next((one for one in named if parse_address(one) != wrong), None)


NETWORK: Final = "network"
"""The option that names one."""

_CHAIN_IDS: Final = ("gateway_chain_id", "ethereum_chain_id")
_CONTRACTS: Final = ("decryption", "gateway_config", "protocol_config", "kms_generation")


def find_network(
    sources: Sequence[dict[str, Given]], table: OptionTable, findings: Findings
) -> Network | None:
    """Return the network that the last source names; an unknown one is a fault, and so is any for another generation than theirs."""
    given = next((source[NETWORK] for source in reversed(sources) if NETWORK in source), None)
    if given is None:
        return None
    if table is not FHEVM:
        findings.fault(given.place, "names a network of fhevm, but the profile is another one")
        for source in sources:
            source.pop(NETWORK, None)
        return None
    name = str(given.value)
    if name not in NETWORKS:
        remedy = suggestion(name, NETWORKS) or f"one of {', '.join(NETWORKS)}"
        findings.fault(given.place, f"is not a known network: {quoted(name)}", remedy)
    return NETWORKS.get(name)


def preset(network: Network) -> dict[str, Given]:
    """Return a network's chain ids and addresses, as if a source had given them."""
    values = {name: getattr(network, name) for name in _CHAIN_IDS}
    values |= {f"{of}_contract.address": getattr(network, of) for of in _CONTRACTS}
    return {name: Given(value, _place(network), name) for name, value in values.items()}


def complete(network: Network, findings: Findings) -> None:
    """Give host chains the network's ACL where they name none; let Ethereum be the one host chain where none is listed."""
    listed, url = findings.given.get("host_chains"), findings.given.get("ethereum_url")
    if listed is not None:
        findings.given["host_chains"] = attrs.evolve(listed, value=_with_acls(listed.value, network))
    elif url is not None:
        entry = {"url": url.value, "chain_id": network.ethereum_chain_id}
        findings.given["host_chains"] = Given(_with_acls([entry], network), _place(network), "host_chains")


def _with_acls(value: Any, network: Network) -> Any:
    """Return a list of host chains with the ACLs that are known; what is no such list comes back as it is, to be judged later."""
    try:
        entries = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    if not isinstance(entries, list):
        return value
    return [_with_acl(entry, network) for entry in entries]


def _with_acl(entry: Any, network: Network) -> Any:
    if not isinstance(entry, dict) or {"acl_address", "aclAddress"} & entry.keys():
        return entry
    chain_id = entry.get("chain_id", entry.get("chainId"))
    acl = network.acls.get(chain_id) if isinstance(chain_id, int) else None
    return entry if acl is None else {**entry, "acl_address": acl}


def compare(values: dict[str, Any], network: Network, findings: Findings) -> None:
    """Note what contradicts the network: another chain's id beside its addresses is a mistake. A host chain left out may be meant."""
    for name in _CHAIN_IDS:
        expected = getattr(network, name)
        if values[name] not in {None, expected}:
            findings.fault_of(name, f"is {values[name]}, and that of {network.name} is {expected}")
    listed = {entry.chain_id for entry in values["host_chains"] or ()}
    for chain_id in network.acls.keys() - listed:
        found = f"chain {chain_id} of {network.name} is not listed: its requests wait"
        findings.warn("host_chains", found, "add its url")


def _place(network: Network) -> str:
    return f"network {network.name}"
