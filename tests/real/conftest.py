"""The peers as fixtures, and the loud line for those that are missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.real import peers
from tests.real.gateway_scene import Scene, open_scene


@pytest.fixture(scope="session")
def anvil() -> Path:
    """The binary of a node that is not ours."""
    return peers.need("anvil", peers.anvil())


@pytest.fixture(scope="session")
def node_tkms() -> Path:
    """The client library that opens shares."""
    return peers.need("node-tkms", peers.node_module("node-tkms"))


@pytest.fixture(params=["emulated", "anvil"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    """A Gateway with requests on it, once emulated and once on anvil."""
    anvil = request.getfixturevalue("anvil") if request.param == "anvil" else None
    async with open_scene(request.param, anvil, tmp_path) as found:
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not proved, and how it can be, where something was asked for in vain."""
    there = {"anvil": peers.anvil(), "node-tkms": peers.node_module("node-tkms")}
    for name, found in there.items():
        if peers.missing and found is None:
            line = f"NOT PROVED against {name}, which is not on this machine; {peers.HOW}"
            terminalreporter.write_line(line, red=True, bold=True)
