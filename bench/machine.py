"""On what a measurement was made: machine, versions, commit. Measures nothing."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = (
    "trio", "trio-websocket", "h2", "h11", "msgspec", "betterproto2", "btclib-secp256k1", "grpclib", "grpcio",
)  # fmt: skip
ROOT = Path(__file__).parents[1]


def describe(checkout: Path = ROOT) -> dict[str, Any]:
    """Return machine, versions and the commit of the connector's checkout."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit_of(checkout),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def write_report(
    out: Path, arguments: argparse.Namespace, names: Iterable[str], found: Mapping[str, Any]
) -> None:
    """Write what was found as JSON, with the machine and the arguments of these names."""
    parameters = {name: getattr(arguments, name) for name in names}
    head = {"machine": describe(getattr(arguments, "checkout", None) or ROOT), "parameters": parameters}
    out.write_text(json.dumps({**head, **found}), encoding="utf-8")


def commit_of(checkout: Path) -> str:
    """Return the short commit, with ``+`` where files differ from it; empty where there is none."""
    found = subprocess.run(  # noqa: S603
        ["git", "-C", str(checkout), "describe", "--always", "--abbrev=10", "--dirty=+"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()


def cpu_model(cpuinfo: str) -> str:
    """Return the model's name out of ``/proc/cpuinfo``."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    return next((text.strip() for name, _, text in lines if name.strip() == "model name"), "unknown")
