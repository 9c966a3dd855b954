"""Where the software lies that is not ours and that tests run against, and what to do where it is missing. Installs nothing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.cluster import find_programs

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
    """Return what this machine has of the peers that `make peers` fetches; nothing of them where they are hidden."""
    modules = {name: node_module(name) for name in ("node-tkms", "node-tkms-rc6")}
    radosgw = program("radosgw") if program("radosgw-admin") else None
    found_programs = {name: program(name) for name in ("promtool", "kustomize", "chromium", "pgbouncer")}
    found = {"anvil": anvil(), **modules, "radosgw": radosgw, **found_programs, "postgresql": find_programs()}
    return dict.fromkeys(found) if hidden() else found


def hidden() -> bool:
    """Say whether this run pretends that no peer is there (``KMSCONN_PEERS=hidden``)."""
    return os.environ.get("KMSCONN_PEERS") == "hidden"


def left_out() -> frozenset[str]:
    """Return the peers whose tests are left out. None in CI, where a missing one is a failure, unless they are hidden."""
    if os.environ.get("CI") == "true" and not hidden():
        return frozenset()
    return frozenset(name for name, found in all_of_them().items() if found is None)


def reason(names: Iterable[str]) -> str:
    """Say why a test is left out."""
    why = "hidden by KMSCONN_PEERS" if hidden() else f"not on this machine; {HOW}"
    return f"{', '.join(sorted(names))}: {why}"


def need(name: str) -> Path:
    """Return where a peer lies. Fails where it is missing: tests that can do without are left out at collection (``leave_out``).

    A skip from here would be raised inside asynchronous fixtures, which makes it a failure.
    """
    found = all_of_them()[name]
    if found is None:
        pytest.fail(f"{name} is not there; {HOW}")
    return found
