"""Where configuration files lie."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kmsconn.config.findings import Given
from kmsconn.config.merging import Merged, merge, toml_text
from kmsconn.config.settings import GROUP_OF, GROUPS
from kmsconn.config.sources import DEFAULT_FOLDER, configurations, directory, find_file, load_config
from kmsconn.config.values import Secret
from kmsconn.errors import ConfigError
from tests.unit.config.sample_values import OTHER_KEY, write_toml
from tests.vectors import keys


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
    assert configurations(folder / "absent") == []


@pytest.mark.parametrize("written", ["a", "a.toml"])
def test_a_name_is_found_in_the_directory_after_the_working_directory(folder: Path, written: str) -> None:
    environ = {"KMS_CONNECTOR_CONFIG_DIR": str(folder)}
    assert find_file(written, environ) == folder / "a.toml"
    Path("a.toml").touch()
    assert find_file(written, environ) == Path("a.toml")


@pytest.mark.parametrize("written", ["absent", "absent.toml", ".", "", "/absolute/a.toml"])
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


def test_no_two_settings_have_one_name() -> None:
    """``of`` and ``but`` find the group by the name alone."""
    assert len(GROUP_OF) == sum(len(group.__attrs_attrs__) for group in GROUPS.values())


def test_settings_of_several_groups_change_at_once_and_all_others_stay() -> None:
    changed = keys.SETTINGS.but(drain_grace=5.0, reorg_window=7.0)
    assert (changed.work.drain_grace, changed.reading.reorg_window) == (5.0, 7.0)
    again = {"drain_grace": 20.0, "reorg_window": 30.0}
    assert changed.but(**again) == keys.SETTINGS.but(**again)
    with pytest.raises(TypeError, match="patience"):
        keys.SETTINGS.but(patience=1.0)


ACL = "0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D"


def merged(**files: dict[str, Any]) -> Merged:
    """Merge files that are given as values by dotted name."""
    return merge(
        {f"{file}.toml": {n: Given(v, n, n) for n, v in values.items()} for file, values in files.items()}
    )


DROPPED = "b.toml: healthcheck_timeout is dropped: a.toml gives another value, which is taken"
CONTRACT = "decryption_contract.address"

# Options of both files → those of the merged one, and its notes.
MERGED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]] = {
    "of one file": ({"decryption_polling": "1s"}, {}, {"decryption_polling": "1s"}, []),
    "endpoints of both": (
        {"gateway_url": "http://x"}, {"gateway_url": ["ws://y", "http://x"]}, {"gateway_url": ["http://x", "ws://y"]}, [],
    ),
    "an alias": (
        {"ct_attestation.enabled": False}, {}, {"attestation": "off"}, ["a.toml: ct_attestation.enabled becomes attestation"],
    ),
    "two durations": (
        {"healthcheck_timeout": "3s"}, {"healthcheck_timeout": "5s"}, {"healthcheck_timeout": "3s"}, [DROPPED],
    ),
    "one duration in two spellings": (
        {"healthcheck_timeout": "1m"}, {"healthcheck_timeout": "60s"}, {"healthcheck_timeout": "1m"}, [],
    ),
    "one address in two spellings": ({CONTRACT: ACL}, {CONTRACT: ACL.lower()}, {CONTRACT: ACL}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", MERGED.values(), ids=MERGED)
def test_two_files_become_one(case: Any) -> None:
    one, other, options, notes = case
    result = merged(a=one, b=other)
    assert (result.options, list(result.notes)) == (options, notes)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("service_name", "kms-connector-tx-sender", "one process"),
        ("database_url", "postgres://hunter2@db/x", "the database of the three services stays"),
        ("database_pool_size", 16, "the database of the three services stays"),
        ("task_limit", 1000, "pools.public_decryption"),
        ("grpc_pol_interval", "1s", "did you mean grpc_poll_interval?"),
    ],
)
def test_what_has_no_place_here_is_dropped_with_its_reason_and_without_its_value(
    name: str, value: Any, why: str
) -> None:
    result = merged(a={name: value})
    assert result.options == {}
    assert result.notes[0].startswith(f"a.toml: {name} is dropped: ")
    assert why in result.notes[0]
    assert "hunter2" not in result.notes[0]


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("gateway_chain_id", 1, 2),
        ("decryption_contract.address", ACL, "0x" + "11" * 20),
        ("private_key", "11" * 32, "22" * 32),
    ],
)
def test_what_says_which_node_this_is_must_not_differ(name: str, one: Any, other: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        merged(a={name: one}, b={name: other})
    (fault,) = caught.value.faults
    assert str(fault) == f"{name}: differs between a.toml and b.toml; make them the same first"


def test_a_merged_file_reads_as_what_was_merged() -> None:
    options = {
        "gateway_url": ["http://x"],
        "gateway_chain_id": 5,
        "trace_reverted_tx": True,
        "service_name": 'a "quoted" text',
        "host_chains": [{"url": "http://h", "chain_id": 6, "acl_address": ACL}],
    }
    assert tomllib.loads(toml_text(options)) == options
