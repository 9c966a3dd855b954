"""A connector's command, file and environment follow from what the emulator wrote. Nothing is started."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bench.connector import Recipe, fill, names, options_of, variables
from kmsconn.config.sources import load_config
from kmsconn.emulator.config_file import write_config
from kmsconn.emulator.neighbourhood import Neighbourhood
from kmsconn.emulator.network import MemoryNetwork


@pytest.fixture
def config(tmp_path: Path) -> Path:
    neighbours = Neighbourhood.make(lambda: 0.0, shards=2)
    neighbours.settle_in_memory(MemoryNetwork())
    path = tmp_path / "emu.toml"
    write_config(path, neighbours.settings(tmp_path / "journal.db", monitoring_endpoint="127.0.0.1:9"))
    return path


def test_options_are_flat(config: Path) -> None:
    found = options_of(config)
    assert found["gateway_url"] == ["ws://gateway:80"]
    assert found["decryption_contract.domain_name"] == "Decryption"


def test_the_variables_make_the_same_settings_as_the_file(config: Path) -> None:
    """The environment alone is enough for a connector that knows the 0.14 names, ours for one."""
    assert load_config(None, environ=variables(options_of(config))) == load_config(config, environ={})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gateway_url", "ws://gateway:80"),
        ("gateway_http_url", "http://gateway:80"),
        ("kms_core_endpoints", "http://core0:80"),
        ("gateway_chain_id", "54321"),
        ("allow_http_buckets", "true"),
        ("host_url", "ws://host:80"),
        ("host_chain_id", "12345"),
    ],
)
def test_names_for_templates(config: Path, name: str, expected: str) -> None:
    assert names(options_of(config))[name] == expected


def test_addresses_are_among_the_names(config: Path) -> None:
    found = names(options_of(config))
    written = tomllib.loads(config.read_text())
    assert found["decryption_contract_address"] == written["decryption_contract"]["address"]
    assert found["host_acl_address"] == written["host_chains"][0]["acl_address"]


def test_places_are_filled_and_other_braces_stay() -> None:
    text = 'url = "{gateway_url}"\nmap = {a = 1}\n{unknown}'
    assert fill(text, {"gateway_url": "ws://x"}) == 'url = "ws://x"\nmap = {a = 1}\n{unknown}'


def test_another_connector_gets_the_variables(config: Path) -> None:
    environment = Recipe("other").environment(options_of(config))
    assert environment["KMS_CONNECTOR_GATEWAY_CHAIN_ID"] == "54321"
    assert environment["KMS_CONNECTOR_DECRYPTION_CONTRACT__DOMAIN_VERSION"] == "1"


def test_our_own_connector_reads_its_file_alone(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    monkeypatch.setenv("KMS_CONNECTOR_GATEWAY_CHAIN_ID", "1")
    environment = Recipe().environment(options_of(config))
    assert not [name for name in environment if name.startswith("KMS_CONNECTOR_")]


def test_another_checkout_is_found_by_its_path(config: Path) -> None:
    environment = Recipe(python_path="there").environment(options_of(config))
    assert (environment["PYTHONPATH"], environment["PYTHONSAFEPATH"]) == ("there", "1")
