"""Known networks: what they fill in, what wins over them, what contradicts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kmsconn.config.networks import NETWORKS, Network, protocol_config_instead_of
from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import checksum, parse_address
from tests.unit.config.sample_values import ACL, KEY, toml_text

LEAST: dict[str, Any] = {
    "gateway_url": "http://127.0.0.1:8546",
    "ethereum_url": "http://127.0.0.1:8545",
    "kms_core_endpoints": ["http://127.0.0.1:50051"],
    "private_key": KEY,
}
BESIDES: dict[str, dict[str, Any]] = {
    "testnet": {},
    "mainnet": {"allow_raw_key_on_mainnet": True},
}
NAMES = tuple(NETWORKS)


def load(folder: Path, network: str | None, changes: dict[str, Any] | None = None) -> Settings:
    options = {**LEAST, **BESIDES.get(network or "", {}), **(changes or {})}
    path = folder / "kmsconn.toml"
    lines = [f"{name} = {toml_text(value)}" for name, value in options.items() if value is not None]
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return load_config(path, environ={}, network=network)


def faults(folder: Path, network: str | None, changes: dict[str, Any] | None = None) -> dict[str, Fault]:
    with pytest.raises(ConfigError) as refused:
        load(folder, network, changes)
    return {fault.place: fault for fault in refused.value.faults}


# --- the table


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NAMES)
def test_every_address_has_its_checksum(network: Network) -> None:
    given = (
        network.decryption,
        network.gateway_config,
        network.protocol_config,
        network.kms_generation,
        network.kms_verifier,
        *network.acls.values(),
    )
    assert [one for one in given if checksum(parse_address(one)) != one] == []


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NAMES)
def test_the_protocol_config_is_not_the_verifier(network: Network) -> None:
    assert network.protocol_config != network.kms_verifier
    assert protocol_config_instead_of(parse_address(network.kms_verifier)) == network.protocol_config
    assert protocol_config_instead_of(parse_address(ACL)) is None


# --- what it fills in


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NAMES)
def test_a_network_gives_chain_ids_and_addresses(tmp_path: Path, network: Network) -> None:
    settings = load(tmp_path, network.name)
    assert (settings.chains.gateway.chain_id, settings.chains.ethereum.chain_id) == (
        network.gateway_chain_id,
        network.ethereum_chain_id,
    )
    assert checksum(settings.protocol.decryption_contract.address) == network.decryption
    assert checksum(settings.protocol.gateway_config_contract.address) == network.gateway_config
    assert checksum(settings.protocol.protocol_config_contract.address) == network.protocol_config
    assert checksum(settings.protocol.kms_generation_contract.address) == network.kms_generation
    assert settings.protocol.decryption_contract.domain_name == "Decryption"


def test_ethereum_is_the_host_chain_where_none_is_listed(tmp_path: Path) -> None:
    settings = load(tmp_path, "testnet")
    assert [host.chain for host in settings.chains.host_chains] == [settings.chains.ethereum]
    assert checksum(settings.chains.host_chains[0].acl) == ACL


AMOY, DEVNETS = NETWORKS["testnet"].acls[80002], NETWORKS["devnet"].decryption


@pytest.mark.parametrize(
    ("hosts", "acls"),
    [
        (
            [{"url": "http://amoy", "chain_id": 80002}, {"url": "http://sepolia", "chain_id": 11155111}],
            [AMOY, ACL],
        ),
        ('[{"url": "http://amoy", "chainId": 80002}]', [AMOY]),
        ([{"url": "http://sepolia", "chain_id": 11155111, "acl_address": DEVNETS}], [DEVNETS]),
    ],
    ids=["of a file", "as the environment writes them", "one that is given wins"],
)
def test_a_listed_host_chain_gets_its_acl_from_the_network(
    tmp_path: Path, hosts: Any, acls: list[str]
) -> None:
    settings = load(tmp_path, "testnet", {"host_chains": hosts})
    assert [checksum(host.acl) for host in settings.chains.host_chains] == acls


@pytest.mark.parametrize("value", ["[", "{}", 5, [5], [{"chain_id": "x"}]])
def test_host_chains_of_no_form_are_faults_with_a_network_too(tmp_path: Path, value: Any) -> None:
    assert all(
        place.startswith("host_chains") for place in faults(tmp_path, "testnet", {"host_chains": value})
    )


@pytest.mark.parametrize("network", [None, "testnet"])
def test_an_acl_that_nobody_knows_is_required(tmp_path: Path, network: str | None) -> None:
    hosts = [
        {"url": "http://x", "chain_id": 11155111, "acl_address": ACL},
        {"url": "http://y", "chain_id": 5},
    ]
    assert "host_chains[1].acl_address" in faults(tmp_path, network, {"host_chains": hosts})


def test_a_given_address_wins_over_the_network(tmp_path: Path) -> None:
    settings = load(tmp_path, "testnet", {"decryption_contract.address": NETWORKS["devnet"].decryption})
    assert checksum(settings.protocol.decryption_contract.address) == NETWORKS["devnet"].decryption


def test_without_a_network_everything_is_required(tmp_path: Path) -> None:
    assert {
        "gateway_chain_id",
        "host_chains",
        "decryption_contract.address",
        "protocol_config_contract.address",
    } <= faults(tmp_path, None).keys()


def test_a_raw_key_on_the_mainnet_preset_needs_leave(tmp_path: Path) -> None:
    assert "private_key" in faults(tmp_path, "mainnet", {"allow_raw_key_on_mainnet": False})


# --- what contradicts it


def test_an_unknown_network_is_a_fault_with_a_suggestion(tmp_path: Path) -> None:
    assert faults(tmp_path, "tesnet")["--network"].remedy == "did you mean testnet?"


@pytest.mark.parametrize("name", ["gateway_chain_id", "ethereum_chain_id"])
def test_the_chain_id_of_another_network_is_a_fault(tmp_path: Path, name: str) -> None:
    found = faults(tmp_path, "testnet", {name: 5})
    assert "and that of testnet is" in found[name].message


@pytest.mark.parametrize(("network", "chain"), [("testnet", 80002), ("mainnet", 137)])
def test_a_host_chain_of_the_network_that_is_not_listed_is_warned_about(
    tmp_path: Path, network: str, chain: int
) -> None:
    assert [str(one) for one in load(tmp_path, network).warnings] == [
        f"host_chains: chain {chain} of {network} is not listed: its requests wait; add its url"
    ]


def test_a_network_of_a_command_wins_over_that_of_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, None, {"network": "testnet"}) == load(tmp_path, "testnet")
    assert load(tmp_path, "testnet", {"network": "tesnet"}) == load(tmp_path, "testnet")
