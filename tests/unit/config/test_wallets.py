"""Which wallet a configuration means, in both generations."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.config.assembly import read_signing_key
from kmsconn.config.description import AwsKmsKey, Secret
from kmsconn.config.options import Findings, Given
from kmsconn.config.settings import Settings
from kmsconn.config.wallets import account_index, find_wallet
from kmsconn.errors import ConfigError
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.mnemonics import TEST_PHRASE
from kmsconn.ethereum.signing import PrivateKey
from tests.unit.config.sample_values import (
    ADDRESS,
    KEY,
    OTHER_ADDRESS,
    OTHER_KEY,
    faults_of,
    load,
    warnings_of,
)

PHRASE = "coyote sketch defense hover finger envelope celery urge panther venue verb cheese"
HEADER = "0300000000000000302e35000000000300000000000000302e310d00000000000000507269766174655369674b6579000000002000000000000000"


def signing_key_file(folder: Path, key: str = KEY, name: str = "signing_key") -> str:
    path = folder / name
    path.write_bytes(bytes.fromhex(HEADER + key))
    path.chmod(0o600)
    return str(path)


def address_of(settings: Settings) -> str:
    assert settings.wallet.private_key is not None
    return "0x" + PrivateKey.parse(settings.wallet.private_key.reveal()).address.hex()


def of_httpz(tmp_path: Path, **changes: Any) -> tuple[Any, Findings]:
    """Find the wallet as under httpz-rc7 among options of these values."""
    findings = Findings()
    values: dict[str, Any] = dict.fromkeys(
        "aws_kms_config.key_id aws_kms_config.region aws_kms_config.endpoint signing_key_path private_key private_key_file "
        "mnemonic account_index mode tx_sender_address".split()
    )
    values |= {"profile": "httpz-rc7", "service_name": "kms-connector", "allow_raw_key_on_mainnet": False}
    for short, value in changes.items():
        name = short.replace("aws_", "aws_kms_config.")
        values[name] = value
        findings.given[name] = Given(value, name, name)
    return find_wallet(values, findings, {}, {31337}), findings


# --- each source


NO_WALLET: dict[str, Any] = {"private_key": None}

# Changes → the option that is named, what is said of it, and what to do.
FAULTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no wallet": ({}, "private_key", "no wallet is configured", "private_key_file"),
    "a region of aws kms without its key": (
        {"aws_kms_config.region": "http://127.0.0.1:1"}, "aws_kms_config.key_id", "", "",
    ),
    "an endpoint of aws kms without its key": (
        {"aws_kms_config.endpoint": "http://127.0.0.1:1"}, "aws_kms_config.key_id", "", "",
    ),
    "a shadow without wallet and account": (
        {"mode": "shadow"}, "tx_sender_address", "", "set tx_sender_address",
    ),
    "an account that is not the wallet's": (
        {"private_key": KEY, "tx_sender_address": OTHER_ADDRESS}, "tx_sender_address", "and the wallet is", "",
    ),
    "an active connector with an account alone": (
        {"tx_sender_address": OTHER_ADDRESS}, "private_key", "no wallet is configured", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_a_wallet_that_is_missing_or_contradicted_is_a_fault(tmp_path: Path, case: Any) -> None:
    changes, option, said, remedy = case
    faults = faults_of(tmp_path, {**NO_WALLET, **changes})
    assert list(faults) == [option]
    assert said in faults[option].message
    assert remedy in faults[option].remedy


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x03", "no signing key file of the Core: the file ends within"),
        (bytes.fromhex(HEADER) + bytes(32), ""),
    ],
)
def test_a_signing_key_file_that_is_none_or_beyond_the_curve_is_named(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "signing_key"
    path.write_bytes(content)
    path.chmod(0o600)
    faults = faults_of(tmp_path, {"private_key": None, "signing_key_path": str(path)})
    assert list(faults) == ["signing_key_path"]
    assert told in faults["signing_key_path"].message


def test_the_test_phrase_is_warned_about_and_no_other(tmp_path: Path) -> None:
    warnings = warnings_of(tmp_path, {"private_key": None, "mnemonic": TEST_PHRASE})
    assert "whose keys are public" in warnings["mnemonic"].message
    assert warnings_of(tmp_path, {"private_key": None, "mnemonic": PHRASE}) == {}


@pytest.mark.parametrize(
    ("phrase", "which", "address"),
    [
        (PHRASE, {"account_index": 1}, "0xCf28E90D4A6dB23c34E1881aEF5fd9fF2e478634"),
        (TEST_PHRASE, {"service_name": "kms-connector-2"}, "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
    ],
)
def test_a_mnemonic_gives_the_key_of_its_account(
    tmp_path: Path, phrase: str, which: dict[str, Any], address: str
) -> None:
    settings = load(tmp_path, {"private_key": None, "mnemonic": phrase, **which})
    assert address_of(settings) == address.lower()


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("kms-connector", 0),
        ("kms-connector-3", 3),
        ("node-2x", 0),
        ("node7", 0),
        ("a-b-010", 10),
        ("-5", 5),
        ("a-4294967295", 2**32 - 1),
        ("a-4294967296", 0),
        ("a-٣", 0),
        ("", 0),
    ],
)
def test_the_account_is_the_number_after_the_last_dash(name: str, index: int) -> None:
    assert account_index({"account_index": None, "service_name": name}) == index
    assert account_index({"account_index": 1, "service_name": name}) == 1, "a given account comes first"


def test_a_wrong_mnemonic_is_named_and_no_word_of_it_told(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"private_key": None, "mnemonic": PHRASE.replace("coyote", "kojote")})
    assert list(faults) == ["mnemonic"]
    assert "Invalid mnemonic" in faults["mnemonic"].message
    assert not any(word in str(faults) for word in ["kojote", *PHRASE.split()[1:]])


def test_a_key_in_aws_kms_is_kept_as_its_name_only(tmp_path: Path) -> None:
    changes = {
        "private_key": None,
        "aws_kms_config.key_id": "alias/x",
        "aws_kms_config.region": "eu-west-1",
        "aws_kms_config.endpoint": "http://127.0.0.1:4566",
    }
    settings = load(tmp_path, changes)
    assert settings.wallet.private_key is None
    assert settings.wallet.aws_kms == AwsKmsKey("alias/x", "eu-west-1", "http://127.0.0.1:4566")


def test_settings_without_a_wallet_cannot_be_made(tmp_path: Path) -> None:
    settings = load(tmp_path)
    with pytest.raises(ValueError, match="one of the two"):
        settings.but(private_key=None)
    with pytest.raises(ValueError, match="one of the two"):
        settings.but(aws_kms=AwsKmsKey("alias/x"))


# --- two at once, under fhevm


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mnemonic", PHRASE),
        ("private_key_file", None),
        ("signing_key_path", None),
        ("aws_kms_config.key_id", "alias/x"),
    ],
)
def test_two_wallets_are_a_fault_that_names_both(tmp_path: Path, option: str, value: str | None) -> None:
    (tmp_path / "private_key_file").write_text(OTHER_KEY)
    signing_key_file(tmp_path, OTHER_KEY, "signing_key_path")
    fault = faults_of(tmp_path, {option: value or str(tmp_path / option)})["private_key"]
    named = {
        "mnemonic": "0x31De9c8ac5ECD5EacEddDdEE531e9BaD8AC9c2A5",
        "aws_kms_config.key_id": "an AWS KMS key by",
    }
    assert ADDRESS in fault.message
    assert named.get(option, OTHER_ADDRESS) in fault.message


def test_the_same_key_from_three_places_is_one_wallet(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    changes = {"signing_key_path": signing_key_file(tmp_path), "private_key_file": str(tmp_path / "key")}
    assert load(tmp_path, changes).wallet.private_key == Secret(KEY)


@pytest.mark.parametrize("option", ["mnemonic", "signing_key_path", "private_key_file"])
def test_a_wallet_that_cannot_be_used_is_not_replaced_by_another(tmp_path: Path, option: str) -> None:
    value = "no such phrase" if option == "mnemonic" else str(tmp_path / "absent")
    assert list(faults_of(tmp_path, {option: value})) == [option]


# --- order, under httpz-rc7


def test_the_order_of_httpz_is_aws_kms_then_key_file_then_hex_then_mnemonic(tmp_path: Path) -> None:
    everything: dict[str, Any] = {
        "aws_key_id": "alias/x",
        "signing_key_path": Path(signing_key_file(tmp_path, OTHER_KEY)),
        "private_key": Secret(KEY),
        "mnemonic": Secret(PHRASE),
    }
    found = []
    while everything:
        wallet, findings = of_httpz(tmp_path, **everything)
        assert findings.faults == []
        assert len(findings.warnings) == len(everything) - 1
        found.append(wallet)
        everything.pop(next(iter(everything)))
    assert found[:3] == [AwsKmsKey("alias/x"), Secret(OTHER_KEY), Secret(KEY)]
    assert PrivateKey.parse(found[3].reveal()).address.hex() == "31de9c8ac5ecd5eaceddddee531e9bad8ac9c2a5"


def test_only_the_source_in_use_is_read_under_httpz(tmp_path: Path) -> None:
    wallet, findings = of_httpz(tmp_path, private_key=Secret(KEY), mnemonic=Secret("no such phrase"))
    assert wallet == Secret(KEY)
    assert [str(warning) for warning in findings.warnings] == [
        "mnemonic: is not used: private_key comes first"
    ]


def test_no_wallet_and_a_first_source_that_cannot_be_used_are_faults_under_httpz_too(tmp_path: Path) -> None:
    wallet, findings = of_httpz(tmp_path, signing_key_path=tmp_path / "absent", private_key=Secret(KEY))
    assert (wallet, [fault.place for fault in findings.faults]) == (None, ["signing_key_path"])
    wallet, findings = of_httpz(tmp_path)
    assert (wallet, [fault.message for fault in findings.faults]) == (None, ["no wallet is configured"])


# --- main networks


MAINNET = [{"gateway_chain_id": 261131}, {"ethereum_chain_id": 1}]


@pytest.mark.parametrize("chain", MAINNET)
def test_a_raw_key_on_a_main_network_needs_leave_and_one_in_aws_kms_none(
    tmp_path: Path, chain: dict[str, Any]
) -> None:
    fault = faults_of(tmp_path, chain)["private_key"]
    assert "is a main network" in fault.message
    assert "allow_raw_key_on_mainnet" in fault.remedy
    assert load(tmp_path, {**chain, "allow_raw_key_on_mainnet": True}).wallet.private_key == Secret(KEY)
    settings = load(tmp_path, {**chain, "private_key": None, "aws_kms_config.key_id": "alias/x"})
    assert settings.wallet.aws_kms == AwsKmsKey("alias/x")


# --- secrets


@pytest.mark.parametrize(
    "changes",
    [
        {"private_key": "0x" + KEY},
        {"private_key": None, "mnemonic": PHRASE},
        {"private_key": KEY, "mnemonic": PHRASE},
        {"private_key": None, "mnemonic": PHRASE + " cheese"},
        {"private_key": KEY + "00"},
        {"private_key": KEY, "gateway_chain_id": 261131},
    ],
)
def test_no_secret_shows_in_settings_faults_or_tracebacks(tmp_path: Path, changes: dict[str, Any]) -> None:
    try:
        told = repr(load(tmp_path, changes))
    except ConfigError as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.faults)
    secrets = {KEY, "sketch", "panther", *_derived()}
    assert not [secret for secret in secrets if secret in told.lower()]


def _derived() -> set[str]:
    from kmsconn.ethereum.mnemonics import key_of_phrase

    return {key_of_phrase(PHRASE, 0).hex()}


def test_user_info_and_query_of_the_endpoint_of_aws_kms_do_not_show(tmp_path: Path) -> None:
    key = AwsKmsKey("alias/x", None, "http://user:hunter2@kms.example:1234/path?token=sesame")
    assert "http://kms.example:1234" in repr(key)
    assert not [secret for secret in ("hunter2", "sesame", "path") if secret in repr(key)]


# --- shadow mode


def test_a_shadow_needs_no_wallet_where_its_account_is_named(tmp_path: Path) -> None:
    """It signs nothing, and the address says whose replies it compares."""
    settings = load(tmp_path, {**NO_WALLET, "mode": "shadow", "tx_sender_address": OTHER_ADDRESS})
    assert not settings.wallet.can_sign
    assert settings.wallet.tx_sender_address == parse_address(OTHER_ADDRESS)


def key_file(folder: Path, content: str, mode: int = 0o600, name: str = "key") -> str:
    path = folder / name
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_a_key_file_and_a_systemd_credential_take_the_place_of_the_option(tmp_path: Path) -> None:
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(tmp_path, environ=credentials).wallet.private_key == Secret(KEY), "none is there"
    settings = load(tmp_path, {"private_key": None, "private_key_file": key_file(tmp_path, f"0x{KEY}\n")})
    assert settings.wallet.private_key == Secret(f"0x{KEY}")
    key_file(tmp_path, KEY, name="private_key")
    assert load(tmp_path, {"private_key": None}, credentials).wallet.private_key == Secret(KEY)


@pytest.mark.parametrize(
    "content", ["", "hunter2", KEY[:-1], "0x" + KEY + "00", "é" * 64, "0" * 64, "f" * 64]
)
def test_a_key_file_that_holds_no_key_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    faults = faults_of(tmp_path, {"private_key": None, "private_key_file": key_file(tmp_path, content)})
    assert list(faults) == ["private_key_file"]
    assert not content or content not in str(faults)


def test_a_key_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    path = key_file(tmp_path, KEY, 0o640)
    assert "0640" in warnings_of(tmp_path, {"private_key": None, "private_key_file": path})[path].message


@pytest.mark.parametrize(("mode", "is_told"), [(0o440, False), (0o640, False), (0o444, True), (0o460, True)])
def test_of_a_mounted_secret_the_group_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_told: bool
) -> None:
    """Kubernetes mounts secrets as root's, with mode 0440 for the group of the pod."""
    secret = key_file(tmp_path, KEY, mode)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 10001)
    settings = load(tmp_path, {"private_key": None, "private_key_file": secret})
    assert (secret in {warning.place for warning in settings.warnings}) is is_told


FILE_KEY = bytes(31) + b"\x01"
FILE = bytes.fromhex(HEADER) + FILE_KEY


def test_the_file_of_the_specification_holds_key_1() -> None:
    assert len(FILE) == 91
    assert read_signing_key(FILE) == FILE_KEY
    assert read_signing_key(FILE + bytes(2000)) == FILE_KEY, "what follows is passed over"


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (0, 4, "version of the header"),
        (10, ord("6"), "version of the header"),
        (11, 1, "header's variant"),
        (25, ord("2"), "versioning scheme"),
        (34, ord("p"), "name of the type"),
        (47, 1, "version of the type"),
        (51, 33, "length of the key"),
    ],
)
def test_a_wrong_part_is_named(at: int, value: int, told: str) -> None:
    wrong = bytearray(FILE)
    wrong[at] = value
    with pytest.raises(ValueError, match=f"{told} is another one"):
        read_signing_key(bytes(wrong))


@pytest.mark.parametrize("size", range(len(FILE)))
def test_a_file_that_ends_early_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="the file ends within"):
        read_signing_key(FILE[:size])


@given(st.binary(max_size=200))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"the file ends within|is another one"):
        read_signing_key(data)


@given(st.binary(min_size=32, max_size=32))
def test_an_error_shows_no_byte_of_the_key(key: bytes) -> None:
    with pytest.raises(ValueError, match="the file ends within the key") as refused:
        read_signing_key(FILE[:59] + key[:-1])
    assert key[:31].hex() not in str(refused.value)
