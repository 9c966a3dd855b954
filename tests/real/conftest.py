"""The peers as fixtures."""

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
