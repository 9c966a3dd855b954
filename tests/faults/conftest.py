"""The scenes that tests play in, and how many worlds are played.

``make test`` plays a fixed sample (tests/sampling.py); ``make worlds`` plays thousands of new ones, ``KMSCONN_WORLDS=n`` n of them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from kmsconn.connector.connector import Connector
from tests.faults.ceremony import Ceremony, open_ceremony
from tests.faults.scene import Scene, open_scene
from tests.sampling import sample

_COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    "print_blob": True,
}
WORLDS = int(os.environ.get("KMSCONN_WORLDS", "0"))
SAMPLE_OF_EACH = int(sample("KMSCONN_SAMPLE", small=2, ci=2))
"""Worlds for each kind of fault; the first is the simplest there is."""
SAMPLE = settings(max_examples=SAMPLE_OF_EACH, derandomize=True, database=None, **_COMMON)  # type: ignore[arg-type]
FEW = settings(SAMPLE, max_examples=2)
MANY = settings(max_examples=WORLDS or 1, **_COMMON)  # type: ignore[arg-type]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """The dependencies, and what a connector among them tells."""
    async with open_scene(tmp_path) as scene:
        yield scene


@pytest.fixture
async def connector(scene: Scene) -> AsyncIterator[Connector]:
    """A connector in the scene that is ready."""
    async with scene.connected() as connector:
        await connector.wait_ready()
        yield connector


@pytest.fixture
async def ceremony(tmp_path: Path) -> AsyncIterator[Ceremony]:
    """A committee of four and the owner of its keys."""
    async with open_ceremony(tmp_path) as ceremony:
        yield ceremony
