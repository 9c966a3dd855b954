"""The configuration of httpz-rc7: every row of its tables 6.1 and 6.3, from file, environment and default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from kmsconn.config.description import AttestationMode, AwsKmsKey, Secret, environment_name
from kmsconn.config.httpz import HTTPZ_RC7
from kmsconn.config.parties import S3Fallback
from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.mnemonics import TEST_PHRASE, key_of_phrase
from kmsconn.ethereum.signing import PrivateKey
from tests.unit.config.sample_values import KEY, toml_text
from tests.unit.config.test_wallets import FILE

PROFILE = {"KMS_CONNECTOR_PROFILE": "httpz-rc7"}
MANAGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
LEAST: dict[str, Any] = {
    "gwl2_url": "ws://127.0.0.1:8545",
    "kms_core_endpoint": "http://127.0.0.1:50052",
    "mnemonic": TEST_PHRASE,
    "chain_id": 31337,
    "decryption_manager_address": MANAGER,
    "httpz_address": "0x0000000000000000000000000000000000000001",
}
"""The six keys that a file needs (6.1)."""


def write(folder: Path, options: dict[str, Any]) -> Path:
    path = folder / "kms-connector.toml"
    path.write_text("\n".join(f"{name} = {toml_text(value)}" for name, value in options.items()))
    path.chmod(0o600)
    return path


def load(
    options: dict[str, Any], folder: Path, environ: dict[str, str] | None = None, **how: Any
) -> Settings:
    return load_config(write(folder, options), environ={**PROFILE, **(environ or {})}, **how)


def start(environ: dict[str, str] | None = None, **how: Any) -> Settings:
    """Load from the environment alone."""
    wallet = {"KMS_CONNECTOR_PRIVATE_KEY": KEY}
    return load_config(environ={**PROFILE, **wallet, **(environ or {})}, **how)


def faults(load: Callable[[], Settings]) -> dict[str, Fault]:
    with pytest.raises(ConfigError) as refused:
        load()
    return {fault.place: fault for fault in refused.value.faults}


def warnings(settings: Settings) -> dict[str, str]:
    return {warning.place: warning.message for warning in settings.warnings}


def text(value: Any) -> Any:
    return checksum(value) if isinstance(value, bytes) else value


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths start at the working directory; a signing key file lies there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signing_key").write_bytes(FILE)


# --- 6.1: what each key becomes


ROWS: list[tuple[str, Callable[[Settings], Any], Any, Any]] = [
    # key, where it is found, default, another value
    ("gwl2_url", lambda s: s.chains.gateway.urls[0], "ws://localhost:8545", "wss://gateway.example:1"),
    ("kms_core_endpoint", lambda s: s.core.core_endpoints[0], "http://[::1]:50052", "http://10.0.0.1:7"),
    ("chain_id", lambda s: s.chains.gateway.chain_id, 31337, 54321),
    (
        "decryption_manager_address",
        lambda s: text(s.protocol.decryption_contract.address),
        MANAGER,
        "0x" + "ab" * 20,
    ),
    (
        "httpz_address",
        lambda s: s.protocol.gateway_config_contract.address.hex(),
        "00" * 19 + "01",
        "0x" + "cd" * 20,
    ),
    ("service_name", lambda s: s.monitoring.service_name, "kms-connector", "kms-connector-7"),
    (
        "decryption_manager_domain_name",
        lambda s: s.protocol.decryption_contract.domain_name,
        "DecryptionManager",
        "X",
    ),
    ("decryption_manager_domain_version", lambda s: s.protocol.decryption_contract.domain_version, "1", "2"),
    ("httpz_domain_name", lambda s: s.protocol.gateway_config_contract.domain_name, "HTTPZ", "Y"),
    ("httpz_domain_version", lambda s: s.protocol.gateway_config_contract.domain_version, "1", "3"),
]


def expected(value: Any, found: Any) -> Any:
    """Return a value as it is found: addresses are shown in another way."""
    return found if isinstance(value, str) and str(found).lower() in value.lower() else value


@pytest.mark.parametrize(("key", "found", "default", "other"), ROWS, ids=[row[0] for row in ROWS])
def test_a_key_has_its_default_and_is_set_by_file_and_variable(
    key: str, found: Callable[[Settings], Any], default: Any, other: Any, tmp_path: Path
) -> None:
    assert found(start()) == default
    from_file = found(load({**LEAST, key: other}, tmp_path))
    assert from_file == expected(other, from_file)
    assert from_file != default
    from_variable = found(load(LEAST, tmp_path, {environment_name(key): str(other)}))
    assert from_variable == from_file


def address_of(settings: Settings) -> str:
    assert settings.wallet.private_key is not None
    return checksum(PrivateKey.parse(settings.wallet.private_key.reveal()).address)


WALLETS: list[tuple[str, str, Any]] = [
    ("mnemonic", TEST_PHRASE, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    (
        "private_key",
        "0x0x8da4ef21b864d2cc526dbdb2a120bd2874c36c9d0a1fb7f8c63d7f7a8b41de8f",
        "0x63FaC9201494f0bd17B9892B9fae4d52fe3BD377",
    ),
    (
        "private_key",
        "8da4ef21b864d2cc526dbdb2a120bd2874c36c9d0a1fb7f8c63d7f7a8b41de8f",
        "0x63FaC9201494f0bd17B9892B9fae4d52fe3BD377",
    ),
    ("signing_key_path", "signing_key", "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"),
]


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("by_variable", [False, True])
@pytest.mark.parametrize(("key", "value", "address"), WALLETS)
def test_a_wallet_by_file_and_by_variable(
    key: str, value: str, address: str, by_variable: bool, tmp_path: Path
) -> None:
    least = {name: one for name, one in LEAST.items() if name != "mnemonic"}
    given = {environment_name(key): value}
    settings = load(least, tmp_path, given) if by_variable else load({**least, key: value}, tmp_path)
    assert address_of(settings) == address


def test_the_name_of_the_command_line_moves_the_account(tmp_path: Path) -> None:
    settings = load({**LEAST, "service_name": "kms-connector-1"}, tmp_path, service_name="kms-connector-2")
    assert settings.monitoring.service_name == "kms-connector-2"
    assert address_of(settings) == "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


@pytest.mark.parametrize(
    ("name", "first", "found", "made"),
    [
        ("s3_config", "bucket", lambda settings: settings.protocol.httpz.s3, S3Fallback("eu-west-1", "x", "http://127.0.0.1:9")),
        ("aws_kms_config", "key_id", lambda settings: settings.wallet.aws_kms, AwsKmsKey("x", "eu-west-1", "http://127.0.0.1:9")),
    ],
)  # fmt: skip
def test_a_table_by_file_and_by_variable(
    name: str, first: str, found: Callable[[Settings], Any], made: Any, tmp_path: Path
) -> None:
    table = {first: "x", "region": "eu-west-1", "endpoint": "http://127.0.0.1:9"}
    variables = {environment_name(f"{name}.{member}"): value for member, value in table.items()}
    assert found(load({**LEAST, name: table}, tmp_path)) == made
    assert found(load(LEAST, tmp_path, variables)) == made
    moved = {environment_name(f"{name}.region"): "us-east-1"}
    assert found(load({**LEAST, name: table}, tmp_path, moved)) == attrs.evolve(made, region="us-east-1")


@pytest.mark.parametrize(
    ("missing", "given"),
    [
        ("s3_config.bucket", "S3_CONFIG__REGION"),
        ("s3_config.region", "S3_CONFIG__BUCKET"),
        ("aws_kms_config.key_id", "AWS_KMS_CONFIG__REGION"),
    ],
)
def test_a_table_of_variables_needs_its_required_members(missing: str, given: str) -> None:
    assert list(faults(lambda: start({f"KMS_CONNECTOR_{given}": "x"}))) == [missing]


ACCEPTED: list[tuple[str, Any]] = [
    ("channel_size", 1000),
    ("decryption_timeout_secs", 300),
    ("reencryption_timeout_secs", 300),
    ("retry_interval_secs", 5),
    ("verify_coprocessors", True),
]


@pytest.mark.parametrize(("key", "value"), ACCEPTED)
def test_a_key_without_meaning_here_is_accepted_and_says_what_takes_its_place(
    key: str, value: Any, tmp_path: Path
) -> None:
    assert warnings(load({**LEAST, key: value}, tmp_path))[key] == "has no effect"
    assert environment_name(key) in warnings(load(LEAST, tmp_path, {environment_name(key): str(value)}))


@pytest.mark.parametrize(("key", "value"), [*((key, "many") for key, _ in ACCEPTED), ("channel_size", 0)])
def test_a_key_without_meaning_is_judged_all_the_same(key: str, value: Any, tmp_path: Path) -> None:
    assert list(faults(lambda: load({**LEAST, key: value}, tmp_path))) == [key]


def test_every_key_of_the_table_has_its_test() -> None:
    keys = {row[0] for row in ROWS} | {row[0] for row in WALLETS} | {key for key, _ in ACCEPTED}
    tables = {name for name in HTTPZ_RC7.options if name.partition(".")[0] in {"s3_config", "aws_kms_config"}}
    assert len(keys | {"account_index"} | tables) == 25  # the rows of 6.1


# --- the settings as a whole


def test_one_gateway_has_it_all() -> None:
    settings = start()
    assert settings.protocol.profile == "httpz-rc7"
    assert settings.chains.ethereum == settings.chains.gateway
    assert settings.chains.host_chains == ()
    assert settings.protocol.protocol_config_contract == settings.protocol.gateway_config_contract
    assert (
        settings.protocol.kms_generation_contract.address == settings.protocol.gateway_config_contract.address
    )
    assert settings.ciphertexts.attestation is AttestationMode.OFF


def test_the_file_may_name_the_generation_itself_and_the_environment_wins(tmp_path: Path) -> None:
    path = write(tmp_path, {"profile": "httpz-rc7", **LEAST})
    assert load_config(path, environ={}).protocol.profile == "httpz-rc7"
    path = write(tmp_path, {"profile": "fhevm", **LEAST})
    assert load_config(path, environ=PROFILE).protocol.profile == "httpz-rc7"


@pytest.mark.parametrize("name", ["fhevm-0.14", "FHEVM-0.15", "fhevm"])
def test_the_releases_of_fhevm_are_one_generation(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, {"profile": name})
    with pytest.raises(ConfigError) as refused:  # it is read by the options of fhevm, which are not set
        load_config(path, environ={})
    assert "ethereum_chain_id" in {fault.place for fault in refused.value.faults}
    assert "profile" not in {fault.place for fault in refused.value.faults}


def test_a_name_of_the_other_generation_is_unknown_and_nobody_is_sent_to_another_profile(
    tmp_path: Path,
) -> None:
    fault = faults(lambda: load_config(write(tmp_path, LEAST), environ={}))["gwl2_url"]
    assert (fault.message, "profile" in fault.remedy) == ("is unknown", False)


def test_a_key_that_fell_into_a_table_is_a_fault(tmp_path: Path) -> None:
    """The scoping trap of TOML, which the README sample of that generation stepped into."""
    path = write(tmp_path, LEAST)
    path.write_text(path.read_text() + '\n[aws_kms_config]\nkey_id = "x"\naccount_index = 2\n')
    assert list(faults(lambda: load_config(path, environ=PROFILE))) == ["aws_kms_config.account_index"]


def test_a_network_is_of_the_other_generation() -> None:
    assert list(faults(lambda: start(network="testnet"))) == ["--network"]


@pytest.mark.parametrize(("values", "warned"), [({}, False), ({"tolerant_digests": True}, True)])
def test_tolerance_is_warned_about_at_the_start(values: dict[str, Any], warned: bool, tmp_path: Path) -> None:
    assert ("tolerant_digests" in warnings(load({**LEAST, **values}, tmp_path))) is warned


def test_fhe_parameters_by_file_and_by_variable(tmp_path: Path) -> None:
    digest = "0x" + "ab" * 32
    assert load({**LEAST, "fhe_parameters": {digest: 1}}, tmp_path).protocol.httpz.fhe_parameters == {
        b"\xab" * 32: 1
    }
    as_json = {"KMS_CONNECTOR_FHE_PARAMETERS": f'{{"{digest}": 0}}'}
    assert start(as_json).protocol.httpz.fhe_parameters == {b"\xab" * 32: 0}


@pytest.mark.parametrize("value", ["x", "[]", '{"0x12": 1}', '{"0x%s": "many"}' % ("ab" * 32)])
def test_fhe_parameters_of_another_form_are_a_fault(value: str) -> None:
    assert list(faults(lambda: start({"KMS_CONNECTOR_FHE_PARAMETERS": value}))) == [
        "KMS_CONNECTOR_FHE_PARAMETERS"
    ]


@pytest.mark.parametrize("value", ["auto", "p1", "P3", "raw"])
def test_the_form_of_plaintexts_can_be_chosen(value: str) -> None:
    assert (
        start({"KMS_CONNECTOR_PLAINTEXT_ENCODING": value}).protocol.httpz.plaintext_encoding == value.lower()
    )


# --- 6.1: values of the environment


def test_variables_match_in_any_case_of_letters_and_that_of_the_directory_is_no_option() -> None:
    settings = start({"kms_connector_Chain_Id": "7", "KMS_CONNECTOR_CONFIG_DIR": "/somewhere"})
    assert settings.chains.gateway.chain_id == 7


@pytest.mark.parametrize(
    "key",
    [
        "PRIVATE_KEY",
        "SIGNING_KEY_PATH",
        "ACCOUNT_INDEX",
        "SERVICE_NAME",
        "S3_CONFIG__REGION",
        "AWS_KMS_CONFIG__KEY_ID",
    ],
)
def test_an_empty_variable_counts_as_unset(key: str) -> None:
    settings = load_config(
        environ={**PROFILE, "KMS_CONNECTOR_MNEMONIC": TEST_PHRASE, f"KMS_CONNECTOR_{key}": ""}
    )
    assert settings.wallet.private_key == Secret(key_of_phrase(TEST_PHRASE, 0).hex())
    assert settings.monitoring.service_name == "kms-connector"


# --- 6.2 and 6.3: a file judged alone


@pytest.mark.parametrize("key", LEAST)
def test_a_file_without_one_of_the_six_keys_is_not(key: str, tmp_path: Path) -> None:
    least = {name: value for name, value in LEAST.items() if name != key}
    [fault] = faults(lambda: load(least, tmp_path, alone=True)).values()
    assert key in str(fault)


def test_a_file_judged_alone_is_not_helped_by_the_environment(tmp_path: Path) -> None:
    least = {name: value for name, value in LEAST.items() if name != "chain_id"}
    environ = {"KMS_CONNECTOR_CHAIN_ID": "1", "KMS_CONNECTOR_SERVICE_NAME": "other"}
    assert list(faults(lambda: load(least, tmp_path, environ, alone=True))) == ["chain_id"]
    assert load(LEAST, tmp_path, environ, alone=True).monitoring.service_name == "kms-connector"


# --- 6.3: rules


@pytest.mark.parametrize(
    ("key", "contract"), [("decryption_manager_address", "DecryptionManager"), ("httpz_address", "HTTPZ")]
)
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (MANAGER[2:], "must start with 0x"),
        ("0X" + MANAGER[2:], "must start with 0x"),
        (MANAGER[:-1], "is no address of"),
        (MANAGER + "00", "is no address of"),
        ("0x" + "xy" * 20, "is no address of"),
    ],
)
def test_a_wrong_address_names_its_contract(
    key: str, contract: str, value: str, told: str, tmp_path: Path
) -> None:
    message = faults(lambda: load({**LEAST, key: value}, tmp_path))[key].message
    assert contract in message
    assert told in message


def test_the_case_of_an_address_is_not_checked(tmp_path: Path) -> None:
    wrong = MANAGER.swapcase().replace("0X", "0x")
    settings = load({**LEAST, "decryption_manager_address": wrong}, tmp_path)
    assert checksum(settings.protocol.decryption_contract.address) == MANAGER


@pytest.mark.parametrize("contract", ["decryption_manager", "httpz"])
@pytest.mark.parametrize("part", ["name", "version"])
def test_an_empty_domain_is_warned_about_and_the_default_used(
    contract: str, part: str, tmp_path: Path
) -> None:
    key = f"{contract}_domain_{part}"
    settings = load({**LEAST, key: ""}, tmp_path)
    default = HTTPZ_RC7.options[key].default
    assert warnings(settings)[key] == f"is empty: the default {default} is used"
    domain = (
        settings.protocol.decryption_contract
        if contract == "decryption_manager"
        else settings.protocol.gateway_config_contract
    )
    assert getattr(domain, f"domain_{part}") == default


@pytest.mark.parametrize("name", ["Näme", "two\nlines", "wake_up\a"])
def test_a_domain_that_encoders_may_read_differently_is_warned_about(name: str, tmp_path: Path) -> None:
    settings = load({**LEAST, "httpz_domain_name": name}, tmp_path)
    assert "EIP-712" in warnings(settings)["httpz_domain_name"]
    assert settings.protocol.gateway_config_contract.domain_name == name


@pytest.mark.parametrize(
    "key", ["gwl2_url", "kms_core_endpoint", "decryption_manager_address", "httpz_address", "chain_id"]
)
def test_an_empty_value_of_what_must_be_configured_is_a_fault(key: str, tmp_path: Path) -> None:
    assert "not configured" in faults(lambda: load({**LEAST, key: ""}, tmp_path))[key].message


@pytest.mark.parametrize(
    ("endpoint", "allowed", "warned"),
    [
        ("http://minio:9000", False, ["s3_config.endpoint"]),
        ("http://minio:9000", True, []),
        ("https://s3.example", False, []),
        (None, False, ["s3_config"]),
    ],
)
def test_a_bucket_that_is_not_asked_is_warned_about(
    endpoint: str | None, allowed: bool, warned: list[str], tmp_path: Path
) -> None:
    table = (
        {"s3_config": {"region": "us-east-1", "bucket": "ct128", "endpoint": endpoint}} if endpoint else {}
    )
    settings = load({**LEAST, **table, "allow_http_buckets": allowed}, tmp_path)
    assert (settings.protocol.httpz.s3 is None) == (endpoint is None)
    assert [place for place in warnings(settings) if "s3" in place] == warned


# --- 5.5: texts about private keys


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("zz" * 32, "invalid private key: a private key is 64 hex digits"),
        ("ab" * 31, "must be 32 bytes, 64 hex digits; these are 31"),
        ("00" * 32, "invalid private key"),
        ("ff" * 32, "invalid private key"),
    ],
)
def test_a_wrong_private_key_is_told_by_its_kind(key: str, told: str) -> None:
    [fault] = faults(lambda: start({"KMS_CONNECTOR_PRIVATE_KEY": key})).values()
    assert told in fault.message
    assert key not in str(fault)
