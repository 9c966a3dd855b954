"""Where configuration files lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsconn.config.sources import DEFAULT_FOLDER, configurations, directory, find_file, load_config
from kmsconn.config.values import Secret
from tests.unit.config.sample_values import OTHER_KEY, write_toml


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of configurations beside the working directory."""
    found = tmp_path / "configurations"
    found.mkdir()
    for name in ("b.toml", "a.toml", "c.txt"):
        (found / name).touch()
    (found / "d.toml").mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return found


def test_the_directory_is_that_of_the_variable_else_one_below_the_working_directory(tmp_path: Path) -> None:
    assert directory({"KMS_CONNECTOR_CONFIG_DIR": str(tmp_path)}) == tmp_path
    assert directory({}) == directory({"KMS_CONNECTOR_CONFIG_DIR": " "}) == DEFAULT_FOLDER


def test_configurations_are_the_toml_files_in_order(folder: Path) -> None:
    assert [path.name for path in configurations(folder)] == ["a.toml", "b.toml"]


def test_a_directory_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert configurations(tmp_path / "absent") == []


@pytest.mark.parametrize("written", ["a", "a.toml"])
def test_a_name_is_found_in_the_directory(folder: Path, written: str) -> None:
    assert find_file(written, {"KMS_CONNECTOR_CONFIG_DIR": str(folder)}) == folder / "a.toml"


@pytest.mark.parametrize("written", ["a", "a.toml"])
def test_a_path_comes_before_the_directory(folder: Path, written: str) -> None:
    Path("a.toml").touch()
    assert find_file(written, {"KMS_CONNECTOR_CONFIG_DIR": str(folder)}) == Path("a.toml")


def test_an_absolute_path_is_not_looked_for_in_the_directory(folder: Path, tmp_path: Path) -> None:
    written = str(tmp_path / "a.toml")
    assert find_file(written, {"KMS_CONNECTOR_CONFIG_DIR": str(folder)}) == Path(written)


@pytest.mark.parametrize("written", ["absent", "absent.toml", ".", ""])
def test_what_is_nowhere_stays_as_it_was_written(folder: Path, written: str) -> None:
    assert find_file(written, {"KMS_CONNECTOR_CONFIG_DIR": str(folder)}) == Path(written)


def test_relative_paths_of_a_file_begin_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "wallet.key").write_text(OTHER_KEY)
    (tmp_path / "here.sock").touch()
    path = write_toml(
        folder,
        {
            "private_key": None,
            "private_key_file": "wallet.key",
            "journal": "sqlite:///k.db",
            "audit_log": "a",
        },
    )
    monkeypatch.chdir(tmp_path)
    settings = load_config(path, environ={"KMS_CONNECTOR_CONTROL_SOCKET": "here.sock"})
    assert settings.wallet.private_key == Secret(OTHER_KEY)
    assert (settings.storage.journal, settings.storage.audit_log) == (folder / "k.db", folder / "a")
    assert settings.storage.control_socket == Path("here.sock")
    absolute = write_toml(folder, {"journal": "sqlite:////var/k.db"})
    assert load_config(absolute, environ={}).storage.journal == Path("/var/k.db")
