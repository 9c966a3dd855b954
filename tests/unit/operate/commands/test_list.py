"""``kmsconn list``, and the files that ``-c NAME`` finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsconn.operate.commands.main import main
from tests.unit.config.test_httpz_config import LEAST, write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of configurations."""
    monkeypatch.setenv("KMS_CONNECTOR_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KMS_CONNECTOR_PROFILE", "httpz-rc7")
    return tmp_path


def test_names_are_printed_in_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("two.toml", "one.toml", "three.md"):
        (folder / name).touch()
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "one.toml\ntwo.toml\n"


def test_paths_are_printed_in_full(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one.toml").touch()
    assert main(["list", "-f"]) == 0
    assert capsys.readouterr().out == f"{folder / 'one.toml'}\n"


def test_a_directory_that_is_not_there_is_a_warning_and_an_empty_list(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMS_CONNECTOR_CONFIG_DIR", str(folder / "absent"))
    assert main(["list", "--full-path"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "warning: the directory" in said.err


def test_validate_takes_a_name_of_the_directory_and_names_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, LEAST)
    assert main(["validate", "-c", path.stem]) == 0
    said = capsys.readouterr().out
    assert f"the configuration {path} is valid" in said
    assert "profile      httpz-rc7" in said
    assert "tx sender    0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" in said
    assert "junk" not in said


def test_validate_judges_a_file_of_httpz_without_the_environment(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMS_CONNECTOR_CHAIN_ID", "7")
    path = write(folder, {name: value for name, value in LEAST.items() if name != "chain_id"})
    assert main(["validate", "-c", str(path)]) == 2
    assert "chain_id: is required in a file" in capsys.readouterr().err
