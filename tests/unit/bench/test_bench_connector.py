"""A connector's command, file and environment, as the emulator wrote; disturbances of a soak and its verdict. Nothing is started."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from bench.connector import Recipe, fill, log_of, names, of_process, options_of, variables
from bench.proc import Sample
from bench.soak import (
    DISTURBANCES,
    LONGEST_OUTAGE,
    Diary,
    Happening,
    in_order,
    parser,
    play,
    progress,
    signs_of,
    summary,
    verdict_of,
)
from kmsconn.config.sources import load_config
from kmsconn.emulator.config_file import write_config
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.key_life import QUICK
from kmsconn.emulator.network import MemoryNetwork
from tests.unit.emulator.test_control import Handler


def written(folder: Path, **changes: Any) -> Path:
    """Return the file that an emulator writes."""
    dependencies = FhevmDependencies.make(lambda: 0.0, shards=2)
    dependencies.settle_in_memory(MemoryNetwork())
    path = folder / "emu.toml"
    settings = dependencies.settings(folder / "journal.db", monitoring_endpoint="127.0.0.1:9", **changes)
    write_config(path, settings)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path)


def test_options_are_flat(config: Path) -> None:
    found = options_of(config)
    assert found["gateway_url"] == ["ws://gateway:80"]
    assert found["decryption_contract.domain_name"] == "Decryption"


def test_the_variables_make_the_same_settings_as_the_file(config: Path) -> None:
    """The environment alone is enough for a connector that knows the 0.14 names, ours for one; its URLs are over HTTP."""
    text = config.read_text()
    config.write_text(text.replace("ws://", "http://"))
    assert load_config(None, environ=variables(options_of(config))) == load_config(config, environ={})


ADDRESS, NUMBER, URL = "0x[0-9a-fA-F]{40}", "[0-9]+", r"http://[a-z0-9.]+:[0-9]+"
_CONTRACTS = ("DECRYPTION", "KMS_GENERATION", "PROTOCOL_CONFIG", "GATEWAY_CONFIG")
FORMS = {
    "GATEWAY_URL": URL,
    "GATEWAY_CHAIN_ID": NUMBER,
    "ETHEREUM_URL": URL,
    "ETHEREUM_CHAIN_ID": NUMBER,
    "KMS_CORE_ENDPOINTS": f"{URL}(,{URL})*",
    "HOST_CHAINS": r"\[.*\]",
    "PRIVATE_KEY": "(0x)?[0-9a-f]{64}",
    "MONITORING_ENDPOINT": r"[0-9.]+:[0-9]+",
    "DECRYPTION_FROM_BLOCK_NUMBER": NUMBER,
    "KMS_OPERATION_FROM_BLOCK_NUMBER": NUMBER,
    "KEY_MANAGEMENT_POLLING": "[0-9]+(ms|s|m)",
    **{f"{name}_CONTRACT__ADDRESS": ADDRESS for name in _CONTRACTS},
    **{f"{name}_CONTRACT__DOMAIN_NAME": "[A-Za-z]+" for name in _CONTRACTS},
    **{f"{name}_CONTRACT__DOMAIN_VERSION": NUMBER for name in _CONTRACTS},
}
"""The 0.14 names that an emulator's file has something for, in the forms of its environment (fhevm-0.14.md, 9.1-9.4)."""
REQUIRED = {
    "GATEWAY_URL", "GATEWAY_CHAIN_ID", "ETHEREUM_URL", "ETHEREUM_CHAIN_ID", "KMS_CORE_ENDPOINTS", "HOST_CHAINS", "PRIVATE_KEY",
    *(f"{name}_CONTRACT__ADDRESS" for name in _CONTRACTS),
}  # fmt: skip
"""Without one of them a service of 0.14 does not start; its database is the caller's to name."""
OURS_ALONE = {"JOURNAL", "ALLOW_HTTP_BUCKETS", "ALLOW_PRIVATE_BUCKETS"}
"""Names that 0.14 does not know, and so ignores."""


@pytest.mark.parametrize("quick", [{}, QUICK])
def test_every_variable_has_the_form_of_0_14(tmp_path: Path, quick: dict[str, Any]) -> None:
    found = {
        name.removeprefix("KMS_CONNECTOR_"): value
        for name, value in variables(options_of(written(tmp_path, **quick))).items()
    }
    assert found.keys() - FORMS.keys() == OURS_ALONE
    assert found.keys() >= REQUIRED
    wrong = {
        name: value for name, value in found.items() if name in FORMS and not re.fullmatch(FORMS[name], value)
    }
    assert wrong == {}


def test_a_host_chain_is_an_object_with_a_text_a_number_and_a_text(config: Path) -> None:
    (host,) = json.loads(variables(options_of(config))["KMS_CONNECTOR_HOST_CHAINS"])
    assert {name: type(value) for name, value in host.items()} == {
        "url": str,
        "chain_id": int,
        "acl_address": str,
    }
    assert re.fullmatch(URL, host["url"])
    assert re.fullmatch(ADDRESS, host["acl_address"])


def test_another_connector_keeps_what_the_caller_says_beside(
    monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    monkeypatch.setenv("KMS_CONNECTOR_DATABASE_URL", "postgres://here")
    monkeypatch.setenv("KMS_CONNECTOR_GATEWAY_URL", "http://elsewhere")
    environment = Recipe("other").environment(options_of(config))
    assert environment["KMS_CONNECTOR_DATABASE_URL"] == "postgres://here"
    assert environment["KMS_CONNECTOR_GATEWAY_URL"] == "http://gateway:80"
    assert environment["KMS_CONNECTOR_GATEWAY_CHAIN_ID"] == "54321"
    assert environment["KMS_CONNECTOR_DECRYPTION_CONTRACT__DOMAIN_VERSION"] == "1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gateway_url", "ws://gateway:80"),
        ("gateway_http_url", "http://gateway:80"),
        ("kms_core_endpoints", "http://core0:80"),
        ("gateway_chain_id", "54321"),
        ("allow_http_buckets", "true"),
        ("host_url", "ws://host:80"),
        ("host_chain_id", "12345"),
    ],
)
def test_names_for_templates(config: Path, name: str, expected: str) -> None:
    assert names(options_of(config))[name] == expected


def test_addresses_are_among_the_names(config: Path) -> None:
    found = names(options_of(config))
    written = tomllib.loads(config.read_text())
    assert found["decryption_contract_address"] == written["decryption_contract"]["address"]
    assert found["host_acl_address"] == written["host_chains"][0]["acl_address"]


def test_places_are_filled_and_other_braces_stay() -> None:
    text = 'url = "{gateway_url}"\nmap = {a = 1}\n{unknown}'
    assert fill(text, {"gateway_url": "ws://x"}) == 'url = "ws://x"\nmap = {a = 1}\n{unknown}'


def test_our_own_connector_reads_its_file_alone(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    monkeypatch.setenv("KMS_CONNECTOR_GATEWAY_CHAIN_ID", "1")
    environment = Recipe().environment(options_of(config))
    assert not [name for name in environment if name.startswith("KMS_CONNECTOR_")]


def test_another_checkout_is_found_by_its_path(config: Path) -> None:
    environment = Recipe(python_path="there").environment(options_of(config))
    assert (environment["PYTHONPATH"], environment["PYTHONSAFEPATH"]) == ("there", "1")


def test_each_of_several_processes_has_the_shared_journal_and_addresses_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "connector.toml"
    config.write_text(
        'gateway_chain_id = 7\njournal = "sqlite:///a.db"\nmonitoring_endpoint = "127.0.0.1:9000"\n'
    )
    first, second = (of_process(config, number, "postgresql://db/k") for number in range(2))
    options = options_of(second)
    assert (options["gateway_chain_id"], options["journal"]) == (7, "postgresql://db/k")
    assert options["monitoring_endpoint"] == "127.0.0.1:0"
    assert options["control_socket"] != options_of(first)["control_socket"]
    assert log_of(first) != log_of(second)


def test_one_process_with_sqlite_reads_what_the_emulator_wrote(tmp_path: Path) -> None:
    assert of_process(tmp_path / "connector.toml", 0, None) == tmp_path / "connector.toml"


STATUS = {"emitted": 10, "answered": 10, "doubled": 0, "strays": 0, "p50": 0.2, "p99": 0.3}


@pytest.mark.parametrize(
    ("change", "offered", "lost"),
    [({}, 10, 0), ({"answered": 7}, 10, 3), ({"doubled": 1}, 10, 0), ({"strays": 1}, 10, 0), ({}, 11, 1)],
)
def test_everything_answered_once_is_well(change: dict[str, int], offered: int, lost: int) -> None:
    """A request that was offered and never reached the chain is lost as well."""
    found = verdict_of({**STATUS, **change}, offered)
    assert (found.lost, found.well) == (lost, (change, offered) == ({}, 10))


def test_a_load_lasts_half_an_hour_unless_said_otherwise() -> None:
    arguments = parser().parse_args([])
    assert (arguments.minutes, arguments.rate) == (30, 50)


class Posts:
    """In place of dependencies: notes what is posted, and when."""

    def __init__(self) -> None:
        self.dependencies = self
        self.posted: list[tuple[float, str]] = []
        self.begun = trio.current_time()

    async def post(self, path: str) -> None:
        self.posted.append((round(trio.current_time() - self.begun, 3), path))


async def test_acts_happen_at_their_share_and_are_undone() -> None:
    pair: Any = Posts()
    diary = Diary()
    await play(pair, 1800, diary.note)
    assert pair.posted[:3] == [
        (300, "/core0/restart"),
        (600, "/gateway/shut"),
        (600 + LONGEST_OUTAGE, "/gateway/open"),
    ]
    assert [one.name for one in diary.happened][:3] == ["Core restarts", "node gone", "node gone no more"]


async def test_outages_of_a_short_run_are_short() -> None:
    pair: Any = Posts()
    await play(pair, 60, Diary().note)
    assert pair.posted[1:3] == [(20, "/gateway/shut"), (22, "/gateway/open")]


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda disturbance: disturbance.name)
async def test_the_emulator_can_do_every_disturbance_and_undo_it(disturbance: Any) -> None:
    desk = Handler()
    for path in (*disturbance.paths, *disturbance.back):
        assert (await desk.post(path)).status == 204
    assert all(toggle_port.is_open for toggle_port in desk.dependencies.toggle_ports.values())


def test_disturbances_are_over_before_the_next() -> None:
    gaps = [
        later.at - disturbance.at
        for disturbance, later in zip(DISTURBANCES, [*DISTURBANCES[1:], None], strict=True)
        if later
    ]
    assert min(gaps) > 1 / 30


def test_a_machine_that_stood_still_is_told_in_its_place() -> None:
    samples = [Sample(float(at), 0.0, 0, 0) for at in (1, 2, 30, 31)]
    happened = [Happening(1.5, "node gone"), Happening(30.5, "node gone no more")]
    assert [one.name for one in in_order(happened, samples)] == [
        "node gone", "machine still 28 s", "node gone no more",
    ]  # fmt: skip


def test_how_far_it_is_in_a_line() -> None:
    assert progress({**STATUS, "answered": 7}, 64 << 20, 30, 12.3).split() == [
        "12", "s", "10", "emitted", "3", "open", "0", "doubled", "64", "MB", "30", "fds",
    ]  # fmt: skip


FOUND: dict[str, Any] = {
    "verdict": {"emitted": 10, "answered": 9, "lost": 1, "doubled": 0, "strays": 0, "well": False},
    "outcome": {"whole": {"p50": 250.0, "p99": 500.0, "most": None}},
    "samples": {
        "connector": {
            "resident": [60 << 20, 90 << 20, 80 << 20], "descriptors": [20, 30, 25], "cpu": [1.0, 1.02, 1.045],
        }
    },
    "logged": {"connector": {"Traceback": 0, "starting anew": 0}},
    "happened": [{"at": 1.0, "name": "node gone"}, {"at": 2.0, "name": "machine still 20 s"}],
}  # fmt: skip


def test_the_end_in_words() -> None:
    assert summary(FOUND) == [
        "emitted 10, answered 9, lost 1, doubled 0, strays 0",
        "machine still 20 s",
        "from the event's block to the reply's: p50 250 ms, p99 500 ms, most - ms",
        "memory of the connector 60 to 90, at the end 80 MB, descriptors 20 to 30, at the end 25",
        "CPU for each answered request: connector 5.0 ms",
        "SOMETHING WAS LOST OR DOUBLED",
    ]


def test_the_end_of_several_processes_in_words() -> None:
    life = {"resident": [60 << 20, 90 << 20, 80 << 20], "descriptors": [20, 30, 25], "cpu": [1.0, 5.2, 7.9]}
    several = {
        "samples": FOUND["samples"] | {"database": life},
        "logged": {"connector-0": {"Traceback": 2, "starting anew": 0}, "connector-1": {"Traceback": 0}},
    }
    assert summary(FOUND | several)[3:-1] == [
        "memory of the connector 60 to 90, at the end 80 MB, descriptors 20 to 30, at the end 25",
        "memory of the database 60 to 90, at the end 80 MB, descriptors 20 to 30, at the end 25",
        "CPU for each answered request: connector 5.0 ms, database 766.7 ms",
        "connector-0 has logged 2 times: Traceback",
    ]


def test_a_log_is_searched_for_errors_and_for_connectors_that_began_anew() -> None:
    assert signs_of("starting anew\nTraceback (most…\nTraceback") == {"Traceback": 2, "starting anew": 1}
