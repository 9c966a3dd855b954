"""A missing peer fails in CI and is named elsewhere; how one is installed; and the page claims no more cases than there are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from tests.real import stores
from tests.real.peer_cases import HEADING, PEERS, line, met, note, peers_of

ROOT = Path(__file__).parents[2]


def play(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the tests against buckets that want credentials in a process of their own; return its status and what it said."""
    own = {name: value for name, value in os.environ.items() if name not in {"CI", "KMSCONN_PEERS"}}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    run = subprocess.run(  # noqa: S603 - our own tests
        command, cwd=ROOT, env={**own, **environment}, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout


@pytest.fixture(params=["hidden", "not there"])
def without_radosgw(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment without Ceph's server, as a fresh machine is."""
    return {"KMSCONN_PEERS": "hidden"} if request.param == "hidden" else {"PATH": str(tmp_path)}


@pytest.mark.sampled
def test_without_a_peer_its_tests_are_left_out_and_named(without_radosgw: dict[str, str]) -> None:
    """Reproduced on a fresh machine: a skip from inside an asynchronous fixture failed the test."""
    status, said = play("tests/real/test_sdk_buckets.py", "-k", "a_public_object", **without_radosgw)
    assert status == 0, said
    assert "NOT PROVED against radosgw" in said
    assert "(1 tests left out)" in said


@pytest.mark.sampled
def test_in_ci_a_missing_peer_is_a_failure(tmp_path: Path) -> None:
    status, said = play(
        "tests/real/test_sdk_buckets.py", "-k", "a_public_object", CI="true", PATH=str(tmp_path)
    )
    assert status == 1, said
    assert "radosgw is not there; fetch it with: make peers" in said


@pytest.mark.sampled
def test_in_ci_hidden_peers_are_left_out() -> None:
    """The run that `.ci/run` begins with."""
    status, said = play(
        "tests/real/test_sdk_buckets.py", "-k", "a_public_object", CI="true", KMSCONN_PEERS="hidden"
    )
    assert status == 0, said
    assert "hidden by KMSCONN_PEERS" in said


@attrs.frozen
class Machine:
    """A machine that has only these programs; what they were asked stands in a file."""

    folder: Path

    def has(self, name: str, script: str = "true") -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho {name} $1 >> "{self.folder}/asked"\n{script}\n')
        path.chmod(0o755)

    def install(self, package: str = "radosgw", *programs: str) -> tuple[int, str, list[str]]:
        """Run the script for a package and its programs; return its status, what it said, and what apt-get was asked."""
        script = ROOT / "peers" / "debian.sh"
        run = subprocess.run(  # noqa: S603 - our own script
            ["/bin/sh", str(script), package, *(programs or ("radosgw", "radosgw-admin"))],
            env={"PATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        asked = self.folder / "asked"
        lines = asked.read_text().splitlines() if asked.exists() else []
        return run.returncode, run.stderr, [line for line in lines if line.startswith("apt-get")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.sampled
def test_what_is_there_is_not_installed(machine: Machine) -> None:
    for name in ("radosgw", "radosgw-admin", "apt-get"):
        machine.has(name)
    assert machine.install() == (0, "", [])


@pytest.mark.sampled
def test_root_installs_without_an_update_where_that_will_do(machine: Machine) -> None:
    machine.has("id", "echo 0")
    machine.has("apt-get")
    assert machine.install() == (0, "", ["apt-get install"])


@pytest.mark.sampled
def test_a_service_that_comes_along_is_disabled(machine: Machine) -> None:
    for name in ("apt-get", "systemctl"):
        machine.has(name)
    machine.has("id", "echo 0")
    assert machine.install("prometheus", "promtool") == (0, "", ["apt-get install"])
    assert "systemctl disable" in (machine.folder / "asked").read_text()


@pytest.mark.sampled
def test_the_lists_are_fetched_once_where_they_were_missing(machine: Machine) -> None:
    machine.has("id", "echo 0")
    machine.has(
        "apt-get", f'test -e "{machine.folder}/lists" || {{ : > "{machine.folder}/lists"; exit 100; }}'
    )
    assert machine.install() == (0, "", ["apt-get install", "apt-get update", "apt-get install"])


@pytest.mark.sampled
def test_an_installation_that_fails_is_a_failure(machine: Machine) -> None:
    machine.has("id", "echo 0")
    machine.has("apt-get", "test $1 = update")
    status, _, asked = machine.install()
    assert status != 0
    assert len(asked) == 3


@pytest.mark.sampled
@pytest.mark.parametrize(("user", "packages"), [("1000", True), ("0", False)])
def test_who_cannot_install_is_told_how(machine: Machine, user: str, packages: bool) -> None:
    machine.has("id", f"echo {user}")
    if packages:
        machine.has("apt-get")
    status, said, asked = machine.install()
    assert (status, asked) == (0, [])
    assert "radosgw is MISSING" in said
    assert "apt-get install --no-install-recommends radosgw" in said


@pytest.mark.sampled
@pytest.mark.parametrize(("script", "made"), [("true", True), ("exec sleep 60", False)])
def test_a_command_that_does_not_end_makes_no_user(
    script: str, made: bool, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen of radosgw-admin 18.2: at its end it joined a thread that had missed being told to stop."""
    machine.has("radosgw-admin", script)
    monkeypatch.setattr(stores, "STARTING", 20.0 if made else 0.1)
    monkeypatch.setenv("PATH", f"{machine.folder}:/usr/bin:/bin")
    assert stores._made_user([]) is made


_ROW = re.compile(r"^\| \*\*([\w-]+)\*\* \|.*\| (\d+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def there() -> dict[str, int]:
    """How many cases the suite holds, by peer, as a collection tells it."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/real"]
    everything = {**os.environ, "KMSCONN_LONG": "all"}
    said = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env=everything, capture_output=True, text=True, check=True
    ).stdout
    [told] = [each for each in said.splitlines() if each.startswith(HEADING)]
    return {peer: int(cases) for peer, cases in re.findall(r"([\w-]+) (\d+)", told.removeprefix(HEADING))}


def claimed() -> dict[str, int]:
    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    return {peer: int(cases) for peer, cases in _ROW.findall(page)}


def test_every_peer_has_its_row() -> None:
    assert tuple(claimed()) == PEERS


def test_the_page_claims_no_more_cases_than_the_suite_holds(there: dict[str, int]) -> None:
    assert {peer: cases for peer, cases in claimed().items() if not 0 < cases <= there[peer]} == {}


def item(name: str, *fixtures: str, **parameters: object) -> Any:
    """Return what pytest knows of a test, as far as it counts here."""
    call = SimpleNamespace(params=parameters)
    return SimpleNamespace(originalname=name, fixturenames=fixtures, callspec=call, user_properties=[])


@pytest.mark.parametrize(
    ("test", "peers"),
    [
        (item("test_a", "tmp_path"), set()),
        (item("test_a", "postgresql_programs"), {"postgresql"}),
        (item("test_a", "anvil", "node_tkms"), {"anvil", "node-tkms"}),
        (item("test_a", "store", store="moto", size=7), {"moto"}),
        (item("test_a", "store", store="emulated"), set()),
        (item("test_grpcio_calls"), {"grpcio"}),
        (item("test_another_than_grpcio_calls"), set()),
    ],
)
def test_fixtures_parameters_and_name_say_whom_a_test_meets(test: Any, peers: set[str]) -> None:
    assert peers_of(test) == peers


def test_reports_say_whom_their_tests_met() -> None:
    test = item("test_grpclib_calls", "anvil")
    note([test])
    report = pytest.TestReport(
        "", ("", 0, ""), {}, "passed", None, "call", user_properties=test.user_properties
    )
    assert met([report, report]) == Counter({"grpclib": 2, "anvil": 2})


def test_the_line_has_the_peers_that_were_met_in_their_order() -> None:
    assert line(Counter(moto=3, anvil=2)) == f"{HEADING}anvil 2, moto 3"
