"""Where configuration files lie, and the forms of option values."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmsconn.config import forms, places
from kmsconn.config.description import PostgresAddress, Role, Secret
from kmsconn.config.options import Given
from kmsconn.config.settings import GROUP_OF, GROUPS
from kmsconn.config.sources import DEFAULT_FOLDER, configurations, directory, find_file, load_config
from kmsconn.errors import ConfigError
from kmsconn.operate.commands.configuration import Merged, merge, toml_text
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
    "the address of the proxy of 0.15 wins over that of its endpoint": (
        {"http_endpoint": "0.0.0.0:8080"}, {"proxy_bind_address": "0.0.0.0:8443"}, {"http_endpoint": "0.0.0.0:8443"},
        [
            "b.toml: proxy_bind_address becomes http_endpoint",
            "a.toml: http_endpoint is dropped: b.toml gives another value, which is taken",
        ],
    ),
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


KEY, PREP = f"0x04{7:062x}", f"0x03{9:062x}"
CHECKSUM = "5D8BD78E2EA6BBE41F26DFE9FDAEAA349E077478"
# Each form, what is said of a value that has another, and such values.
REFUSED: dict[Callable[[Any], Any], tuple[str, list[Any]]] = {
    forms.duration: ("duration", ["", "5", "5 parsecs", "m5", "-5s", "5s!", "5s,", 5, 0.5, None, True, ["5s"]]),
    forms.positive_duration: ("longer than zero", ["0s"]),
    forms.size: (r"bytes|at least|between", ["", "MiB", "5 stone", "-1", 0, -1, 1.5, None]),
    forms.flag: ("true or false", ["", "maybe", 2, None]),
    forms.whole: (r"whole number|between", [-1, 2**64, "-1", "1.5", 1.5, True, "", "٣", None]),
    forms.roles: ("must be a list of hear, work, send", ["", [], "[]", "hear;work", ["hear", 5], 5, ["Hear"]]),
    forms.lease: ("at least 1s", ["900ms"]),
    forms.preprocessing_ids: (
        r"must be a table|an id of this kind", [{PREP: KEY}, {KEY: KEY}, {KEY: 3}, {KEY: "0x03"}, "{", "[]", 5],
    ),
    places.contract_address: (
        "must be|0x5D8BD78e2ea6bbE41f26dFe9fdaEAa349e077478 is right",
        ["", "0x", CHECKSUM, "0x" + "g" * 40, "0x" + "1" * 64, 5, "0x5d8BD78e2ea6bbE41f26dFe9fdaEAa349e077478"],
    ),
    places.rpc_urls: (
        r"URL|empty|must be",
        ["", "a", "ftp://a", "http://", "http://a:port", "http://a b", "http://[::1", [], ["http://a", ""],
         ["http://a", 5], "a,http://b"],
    ),
    places.websocket_urls: ("ws:// or wss://", ["http://a"]),
    places.core_endpoints: (
        "http://", ["http://core", "http://core:1/path", "http://u@core:1", "grpc://core:1", "http://core:1?x=1"],
    ),
    places.socket_address: (
        "must be", ["", "9100", ":9100", "host:", "host:99999", "::1:9100", "http://h:1", 9100],
    ),
    places.journal_address: ("must be", ["", "kmsconn.db", "sqlite:///", "sqlite://x", "mysql://h/d", 5]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("read", "told", "value"),
    [(read, told, value) for read, (told, values) in REFUSED.items() for value in values],
)
def test_what_has_another_form_is_refused(read: Callable[[Any], Any], told: str, value: Any) -> None:
    with pytest.raises(ValueError, match=told):
        read(value)


URLS = ("http://a:1", "wss://b/x?q=1,2")
# Each form, and what its values become; durations are read as humantime writes them.
READ: dict[Callable[[Any], Any], list[tuple[Any, Any]]] = {
    forms.duration: [
        ("500ms", 0.5), ("3s", 3), ("5m", 300), ("24h", 86400), ("2days", 172800), ("1h 30m", 5400), ("1h30m", 5400),
        ("0.5s", 0.5), ("10us", pytest.approx(1e-5)), ("1 week", 604800),
    ],
    forms.size: [(1, 1), ("66MiB", 66 << 20), ("1 kb", 1000), ("17", 17), ("2GiB", 2 << 30)],
    forms.whole: [(0, 0), (2**64 - 1, 2**64 - 1), ("0", 0), (" 42 ", 42)],
    forms.lease: [("5s", 5.0)],
    forms.roles: [
        (value, {Role.WORK, Role.SEND})
        for value in (["work", "send"], "work,send", "work, send", '["work", "send"]', ["send", "work"])
    ],
    forms.preprocessing_ids: [
        (value, {int(KEY, 16): int(PREP, 16)}) for value in ({KEY: PREP}, f'{{"{KEY}": "{PREP}"}}')
    ],
    places.contract_address: [
        ("0x" + digits, bytes.fromhex(digits)) for digits in (CHECKSUM, CHECKSUM.lower())
    ],
    places.rpc_urls: [(URLS[0], URLS[:1]), (", ".join(URLS), URLS), (list(URLS), URLS)],
    places.websocket_urls: [("wss://a", ("wss://a",))],
    places.core_endpoints: [("http://a:1/,https://b:2", ("http://a:1", "https://b:2"))],
    places.socket_address: [(value, value) for value in ("0.0.0.0:9100", "[::]:9100", "localhost:0")],
    places.journal_address: [
        ("sqlite:///kmsconn.db", Path("kmsconn.db")),
        ("sqlite:////var/lib/kmsconn.db", Path("/var/lib/kmsconn.db")),
        ("postgresql://db/kmsconn", PostgresAddress("kmsconn", ("db",))),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("read", "value", "expected"), [(read, *case) for read, cases in READ.items() for case in cases]
)
def test_a_value_is_read_in_all_its_forms(read: Callable[[Any], Any], value: Any, expected: Any) -> None:
    assert read(value) == expected


@pytest.mark.parametrize("value", [True, "true", "TRUE", "1", "yes", "on", False, "false", "0", "no", "off"])
def test_true_and_false_in_all_their_spellings(value: object) -> None:
    assert forms.flag(value) is (str(value).lower() in {"true", "1", "yes", "on"})


def test_a_private_key_in_the_place_of_an_address_is_not_quoted() -> None:
    with pytest.raises(ValueError, match="64 characters") as caught:
        places.contract_address("4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d")
    assert "4f3edf" not in str(caught.value)


@pytest.mark.parametrize("read", [places.rpc_urls, places.websocket_urls, places.core_endpoints])
@pytest.mark.parametrize(
    "url", ["ftp://user:hunter2@h/?key=hunter2", "http://user:hunter2/@h", "hunter2", "http://h:hunter2"]
)
def test_no_part_of_a_wrong_url_is_quoted(read: Callable[[object], Any], url: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        read(url)
    assert "hunter2" not in str(caught.value)


def test_there_are_as_many_core_endpoints_as_the_journal_tells_apart() -> None:
    urls = [f"http://core:{port}" for port in range(1, places.MOST_CORES + 2)]
    assert places.core_endpoints(urls[1:]) == tuple(urls[1:])
    with pytest.raises(ValueError, match="at most 42 endpoints, not 43"):
        places.core_endpoints(urls)


def test_a_secret_is_trimmed_and_never_shown() -> None:
    found = forms.secret(" hunter2\n")
    assert found == Secret("hunter2")
    assert "hunter2" not in f"{found} {found!r}"


def test_a_file_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    assert places.existing_file(str(tmp_path / "there")) == tmp_path / "there"
    with pytest.raises(ValueError, match="no file"):
        places.existing_file(str(tmp_path / "absent"))
