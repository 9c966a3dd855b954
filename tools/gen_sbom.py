"""Writes the bill of materials of what `kmsconn run` installs (CycloneDX) and its licences.

Source of names, versions and hashes: requirements/run.txt, the lock file. Licences come from the metadata of the installed packages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, uuid5

import attrs
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from kmsconn import __version__

ROOT: Final = Path(__file__).parent.parent
BILL: Final = ROOT / "deploy" / "sbom.cdx.json"
LICENCES: Final = ROOT / "docs" / "reference" / "licences.md"

_LOCKED = re.compile(r"^([a-z0-9.-]+)==(\S+)(?: ; (.*?))? \\$", re.MULTILINE)
_LICENCE_OF_CLASSIFIER: Final = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
}


@attrs.frozen
class LockedPackage:
    """A package of the lock file, and where it is installed: a marker, empty for everywhere. Its files' hashes stand in the lock alone."""

    name: str
    version: str
    marker: str

    @property
    def licence(self) -> str:
        """The SPDX expression of its metadata; ``not installed here`` for a package of another platform."""
        try:
            found = metadata(self.name).json
        except PackageNotFoundError:
            return "not installed here"
        if expression := found.get("license_expression"):
            return str(expression)
        classifiers = (_LICENCE_OF_CLASSIFIER.get(one) for one in found.get("classifier", ()))
        return (
            next((one for one in classifiers if one), "")
            or str(found.get("license", "unknown")).splitlines()[0]
        )


def locked(text: str) -> Iterator[LockedPackage]:
    """Yield the packages of a lock file with hashes."""
    for name, version, marker in _LOCKED.findall(text):
        yield LockedPackage(name, version, marker)


def bill(packages: list[LockedPackage]) -> str:
    """Return the bill of materials as CycloneDX 1.6 JSON. The same packages give the same bytes: no time, a derived serial number."""
    root = Component(name="kmsconn", version=__version__, type=ComponentType.APPLICATION, bom_ref="kmsconn")
    components = [_component(one) for one in packages]
    bom = Bom(
        components=components,
        serial_number=uuid5(NAMESPACE_URL, "".join(f"{one.name}=={one.version}" for one in packages)),
        dependencies=[Dependency(root.bom_ref, [Dependency(one.bom_ref) for one in components])],
    )
    bom.metadata.component = root
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    return json.dumps(document, indent=2) + "\n"


def _component(package: LockedPackage) -> Component:
    licence = package.licence
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{package.name}=={package.version}",
        purl=PackageURL("pypi", None, package.name, package.version),
        licenses=[] if licence == "not installed here" else [LicenseFactory().make_from_string(licence)],
    )


def licences(packages: list[LockedPackage]) -> str:
    """Return the page of licences."""
    rows = (
        f"| `{one.name}` | {one.version} | {one.licence} | {one.marker and f'`{one.marker}`'} |"
        for one in packages
    )
    return "\n".join(
        (
            "# Licences",
            "",
            "<!-- Printed by `make gen` from requirements/run.txt and the packages' metadata; `make fresh` says when it is stale. -->",
            "",
            "kmsconn is under the MIT licence. Its base installation, `requirements/run.txt`, has these packages;",
            "[`deploy/sbom.cdx.json`](../../deploy/sbom.cdx.json) lists the same for tools, as CycloneDX 1.6.",
            "",
            "| package | version | licence | only where |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )


def files() -> dict[Path, str]:
    """Return both files with their texts."""
    packages = list(locked((ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")))
    return {BILL: bill(packages), LICENCES: licences(packages)}
