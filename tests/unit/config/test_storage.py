"""Options of the journal that only make sense together: its password, and what several processes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kmsconn.config import storage
from kmsconn.config.keyfiles import password_in
from kmsconn.config.sources import load_config
from kmsconn.config.values import ROLES, PostgresAddress, Role, Secret
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.operate.control.server import control_path
from tests.unit.config.sample_values import ADDRESS, faults_of, load, warnings_of, write_toml

URL = "postgresql://kmsconn@db/kmsconn"


def password_file(folder: Path, text: str = "hunter2\n", mode: int = 0o600) -> str:
    path = folder / "password"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_the_password_of_a_file_is_read_when_it_is_needed_without_the_end_of_its_line(tmp_path: Path) -> None:
    """Whoever rotates it changes the file while the connector runs."""
    settings = load(tmp_path, {"journal": URL, "journal_password_file": password_file(tmp_path)})
    file = tmp_path / "password"
    assert settings.storage.journal == PostgresAddress("kmsconn", ("db",), (), "kmsconn", password_file=file)
    assert settings.warnings == ()
    file.write_text("hunter3\r\n")
    assert password_in(file) == Secret("hunter3")
    assert "hunter2" not in repr(settings)


def test_two_passwords_are_a_fault(tmp_path: Path) -> None:
    changes = {"journal": "postgresql://u:hunter2@db/k", "journal_password_file": password_file(tmp_path)}
    faults = faults_of(tmp_path, changes)
    assert "second password" in faults["journal_password_file"].message
    assert "hunter2" not in str(faults)


@pytest.mark.parametrize("text", ["", "\n", "two\nlines\n", "zero\0byte"])
def test_a_file_without_one_line_holds_no_password(tmp_path: Path, text: str) -> None:
    faults = faults_of(tmp_path, {"journal": URL, "journal_password_file": password_file(tmp_path, text)})
    assert "holds no password" in faults["journal_password_file"].message


def test_a_missing_password_file_is_reported_with_all_other_faults(tmp_path: Path) -> None:
    changes = {"journal": URL, "journal_password_file": str(tmp_path / "absent"), "lease": "1ms", "roles": []}
    assert faults_of(tmp_path, changes).keys() == {"journal_password_file", "lease", "roles"}


def test_a_password_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    path = password_file(tmp_path, mode=0o644)
    assert list(warnings_of(tmp_path, {"journal": URL, "journal_password_file": path})) == [path]


@pytest.fixture(autouse=True)
def _no_run_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever folders this machine has."""
    monkeypatch.setattr(storage, "RUN", tmp_path / "absent")


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@db/k", "postgresql:///k?password=hunter2"])
def test_a_file_with_a_password_that_others_may_read_is_warned_about(tmp_path: Path, url: str) -> None:
    path = write_toml(tmp_path, {"journal": url, "private_key": None}, mode=0o644)
    key = {"KMS_CONNECTOR_PRIVATE_KEY": "11" * 32}
    assert [warning.place for warning in load_config(path, environ=key).warnings] == [str(path)]


def test_a_file_with_an_address_without_a_password_may_be_read_by_others(tmp_path: Path) -> None:
    path = write_toml(tmp_path, {"journal": URL, "private_key": None}, mode=0o644)
    assert load_config(path, environ={"KMS_CONNECTOR_PRIVATE_KEY": "11" * 32}).warnings == ()


@pytest.mark.parametrize(
    ("name", "value"), [("database_pool_size", 16), ("lease", "5s"), ("journal_password_file", "/absent")]
)
def test_an_option_of_postgresql_is_warned_about_beside_a_file_of_sqlite(
    tmp_path: Path, name: str, value: Any
) -> None:
    warning = warnings_of(tmp_path, {name: value})[name]
    assert warning.message == "has no effect"
    assert "postgresql://" in warning.remedy


def test_a_process_over_a_file_of_sqlite_must_do_all(tmp_path: Path) -> None:
    assert "SQLite has one process" in faults_of(tmp_path, {"roles": ["hear", "work"]})["roles"].message


def test_a_process_over_a_file_of_sqlite_may_say_that_it_does_all(tmp_path: Path) -> None:
    assert load(tmp_path, {"roles": ["send", "work", "hear"]}).work.roles == ROLES


def test_the_roles_of_the_environment_are_a_comma_list(tmp_path: Path) -> None:
    settings = load(tmp_path, {"journal": URL}, {"KMS_CONNECTOR_ROLES": "work,send"})
    assert settings.work.roles == {Role.WORK, Role.SEND}


def test_pool_and_lease_become_settings(tmp_path: Path) -> None:
    found = load(tmp_path, {"journal": URL, "database_pool_size": 2, "lease": "3s"}).storage
    assert (found.database_pool_size, found.lease) == (2, 3.0)


def test_the_control_socket_of_a_journal_in_postgresql_is_beside_the_file_and_named_as_the_service(
    tmp_path: Path,
) -> None:
    settings = load(tmp_path, {"journal": URL, "service_name": "kmsconn/2"})
    assert control_path(settings) == tmp_path / "kmsconn-2.sock"


def test_it_is_in_the_folder_of_the_service_manager_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "RUN", tmp_path)
    assert control_path(load(tmp_path, {"journal": URL})) == tmp_path / "kmsconn.sock"


def test_without_a_file_it_is_in_the_current_folder(tmp_path: Path) -> None:
    settings = load(tmp_path, {"journal": URL}).but(control_socket=None)
    assert control_path(settings) == Path("kmsconn.sock")


def test_the_control_socket_of_a_journal_in_a_file_is_beside_it(tmp_path: Path) -> None:
    assert control_path(load(tmp_path, {"journal": "sqlite:////var/lib/k.db"})) == Path("/var/lib/k.db.sock")


def test_a_configured_control_socket_wins(tmp_path: Path) -> None:
    settings = load(tmp_path, {"journal": URL, "control_socket": "/run/kmsconn/c.sock"})
    assert control_path(settings) == Path("/run/kmsconn/c.sock")


WORKER: dict[str, Any] = {
    "journal": URL,
    "roles": ["hear", "work"],
    "private_key": None,
    "tx_sender_address": ADDRESS,
}


def test_a_process_that_leaves_sending_to_others_needs_no_key(tmp_path: Path) -> None:
    settings = load(tmp_path, WORKER)
    assert not settings.sends
    assert checksum(settings.wallet.tx_sender_address or Address(bytes(20))) == ADDRESS


def test_it_must_know_the_account_that_sends(tmp_path: Path) -> None:
    fault = faults_of(tmp_path, {**WORKER, "tx_sender_address": None})["tx_sender_address"]
    assert "sends nothing does not know for which node it works" in fault.message


def test_a_raw_key_of_it_is_no_risk_on_a_main_network(tmp_path: Path) -> None:
    assert not load(tmp_path, {"journal": URL, "roles": ["work"], "ethereum_chain_id": 1}).sends
    faults = faults_of(tmp_path, {"journal": URL, "ethereum_chain_id": 1})
    assert "main network" in faults["private_key"].message


def test_who_sends_needs_a_key(tmp_path: Path) -> None:
    assert list(faults_of(tmp_path, {**WORKER, "roles": ["send"]})) == ["private_key"]
