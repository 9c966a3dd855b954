"""What a known network means for the options: values that every other source wins over, and what does not fit together. Reads nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import attrs

from kmsconn.config.findings import Findings, Given
from kmsconn.config.forms import quoted, suggestion
from kmsconn.config.networks import NETWORKS, Network
from kmsconn.config.options import FHEVM, OptionTable

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
            findings.fault(
                findings.given[name].place, f"is {values[name]}, and that of {network.name} is {expected}"
            )
    listed = {entry.chain_id for entry in values["host_chains"] or ()}
    for chain_id in network.acls.keys() - listed:
        findings.warn(
            "host_chains",
            f"chain {chain_id} of {network.name} is not listed: its requests wait",
            "add its url",
        )


def _place(network: Network) -> str:
    return f"network {network.name}"
