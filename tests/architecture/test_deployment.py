"""What deploy/ says is what the package is: the unit's options, the image's steps, the bill of materials."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from kmsconn import __version__
from kmsconn.config import places
from kmsconn.config.description import PostgresAddress, environment_name
from kmsconn.config.options import OPTIONS
from kmsconn.config.sources import load_config
from kmsconn.emulator.config_file import write_config
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.operate.commands.main import make_parser
from kmsconn.operate.control.server import control_path
from tools import gen_sbom

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
COMPOSE = ("compose/compose.yaml", "compose/two-processes.yaml")
VARIABLES = {environment_name(name) for name in OPTIONS}


@pytest.mark.parametrize(
    "file", ["systemd/kmsconn.service", "compose/compose.yaml", "compose/two-processes.yaml", "Containerfile"]
)
def test_every_variable_of_ours_is_that_of_an_option(file: str) -> None:
    named = set(re.findall(r"KMS_CONNECTOR_\w+[A-Z]", (DEPLOY / file).read_text(encoding="utf-8")))
    assert named - VARIABLES == set()


def test_the_unit_stops_later_than_a_drain_ends() -> None:
    (seconds,) = re.findall(
        r"^TimeoutStopSec=(\d+)$", (DEPLOY / "systemd" / "kmsconn.service").read_text(), re.MULTILINE
    )
    assert int(seconds) > OPTIONS["drain_grace"].default


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name
        for line in re.findall(r"^COPY (?!--)(.*) \S+$", CONTAINERFILE, re.MULTILINE)
        for name in line.split()
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_both_names_of_the_ignore_file_say_the_same() -> None:
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()


def test_the_image_runs_as_a_user_without_rights_and_without_a_shell() -> None:
    last = CONTAINERFILE.split("\nFROM ")[-1]
    assert "\nUSER 10001:10001\n" in last
    assert "\nRUN" not in last
    assert re.findall(r"^(?:ENTRYPOINT|CMD|HEALTHCHECK .*CMD) (.)", last, re.MULTILINE) == ["[", "[", "["]


def test_the_compose_file_mounts_what_is_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for one in services.values() for volume in one.get("volumes", ())]
    files = [path for path in mounted if path.startswith(".")]
    assert files
    assert [path for path in files if not (DEPLOY / "compose" / path).exists()] == []


def test_two_processes_have_one_journal_and_addresses_of_their_own() -> None:
    services = yaml.safe_load((DEPLOY / "compose" / "two-processes.yaml").read_text())["services"]
    one, other = (services[name]["environment"] for name in ("kmsconn-a", "kmsconn-b"))
    differing = {name for name in one if one[name] != other[name]}
    assert one.keys() == other.keys()
    assert differing == {"KMS_CONNECTOR_SERVICE_NAME", "KMS_CONNECTOR_MONITORING_ENDPOINT"}
    assert isinstance(places.journal_address(one["KMS_CONNECTOR_JOURNAL"]), PostgresAddress)
    assert services["kmsconn-a"]["tmpfs"], "each has a control socket in a folder of its own"


def ours(file: str) -> dict[str, Any]:
    """Return the services of a compose file that are built from this repository."""
    services = yaml.safe_load((DEPLOY / file).read_text())["services"]
    return {name: one for name, one in services.items() if "build" in one}


def packages_of(service: Any) -> set[str]:
    """Return the packages that the image of a service has."""
    (default,) = re.findall(r"^ARG REQUIREMENTS=(.*)$", CONTAINERFILE, re.MULTILINE)
    files = service["build"].get("args", {}).get("REQUIREMENTS", default).split()
    text = "".join((ROOT / file).read_text(encoding="utf-8") for file in files)
    return set(re.findall(r"^([a-z][\w.-]*)(?:\[\w,]+)?==", text, re.MULTILINE))


SERVICES = [(file, name) for file in COMPOSE for name in ours(file)]


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_a_service_runs_a_command_that_there_is(file: str, name: str) -> None:
    arguments = make_parser().parse_args(ours(file)[name]["command"])
    assert arguments.execute


@pytest.mark.parametrize(("file", "name"), [one for one in SERVICES if one[1] != "emulator"])
def test_a_service_has_the_options_and_packages_that_it_is_started_with(
    file: str, name: str, tmp_path: Path
) -> None:
    """The file that the emulator writes, and the service's own variables, are a whole configuration."""
    service = ours(file)[name]
    dependencies = FhevmDependencies.make(lambda: 0.0)
    dependencies.settle_in_memory(MemoryNetwork())
    write_config(tmp_path / "emu.toml", dependencies.settings(tmp_path / "unused.db"))
    found = load_config(tmp_path / "emu.toml", environ=service["environment"])
    assert found.warnings == ()
    writable = {volume.split(":")[1] for volume in service["volumes"] if not volume.endswith(":ro")}
    writable |= {volume.split(":")[0] for volume in service.get("tmpfs", ())}
    assert str(control_path(found).parent) in writable
    if isinstance(found.storage.journal, PostgresAddress):
        assert packages_of(service) > {"psycopg", "psycopg-binary"}
    else:
        assert str(found.storage.journal.parent) in writable


@pytest.mark.parametrize("file", COMPOSE)
def test_the_emulator_of_a_compose_file_has_its_packages(file: str) -> None:
    assert packages_of(ours(file)["emulator"]) > {"kyber-py", "rich"}


def test_the_bill_of_materials_is_valid_and_complete() -> None:
    # Imported here: it builds the grammars of all formats of JSON schema, which takes longer than the tests of this file together.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = gen_sbom.BILL.read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    locked = list(gen_sbom.locked((ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")))
    assert len(locked) == len(
        re.findall(r"^[a-z]\S+==", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE)
    )
    assert {one["bom-ref"] for one in json.loads(text)["components"]} == {
        f"{one.name}=={one.version}" for one in locked
    }


def test_every_package_has_a_licence() -> None:
    assert "unknown" not in gen_sbom.LICENCES.read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    """Return the table of the package's metadata."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_the_package_and_its_metadata_have_one_version() -> None:
    assert project()["version"] == __version__


def test_the_licence_is_said_once_and_by_its_spdx_identifier() -> None:
    assert project()["license"] == "MIT"
    assert project()["license-files"] == ["LICENSE"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    assert [
        path
        for path in (ROOT / "kmsconn").rglob("*.py")
        if "SPDX-License" in path.read_text(encoding="utf-8")
    ] == []


def test_the_workflow_runs_what_a_maintainer_runs() -> None:
    assert "run: .ci/run\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
