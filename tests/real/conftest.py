"""The peers as fixtures, and the loud line for those that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real import peers


@pytest.fixture(scope="session")
def anvil() -> Path:
    """The binary of a node that is not ours."""
    return peers.need("anvil", peers.anvil())


@pytest.fixture(scope="session")
def node_tkms() -> Path:
    """The client library that opens shares."""
    return peers.need("node-tkms", peers.node_module("node-tkms"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not proved, and how it can be."""
    for name in sorted(peers.missing):
        line = f"NOT PROVED against {name}, which is not on this machine; {peers.HOW}"
        terminalreporter.write_line(line, red=True, bold=True)
