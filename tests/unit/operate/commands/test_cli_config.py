"""``kmsconn config``: one file out of three, and each value with its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kmsconn.config.sources import load_config
from kmsconn.operate.commands.main import main
from tests.unit.config.sample_values import ACL, ADDRESS, KEY, toml_text, write_toml
from tests.unit.config.test_sources import environment_form

CONTRACTS = {
    "decryption_contract": "0x5D8BD78e2ea6bbE41f26dFe9fdaEAa349e077478",
    "gateway_config_contract": "0x94153006067B89399e059284f5a7Fe016940E332",
    "protocol_config_contract": "0x51f9AFBc89Ea792e1a21a12AB802ab58D4dbee83",
    "kms_generation_contract": "0x77389113d7000EcBCfc2bDed57202f5f46109934",
}
COMMON: dict[str, Any] = {
    "database_url": "postgres://postgres:postgres@localhost/kms-connector",
    "database_pool_size": 16,
    "gateway_url": "http://localhost:8545",
    "gateway_chain_id": 54321,
    "ethereum_url": "http://localhost:8546",
    "ethereum_chain_id": 11155111,
    "monitoring_endpoint": "0.0.0.0:9100",
    "healthcheck_timeout": "3s",
    "task_limit": 1000,
}


def contracts(*names: str, **more: str) -> dict[str, Any]:
    return {
        f"{name}.{key}": value
        for name in names
        for key, value in {"address": CONTRACTS[name], "domain_version": "1", **more}.items()
    }


SERVICES: dict[str, dict[str, Any]] = {
    "gw-listener": {
        **COMMON,
        "service_name": "kms-connector-gw-listener",
        "decryption_polling": "500ms",
        "key_management_polling": "30s",
        "get_logs_batch_size": 100,
        "max_consecutive_polling_errors": 20,
        "decryption_from_block_number": 1234,
        "kms_operation_from_block_number": 1234,
        **contracts("decryption_contract", "kms_generation_contract", "protocol_config_contract"),
    },
    "kms-worker": {
        **COMMON,
        "service_name": "kms-connector-kms-worker",
        "kms_core_endpoints": ["http://localhost:50051"],
        "db_fast_event_polling": "3s",
        "db_long_event_polling": "60s",
        "events_batch_size": 50,
        "grpc_request_retries": 3,
        "grpc_poll_interval": "1s",
        "max_decryption_attempts": 20,
        "s3_ciphertext_retrieval_retries": 3,
        "s3_connect_timeout": "3s",
        "erc1271_gas_limit": 250000,
        "ct_attestation.enabled": True,
        "ct_attestation.head_timeout": "5s",
        "ct_attestation.registry_refresh": "60s",
        **contracts(*CONTRACTS),
        "host_chains": [{"url": "http://localhost:8545", "chain_id": 12345, "acl_address": ACL}],
    },
    "tx-sender": {
        **COMMON,
        "service_name": "kms-connector-tx-sender",
        "private_key": KEY,
        "database_polling_timeout": "5s",
        "responses_batch_size": 50,
        "tx_retries": 4,
        "tx_retry_interval": "10ms",
        "trace_reverted_tx": True,
        "gas_multiplier_percent": 115,
        "ethereum_tx_required_confirmations": 64,
        "ethereum_tx_get_receipt_timeout": "20m",
        "operation_recovery_run_interval": "5m",
        "decryption_expiry": "24h",
        "operation_under_process_timeout": "6m",
        "gauge_update_interval": "10s",
        **contracts("decryption_contract", "kms_generation_contract", "protocol_config_contract"),
    },
}
"""Every option of the three services (fhevm-0.14.md 9.1 to 9.4), with the values of its sample files."""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})


def services(folder: Path) -> list[str]:
    """Write the three files and return their paths."""
    paths = []
    for name, options in SERVICES.items():
        path = folder / f"{name}.toml"
        path.write_text("\n".join(f"{key} = {toml_text(value)}" for key, value in options.items()))
        path.chmod(0o600)
        paths.append(str(path))
    return paths


def test_the_three_files_of_0_14_become_one_without_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "kmsconn.toml"
    assert main(["config", "import", *services(tmp_path), "-o", str(output)]) == 0
    settings = load_config(output, environ={})
    assert settings.warnings == ()
    printed = capsys.readouterr()
    assert printed.out.count(" is dropped: ") == sum(map(dropped, SERVICES.values()))
    assert output.stat().st_mode & 0o777 == 0o600, "the file with the key is its owner's alone"
    assert KEY in output.read_text()
    assert KEY not in printed.out + printed.err


def dropped(options: dict[str, Any]) -> int:
    """Return how many options of a file have no meaning here."""
    return len(
        options.keys()
        & {
            "service_name", "database_url", "database_pool_size", "task_limit", "max_consecutive_polling_errors",
            "db_fast_event_polling", "db_long_event_polling", "events_batch_size", "grpc_request_retries", "grpc_poll_interval",
            "max_decryption_attempts", "s3_ciphertext_retrieval_retries", "database_polling_timeout", "responses_batch_size",
            "tx_retries", "tx_retry_interval", "operation_recovery_run_interval", "operation_under_process_timeout",
            "gauge_update_interval",
        }
    )  # fmt: skip


def test_a_single_file_of_0_14_starts_nothing_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "-c", services(tmp_path)[0]]) == 2
    printed = capsys.readouterr().err
    assert "kms_core_endpoints: is required" in printed
    assert "unknown" not in printed


def test_the_variables_of_the_three_services_start_a_connector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chart sets the variables of all three, names of other versions among them."""
    together = {name: value for options in SERVICES.values() for name, value in options.items()}
    stray = {
        "VERIFY_COPROCESSORS": "true",
        "S3_CONFIG__BUCKET": "b",
        "DECRYPTION_DOMAIN_VERSION": "1",
        "SIGNER_ADDRESS": "",
    }
    environ = {
        f"KMS_CONNECTOR_{name.upper().replace('.', '__')}": environment_form(value)
        for name, value in together.items()
    }
    monkeypatch.setattr(
        "os.environ", environ | {f"KMS_CONNECTOR_{name}": value for name, value in stray.items()}
    )
    assert main(["validate"]) == 0
    printed = capsys.readouterr().out
    assert ADDRESS in printed
    assert "KMS_CONNECTOR_VERIFY_COPROCESSORS: is unknown" in printed
    assert "the configuration is valid" in printed


def test_a_file_that_is_there_is_kept_unless_it_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "kmsconn.toml"
    output.write_text("kept")
    command = ["config", "import", *services(tmp_path), "-o", str(output)]
    assert main(command) == 2
    assert "is there already; name another file, or add --force" in capsys.readouterr().err
    assert output.read_text() == "kept"
    assert main([*command, "--force"]) == 0


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = [str(tmp_path / "a.toml"), str(tmp_path / "b.toml")]
    assert main(["config", "import", *missing, "-o", str(tmp_path / "out.toml")]) == 2
    printed = capsys.readouterr().err
    assert all(path in printed for path in missing)


def test_explain_prints_what_was_set_and_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {"KMS_CONNECTOR_LOG_LEVEL": "debug"})
    path = write_toml(tmp_path)
    assert main(["config", "explain", "-c", str(path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["log_level"].split()[1:] == ["debug", *["KMS_CONNECTOR_LOG_LEVEL"] * 2]
    assert str(path) in lines["gateway_chain_id"]
    assert "log_format" not in lines
    main(["config", "explain", "--all", "-c", str(path)])
    assert "log_format" in capsys.readouterr().out, "all: the defaults, too"


def test_explain_shows_a_faulty_configuration_and_its_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "explain", "-c", str(write_toml(tmp_path, {"gateway_chain_id": "x"}))]) == 2
    printed = capsys.readouterr()
    assert "gateway_url" in printed.out
    assert "gateway_chain_id: must be a whole number" in printed.err
