"""What a release relies on: one version, one licence, a workflow that runs what maintainers run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from kmsconn import __version__

ROOT = Path(__file__).parents[2]


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
