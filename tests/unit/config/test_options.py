"""The table of options."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from kmsconn.config.description import environment_name, fields_of
from kmsconn.config.forms import duration_text
from kmsconn.config.httpz import HTTPZ_RC7
from kmsconn.config.options import ACCEPTED, ALIASES, DESCRIBED, FHEVM, OPTIONS, ExplainedOption, explain
from kmsconn.config.parties import Chains, WalletSettings
from kmsconn.config.settings import GROUP_OF, GROUPS, Settings
from kmsconn.config.sources import GENERATIONS, load_config, read_sources
from kmsconn.ethereum.mnemonics import TEST_PHRASE
from kmsconn.model import requests
from tests.unit.config import test_httpz_config as httpz
from tests.unit.config.sample_values import ACL, ADDRESS, COMPLETE, KEY, OTHER_KEY, write_toml
from tests.unit.config.test_presets import DIGEST, HERE, key_file
from tests.unit.config.test_wallets import FILE
from tests.unit.transport.test_aws import write_pair
from tools.options_reference import EXAMPLES, meanings, reference, sample

# Every field of fhevm-0.14.md, sections 9.1 to 9.4, and those that annex C renames or adds.
NAMES_OF_0_14 = (
    "database_url database_pool_size gateway_url gateway_chain_id ethereum_url ethereum_chain_id "
    "decryption_contract.address decryption_contract.domain_name decryption_contract.domain_version "
    "kms_generation_contract.address kms_generation_contract.domain_name "
    "kms_generation_contract.domain_version protocol_config_contract.address "
    "protocol_config_contract.domain_name protocol_config_contract.domain_version service_name task_limit "
    "monitoring_endpoint healthcheck_timeout decryption_polling key_management_polling "
    "get_logs_batch_size max_consecutive_polling_errors decryption_from_block_number "
    "kms_operation_from_block_number gateway_config_contract.address gateway_config_contract.domain_name "
    "gateway_config_contract.domain_version kms_core_endpoints host_chains db_fast_event_polling "
    "db_long_event_polling events_batch_size grpc_request_retries max_decryption_attempts "
    "s3_ciphertext_retrieval_retries s3_connect_timeout erc1271_gas_limit ct_attestation.enabled "
    "ct_attestation.head_timeout ct_attestation.registry_refresh grpc_poll_interval private_key "
    "aws_kms_config.key_id aws_kms_config.region aws_kms_config.endpoint database_polling_timeout "
    "responses_batch_size tx_retries tx_retry_interval trace_reverted_tx gas_multiplier_percent "
    "ethereum_tx_required_confirmations ethereum_tx_get_receipt_timeout operation_recovery_run_interval "
    "decryption_expiry operation_under_process_timeout gauge_update_interval "
).split()
NAMES_OF_0_15 = (
    "s3_ciphertext_retrieval_attempts s3_head_timeout s3_get_timeout s3_max_concurrent_heads_per_bucket "
    "s3_max_concurrent_gets s3_max_ciphertext_size copro_registry_refresh host_rpc_max_concurrent_calls "
    "host_rpc_call_timeout "
).split()


@pytest.mark.parametrize("name", NAMES_OF_0_14 + NAMES_OF_0_15)
def test_every_name_of_the_three_services_is_known_once(name: str) -> None:
    assert sum(name in table for table in (OPTIONS, ALIASES, ACCEPTED)) == 1


def test_every_option_is_described_in_a_sentence_with_an_example_or_a_default() -> None:
    assert DESCRIBED.keys() - OPTIONS.keys() - HTTPZ_RC7.options.keys() == set()
    assert [name for name in OPTIONS if not re.fullmatch(r"[A-Z`].*\.", meanings(FHEVM)[name])] == []
    assert [name for name, option in OPTIONS.items() if name not in EXAMPLES and option.default is None] == []
    assert [name for name in OPTIONS if f"| `{name}` |" not in reference()] == []
    assert {alias.option for alias in ALIASES.values()} <= OPTIONS.keys()


def test_every_field_of_the_settings_says_how_it_is_read() -> None:
    """The chains and the wallet are made as a whole."""
    silent = GROUP_OF.keys() - {field.name for group in GROUPS.values() for field in fields_of(group)}
    whole = {field.name for group in (Chains, WalletSettings) for field in attrs.fields(group)}
    assert silent - whole == {"tracing"}


def test_nesting_is_two_underscores_in_the_environment() -> None:
    assert environment_name("ct_attestation.head_timeout") == "KMS_CONNECTOR_CT_ATTESTATION__HEAD_TIMEOUT"


def test_a_message_names_options_as_their_generation_does() -> None:
    said = "check kms_core_endpoints, decryption_contract.address and host_chains[0].url (gateway_url)"
    assert FHEVM.in_own_words(said) == said
    assert HTTPZ_RC7.in_own_words(said) == (
        "check kms_core_endpoint, decryption_manager_address and host_chains[0].url (gwl2_url)"
    )


def explained(
    folder: Path, changes: dict[str, Any] | None = None, **environ: str
) -> dict[str, ExplainedOption]:
    """Explain the complete configuration with changes, by option."""
    reading = read_sources(write_toml(folder, changes), environ=environ)
    rows = explain(reading.table, reading.findings.given, reading.values, "kmsconn.toml")
    return {row.name: row for row in rows}


def test_every_option_is_explained_by_its_value_and_where_that_comes_from(tmp_path: Path) -> None:
    rows = explained(tmp_path, {"gateway_chain_id": None}, KMS_CONNECTOR_DECRYPTION_POLLING="250ms")
    found = {name: (row.value, row.source) for name, row in rows.items()}
    assert found["ethereum_chain_id"] == ("11155111", "kmsconn.toml")
    assert found["decryption_polling"] == ("250ms", "KMS_CONNECTOR_DECRYPTION_POLLING")
    assert found["gateway_chain_id"] == ("–", "not set")
    assert found["roles"] == ("hear, work, send", "default")
    assert rows["pools.aborts"].variable == "KMS_CONNECTOR_POOLS__ABORTS"
    assert len(rows) > 60


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gateway_url": "https://user:hunter2@node/hunter2?key=hunter2"},
        {"host_chains": [{"url": "https://hunter2@node/hunter2", "chain_id": 5, "acl_address": ACL}]},
        {"aws_kms_config.key_id": "hunter2"},
    ],
)
def test_no_row_shows_a_secret(tmp_path: Path, changes: dict[str, Any]) -> None:
    printed = str(list(explained(tmp_path, changes).values()))
    assert KEY not in printed
    if "aws_kms_config.key_id" not in changes:
        assert "hunter2" not in printed


DOCS = Path(__file__).parents[3] / "docs"


def test_the_sample_loads_once_a_wallet_is_given() -> None:
    settings = load_config(DOCS / "kmsconn.sample.toml", environ={"KMS_CONNECTOR_PRIVATE_KEY": KEY})
    assert settings.warnings == ()


def test_the_defaults_in_the_sample_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every commented default switched on the settings stay the same; a default path begins in the working directory."""
    monkeypatch.chdir(tmp_path)
    environ = {"KMS_CONNECTOR_PRIVATE_KEY": KEY}
    without_default = "|".join(re.escape(name) for name, option in OPTIONS.items() if option.default is None)
    path = tmp_path / "all.toml"
    path.write_text(re.sub(rf"^#(?! |{without_default})", "", sample(), flags=re.MULTILINE), encoding="utf-8")
    assert load_config(path.name, environ=environ) == load_config(
        DOCS / "kmsconn.sample.toml", environ=environ
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500ms"), (3.0, "3s"), (90.0, "90s"), (300.0, "5m"), (86400.0, "24h")]
)
def test_durations_are_printed_in_their_largest_whole_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


Values = dict[str, Any]
_BASES: Final[dict[str, Values]] = {
    requests.FHEVM: COMPLETE,
    requests.HTTPZ_RC7: {**httpz.LEAST, "mnemonic": None, "private_key": KEY, "profile": requests.HTTPZ_RC7},
}
_PERMISSIONS: Final = {"allow_raw_key_on_mainnet", "http_without_keys"}
"""They turn a fault off, and are nothing afterwards."""
_ADDRESS: Final = "0x" + "ab" * 20
_CONTRACTS: Final = ("decryption", "gateway_config", "protocol_config", "kms_generation")
_POOLS: Final = (
    "public_decryption user_decryption http_public_decryption http_user_decryption key_generation aborts protocol_config"
).split()
_ALONE: Final[Values] = {
    "gateway_url": "http://127.0.0.1:1", "gateway_ws_url": "ws://127.0.0.1:1", "gateway_chain_id": 5, "gwl2_url": "ws://127.0.0.1:1",
    "ethereum_url": "http://127.0.0.1:1", "ethereum_ws_url": "ws://127.0.0.1:1", "ethereum_chain_id": 5, "chain_id": 5,
    "host_chains": [{**COMPLETE["host_chains"][0], "chain_id": 5}], "key_management_at_finality": False,
    **{f"{name}_contract.address": _ADDRESS for name in _CONTRACTS},
    **{f"{name}_contract.domain_{part}": "9" for name in _CONTRACTS for part in ("name", "version")},
    **{f"{name}_address": _ADDRESS for name in ("decryption_manager", "httpz", "key_manager", "tx_sender")},
    **{f"{name}_domain_{part}": "9" for name in ("decryption_manager", "httpz") for part in ("name", "version")},
    "kms_core_endpoints": ["http://127.0.0.1:1"], "kms_core_endpoint": "http://127.0.0.1:1", "core_reply_budget": 7,
    "plaintext_encoding": "raw", "tolerant_digests": True, "preprocessing": False, "fhe_parameters": {"0x" + "ab" * 32: 7},
    "private_key": OTHER_KEY, "tx_sender_address": ADDRESS, "mode": "shadow", "journal": "sqlite:///other.db",
    "retention.contents": "0s", "retention.rows": "0s", "control_socket": "other.sock", "audit_log": "other.jsonl",
    "service_name": "other", "monitoring_endpoint": "127.0.0.1:7", "status_page": "off", "healthcheck_timeout": "7s",
    "log_level": "debug", "log_format": "json", "drain_grace": "0s", "decryption_polling": "7s", "key_management_polling": "7s",
    "get_logs_batch_size": 7, "reorg_window": "7s", "decryption_from_block_number": 7, "kms_operation_from_block_number": 7,
    "compressed_key_sets": "true", "preprocessing_ids": {f"0x04{7:062x}": f"0x03{9:062x}"},
    **{f"pools.{name}": 7 for name in _POOLS}, **{f"deadlines.{name}": "7s" for name in ("check", "gather", "submit", "answer")},
    "decryption_expiry": "7s", "erc1271_gas_limit": 7, "http_endpoint": HERE, "s3_connect_timeout": "7s", "max_ciphertext_size": 7,
    "ciphertext_budget": 7, "attestation": "off", "ct_attestation.head_timeout": "7s", "ct_attestation.registry_refresh": "7s",
    "allow_http_buckets": True, "allow_private_buckets": True, "gas_multiplier_percent": 777, "trace_reverted_tx": False,
    "ethereum_tx_required_confirmations": 7, "gateway_tx_required_confirmations": 7, "ethereum_tx_get_receipt_timeout": "7s",
    "max_fee_per_gas": 7, "max_priority_fee_per_gas": 7, "max_reply_cost": 7,
}  # fmt: skip
"""Options that mean something by themselves."""


def beside_others(folder: Path) -> list[tuple[Values, Values]]:
    """Return what other options need beside them, with their changes; one dictionary of several options changes them together."""
    pair = write_pair(folder, datetime(2099, 1, 31, tzinfo=UTC))
    for name, content in (
        ("key", OTHER_KEY),
        ("token", "t" * 16),
        ("password", "secret"),
        ("ca", ""),
        ("own", ""),
        ("other", ""),
    ):
        (folder / name).write_text(content)
    (folder / "signing_key").write_bytes(FILE)
    no_wallet, http, bucket = (
        {"private_key": None},
        {"http_endpoint": HERE},
        {"s3_config.region": "a", "s3_config.bucket": "a"},
    )
    postgres, aws = {"journal": "postgresql://a@127.0.0.1/a"}, {**no_wallet, "aws_kms_config.key_id": "a"}
    two_chains = {
        **http,
        "host_chains": [*COMPLETE["host_chains"], {**COMPLETE["host_chains"][0], "chain_id": 5}],
    }
    own = {f"core_tls.{name}_file": str(folder / "own") for name in ("certificate", "key")}
    by_network = {
        name: None for name in COMPLETE if name.endswith(("chain_id", "contract.address", "host_chains"))
    }
    return [
        ({}, {**by_network, "kms_generation_contract.address": _ADDRESS, "network": "devnet"}),
        ({}, {**no_wallet, "private_key_file": str(folder / "key")}), ({}, {**no_wallet, "signing_key_path": str(folder / "signing_key")}),
        ({}, {**no_wallet, "mnemonic": TEST_PHRASE}), ({**no_wallet, "mnemonic": TEST_PHRASE}, {"account_index": 7}),
        *((aws, {f"aws_kms_config.{name}": value}) for name, value in (("key_id", "b"), ("region", "b"), ("endpoint", "https://b"))),
        ({}, {"core_tls.ca_file": str(folder / "ca")}), *((own, {name: str(folder / "other")}) for name in own),
        *((postgres, {name: value}) for name, value in (("database_pool_size", 7), ("lease", "7s"), ("roles", ["hear", "send"]))),
        (postgres, {"journal_password_file": str(folder / "password")}), ({}, {"status_page_token_file": str(folder / "token")}),
        (http, {"tls_config.cert_path": str(pair.cert_path), "tls_config.key_path": str(pair.key_path)}),
        *((http, {name: value}) for name, value in (("api_key_digest", DIGEST), ("api_keys_file", key_file(folder)))),
        *((http, {name: 7}) for name in ("max_in_flight_decryptions", "max_body_bytes", "max_allowed_contracts")),
        (http, {"max_decryption_request_bits": 7}), (http, {"decryption_timeout": "7s"}), (two_chains, {"supported_chain_ids": [5]}),
        *((bucket, {f"s3_config.{name}": value}) for name, value in (("region", "b"), ("bucket", "b"), ("endpoint", "https://b"))),
    ]  # fmt: skip


def load(folder: Path, values: Values) -> Settings:
    return load_config(
        httpz.write(folder, {name: value for name, value in values.items() if value is not None}), environ={}
    )


@pytest.mark.parametrize("profile", requests.PROFILES)
def test_every_option_is_found_in_the_settings(profile: str, tmp_path: Path) -> None:
    known, dead = GENERATIONS[profile].table.options.keys(), []
    changes = [
        *((dict[str, Any](), {name: value}) for name, value in _ALONE.items()),
        *beside_others(tmp_path),
    ]
    ours = [(beside, change) for beside, change in changes if {*beside, *change} <= known]
    for beside, change in ours:
        base = {**_BASES[profile], **beside}
        if load(tmp_path, {**base, **change}) == load(tmp_path, base):
            dead.append(list(change))
    assert dead == []
    assert {name for _, change in ours for name in change} == known - _PERMISSIONS - {"profile"}
