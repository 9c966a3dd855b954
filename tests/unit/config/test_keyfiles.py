"""The wallet from an option, a key file or a systemd credential."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsconn.config.values import Secret
from tests.unit.config.sample_values import (
    ADDRESS,
    KEY,
    OTHER_ADDRESS,
    OTHER_KEY,
    faults_of,
    load,
    warnings_of,
)


def key_file(folder: Path, content: str, mode: int = 0o600, name: str = "key") -> str:
    path = folder / name
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_a_key_file_takes_the_place_of_the_option(tmp_path: Path) -> None:
    settings = load(tmp_path, {"private_key": None, "private_key_file": key_file(tmp_path, f"0x{KEY}\n")})
    assert settings.wallet.private_key == Secret(f"0x{KEY}")


def test_a_systemd_credential_is_found_by_itself(tmp_path: Path) -> None:
    key_file(tmp_path, KEY, name="private_key")
    settings = load(tmp_path, {"private_key": None}, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.wallet.private_key == Secret(KEY)


def test_a_credentials_directory_without_a_key_is_not_a_fault(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}).wallet.private_key == Secret(KEY)


def test_no_wallet_is_a_fault_that_says_how_to_give_one(tmp_path: Path) -> None:
    fault = faults_of(tmp_path, {"private_key": None})["private_key"]
    assert "private_key_file" in fault.remedy


def test_two_wallets_are_a_fault_that_names_both_addresses(tmp_path: Path) -> None:
    fault = faults_of(tmp_path, {"private_key_file": key_file(tmp_path, OTHER_KEY)})["private_key"]
    assert ADDRESS in fault.message
    assert OTHER_ADDRESS in fault.message
    assert KEY not in str(fault)


def test_the_same_wallet_twice_is_one_wallet(tmp_path: Path) -> None:
    assert load(tmp_path, {"private_key_file": key_file(tmp_path, "0x" + KEY)}).wallet.private_key == Secret(
        KEY
    )


@pytest.mark.parametrize(
    "content", ["", "hunter2", KEY[:-1], "0x" + KEY + "00", "é" * 64, "0" * 64, "f" * 64]
)
def test_a_key_file_that_holds_no_key_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    faults = faults_of(tmp_path, {"private_key": None, "private_key_file": key_file(tmp_path, content)})
    assert list(faults) == ["private_key_file"]
    assert not content or content not in str(faults)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"private_key": None, "private_key_file": str(tmp_path / "absent")})
    assert "cannot be read" in faults["private_key_file"].message


def test_a_key_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    path = key_file(tmp_path, KEY, 0o640)
    assert "0640" in warnings_of(tmp_path, {"private_key": None, "private_key_file": path})[path].message
