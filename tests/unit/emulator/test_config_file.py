"""The file that ``kmsconn emulate`` writes is one that ``kmsconn run`` takes, says where everything is, and replaces nobody else's."""

from __future__ import annotations

import stat
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.emulator.config_file import journal_beside, write_config
from kmsconn.emulator.key_life import QUICK
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import GENERATIONS
from kmsconn.errors import ConfigError


def settings_for(config: Path, *, shards: int = 1, profile: str = "fhevm") -> Settings:
    """Return the settings of a connector among emulated dependencies."""
    settle = GENERATIONS[profile].settle
    dependencies = settle(lambda: 1_767_225_600.0, Random(0), shards=shards).dependencies
    dependencies.settle_in_memory(MemoryNetwork())
    return dependencies.settings(journal_beside(config), monitoring_endpoint="127.0.0.1:9")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "kmsconn.toml"


@pytest.mark.parametrize(
    ("profile", "quick"), [*((profile, {}) for profile in GENERATIONS), ("fhevm", QUICK)]
)
def test_what_is_written_is_read_as_the_same_settings(
    config: Path, profile: str, quick: dict[str, Any]
) -> None:
    settings = settings_for(config, profile=profile, shards=3 if profile == "fhevm" else 1).but(**quick)
    write_config(config, settings)
    found = load_config(config, environ={})
    assert found == settings
    assert len(found.core.core_endpoints) == (3 if profile == "fhevm" else 1)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600, "only the owner may read it"
    assert journal_beside(config).name == "kmsconn.emulated.db", "a name that no other connector's has"


def test_a_relative_path_gives_an_absolute_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(Path("k.toml"), settings_for(Path("k.toml")))
    assert load_config("k.toml", environ={}).storage.journal == tmp_path / "k.emulated.db"


@pytest.mark.parametrize(
    "name", ["with space.toml", 'quo"te.toml', "back\\slash.toml", "füße.toml", "a'b.toml"]
)
def test_odd_names_survive(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    settings = settings_for(path)
    write_config(path, settings)
    assert load_config(path, environ={}).storage.journal == settings.storage.journal


def test_an_earlier_file_of_ours_is_replaced(config: Path) -> None:
    write_config(config, settings_for(config))
    later = settings_for(config).but(monitoring_endpoint="127.0.0.1:10")
    write_config(config, later)
    assert load_config(config, environ={}).monitoring.monitoring_endpoint == "127.0.0.1:10"


def test_a_file_that_somebody_else_wrote_is_not_replaced_and_a_journal_is_kept(config: Path) -> None:
    config.write_text("gateway_chain_id = 1\n")
    settings = settings_for(config)
    assert isinstance(settings.storage.journal, Path)
    settings.storage.journal.touch()
    with pytest.raises(ConfigError, match="was not written by kmsconn emulate"):
        write_config(config, settings)
    assert config.read_text() == "gateway_chain_id = 1\n"
    assert settings.storage.journal.exists()
    nowhere = config.parent / "nowhere" / "k.toml"
    with pytest.raises(ConfigError, match="cannot be written"):
        write_config(nowhere, settings_for(nowhere))


def test_the_journal_of_a_chain_that_is_gone_is_removed(config: Path) -> None:
    settings = settings_for(config)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{settings.storage.journal}{suffix}").touch()
    write_config(config, settings)
    assert list(config.parent.iterdir()) == [config]
