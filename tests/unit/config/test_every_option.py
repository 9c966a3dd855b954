"""Every option of both generations, set to another value, changes the settings: none is read and then forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from kmsconn.config.settings import Settings
from kmsconn.config.sources import GENERATIONS, load_config
from kmsconn.ethereum.mnemonics import TEST_PHRASE
from kmsconn.model import profiles
from tests.unit.config import test_httpz_config as httpz
from tests.unit.config.sample_values import ADDRESS, COMPLETE, KEY, OTHER_KEY
from tests.unit.config.test_http_api_options import DIGEST, HERE, key_file
from tests.unit.config.test_signing_key_file import FILE
from tests.unit.transport.test_certificates import write_pair

Values = dict[str, Any]

_BASES: Final[dict[str, Values]] = {
    profiles.FHEVM: COMPLETE,
    profiles.HTTPZ_RC7: {**httpz.LEAST, "mnemonic": None, "private_key": KEY, "profile": profiles.HTTPZ_RC7},
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


@pytest.mark.parametrize("profile", profiles.PROFILES)
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
