"""Where the software lies that is not ours and that tests run against, and what to do where it is missing. Installs nothing."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import pytest

MODULES = Path(__file__).parents[2] / "peers" / "node_modules"
HOW = "fetch it with: make peers"
_SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def anvil() -> Path | None:
    """Return the node's binary, or None."""
    system, machine = _SYSTEMS.get(platform.system()), _MACHINES.get(platform.machine())
    path = MODULES / "@foundry-rs" / f"anvil-{system}-{machine}" / "bin" / "anvil"
    return path if path.exists() else None


def node_module(name: str) -> Path | None:
    """Return the folder of a package that Node.js can load, or None; also where there is no Node.js."""
    path = MODULES / name
    return path if path.exists() and shutil.which("node") else None


def program(name: str) -> Path | None:
    """Return a program on the path, or None."""
    path = shutil.which(name)
    return Path(path) if path else None


def all_of_them() -> dict[str, Path | None]:
    """Return what this machine has of the peers that `make peers` fetches."""
    modules = {name: node_module(name) for name in ("node-tkms", "node-tkms-rc6")}
    return {"anvil": anvil(), **modules, "radosgw": program("radosgw")}


def need(name: str, found: Path | None) -> Path:
    """Return what was found. Where nothing was: fail in CI, skip elsewhere; the end of the run says it loudly."""
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not there; {HOW}")
    pytest.skip(f"{name} is not there; {HOW}")
