"""Known networks, what they fill in and what contradicts them; options of the port of decryptions and of the status page."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from kmsconn.config.description import Secret, StatusPage
from kmsconn.config.http_api import ApiKeysFault, read_api_keys
from kmsconn.config.networks import NETWORKS, Network, protocol_config_instead_of
from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.config.working import ApiKey, HttpApi
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import checksum, parse_address
from tests.unit.config.sample_values import ACL, KEY, faults_of, load, toml_text, warnings_of

HERE, ANYWHERE = "127.0.0.1:8080", "0.0.0.0:8080"
DIGEST = hashlib.sha256(b"a key").hexdigest()
OTHER = hashlib.sha256(b"another key").hexdigest()


def key_file(folder: Path, text: str = f'[[keys]]\nid = "one"\nsha256 = "{DIGEST}"\n') -> str:
    path = folder / "keys.toml"
    path.write_text(text)
    return str(path)


def test_an_address_turns_it_on_with_the_originals_defaults(tmp_path: Path) -> None:
    assert load(tmp_path).http_api is None
    http = load(tmp_path, {"http_endpoint": HERE}).http_api
    assert http == HttpApi(HERE, frozenset({11155111}))
    assert (http.max_in_flight_decryptions, http.decryption_timeout) == (1000, 30)
    assert (http.max_body_bytes, http.max_decryption_request_bits) == (1 << 20, 2048)
    assert http.max_allowed_contracts == 10


def test_each_limit_is_set_by_its_name_in_the_original(tmp_path: Path) -> None:
    environ = {
        "KMS_CONNECTOR_HTTP_ENDPOINT": HERE,
        "KMS_CONNECTOR_MAX_IN_FLIGHT_DECRYPTIONS": "7",
        "KMS_CONNECTOR_DECRYPTION_TIMEOUT": "5s",
        "KMS_CONNECTOR_MAX_BODY_BYTES": "4096",
        "KMS_CONNECTOR_MAX_DECRYPTION_REQUEST_BITS": "64",
        "KMS_CONNECTOR_MAX_ALLOWED_CONTRACTS": "3",
        "KMS_CONNECTOR_SUPPORTED_CHAIN_IDS": "11155111",
        "KMS_CONNECTOR_API_KEY_DIGEST": DIGEST,
    }
    assert load(tmp_path, environ=environ).http_api == HttpApi(
        HERE,
        frozenset({11155111}),
        keys=(ApiKey("default", bytes.fromhex(DIGEST)),),
        key_digest=bytes.fromhex(DIGEST),
        max_in_flight_decryptions=7,
        decryption_timeout=5.0,
        max_body_bytes=4096,
        max_decryption_request_bits=64,
        max_allowed_contracts=3,
    )


@pytest.mark.parametrize("written", [[11155111], "11155111", "[11155111]", "11155111, 11155111"])
def test_chain_ids_are_a_list_or_its_text(tmp_path: Path, written: Any) -> None:
    http = load(tmp_path, {"http_endpoint": HERE, "supported_chain_ids": written}).http_api
    assert http is not None
    assert http.supported_chain_ids == {11155111}


# Changes → the option that is named, what is said of it, and what to do; a file is there under its name.
FAULTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a supported chain that is not configured": (
        {"supported_chain_ids": [5, 11155111]}, "supported_chain_ids", "5: no such chain", "",
    ),
    "everybody at any address": ({"http_endpoint": ANYWHERE}, "http_endpoint", "everybody could ask", "api_keys_file"),
    "a shadow": ({"mode": "shadow"}, "http_endpoint", "a shadow answers nobody", "leave http_endpoint out"),
    "a file of keys that is not there": ({"api_keys_file": "none"}, "api_keys_file", "", ""),
    "one key in two places": (
        {"api_keys_file": "keys.toml", "api_key_digest": DIGEST}, "api_key_digest", "has this key", "",
    ),
    "a digest that is none": ({"api_key_digest": "the key itself"}, "api_key_digest", "", ""),
    "a certificate without its key": (
        {"tls_config.cert_path": "cert.pem"}, "tls_config.key_path", "is required", "",
    ),
    "a key without its certificate": (
        {"tls_config.key_path": "key.pem"}, "tls_config.cert_path", "is required", "",
    ),
    "no certificate and no key": (
        {"tls_config.cert_path": "cert.pem", "tls_config.key_path": "key.pem"},
        "tls_config.cert_path", "belong together", "",
    ),
    "a status page for everybody": (
        {"status_page": "on", "monitoring_endpoint": ANYWHERE}, "status_page", "needs status_page_token_file", "",
    ),
    "a token that is not there": (
        {"status_page_token_file": "none"}, "status_page_token_file", "cannot be read", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_together_is_a_fault(tmp_path: Path, case: Any) -> None:
    changes, option, said, remedy = case
    key_file(tmp_path)
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("no PEM")
    paths = {
        name: str(tmp_path / value) for name, value in changes.items() if name.endswith(("_file", "_path"))
    }
    faults = faults_of(tmp_path, {"http_endpoint": HERE, **changes, **paths})
    assert list(faults) == [option]
    assert said in faults[option].message
    assert remedy in faults[option].remedy
    assert "the key itself" not in str(faults)


@pytest.mark.parametrize(
    "changes",
    [
        {"http_endpoint": ANYWHERE, "http_without_keys": True},
        {"http_endpoint": ANYWHERE, "api_key_digest": DIGEST},
        {"mode": "shadow"},
        {"status_page": "on", "monitoring_endpoint": HERE},
    ],
)
def test_what_fits_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert faults_of(tmp_path, changes) == {}


@pytest.mark.parametrize(
    ("changes", "option", "told"),
    [
        ({"http_endpoint": ANYWHERE, "api_key_digest": DIGEST}, "http_endpoint", "without TLS"),
        ({"max_body_bytes": 5}, "max_body_bytes", "http_endpoint is not set"),
        ({"http_endpoint": HERE, "endpoint_addresses": ["http://a:1"]}, "endpoint_addresses", "this process"),
    ],
    ids=["keys without TLS", "an option without the address", "an option of the original's proxy"],
)
def test_what_has_no_effect_or_little_is_warned_about(
    tmp_path: Path, changes: dict[str, Any], option: str, told: str
) -> None:
    assert told in str(warnings_of(tmp_path, changes)[option])


def test_keys_are_read_from_their_file_with_their_limits(tmp_path: Path) -> None:
    text = f"""
[[keys]]
id = "one"
sha256 = "{DIGEST}"

[[keys]]
id = "two.b"
sha256 = "0x{OTHER}"
max_in_flight = 20
requests_per_second = 2.5
"""
    http = load(tmp_path, {"http_endpoint": ANYWHERE, "api_keys_file": key_file(tmp_path, text)}).http_api
    assert http is not None
    assert http.keys == (ApiKey("one", bytes.fromhex(DIGEST)), ApiKey("two.b", bytes.fromhex(OTHER), 20, 2.5))


def test_all_faults_of_a_key_file_come_at_once_and_none_shows_a_digest(tmp_path: Path) -> None:
    text = f"""
[[keys]]
id = "one two"
sha256 = "{DIGEST}"

[[keys]]
sha256 = "a key in the wrong place"
limit = 3
requests_per_second = 0

[[keys]]
id = "three"
sha256 = "{DIGEST}"
max_in_flight = 0
"""
    faults = faults_of(tmp_path, {"http_endpoint": ANYWHERE, "api_keys_file": key_file(tmp_path, text)})
    assert [place.partition("), ")[2] for place in faults] == [
        "keys[0].id",
        "keys[1].id",
        "keys[1].sha256",
        "keys[1].requests_per_second",
        "keys[1].limit",
        "keys[2].max_in_flight",
        "keys[2].sha256",
    ]
    texts = " ".join(map(str, faults.values()))
    assert DIGEST not in texts
    assert "wrong place" not in texts


@pytest.mark.parametrize("text", ["", "keys = []", "keys = 3", "other = 1", "[[keys]", "[keys]\nid = 'a'"])
def test_a_file_without_keys_is_a_fault(text: str) -> None:
    with pytest.raises(ApiKeysFault):
        read_api_keys(text.encode())


TOKEN = "0123456789abcdef"


def token_file(folder: Path, content: str = TOKEN, mode: int = 0o600) -> str:
    path = folder / "token"
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_by_default_there_is_no_token_and_loopback_alone_is_served(tmp_path: Path) -> None:
    monitoring = load(tmp_path, {}).monitoring
    assert (monitoring.status_page, monitoring.status_page_token) == (StatusPage.LOOPBACK, None)


def test_the_token_is_read_from_its_file_and_never_shows(tmp_path: Path) -> None:
    values = {
        "status_page": "on",
        "monitoring_endpoint": ANYWHERE,
        "status_page_token_file": token_file(tmp_path, f"{TOKEN}\n"),
    }
    settings = load(tmp_path, values)
    assert settings.monitoring.status_page is StatusPage.ON
    assert settings.monitoring.status_page_token == Secret(TOKEN)
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("content", ["", "\n", "short", "two words in it ok", "ünïcödé-tokens-are-none"])
def test_a_file_without_a_token_is_a_fault_that_does_not_quote_it(tmp_path: Path, content: str) -> None:
    faults = faults_of(tmp_path, {"status_page_token_file": token_file(tmp_path, content)})
    assert "holds no token" in faults["status_page_token_file"].message
    assert not content.strip() or content not in str(faults)


def test_a_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    path = token_file(tmp_path, mode=0o644)
    assert "0644" in warnings_of(tmp_path, {"status_page_token_file": path})[path].message


LEAST: dict[str, Any] = {
    "gateway_url": "http://127.0.0.1:8546",
    "ethereum_url": "http://127.0.0.1:8545",
    "kms_core_endpoints": ["http://127.0.0.1:50051"],
    "private_key": KEY,
}
BESIDES: dict[str, dict[str, Any]] = {"testnet": {}, "mainnet": {"allow_raw_key_on_mainnet": True}}
NAMES = tuple(NETWORKS)


def load_preset(folder: Path, network: str | None, changes: dict[str, Any] | None = None) -> Settings:
    options = {**LEAST, **BESIDES.get(network or "", {}), **(changes or {})}
    path = folder / "kmsconn.toml"
    lines = [f"{name} = {toml_text(value)}" for name, value in options.items() if value is not None]
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return load_config(path, environ={}, network=network)


def faults(folder: Path, network: str | None, changes: dict[str, Any] | None = None) -> dict[str, Fault]:
    with pytest.raises(ConfigError) as refused:
        load_preset(folder, network, changes)
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
    settings = load_preset(tmp_path, network.name)
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
    settings = load_preset(tmp_path, "testnet")
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
def test_listed_host_chain_gets_its_acl_from_the_network(tmp_path: Path, hosts: Any, acls: list[str]) -> None:
    settings = load_preset(tmp_path, "testnet", {"host_chains": hosts})
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
    settings = load_preset(
        tmp_path, "testnet", {"decryption_contract.address": NETWORKS["devnet"].decryption}
    )
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
    assert [str(one) for one in load_preset(tmp_path, network).warnings] == [
        f"host_chains: chain {chain} of {network} is not listed: its requests wait; add its url"
    ]


def test_a_network_of_a_command_wins_over_that_of_the_file(tmp_path: Path) -> None:
    assert load_preset(tmp_path, None, {"network": "testnet"}) == load_preset(tmp_path, "testnet")
    assert load_preset(tmp_path, "testnet", {"network": "tesnet"}) == load_preset(tmp_path, "testnet")
