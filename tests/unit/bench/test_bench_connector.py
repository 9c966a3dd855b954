"""A connector's command, file and environment follow from what the emulator wrote. Nothing is started."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench.connector import Recipe, fill, log_of, names, of_process, options_of, variables
from kmsconn.config.sources import load_config
from kmsconn.emulator.config_file import write_config
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.key_life import QUICK
from kmsconn.emulator.network import MemoryNetwork


def written(folder: Path, **changes: Any) -> Path:
    """Return the file that an emulator writes."""
    dependencies = FhevmDependencies.make(lambda: 0.0, shards=2)
    dependencies.settle_in_memory(MemoryNetwork())
    path = folder / "emu.toml"
    settings = dependencies.settings(folder / "journal.db", monitoring_endpoint="127.0.0.1:9", **changes)
    write_config(path, settings)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path)


def test_options_are_flat(config: Path) -> None:
    found = options_of(config)
    assert found["gateway_url"] == ["ws://gateway:80"]
    assert found["decryption_contract.domain_name"] == "Decryption"


def test_the_variables_make_the_same_settings_as_the_file(config: Path) -> None:
    """The environment alone is enough for a connector that knows the 0.14 names, ours for one; its URLs are over HTTP."""
    text = config.read_text()
    config.write_text(text.replace("ws://", "http://"))
    assert load_config(None, environ=variables(options_of(config))) == load_config(config, environ={})


ADDRESS, NUMBER, URL = "0x[0-9a-fA-F]{40}", "[0-9]+", r"http://[a-z0-9.]+:[0-9]+"
_CONTRACTS = ("DECRYPTION", "KMS_GENERATION", "PROTOCOL_CONFIG", "GATEWAY_CONFIG")
FORMS = {
    "GATEWAY_URL": URL,
    "GATEWAY_CHAIN_ID": NUMBER,
    "ETHEREUM_URL": URL,
    "ETHEREUM_CHAIN_ID": NUMBER,
    "KMS_CORE_ENDPOINTS": f"{URL}(,{URL})*",
    "HOST_CHAINS": r"\[.*\]",
    "PRIVATE_KEY": "(0x)?[0-9a-f]{64}",
    "MONITORING_ENDPOINT": r"[0-9.]+:[0-9]+",
    "DECRYPTION_FROM_BLOCK_NUMBER": NUMBER,
    "KMS_OPERATION_FROM_BLOCK_NUMBER": NUMBER,
    "KEY_MANAGEMENT_POLLING": "[0-9]+(ms|s|m)",
    **{f"{name}_CONTRACT__ADDRESS": ADDRESS for name in _CONTRACTS},
    **{f"{name}_CONTRACT__DOMAIN_NAME": "[A-Za-z]+" for name in _CONTRACTS},
    **{f"{name}_CONTRACT__DOMAIN_VERSION": NUMBER for name in _CONTRACTS},
}
"""The 0.14 names that an emulator's file has something for, in the forms of its environment (fhevm-0.14.md, 9.1-9.4)."""
REQUIRED = {
    "GATEWAY_URL", "GATEWAY_CHAIN_ID", "ETHEREUM_URL", "ETHEREUM_CHAIN_ID", "KMS_CORE_ENDPOINTS", "HOST_CHAINS", "PRIVATE_KEY",
    *(f"{name}_CONTRACT__ADDRESS" for name in _CONTRACTS),
}  # fmt: skip
"""Without one of them a service of 0.14 does not start; its database is the caller's to name."""
OURS_ALONE = {"JOURNAL", "ALLOW_HTTP_BUCKETS", "ALLOW_PRIVATE_BUCKETS"}
"""Names that 0.14 does not know, and so ignores."""


@pytest.mark.parametrize("quick", [{}, QUICK])
def test_every_variable_has_the_form_of_0_14(tmp_path: Path, quick: dict[str, Any]) -> None:
    found = {
        name.removeprefix("KMS_CONNECTOR_"): value
        for name, value in variables(options_of(written(tmp_path, **quick))).items()
    }
    assert found.keys() - FORMS.keys() == OURS_ALONE
    assert found.keys() >= REQUIRED
    wrong = {
        name: value for name, value in found.items() if name in FORMS and not re.fullmatch(FORMS[name], value)
    }
    assert wrong == {}


def test_a_host_chain_is_an_object_with_a_text_a_number_and_a_text(config: Path) -> None:
    (host,) = json.loads(variables(options_of(config))["KMS_CONNECTOR_HOST_CHAINS"])
    assert {name: type(value) for name, value in host.items()} == {
        "url": str,
        "chain_id": int,
        "acl_address": str,
    }
    assert re.fullmatch(URL, host["url"])
    assert re.fullmatch(ADDRESS, host["acl_address"])


def test_another_connector_keeps_what_the_caller_says_beside(
    monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    monkeypatch.setenv("KMS_CONNECTOR_DATABASE_URL", "postgres://here")
    monkeypatch.setenv("KMS_CONNECTOR_GATEWAY_URL", "http://elsewhere")
    environment = Recipe("other").environment(options_of(config))
    assert environment["KMS_CONNECTOR_DATABASE_URL"] == "postgres://here"
    assert environment["KMS_CONNECTOR_GATEWAY_URL"] == "http://gateway:80"
    assert environment["KMS_CONNECTOR_GATEWAY_CHAIN_ID"] == "54321"
    assert environment["KMS_CONNECTOR_DECRYPTION_CONTRACT__DOMAIN_VERSION"] == "1"


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


def test_our_own_connector_reads_its_file_alone(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    monkeypatch.setenv("KMS_CONNECTOR_GATEWAY_CHAIN_ID", "1")
    environment = Recipe().environment(options_of(config))
    assert not [name for name in environment if name.startswith("KMS_CONNECTOR_")]


def test_another_checkout_is_found_by_its_path(config: Path) -> None:
    environment = Recipe(python_path="there").environment(options_of(config))
    assert (environment["PYTHONPATH"], environment["PYTHONSAFEPATH"]) == ("there", "1")


def test_each_of_several_processes_has_the_shared_journal_and_addresses_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "connector.toml"
    config.write_text(
        'gateway_chain_id = 7\njournal = "sqlite:///a.db"\nmonitoring_endpoint = "127.0.0.1:9000"\n'
    )
    first, second = (of_process(config, number, "postgresql://db/k") for number in range(2))
    options = options_of(second)
    assert (options["gateway_chain_id"], options["journal"]) == (7, "postgresql://db/k")
    assert options["monitoring_endpoint"] == "127.0.0.1:0"
    assert options["control_socket"] != options_of(first)["control_socket"]
    assert log_of(first) != log_of(second)


def test_one_process_with_sqlite_reads_what_the_emulator_wrote(tmp_path: Path) -> None:
    assert of_process(tmp_path / "connector.toml", 0, None) == tmp_path / "connector.toml"
